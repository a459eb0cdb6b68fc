"""What a sheet shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from soundreel.analysis import Song


@dataclass(frozen=True, kw_only=True)
class Score:
    """A number that says how good something is."""

    value: float
    goodness: float  # 0 bad to 1 good: its colour


@dataclass(frozen=True, kw_only=True, eq=False)
class SheetShot:
    """One shot."""

    name: str
    start: float  # seconds from the beginning of the window
    stop: float
    prompt: str = ""
    continues: bool = False  # the movement of the shot before goes on in it
    pictures: tuple[Image.Image, ...] = ()  # of it, evenly spread; of one size
    scores: Mapping[str, Score] = field(default_factory=dict)  # by a short name
    is_weak: bool = False  # one of those to look at first

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.stop - self.start

    def with_pictures(self, pictures: Sequence[Image.Image]) -> Self:
        """The same shot, and these pictures of it."""
        return replace(self, pictures=tuple(pictures))


@dataclass(frozen=True, kw_only=True, eq=False)
class SongSheet:
    """A window of a song, what is heard in it, and the shots that show it."""

    title: str
    facts: str = ""  # a line below the title
    start: float = 0.0  # seconds of the song at which the window begins
    seconds: float  # length of the window
    song: Song  # what is heard in the window
    peaks: NDArray[np.float32]  # [PEAKS_PER_SECOND · seconds, 2] lowest and highest sample of each moment
    shots: tuple[SheetShot, ...] = ()  # ascending
