"""Standard output and standard error that may be closed, on a full disk, or a pipe whose reader has gone.

A render never dies with its log: what cannot be written is lost, and the work goes on. Progress may be lost in silence.
Of what belongs on standard output the exit code and, where it can, standard error say so in the end.
"""

import codecs
import errno
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TextIO, cast

from soundreel.units import StrPath
from soundreel.wording import is_plain, shell_word, visible

LOST_OUTPUT_EXIT_CODE: Final = 6
"""Everything was done, but standard output did not take it all."""

STANDARD_HANDLES: Final = (0, 1, 2)

ANY_TEXT: Final = "soundreel.any_text"
"""Name of an error handler for encoding: signs of our own in plain letters, all else escaped."""

PLAIN_SIGNS: Final[Mapping[str, str]] = {
    "✓": "+", "✗": "x", "×": "x", "→": "->", "…": "...", "–": "-", "−": "-", "·": "-", "“": '"', "”": '"',
}  # fmt: skip
"""Signs of our own texts, and what stands for them where an encoding has none: ASCII, cp1252 in part."""


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

    def write_name(self, name: str) -> None:
        """Write a file's name as a line, byte for byte where names are bytes, or lose it."""
        with self._losing():
            stream = self._taken()
            binary = getattr(stream, "buffer", None) if os.name == "posix" else None
            if binary is None:
                stream.write(f"{name}\n")
            else:
                stream.flush()
                binary.write(os.fsencode(name) + b"\n")

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
    codecs.register_error(ANY_TEXT, _in_plain_signs)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ANY_TEXT)
    sys.stderr = cast(TextIO, _lenient(sys.stderr))
    out = _lenient(sys.stdout)
    sys.stdout = cast(TextIO, out)
    return out


def _lenient(stream: TextIO | LenientStream | None) -> LenientStream:
    return LenientStream(stream._stream if isinstance(stream, LenientStream) else stream)


def _in_plain_signs(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError), "it is registered for encoding"
    letter = error.object[error.start]
    return PLAIN_SIGNS.get(letter) or letter.encode("ascii", "backslashreplace").decode(), error.start + 1


def say(line: str) -> None:
    """Print a line for people on standard error, hidden characters escaped."""
    sys.stderr.write(f"{visible(line)}\n")
    sys.stderr.flush()


def report(line: str) -> None:
    """Print a line of what a command was asked for on standard output, hidden characters escaped."""
    sys.stdout.write(f"{visible(line)}\n")


def report_data(data: Any) -> None:
    """Print what a command was asked for as JSON, in ASCII: a file's name need not be Unicode."""
    sys.stdout.write(json.dumps(data, indent=2, default=os.fspath) + "\n")


def answer(path: StrPath, out: TextIO | None = None) -> None:
    """Print the name of a finished file on standard output, or on the stream that this was before.

    A program gets it byte for byte; on a terminal a name that has more in it than is seen is quoted as for a shell.
    """
    name, out = os.fspath(path), sys.stdout if out is None else out
    if out.isatty() or not isinstance(out, LenientStream):
        out.write(f"{name if is_plain(name) else shell_word(name)}\n")
    else:
        out.write_name(name)
    out.flush()
    if isinstance(out, LenientStream) and out.failure is not None:
        out.unsaid.append(name)


def what_was_lost(out: LenientStream) -> str | None:
    """What to say of a standard output that is incomplete; None: its reader has left before the end of a report."""
    if isinstance(out.failure, BrokenPipeError) and not out.unsaid:
        return None
    reason = getattr(out.failure, "strerror", None) or str(out.failure)
    made = f"{', '.join(out.unsaid)} {'is' if len(out.unsaid) == 1 else 'are'} there, but " if out.unsaid else ""
    return f"{made}standard output did not take it all ({reason})"
