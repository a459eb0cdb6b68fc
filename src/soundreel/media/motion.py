"""Pictures between pictures by libavfilter's motion compensation (`minterpolate`): no weights, on the CPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""RGB, uint8 [H, W, 3]."""

OPTIONS: Final = "mi_mode=mci:mc_mode=obmc:me_mode=bilat:scd=none"
"""Motion of overlapped blocks, searched from the middle (as good as bidirectional search and twice as fast). Cuts are
found by `soundreel.media.cuts`, for all methods alike."""

SMALLEST_SIDE_PIXELS: Final = 32
"""The filter looks for motion in blocks of 16 pixels and wants two of them each way; below, pictures are held."""

TICKS: Final = 5040
"""Of the filter's clock from one picture to the next: up to ten equal parts are exact."""

_FORMAT: Final = "yuv444p"
_NOTHING_YET: Final = (av.error.BlockingIOError, av.error.EOFError)


Check = Callable[[], object]
"""Called before each picture that is made; may raise to stop."""


@dataclass(frozen=True, eq=False)
class Gap:
    """Two neighbouring pictures and where pictures between them are wanted: 0 at the first, 1 at the second."""

    before: Picture
    after: Picture
    times: tuple[Fraction, ...]  # ascending, equally far apart


def compensate_motion(gap: Gap, check: Check = lambda: None) -> list[Picture]:
    """The pictures of a gap. They depend on its two pictures alone, not on what the filter saw before."""
    if min(gap.before.shape[:2]) < SMALLEST_SIDE_PIXELS:
        return [gap.before for _ in gap.times]
    first, step = _clock(gap.times)
    lead = step - first  # the filter's own pictures begin with its first: shown earlier, they fall on ours
    shown = [(lead, gap.before), (lead + TICKS, gap.after), (lead + 2 * TICKS, gap.after)]  # it answers one late
    return _between([(0, gap.before), *shown] if lead else shown, step, len(gap.times), check)


def _clock(times: Sequence[Fraction]) -> tuple[int, int]:
    """The first time and the steps between, in ticks; a single time gets steps so large that nothing else is made."""
    first = max(1, round(TICKS * times[0]))
    if len(times) == 1:
        return first, max(first, TICKS - first)
    return first, max(first, round(TICKS * (times[1] - times[0])))


def _between(shown: Sequence[tuple[int, Picture]], step: int, count: int, check: Check) -> list[Picture]:
    """What the filter makes of pictures shown at ticks, `step` ticks apart: the second and those that follow."""
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
    assert len(made) > count, "the filter gives what lies between two pictures when it has seen the next"
    return made[1 : count + 1]


def _open_graph(picture: Picture, step: int) -> Graph:
    """A filter whose clock ticks `TICKS` times from picture to picture and that gives one each `step` ticks."""
    height, width, _ = picture.shape
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat(_FORMAT), time_base=Fraction(1, TICKS))
    motion = graph.add("minterpolate", f"fps={TICKS}/{step}:{OPTIONS}")
    sink = graph.add("buffersink")
    source.link_to(motion)
    motion.link_to(sink)
    graph.configure()
    return graph
