"""Frame interpolation by libavfilter's motion compensation (`minterpolate`): on the CPU, without weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

from soundreel.types import Check, go_on

Picture = NDArray[np.uint8]
"""RGB, uint8 [H, W, 3]."""

OPTIONS: Final = "mi_mode=mci:mc_mode=obmc:me_mode=bilat:scd=none"
"""Overlapped block motion compensation with bilateral motion estimation: as good as bidirectional and twice as fast.

The filter's scene change detection is off: `soundreel.media.cuts` finds cuts for all methods.
"""

SMALLEST_SIDE_PIXELS: Final = 32
"""The filter needs two blocks of 16 pixels each way; in smaller frames the frame before is repeated."""

TICKS: Final = 5040
"""Ticks of the filter's time base between the two frames, so that up to ten equal parts are exact."""

_FORMAT: Final = "yuv444p"
_NOTHING_YET: Final = (av.error.BlockingIOError, av.error.EOFError)


@dataclass(frozen=True, eq=False)
class FramePair:
    """Two consecutive frames, and the times between them, 0 at the first and 1 at the second, of the frames to make."""

    before: Picture
    after: Picture
    times: tuple[Fraction, ...]  # ascending, equally far apart


def compensate_motion(pair: FramePair, check: Check = go_on) -> list[Picture]:
    """The frames at the times of a pair. They depend on its two frames alone: each pair has a filter of its own."""
    if min(pair.before.shape[:2]) < SMALLEST_SIDE_PIXELS:
        return [pair.before for _ in pair.times]
    first, step = _ticks(pair.times)
    lead = step - first  # outputs are at 0, step, 2 · step …: with `before` here, the second one has the first time
    shown = [(lead, pair.before), (lead + TICKS, pair.after), (lead + 2 * TICKS, pair.after)]  # output is an input late
    return _between([(0, pair.before), *shown] if lead else shown, step, len(pair.times), check)


def _ticks(times: Sequence[Fraction]) -> tuple[int, int]:
    """The first time and the step between times, in ticks; for a single time, a step that reaches past the pair."""
    first = max(1, round(TICKS * times[0]))
    if len(times) == 1:
        return first, max(first, TICKS - first)
    return first, max(first, round(TICKS * (times[1] - times[0])))


def _between(shown: Sequence[tuple[int, Picture]], step: int, count: int, check: Check) -> list[Picture]:
    """The filter's output frames 1 to `count`, `step` ticks apart, for input frames with their times in ticks."""
    graph = _open_graph(shown[0][1], step)
    made: list[Picture] = []
    for ticks, picture in shown:
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=_FORMAT)
        frame.pts, frame.time_base = ticks, Fraction(1, TICKS)
        graph.vpush(frame)
        while len(made) <= count:
            check()
            try:
                made.append(np.asarray(graph.vpull().to_ndarray(format="rgb24"), np.uint8))
            except _NOTHING_YET:
                break
    assert len(made) > count, "the filter outputs what lies between two frames once it has the next"
    return made[1 : count + 1]


def _open_graph(picture: Picture, step: int) -> Graph:
    """A filter with `TICKS` ticks per input frame and an output frame every `step` ticks."""
    height, width, _ = picture.shape
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat(_FORMAT), time_base=Fraction(1, TICKS))
    motion = graph.add("minterpolate", f"fps={TICKS}/{step}:{OPTIONS}")
    sink = graph.add("buffersink")
    source.link_to(motion)
    motion.link_to(sink)
    graph.configure()
    return graph
