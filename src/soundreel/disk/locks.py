"""One process per folder: a lock that ends with the process that holds it, however it ends.

The lock's file tells whose it is: ` PID HOST`. Who asks whether a folder is anybody's can only try the lock, and so has
it for some microseconds where nobody does. Therefore a process that wants a folder tries for a second before it takes
the folder for another one's.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import lock_descriptor, unlock_descriptor

from soundreel.disk.durable import NO_LINKS, WINDOWS, reporting
from soundreel.errors import InputError

LOCK_NAME: Final = "lock"

TAKING_SECONDS: Final = 1.0
ASKING_SECONDS: Final = 0.05
"""So that two who ask at once do not take each other for the holder."""

BETWEEN_SECONDS: Final = 0.005

TRIES: Final = 100
"""To make a folder and a file in it: another process may remove the empty folder in between. Where none can be made,
as in /proc, the error is the same at last."""

HOLDER_BYTES: Final = 512
"""Of a lock's file, more than it ever has."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that has a folder."""

    pid: str  # "unknown": it has not said yet
    host: str  # the name of its machine; "": it has not said, or is of version 0.1.0

    def __str__(self) -> str:
        return f"process {self.pid}" + (f" on {self.host}" if self.host not in {"", socket.gethostname()} else "")


class NoLocksError(InputError):
    """A file system knows no locks."""


@contextmanager
def locked(
    folder: Path,
    *,
    what: str = "",
    cure: str = "name another --work-dir",
    below: Path | None = None,
    option: str = "",
) -> Iterator[None]:
    """Make `folder` this process's own until the block is left; makes the folder if need be.

    Args:
        what: is being rendered, for the message to whoever is refused; "": what is in the folder.
        cure: what else than waiting or stopping the other process helps.
        below: the folder that the user knows of, for messages where nothing can be written; None: `folder` itself.
        option: by which another one of these is chosen.

    Raises:
        InputError: another process has it, or it cannot be made.
        NoLocksError: its file system knows no locks.
        MediaError: nothing can be written there.
    """
    refusal = f"is rendering {what or f'this in {str(folder)!r}'}: wait for it, stop it, or {cure}"
    handle = _take(folder, _Place(folder if below is None else below, option, refusal))
    try:
        yield
    finally:
        _give_back(handle)
        if WINDOWS:
            _remove_left_over(folder)


def holder(folder: Path) -> Holder | None:
    """The process that has `folder` now; None: nobody has, or the file system does not tell."""
    path = folder / LOCK_NAME
    with suppress(OSError):
        handle = os.open(path, os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY)
        try:
            if not _try(handle, ASKING_SECONDS):
                return _read(handle)
            unlock_descriptor(handle)
        finally:
            os.close(handle)
    return None


@dataclass(frozen=True)
class _Place:
    """What messages say of a folder."""

    folder: Path
    option: str
    refusal: str  # that another process has it

    def unfit(self, what: str, error: OSError | ValueError) -> str:
        """What cannot be done there, why, and what to do."""
        why = getattr(error, "strerror", None) or error
        cure = f"choose another folder{f' with {self.option}' if self.option else ''}"
        return f"cannot {what} {str(self.folder)!r} ({why}): {cure}"


def _take(folder: Path, place: _Place) -> int:
    path = folder / LOCK_NAME
    while True:
        handle = _open(path, place)
        try:
            _claim(handle, place)
            if _is(handle, path):
                with reporting(path):
                    _sign(handle)
                return handle
        except BaseException:
            os.close(handle)
            raise
        _give_back(handle)  # the process before has just finished, and removed the folder


def _open(path: Path, place: _Place) -> int:
    for tries_left in reversed(range(TRIES)):
        try:
            with suppress(FileExistsError):  # `exist_ok` looks at the folder again, and it may be gone by then
                path.parent.mkdir(parents=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | NO_LINKS, 0o644)
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            if tries_left and isinstance(error, FileNotFoundError):
                continue
            raise InputError(place.unfit("write into", error)) from error
    raise AssertionError("the last try returns or raises")


def _claim(handle: int, place: _Place) -> None:
    try:
        is_ours = _try(handle, TAKING_SECONDS)
    except OSError as error:
        raise NoLocksError(place.unfit("lock", error)) from error
    if not is_ours:
        raise InputError(f"{_read(handle)} {place.refusal}")


def _try(handle: int, seconds: float) -> bool:
    """Lock, if it can be done within so many seconds."""
    end = time.monotonic() + seconds
    while not lock_descriptor(handle, blocking=False):
        if time.monotonic() > end:
            return False
        time.sleep(BETWEEN_SECONDS)
    return True


def _is(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _give_back(handle: int) -> None:
    try:
        unlock_descriptor(handle)  # closing is not enough where a child process has the handle as well
    finally:
        os.close(handle)


def _remove_left_over(folder: Path) -> None:
    """Windows removes no file that is open: of a folder that is removed, the lock stays until it is given back."""
    with suppress(OSError):  # another process has just begun, or somebody has removed it
        if [entry.name for entry in folder.iterdir()] == [LOCK_NAME]:
            (folder / LOCK_NAME).unlink()
            folder.rmdir()


def _sign(handle: int) -> None:
    """Say whose lock it is. Windows locks the first byte, and lets nobody else read it: it says nothing."""
    text = f" {os.getpid()} {socket.gethostname()}\n".encode()
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, text)
    os.ftruncate(handle, len(text))


def _read(handle: int) -> Holder:
    os.lseek(handle, 1 if WINDOWS else 0, os.SEEK_SET)
    line, _, _ = os.read(handle, HOLDER_BYTES).decode(errors="replace").partition("\n")
    pid, host, *_ = [*line.split(), "", ""]
    return Holder(pid=pid or "unknown", host=host)
