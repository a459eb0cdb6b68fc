"""Checks of the paths that a user gives."""

import errno
import os
import stat
from io import FileIO
from pathlib import Path

from soundreel.errors import InputError
from soundreel.units import StrPath


def check_file(path: StrPath, kind: str) -> None:
    """Raise `InputError` unless `path` is a regular, non-empty file; `kind` is what messages call it."""
    name = repr(os.fspath(path))
    try:
        status = Path(path).stat()
    except FileNotFoundError as error:
        raise InputError(f"no such {kind}: {name}") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise InputError(f"cannot open {kind} {name}: {reason(error)}") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{name} is a directory: expected a {kind} file")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{name} is a pipe or device: expected a {kind} file")
    if status.st_size == 0:
        raise InputError(f"{name} is an empty file: expected a {kind}")


class _MediaFile(FileIO):
    """A file to read, in which a place that there cannot be is no exception: damaged media name such places.

    FFmpeg takes a negative number for an error. What is raised to it twice PyAV prints, with a traceback.
    """

    def __init__(self, path: StrPath) -> None:
        super().__init__(path, "rb")

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except (OSError, OverflowError):
            return -errno.EINVAL


def open_file(path: StrPath, kind: str) -> FileIO:
    """Open a regular, non-empty file to read its bytes; `kind` is what messages call it.

    Raises:
        InputError: there is no such file, or it is a directory, a device, empty, or may not be read.
    """
    check_file(path, kind)
    try:
        return _MediaFile(path)
    except OSError as error:
        raise InputError(f"cannot open {kind} {os.fspath(path)!r}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """The cause of an error in a few words, on one line."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__
