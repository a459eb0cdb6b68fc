"""What happens to a rendered clip before it is encoded: its look is measured, matched if asked for, frames are added.

Each clip is finished by itself, from its frames and what the one before handed on; so one that is rendered again after
an interruption comes out the same. Of an interpolated clip's frames, those between the clip before and its own first
one come first; only the last clip holds its last picture.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from soundreel.interpolation.frames import NONE, interpolate
from soundreel.render.colour import Correction, Look, measure
from soundreel.render.prepared import Job
from soundreel.types import RenderedClip

OWN: Final = "soundreel."
"""Names in a stored carry that begin so are not the engine's."""

CONTEXT, CORRECTION, TARGET = f"{OWN}context", f"{OWN}correction", f"{OWN}target"

Picture = NDArray[np.uint8]
"""RGB, uint8 [H, W, 3]; several of them [T, H, W, 3]."""

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class FinishedClip:
    """Pictures to encode, and what is kept beside them."""

    pictures: Iterator[Picture]
    look: Look  # as rendered
    correction: Correction | None  # at the end of the clip
    handed_on: Tensors


def finish(job: Job, rendered: RenderedClip, before: Tensors) -> FinishedClip:
    """Finish a clip; `before` is what the clip before handed on."""
    look = measure(rendered.frames)
    handed_on: dict[str, NDArray[Any]] = {}
    correct = _Matching(look, before, len(rendered.frames)) if job.request.color_match else None
    if correct is not None:
        handed_on |= correct.handed_on

    def picture(index: int) -> Picture:
        frame = rendered.frames[index]
        return frame if correct is None else correct(frame, index)

    count = len(rendered.frames)
    pictures: Iterator[Picture] = map(picture, range(count))
    if job.interpolation != NONE:
        handed_on[CONTEXT] = picture(count - 1)
        pictures = _interpolated(job, rendered, pictures, before.get(CONTEXT))
    return FinishedClip(pictures=pictures, look=look, correction=correct.end if correct else None, handed_on=handed_on)


class _Matching:
    """Goes from the correction at the end of the clip before to the clip's own, frame by frame: no step is seen."""

    def __init__(self, look: Look, before: Tensors, frames: int) -> None:
        target = before.get(TARGET, np.array([look.mean, look.std]))
        self._begin = Correction(before[CORRECTION]) if CORRECTION in before else Correction.none()
        self.end = Correction.between(look, Look(mean=tuple(target[0]), std=tuple(target[1])))
        self._frames = frames
        self.handed_on = {TARGET: target, CORRECTION: self.end.values}

    def __call__(self, frame: Picture, index: int) -> Picture:
        return self._begin.towards(self.end, (index + 1) / self._frames).apply(frame)


def _interpolated(
    job: Job, rendered: RenderedClip, pictures: Iterator[Picture], before: Picture | None
) -> Iterator[Picture]:
    clip = rendered.clip
    return interpolate(
        pictures,
        method=job.interpolator,
        fps=job.fps,
        before=before,
        start=clip.start,
        is_last=clip.index == len(job.plan.clips) - 1,
    )
