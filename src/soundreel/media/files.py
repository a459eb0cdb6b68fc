"""Checks of the paths that a user gives."""

import errno
import os
import re
import stat
from io import FileIO
from pathlib import Path
from typing import Final

from soundreel.errors import InputError
from soundreel.request.fields import without_password
from soundreel.units import StrPath

URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

STANDARD_INPUT: Final = "-"
"""What other programs take for it."""


def check_file(path: StrPath, kind: str) -> None:
    """Raise `InputError` unless `path` is a regular, non-empty file; `kind` is what messages call it."""
    name = repr(os.fspath(path))
    if not os.fspath(path):
        raise InputError(f"{name} is no name: expected a {kind} file")
    try:
        status = Path(path).stat()
    except FileNotFoundError as error:
        raise InputError(_not_there(os.fspath(path), kind)) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise InputError(f"cannot open {kind} {name}: {reason(error)}") from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{name} is a directory: expected a {kind} file")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{name} is a pipe or device: expected a {kind} file")
    if status.st_size == 0:
        raise InputError(f"{name} is an empty file: expected a {kind}")


def _not_there(name: str, kind: str) -> str:
    """What to say of a file that does not exist, where it may have been meant for none."""
    if URL.match(name):
        how = ", for example with yt-dlp -x" if kind == "sound" else ""
        return f"{without_password(name)!r} is an address, and only files are read: download it first{how}"
    if name == STANDARD_INPUT:
        return f"{name!r} stands for no {kind}: standard input is not read, save it to a file first"
    return f"no such {kind}: {name!r}"


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
