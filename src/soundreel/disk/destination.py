"""Where a video goes that is made of other videos: to the name that was asked for, or to a new one beside the first."""

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from soundreel.disk.durable import publish, uninterrupted
from soundreel.disk.locks import LOCK_NAME, NoLocksError, holder, locked
from soundreel.disk.outputs import (
    ROOM_FOR_COPIES_BYTES,
    Inputs,
    check_name,
    claimed,
    fitting,
    is_folder,
    longest_name,
)
from soundreel.errors import InputError
from soundreel.units import StrPath

PREFIX: Final = ".soundreel-"
"""Of the folders in which videos are made beside their destination."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """A place for a video that is still to be made."""

    asked: Path | None  # a name that is replaced if it is there; None: a new one
    folder: Path
    inputs: Inputs
    _made: list[Path] = field(default_factory=list, repr=False, compare=False)  # the video, once it has its name

    @classmethod
    def of(cls, output: StrPath | None, *, first: StrPath, inputs: Inputs, endings: Collection[str]) -> Self:
        """From the name that was asked for, if one was.

        Args:
            first: the video beside which a new name is.
            endings: of which the name must have one, as `.mp4`.

        Raises:
            InputError: the video cannot get that name, or would take the place of what it is made of.
        """
        if output is None:
            return cls(asked=None, folder=Path(first).absolute().parent, inputs=inputs)
        path = Path(output).absolute()
        says = _says(output)
        if path.suffix.lower() not in endings:
            raise InputError(f"{says}: expected a name that ends in {', '.join(endings)}")
        check_name(path)
        if is_folder(path):
            raise InputError(f"{says}, which is a folder: name a file")
        inputs.refuse(path, f"{says}, which")
        return cls(asked=path, folder=path.parent, inputs=inputs)

    @contextmanager
    def work_folder(self) -> Iterator[Path]:
        """A temporary folder on its file system, while its name, if one was asked for, is this process's alone.

        What killed processes have left of theirs beside it goes first. A note of a `KeyboardInterrupt` in the block
        says whether it came before the video had its name.

        Raises:
            InputError: another process makes a video of that name, or nothing can be written there.
        """
        remove_left_over(self.folder)
        try:
            with ExitStack() as stack:
                with uninterrupted():  # else it is made, and nobody knows of it yet
                    work = self._make_folder()
                    stack.callback(_remove, work)
                with suppress(NoLocksError):
                    stack.enter_context(locked(Path(work.name)))
                if self.asked is not None:
                    stack.enter_context(claimed(self.asked))
                yield Path(work.name)
        except KeyboardInterrupt as stop:
            stop.add_note(f"the video is there: {self._made[0]}" if self._made else "nothing was saved")
            raise

    def _make_folder(self) -> tempfile.TemporaryDirectory[str]:
        try:
            return tempfile.TemporaryDirectory(prefix=PREFIX, dir=self.folder)
        except OSError as error:
            raise InputError(
                f"cannot write into {str(self.folder)!r} ({error.strerror}): choose another folder with --output"
            ) from error

    def publish(self, finished: Path, stem: str, ending: str) -> Path:
        """Move a finished video to its name, or to a new one of this stem and ending; returns the name.

        Raises:
            InputError: the name has become that of something it is made of.
        """
        name = fitting(stem, ending, longest_name(self.folder) - ROOM_FOR_COPIES_BYTES)
        if self.asked is not None:
            self.inputs.refuse(self.asked, f"{_says(self.asked)}, which")
        with uninterrupted():
            path = publish(finished, self.asked or self.folder / name, replace=self.asked is not None)
            self._made.append(path)
        return path


def _remove(work: tempfile.TemporaryDirectory[str]) -> None:
    with uninterrupted():  # else half of it stays
        work.cleanup()


def remove_left_over(folder: Path) -> None:
    """Remove from a folder what killed processes have left of their temporary folders; never that of a live one.

    A process that has no lock on its folder yet makes the folder again, if it goes while it is empty.
    """
    for place in folder.glob(f"{PREFIX}*"):
        if place.is_symlink():
            continue
        with suppress(InputError, OSError):  # no folder, taken at this moment, or of a version that locked none
            if (place / LOCK_NAME).exists():
                if holder(place) is None:
                    with locked(place):
                        shutil.rmtree(place)
            else:
                place.rmdir()


def _says(output: StrPath) -> str:
    return f"--output is {os.fspath(output)!r}"
