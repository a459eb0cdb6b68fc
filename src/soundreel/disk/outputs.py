"""Names of results: none that the file system cannot hold, none of a file that is read for it, each one process's own.

A result gets its name when all else is done, hours later perhaps. What would go wrong then is refused at the beginning.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from soundreel.disk.durable import WINDOWS
from soundreel.disk.locks import LOCK_NAME, NoLocksError, holder, locked
from soundreel.errors import InputError
from soundreel.units import StrPath

WORK_FOLDER: Final = ".soundreel"
"""Beside the outputs: a folder per render, named by the fingerprint of what was asked, and one per output that is being
made, with the output's own name: whatever the file system takes for the same name is the same folder."""

PLAN_NAME: Final = "plan.json"
"""In a work folder, beside its lock: what is rendered there."""

LONGEST_NAME: Final = 255
"""Bytes of a file name in UTF-8 on the file systems that people use."""

ROOM_FOR_COPIES_BYTES: Final = 8
"""Left free in names of ours for a `_2` before the ending."""

FileId = tuple[int, int]
"""Device and number: what a file has in common with all its names and links, and with no other file."""


# names


def longest_name(folder: Path) -> int:
    """How many bytes a file name may have in a folder, which need not be there yet."""
    for place in () if WINDOWS else (folder.absolute(), *folder.absolute().parents):
        with suppress(OSError, ValueError):  # not there, or a file system that does not say
            return os.pathconf(place, "PC_NAME_MAX")
    return LONGEST_NAME


def fitting(stem: str, ending: str, longest: int = LONGEST_NAME) -> str:
    """A file name of at most `longest` bytes: as much of the stem as there is room for, and the ending."""
    room = max(longest - len(ending.encode("utf-8", "surrogateescape")), 0)
    return stem.encode("utf-8", "surrogateescape")[:room].decode("utf-8", "ignore") + ending


def check_name(output: Path, option: str = "--output", *, field: str | None = None) -> None:
    """Raise `InputError` for a name that no file can have there, or none but a clip of a render."""
    says = f"{option} is {os.fspath(output)!r}"
    try:
        size, longest = len(os.fsencode(output.name)), longest_name(output.parent)
    except ValueError as error:  # letters that are none, or a null character
        raise InputError(f"{says}: expected the name of a file", field=field) from error
    if size > longest:
        raise InputError(f"{says}, whose name has {size} bytes: expected at most {longest}", field=field)
    if is_work_folder(output.parent):
        raise InputError(f"{says}, in a work folder of soundreel: choose another folder", field=field)


def is_folder(path: Path) -> bool:
    """Whether there is a folder; False where that cannot be told."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def is_work_folder(folder: Path) -> bool:
    """Whether renders are kept in a folder."""
    return (folder / PLAN_NAME).exists() and (folder / LOCK_NAME).exists()


def is_same_folder(one: Path, other: Path) -> bool:
    """Whether two names are those of one folder, which need not be there yet."""
    found = _file_id(one)
    return one.absolute() == other.absolute() if found is None else found == _file_id(other)


# what is read


@dataclass(frozen=True, kw_only=True)
class _Input:
    says: str  # what it is, for messages
    path: Path
    id: FileId | None  # when it was first seen; None: it was not there

    def is_at(self, found: FileId) -> bool:
        """Whether a file is this one: by the name that it had, or that it has by now."""
        return found in (self.id, _file_id(self.path)) or (is_folder(self.path) and found in _ids_below(self.path))

    def is_below(self, folder: FileId) -> bool:
        """Whether it lies in a folder, or a link in its path leads there."""
        places = (self.path.absolute(), Path(os.path.realpath(self.path)))
        return any(_file_id(parent) == folder for place in places for parent in place.parents)


@dataclass(frozen=True)
class Inputs:
    """The files that a result is made from. None of them is ever replaced by it, however either of them is named."""

    files: tuple[_Input, ...] = ()

    @classmethod
    def of(cls, files: Iterable[tuple[str, StrPath]]) -> Self:
        """From what each is, in words, and its path; of a folder all files in it are meant."""
        return cls(tuple(_Input(says=says, path=Path(path), id=_file_id(path)) for says, path in files))

    def refuse(self, output: Path, says: str, *, field: str | None = None) -> None:
        """Raise `InputError` where `output` is one of them; `says` begins the message: `--output is 'a.mp4', which`."""
        found = _file_id(output)
        same = None if found is None else next((file for file in self.files if file.is_at(found)), None)
        if same is not None:
            raise InputError(
                f"{says} is {same.says} itself: what a video is made from is never replaced, choose another name",
                field=field,
            )

    def refuse_below(self, folder: Path) -> None:
        """Raise `InputError` where one of them lies in a work folder: what is in it comes and goes with the render."""
        found = _file_id(folder)
        inside = None if found is None else next((file for file in self.files if file.is_below(found)), None)
        if inside is not None:
            raise InputError(
                f"{inside.says}, {os.fspath(inside.path)!r}, lies in the work folder {str(folder)!r}, which comes and "
                "goes with the render: move it elsewhere, or name another --work-dir"
            )


def _file_id(path: StrPath) -> FileId | None:
    """None: there is no such file, or it cannot be told."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _ids_below(folder: Path) -> Iterator[FileId]:
    for place, _, names in os.walk(folder):
        for name in names:
            found = _file_id(Path(place) / name)
            if found is not None:
                yield found


# one process


def clips_folder(video: Path) -> Path:
    """The work folder of a video that is known by its name, whatever it is asked to show: that of a batch."""
    return video.absolute().parent / WORK_FOLDER / f"{video.stem}.clips"


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Keep the name of an output for this process until the block is left, or the process ends however it ends.

    On a file system without locks there is no telling, and nobody is refused.

    Raises:
        InputError: another process is making it, or nothing can be written beside it.
    """
    folder = output.absolute().parent / WORK_FOLDER / output.name
    with ExitStack() as stack:
        with suppress(NoLocksError):
            what, cure, place = repr(str(output)), "choose another --output", output.absolute().parent
            stack.enter_context(locked(folder, what=what, cure=cure, below=place, option="--output"))
        try:
            yield
        finally:
            _remove_claim(folder)


def remove_dead_claims(folder: Path) -> None:
    """Remove from a folder of work folders what killed processes left there that had begun nothing yet."""
    for place in folder.iterdir():
        with suppress(InputError, OSError):  # it is taken, or goes, at this moment
            if [entry.name for entry in place.iterdir()] == [LOCK_NAME] and holder(place) is None:
                with locked(place):
                    _remove_claim(place)


def _remove_claim(folder: Path) -> None:
    with suppress(OSError):  # of Windows, where `locked` removes its file; or another render is there
        (folder / LOCK_NAME).unlink(missing_ok=True)
        folder.rmdir()
        folder.parent.rmdir()
