"""How a render is kept while it is under way."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from soundreel.errors import InputError
from soundreel.units import StrPath


@dataclass(frozen=True, kw_only=True)
class WorkOptions:
    """How a render is kept while it is under way, and whether one that was interrupted goes on."""

    work_dir: StrPath | None = None  # may hold several renders; None: one of its own beside the output
    keep_work: bool | None = None  # after success too; None: where the engine keeps negatives, and with cuts
    resume: bool = True  # False: what was rendered before is thrown away
    redo_clip: int | None = None  # number from 1, of a kept or unfinished render: with another seed
    redo_shot: str = ""  # name of a shot or a section: its clips in place of a single one
    redo_seed: int | None = None  # None: one that no take of the clip has had
    redo_output: StrPath | None = None  # name of its video; None: a new one, for the earlier video stays
    only_resume: bool = False  # where there is nothing to go on with, that is an error
    only_print: bool = False  # from what is kept, never a pass of the model: where that cannot be, it is an error
    is_shared: bool = False  # other processes may take shots of it meanwhile
    printed_models: Mapping[str, str] | None = None  # digests of the files that it was rendered with; None: those here

    @property
    def redoes(self) -> bool:
        """Whether a part of the render is to be drawn again."""
        return self.redo_clip is not None or bool(self.redo_shot)

    def __post_init__(self) -> None:
        if self.redoes and not self.resume:
            raise InputError("--redo-clip goes on with a kept render, --no-resume throws it away: give one of them")


BESIDE_THE_OUTPUT: Final = WorkOptions()
"""Kept until the video is there, and gone on with."""
