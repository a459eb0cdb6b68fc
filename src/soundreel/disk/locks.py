"""One process per folder: a lock that ends with the process that holds it, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from soundreel.errors import InputError

LOCK_NAME: Final = "lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make `folder` this process's own until the block is left; makes the folder if need be.

    Raises:
        InputError: another process has it, or it cannot be made.
    """
    handle = _take(folder)
    try:
        yield
    finally:
        os.close(handle)


def _take(folder: Path) -> int:
    path = folder / LOCK_NAME
    while True:
        handle = _open(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = _pid(handle)
            os.close(handle)
            raise InputError(
                f"process {pid} is rendering this in {str(folder)!r}: wait for it, stop it, or name another --work-dir"
            ) from error
        if _is(handle, path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            return handle
        os.close(handle)  # the process before has just finished, and removed the folder


def _open(path: Path) -> int:
    for _ in range(100):  # another process may remove an empty folder in between
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(
                f"cannot write into {str(path.parent)!r} ({error.strerror}): choose another folder"
            ) from error
    raise InputError(f"cannot keep the folder {str(path.parent)!r}: something removes it again and again")


def _is(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _pid(handle: int) -> str:
    return os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"


def holder(folder: Path) -> str | None:
    """The pid of the process that has `folder` now; None: nobody has."""
    with suppress(FileNotFoundError), (folder / LOCK_NAME).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _pid(file.fileno())
    return None
