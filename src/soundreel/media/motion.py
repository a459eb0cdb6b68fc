"""Pictures between pictures by libavfilter's motion compensation (`minterpolate`): no weights, on the CPU."""

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, repeat
from typing import Final

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""RGB, uint8 [H, W, 3]."""

OPTIONS: Final = "mi_mode=mci:mc_mode=obmc:me_mode=bilat:scd=fdiff"
"""Motion of overlapped blocks, searched from the middle (as good as bidirectional search and twice as fast); across a
cut, where the brightness of most pixels leaps, pictures are repeated, not blended."""

SMALLEST_SIDE_PIXELS: Final = 32
"""The filter looks for motion in blocks of 16 pixels and wants two of them each way; below, pictures are held."""

_FORMAT: Final = "yuv444p"
_NOTHING_YET: Final = (av.error.BlockingIOError, av.error.EOFError)


def compensate_motion(pictures: Iterable[Picture], *, factor: int) -> Iterator[Picture]:
    """`factor` (at least 2) pictures for each one: itself, unchanged, then those before the next; the last is held.

    All pictures have one size. A few are held at a time, whatever their number.
    """
    pictures = iter(pictures)
    first = next(pictures, None)
    if first is None:
        return
    if min(first.shape[:2]) < SMALLEST_SIDE_PIXELS:
        yield from (picture for picture in chain([first], pictures) for _ in range(factor))
        return
    graph = _open_graph(first, factor)
    sources = deque[Picture]()
    for position, picture in enumerate(chain([first], pictures)):
        sources.append(picture)
        yield from _interval(sources, _advance(graph, picture, position, factor))
    yield from _interval(sources, _advance(graph, picture, position + 1, factor))  # the filter answers one picture late
    yield from repeat(sources[0], factor)


def _open_graph(picture: Picture, factor: int) -> Graph:
    """A filter that takes a picture per tick and gives `factor`."""
    height, width, _ = picture.shape
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat(_FORMAT), time_base=Fraction(1, 1))
    motion = graph.add("minterpolate", f"fps={factor}:{OPTIONS}")
    sink = graph.add("buffersink")
    source.link_to(motion)
    motion.link_to(sink)
    graph.configure()
    return graph


def _advance(graph: Graph, picture: Picture, position: int, factor: int) -> list[Picture]:
    """Give the filter the picture at `position`; returns those between the last two before it, as far as known."""
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=_FORMAT)
    frame.pts, frame.time_base = position, Fraction(1, 1)
    graph.vpush(frame)
    between: list[Picture] = []
    while True:
        try:
            made = graph.vpull()
        except _NOTHING_YET:
            return between
        if (made.pts or 0) % factor:
            between.append(np.asarray(made.to_ndarray(format="rgb24"), np.uint8))


def _interval(sources: deque[Picture], between: list[Picture]) -> Iterator[Picture]:
    """The oldest source and what lies between it and the next; nothing while that is not known."""
    if not between:
        return
    source = sources.popleft()
    yield source
    still = np.array_equal(source, sources[0])  # the filter's rounding of colours would make it flicker
    yield from (repeat(source, len(between)) if still else between)
