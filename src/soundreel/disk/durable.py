"""Files that are either whole and on the disk or not there, whenever the power fails or the user stops."""

import errno
import json
import os
import secrets
import shutil
import signal
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from soundreel.errors import Cancelled, MediaError, SoundreelError
from soundreel.units import PATIENCE
from soundreel.wording import readable_size

WINDOWS: Final = os.name == "nt"

TEMPORARY: Final = ".tmp"
"""Ending of a file that is not whole yet."""

TEMPORARY_PATTERN: Final = r"(\.[0-9a-f]{8})?\.tmp"
"""What follows a file's name while it is written, as a regular expression; version 0.1.0 wrote `.tmp` alone."""

NO_LINKS: Final[int] = getattr(os, "O_NOFOLLOW", 0)
"""For `os.open`, where a file is written in place: a folder may come from someone who left a link to another file."""

_NAME_LETTERS: Final = 50
"""Of a file's name, so many begin that of its temporary file: with what follows it never gets too long."""

_SHORT_OF_SPACE: Final = frozenset({None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Failures where it helps to know how much room there is; None: of a library that does not tell the number."""

# writing


def write_whole(
    path: Path,
    fill: Callable[[Path], object],
    *,
    needed_bytes: int = 0,
    error: type[SoundreelError] = MediaError,
    cure: str = "",
) -> None:
    """Let `fill` write a temporary file and give it its name: a reader finds what was there before, or all of it.

    When the power fails it may be lost. After an error what was there before still is, and nothing else. Several
    processes may write the same file at once: the last one's stays.

    Args:
        needed_bytes: about what the file takes, for the message when the disk is full; 0: not known.
        error: what to raise; `cure` is what its message ends with.

    Raises:
        SoundreelError: of the kind `error`, when the file cannot be written.
    """
    _write(path, fill, Path.replace, needed_bytes=needed_bytes, error=error, cure=cure)


def write_durably(
    path: Path,
    fill: Callable[[Path], object],
    *,
    needed_bytes: int = 0,
    error: type[SoundreelError] = MediaError,
    cure: str = "",
) -> None:
    """As `write_whole`, and on return content and name are on the disk."""
    _write(path, fill, rename_durably, needed_bytes=needed_bytes, error=error, cure=cure)


def _write(
    path: Path,
    fill: Callable[[Path], object],
    rename: Callable[[Path, Path], object],
    *,
    needed_bytes: int,
    error: type[SoundreelError],
    cure: str,
) -> None:
    temporary = path.with_name(f"{path.name[:_NAME_LETTERS]}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        with reporting(path, needed_bytes=needed_bytes, error=error, cure=cure):
            _check_replaced(path)
            fill(temporary)
            rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file durably. Lone surrogates, of file names that are no Unicode, are escaped as in JSON."""
    content = text.encode(errors="backslashreplace")
    write_durably(path, lambda temporary: temporary.write_bytes(content), needed_bytes=len(content))


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write plain data and paths durably, as indented JSON."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, default=os.fspath))


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays durably, as a safetensors file."""
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    size = sum(array.nbytes for array in arrays.values())
    write_durably(path, lambda temporary: save_file(arrays, temporary), needed_bytes=size)


def make_folder(path: Path, *, error: type[SoundreelError] = MediaError, cure: str = "") -> None:
    """Make a folder and those above it where they are missing; `error` if that cannot be."""
    with reporting(path, error=error, cure=cure):
        path.mkdir(parents=True, exist_ok=True)


# names


def _check_replaced(path: Path) -> None:
    """Raise `OSError` where a file would take the place of something that is none, as of /dev/null.

    A link is followed: /dev/stdout is one, to a pipe.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EEXIST, "a folder, pipe or device has this name")


def rename_durably(temporary: Path, path: Path) -> None:
    """Give a file its name, in place of what had it before; both its content and its name are on the disk."""
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    if WINDOWS and path.is_dir():
        return  # a folder cannot be opened there
    handle = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(finished: Path, path: Path, *, replace: bool) -> Path:
    """Move a finished file to a name on the same file system, durably; returns the name that it has now.

    With `replace` it takes the place of what was at `path`. Without, it gets the first free name of `video.mp4`,
    `video_2.mp4`, …, and never replaces anything, not even what another process puts there at the same moment.

    Raises:
        MediaError: it cannot be moved there.
    """
    with uninterrupted(), reporting(path):
        if replace:
            _check_replaced(path)
            rename_durably(finished, path)
            return path
        sync(finished)
        free = next(name for number in count(1) if _claim(finished, name := numbered(path, number)))
        sync(path.parent)
        return free


def _claim(finished: Path, path: Path) -> bool:
    """Move `finished` to `path` unless that name is taken."""
    try:
        path.hardlink_to(finished)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links, or one where the next way fails as well
        return _claim_by_empty_file(finished, path)
    with suppress(OSError):
        finished.unlink()
    return True


def _claim_by_empty_file(finished: Path, path: Path) -> bool:
    """The same without hard links: what is replaced is an empty file that was made for it."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    try:
        finished.replace(path)
    except OSError:
        path.unlink()
        raise
    return True


def numbered(path: Path, number: int) -> Path:
    """`video.mp4` → `video_2.mp4`, for when the name is taken."""
    return path if number == 1 else path.with_name(f"{path.stem}_{number}{path.suffix}")


# failures


@contextmanager
def reporting(
    path: Path, *, needed_bytes: int = 0, error: type[SoundreelError] = MediaError, cure: str = ""
) -> Iterator[None]:
    """Failures to write `path` inside the block become `error`, in the words of `cannot_write`, `cure` at the end."""
    try:
        yield
    except (OSError, SafetensorError) as cause:
        raise error(cannot_write(path, cause, needed_bytes) + (f"; {cure}" if cure else "")) from cause


def cannot_write(path: Path, cause: Exception, needed_bytes: int = 0) -> str:
    """What to say when `path` cannot be written: file, folder, reason, and the room there where it may be that."""
    reason = " ".join((getattr(cause, "strerror", None) or str(cause)).split()) or type(cause).__name__
    says = f"cannot write {path.name!r} in folder {str(path.parent)!r}: {reason}"
    if getattr(cause, "errno", None) not in _SHORT_OF_SPACE:
        return says
    needed = f"about {readable_size(needed_bytes)} are" if needed_bytes else "more is"
    return f"{says}; {needed} needed, {readable_size(_free_bytes(path))} are free there"


def _free_bytes(path: Path) -> int:
    there = next(folder for folder in path.absolute().parents if folder.exists())
    return shutil.disk_usage(there).free


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block is done: the write in hand is finished, then the signal works.

    Also where this thread waits for another one: an exception may come between a lock's acquisition and the `with`
    block that gives it back, and then the other one waits for ever. The third signal ends the process, done or not.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python gives signals to the main thread only
        return
    came: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        came.append(number)
        if len(came) > PATIENCE:
            os._exit(Cancelled.exit_code)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:  # also where the block failed
            signal.raise_signal(came[0])
