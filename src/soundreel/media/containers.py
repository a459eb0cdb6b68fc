"""Opening and creating media files with PyAV, whose errors become soundreel's."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import av
from av.container import InputContainer, OutputContainer

from soundreel.disk.durable import cannot_write
from soundreel.errors import MediaError
from soundreel.media.files import open_file, reason
from soundreel.media.formats import OPENED_FORMATS
from soundreel.units import StrPath

TICKS_PER_FRAME: Final = 1000
"""Ticks per frame of an mp4 file's time scale, where no sound rate determines it."""

READ_BYTES: Final = 1 << 16

CONFINED: Final = {"format_whitelist": ",".join(OPENED_FORMATS), "protocol_whitelist": "none"}
"""FFmpeg's options that keep it inside the one file that it was given."""


def mp4_options(ticks_per_second: int) -> dict[str, str]:
    """FFmpeg's options for an mp4 or mov file: index first (faststart), metadata keys of any name, movie time scale.

    Edit lists count in the movie time scale; its default of 1000 ticks/s cannot express 1/16 s.
    """
    return {"movflags": "faststart+use_metadata_tags", "movie_timescale": str(ticks_per_second)}


def unexpected(path: StrPath, found: str, expected: str) -> MediaError:
    """The error for a written file that has `found` where `expected` was to be written."""
    return MediaError(f"{os.fspath(path)!r} is not as it was to be written: it has {found}, expected {expected}")


def open_container(file: BinaryIO) -> InputContainer:
    """Open a media file for reading: the one door for every file that came from outside.

    FFmpeg reads an open file whose path it cannot resolve, takes it for nothing but `OPENED_FORMATS`, and opens no
    other file and no server, whatever the file or its name asks for.

    Raises:
        MediaError: the file is of another format.
        av.FFmpegError: it is damaged.
    """
    try:
        return av.open(file, "r", options=CONFINED, metadata_errors="replace", buffer_size=READ_BYTES)
    except av.ArgumentError as error:
        raise MediaError(
            f"{file.name!r} is damaged, or of a format that is not opened: expected sound or pictures in one file, "
            "such as mp3, wav, mp4 or mkv; playlists and scripts, which name other files, are not followed"
        ) from error


@contextmanager
def opened(path: StrPath, kind: str = "video") -> Iterator[InputContainer]:
    """Open the media file at `path` for reading; FFmpeg's errors in the `with` block become `MediaError`.

    Args:
        kind: what messages call the file.

    Raises:
        InputError: there is no such file, or it is a directory, a device, empty, or may not be read.
        MediaError: the file cannot be read as media, is truncated, or names other files.
    """
    try:
        with open_file(path, kind) as file, open_container(file) as container:
            yield container
    except av.FFmpegError as error:
        raise MediaError(f"{os.fspath(path)!r} is a damaged or unreadable {kind} ({reason(error)})") from error


class _CompleteWrites(FileIO):
    """A file whose `write` writes all bytes or raises: FFmpeg does not notice short writes."""

    def write(self, data: Any, /) -> int:
        rest = memoryview(data)
        while rest:
            rest = rest[super().write(rest) :]
        return memoryview(data).nbytes


class NewFile:
    """A video file that is being written, as a context manager.

    After the `with` block the file is complete and synced to the disk; after an exception it is removed. What was at
    `path` before is overwritten.

    Args:
        options: FFmpeg's options of the container, such as `mp4_options`.
        needed_bytes: estimated size, for the message when the disk is full.
        file_format: FFmpeg's name of the container format.

    Raises:
        MediaError: the file cannot be created or written (on entry, in `reporting` blocks and on leaving).
    """

    def __init__(
        self,
        path: StrPath,
        *,
        options: Mapping[str, str] | None = None,
        needed_bytes: int = 0,
        file_format: str = "mp4",
    ) -> None:
        self.path = Path(path)
        self._file_format = file_format
        self._options = dict(options or {})
        self._needed_bytes = needed_bytes
        self._open_files = ExitStack()

    def __enter__(self) -> Self:
        with self.reporting():
            self._file = self._open_files.enter_context(_CompleteWrites(self.path, "wb"))
            self._file.name = "new.mp4"  # PyAV decodes it as UTF-8, which the real name need not be
            # Faststart reads back what was written. If its reader were opened only then, a failure would crash PyAV.
            reader = self._open_files.enter_context(self.path.open("rb"))
        self.container: OutputContainer = av.open(
            self._file,
            "w",
            format=self._file_format,
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
            if stream.codec_context.is_open:  # an encoder, which may hold frames back
                self.container.mux(stream.encode(None))
        self.container.close()
        if os.fstat(self._file.fileno()).st_size == 0:
            raise MediaError(f"nothing was written into {os.fspath(self.path)!r}: expected at least one frame")
        os.fsync(self._file.fileno())
        self._open_files.close()

    def _discard(self) -> None:
        self._open_files.close()
        self.container.close()  # its file is closed already, so that no index is written
        with suppress(OSError):
            self.path.unlink()
