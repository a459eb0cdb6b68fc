"""Standard output and standard error that may be closed, on a full disk, or a pipe whose reader has gone.

A render never dies with its log: what cannot be written is lost, and the work goes on. Progress may be lost in silence.
Of what belongs on standard output the exit code and, where it can, standard error say so in the end.
"""

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO, cast

from soundreel.units import StrPath

LOST_OUTPUT_EXIT_CODE: Final = 6
"""Everything was done, but standard output did not take it all."""

STANDARD_HANDLES: Final = (0, 1, 2)

ANY_TEXT: Final = "soundreel.any_text"
"""Name of an error handler for encoding: names of files as the bytes that they are, all else escaped."""


class LenientStream(io.TextIOBase):
    """A text stream that loses what its own stream does not take.

    It has no `buffer`: nobody is to write past it.

    Args:
        stream: None: it was closed when the process began.

    Attributes:
        failure: why something was lost; None: nothing was.
        unsaid: names of finished files that were lost.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream
        self.failure: Exception | None = None
        self.unsaid: list[str] = []

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As what text is written."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write `text`, or lose it."""
        with self._losing():
            self._taken().write(text)
        return len(text)

    def is_incomplete(self) -> bool:
        """Whether anything was lost; what is waiting to be written is written first."""
        self.flush()
        return self.failure is not None

    def flush(self) -> None:
        """Write what is waiting to be written, or lose it."""
        if self._stream is not None:
            with self._losing():
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def fileno(self) -> int:
        """The handle of its file. Raises `OSError` where there is none."""
        return self._taken().fileno()

    def writable(self) -> bool:
        """It takes everything."""
        return True

    def _taken(self) -> TextIO:
        if self._stream is None:
            raise OSError(errno.EBADF, "it is closed")
        return self._stream

    @contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: closed in the meantime, or no such letters
            self.failure = self.failure or error


def open_streams() -> LenientStream:
    """Make the streams of this process lenient; returns standard output.

    Where one of the standard handles is closed, the null device takes its place: else the next file to be opened would
    get that handle, and with it whatever a library logs.
    """
    for handle in STANDARD_HANDLES:
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free handle, which is this one
    codecs.register_error(ANY_TEXT, _as_bytes_or_escaped)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=ANY_TEXT)
    sys.stderr = cast(TextIO, _lenient(sys.stderr))
    out = _lenient(sys.stdout)
    sys.stdout = cast(TextIO, out)
    return out


def _lenient(stream: TextIO | LenientStream | None) -> LenientStream:
    return LenientStream(stream._stream if isinstance(stream, LenientStream) else stream)


def _as_bytes_or_escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


def answer(line: str, path: StrPath) -> None:
    """Print a line on standard output that names a finished file."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    if isinstance(sys.stdout, LenientStream) and sys.stdout.failure is not None:
        sys.stdout.unsaid.append(os.fspath(path))


def what_was_lost(out: LenientStream) -> str | None:
    """What to say of a standard output that is incomplete; None: its reader has left before the end of a report."""
    if isinstance(out.failure, BrokenPipeError) and not out.unsaid:
        return None
    reason = getattr(out.failure, "strerror", None) or str(out.failure)
    made = f"{', '.join(out.unsaid)} {'is' if len(out.unsaid) == 1 else 'are'} there, but " if out.unsaid else ""
    return f"{made}standard output did not take it all ({reason})"
