"""What happens to a rendered clip before it is encoded: colours are measured and matched, frames are added.

Each clip is processed by itself, from its frames and what the one before in its chain handed on; so one that is
rendered again after an interruption comes out the same, and chains do not need each other. Of an interpolated clip's
frames, those between the clip before and its own first one come first; a chain's last clip holds its last picture to
the cut.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from soundreel.interpolation.frames import Piece, interpolate
from soundreel.render.colour import ColourStats, Correction, measure
from soundreel.render.prepared import PreparedRender
from soundreel.render.stored_clips import Beside, Tensors
from soundreel.request import Interpolation
from soundreel.types import Check, RenderedClip, go_on

OWN: Final = "soundreel."
"""Names in what is handed on that begin so are not the engine's."""

CONTEXT, CORRECTION, TARGET = f"{OWN}context", f"{OWN}correction", f"{OWN}target"

Picture = NDArray[np.uint8]
"""RGB, uint8 [H, W, 3]; several of them [T, H, W, 3]."""


@dataclass(frozen=True, kw_only=True)
class ProcessedClip:
    """Pictures to encode, as they come; and once all of them have, what is kept beside them."""

    pictures: Iterator[Picture]
    result: Callable[[], Beside]  # its facts: the look as rendered, and the correction at the end of the clip, if any


def post_process(
    render: PreparedRender, rendered: RenderedClip, before: Tensors, check: Check = go_on
) -> ProcessedClip:
    """Process a clip.

    Args:
        before: what the clip before it in its chain handed on.
        check: called before each picture that is measured, or made between others; may raise to stop.
    """
    count, is_interpolated = len(rendered.frames), render.interpolation is not Interpolation.NONE
    if render.networks:
        rendered.wait(check)  # what still decodes has the GPU's memory
    correct = _matching(render, rendered, before, check) if render.request.output.color_match else None

    def picture(index: int) -> Picture:
        rendered.wait(check, index + 1)
        frame = rendered.frames[index]
        return frame if correct is None else correct(frame, index)

    def result() -> Beside:
        rendered.wait(check)
        handed_on = {CONTEXT: picture(count - 1)} if is_interpolated else {}
        if correct is None:
            return Beside(handed_on=handed_on, facts={"look": measure(rendered.frames, check).data})
        facts = {"look": correct.colours.data, "correction": correct.end.values.tolist()}
        return Beside(handed_on=handed_on | correct.handed_on, facts=facts)

    pictures: Iterator[Picture] = map(picture, range(count))
    if is_interpolated:
        pictures = _interpolated(render, rendered, pictures, before.get(CONTEXT), check)
    return ProcessedClip(pictures=pictures, result=result)


def _matching(render: PreparedRender, rendered: RenderedClip, before: Tensors, check: Check) -> "_Matching":
    """Of a clip that has to be whole: the first frame's correction depends on the last one."""
    rendered.wait(check)
    is_first_of_shot = rendered.clip.index == render.plan.shot_of(rendered.clip).clips[0].index
    target = None if is_first_of_shot else before.get(TARGET)
    return _Matching(measure(rendered.frames, check), target, before, len(rendered.frames))


class _Matching:
    """Goes from the correction at the end of the clip before to the clip's own, frame by frame: no step is seen."""

    def __init__(self, colours: ColourStats, target: NDArray[Any] | None, before: Tensors, frames: int) -> None:
        target = np.array([colours.mean, colours.std]) if target is None else target
        self._begin = Correction(before[CORRECTION]) if CORRECTION in before else Correction.none()
        self.end = Correction.between(colours, ColourStats(mean=tuple(target[0]), std=tuple(target[1])))
        self._frames = frames
        self.colours = colours
        self.handed_on = {TARGET: target, CORRECTION: self.end.values}

    def __call__(self, frame: Picture, index: int) -> Picture:
        return self._begin.towards(self.end, (index + 1) / self._frames).apply(frame)


def _interpolated(
    render: PreparedRender,
    rendered: RenderedClip,
    pictures: Iterator[Picture],
    before: Picture | None,
    check: Check,
) -> Iterator[Picture]:
    clip, plan = rendered.clip, render.plan
    return interpolate(
        pictures,
        method=render.interpolator,
        fps=render.fps,
        piece=Piece(
            start=clip.start,
            before=before,
            is_last=clip.stop == plan.frames,
            until=render.rates.first_at(clip.stop) if plan.is_last_of_chain(clip) else None,
        ),
        check=check,
    )
