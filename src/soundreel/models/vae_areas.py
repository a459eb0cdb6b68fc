"""Which pixels each stage of the VAE computes for a part of the picture: a band of rows, or a window.

A convolution of 3×3 pixels reads one row above and one below. A stage therefore begins with more rows than are wanted
of it; from the band's edges wrong rows grow inwards, one with each convolution, and those are dropped at its end. It is
the same with columns.

Legend: H × W pixels of a picture, h = ⌊H/8⌋ and w = ⌊W/8⌋ of its latents. Spans are [first, end).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

SCALE = 8
"""Rows of the picture for each of the latents."""

DECODER_REACHES = (6, 6, 6, 7)
"""Convolutions of each decoder stage, after the middle block: 3 blocks of 2, and in the last one the output's."""

MIDDLE_REACH = 2
"""Convolutions of the middle block after its attention."""

Span = tuple[int, int]


class Window(NamedTuple):
    """A part of a picture."""

    rows: Span
    columns: Span

    @property
    def is_empty(self) -> bool:
        """Whether it has no pixels."""
        return self.rows[0] == self.rows[1] or self.columns[0] == self.columns[1]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    def band(self, rows: Span) -> "Window":
        """Some of its rows, counted from its first one."""
        return Window((self.rows[0] + rows[0], self.rows[0] + rows[1]), self.columns)

    def scaled(self, factor: int) -> "Window":
        """The same part of a picture that is larger."""
        rows, columns = ((factor * first, factor * end) for first, end in self)
        return Window(rows, columns)

    def halved(self) -> "Window":
        """The same part of a picture half as large; its edges are even."""
        rows, columns = ((first // 2, end // 2) for first, end in self)
        return Window(rows, columns)

    def widened(self, reach: int, shape: tuple[int, int]) -> "Window":
        """With so many rows and columns more on each side, within a picture of that shape."""
        return Window(_widened(self.rows, reach, shape[0]), _widened(self.columns, reach, shape[1]))

    def within(self, other: "Window") -> tuple[slice, slice]:
        """Its rows and columns, of features that are those of `other`."""
        rows, columns = (
            slice(first - begins, end - begins) for (first, end), (begins, _) in zip(self, other, strict=True)
        )
        return rows, columns

    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns, of a whole picture."""
        return slice(*self.rows), slice(*self.columns)


def whole(height: int, width: int) -> Window:
    """All of a picture."""
    return Window((0, height), (0, width))


class Extent(NamedTuple):
    """The rows, or the columns, of one stage, which ends with a change of size (but the decoder's last)."""

    computed: Span  # that it begins with
    kept: Span  # that are right at its end, and needed
    made: Span  # of the picture of the other size: those that the next stage begins with


class Area(NamedTuple):
    """The pixels of one stage, likewise."""

    computed: Window
    kept: Window
    made: Window


def even_spans(count: int, parts: int) -> list[Span]:
    """`count` rows in so many parts, of equal sizes or one row apart."""
    ends = [count * k // parts for k in range(parts + 1)]
    return list(pairwise(ends))


def decoder_areas(height: int, width: int, window: Window) -> list[Area]:
    """Of each stage after the middle block, for a window of latents of h × w."""
    return _areas(decoder_extents(height, window.rows), decoder_extents(width, window.columns))


def encoder_areas(height: int, width: int, window: Window, reaches: Sequence[int]) -> list[Area]:
    """Of each stage down to the latents' size, for pictures of H × W and a window of the latents."""
    return _areas(encoder_extents(height, window.rows, reaches), encoder_extents(width, window.columns, reaches))


def _areas(rows: Sequence[Extent], columns: Sequence[Extent]) -> list[Area]:
    return [Area(*map(Window, *both)) for both in zip(rows, columns, strict=True)]


def decoder_extents(length: int, span: Span) -> list[Extent]:
    """Of each stage after the middle block, for a span of the latents' h rows or w columns."""
    kept = SCALE * span[0], SCALE * span[1]
    made, stages = kept, list[Extent]()
    for level in range(len(DECODER_REACHES) - 1, -1, -1):
        every = length * 2**level
        computed = _widened(kept, DECODER_REACHES[level], every)
        stages.append(Extent(computed, kept, made))
        made, kept = computed, _clipped(((computed[0] - 1) // 2, computed[1] // 2 + 1), every // 2)
    return stages[::-1]


def encoder_extents(length: int, span: Span, reaches: Sequence[int]) -> list[Extent]:
    """Of each stage down to the latents' size, for H rows or W columns of a picture and a span of the latents'.

    Args:
        reaches: how many convolutions each stage has before it halves the picture.
    """
    made, stages = span, list[Extent]()
    for level in range(len(reaches) - 1, -1, -1):
        every = length // 2**level
        kept = _clipped((2 * made[0], 2 * made[1] + 2), every)  # the last one reads one more; pairs stay together
        computed = _widened(kept, reaches[level], every)
        stages.append(Extent(computed, kept, made))
        made = computed
    return stages[::-1]


def _widened(span: Span, reach: int, length: int) -> Span:
    return _clipped((span[0] - reach, span[1] + reach), length)


def _clipped(span: Span, length: int) -> Span:
    return max(0, span[0]), min(length, span[1])
