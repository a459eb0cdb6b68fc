"""Which shots and clips a video has: by its recipe, else by its hard cuts."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from soundreel.scoring.looking import Seen
from soundreel.units import MODEL_FPS

Values = NDArray[np.float64]

PIECE_SECONDS: Final = 5.0
"""A shot whose clips are not known is compared in pieces of so much."""

LARGEST: Final = 2**40
"""No frame of a video has a greater number."""


@dataclass(frozen=True, kw_only=True)
class ShotSpan:
    """A shot, and when its clips begin."""

    index: int
    name: str  # "": it has none
    start: float  # seconds
    stop: float
    clips: tuple[float, ...]  # seconds; the first is `start`


def shots_of_recipe(recipe: Mapping[str, Any] | None) -> tuple[ShotSpan, ...]:
    """The shots that a recipe tells; (): none, or nothing that could be true of a video."""
    clips = [] if recipe is None else recipe["plan"]["clips"]
    is_told = all(_is_count(clip.get(key)) for clip in clips for key in ("start", "frames", "shot"))
    is_told = is_told and all(clip["frames"] for clip in clips)
    if not clips or not is_told or any(a["start"] + a["frames"] != b["start"] for a, b in pairwise(clips)):
        return ()
    shots: list[ShotSpan] = []
    for _, group in groupby(clips, lambda clip: clip["shot"]):
        of_shot = list(group)
        starts = tuple(clip["start"] / MODEL_FPS for clip in of_shot)
        stop = (of_shot[-1]["start"] + of_shot[-1]["frames"]) / MODEL_FPS
        name = _name_of(recipe, len(shots))
        shots.append(ShotSpan(index=len(shots), name=name, start=starts[0], stop=stop, clips=starts))
    return tuple(shots)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST


def _name_of(recipe: Mapping[str, Any] | None, index: int) -> str:
    """What a recipe calls a shot; "" where it has no name."""
    shots = recipe["plan"].get("shots") if recipe is not None else None
    told = shots[index] if isinstance(shots, list) and index < len(shots) else None
    name = told.get("name") if isinstance(told, dict) else None
    return name if isinstance(name, str) else ""


def shots_seen(seen: Seen) -> tuple[ShotSpan, ...]:
    """The shots between the cuts that are seen, in pieces of equal length."""
    starts = seen.seconds[seen.is_cut].tolist()
    shots = []
    for index, (start, stop) in enumerate(pairwise([*starts, seen.stop])):
        pieces = max(1, round((stop - start) / PIECE_SECONDS))
        clips = tuple(np.linspace(start, stop, pieces, endpoint=False).tolist())
        shots.append(ShotSpan(index=index, name="", start=start, stop=stop, clips=clips))
    return tuple(shots)


def within(shots: tuple[ShotSpan, ...], seen: Seen) -> tuple[ShotSpan, ...]:
    """The shots that a recipe tells, as far as the video goes; what it shows beyond belongs to the last."""
    inside = [shot for shot in shots if shot.start < seen.stop]
    if not inside:
        return shots_seen(seen)
    last = inside[-1]
    ends = ShotSpan(index=last.index, name=last.name, start=last.start, stop=seen.stop, clips=last.clips)
    return (*inside[:-1], ends)
