"""Opening and creating media files: paths in, PyAV containers out, failures in soundreel's words."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.container import InputContainer, OutputContainer

from soundreel.disk.durable import cannot_write
from soundreel.errors import InputError, MediaError
from soundreel.media.files import check_file, reason
from soundreel.units import StrPath


def media_url(path: StrPath) -> str:
    """`path` as FFmpeg opens it whatever its name: `a:b%03d.mp4` is no protocol, `-` is no pipe."""
    return f"file:{os.fspath(path)}"


@contextmanager
def opened(path: StrPath, kind: str = "video") -> Iterator[InputContainer]:
    """The media file at `path` for reading; FFmpeg's errors in the `with` block become `MediaError`.

    Raises:
        InputError: the path leads to no file, a directory, a device, an empty or a forbidden file.
        MediaError: the file cannot be read as media, or breaks off.
    """
    check_file(path, kind)
    try:
        with av.open(media_url(path), "r", metadata_errors="replace") as container:
            yield container
    except PermissionError as error:
        raise InputError(f"cannot open {kind} {os.fspath(path)!r}: {reason(error)}") from error
    except av.FFmpegError as error:
        raise MediaError(f"{os.fspath(path)!r} is a damaged or unreadable {kind} ({reason(error)})") from error


class _WholeWrites(FileIO):
    """A file that writes all it is given or raises: FFmpeg does not look whether a write fell short."""

    def write(self, data: Any, /) -> int:
        rest = memoryview(data)
        while rest:
            rest = rest[super().write(rest) :]
        return memoryview(data).nbytes


class NewFile:
    """A video file in the making: whole, closed and on the disk after the `with` block, or gone.

    It is an mp4 file, or one of another `kind` (FFmpeg's name of the format). What was at `path` before is overwritten.
    `needed_bytes` is about what the file will take, for the message when the disk is full.

    Raises:
        MediaError: the file cannot be created or written (on entry, in `reporting` blocks and on leaving).
    """

    def __init__(
        self, path: StrPath, *, options: Mapping[str, str] | None = None, needed_bytes: int = 0, kind: str = "mp4"
    ) -> None:
        self.path = Path(path)
        self._kind = kind
        self._options = dict(options or {})
        self._needed_bytes = needed_bytes
        self._open_files = ExitStack()

    def __enter__(self) -> Self:
        with self.reporting():
            self._file = self._open_files.enter_context(_WholeWrites(self.path, "wb"))
            self._file.name = "new.mp4"  # PyAV reads it as UTF-8, which the real one need not be
            # Faststart reads what it wrote to move it behind the index; opened later, a failure would crash PyAV.
            reader = self._open_files.enter_context(self.path.open("rb"))
        self.container: OutputContainer = av.open(
            self._file,
            "w",
            format=self._kind,
            container_options=self._options,
            metadata_errors="replace",
            io_open=lambda *_: reader,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._discard()
            return
        try:
            with self.reporting():
                self._finish()
        except BaseException:
            self._discard()
            raise

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Failures to write inside the block become `MediaError`."""
        try:
            yield
        except (OSError, av.FFmpegError) as error:
            raise MediaError(cannot_write(self.path, error, self._needed_bytes)) from error

    def _finish(self) -> None:
        streams: list[av.VideoStream | av.AudioStream]
        streams = [*self.container.streams.video, *self.container.streams.audio]
        for stream in streams:
            if stream.codec_context.is_open:  # an encoder, with frames held back
                self.container.mux(stream.encode(None))
        self.container.close()
        if os.fstat(self._file.fileno()).st_size == 0:
            raise MediaError(f"nothing was written into {os.fspath(self.path)!r}: expected at least one frame")
        os.fsync(self._file.fileno())
        self._open_files.close()

    def _discard(self) -> None:
        self._open_files.close()
        self.container.close()  # without its file it neither writes an index nor moves anything
        with suppress(OSError):
            self.path.unlink()
