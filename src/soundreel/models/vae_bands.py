"""Which rows each stage of the VAE computes for a band of rows of the picture.

A convolution of 3×3 pixels reads one row above and one below. A stage therefore begins with more rows than are wanted
of it; from the band's edges wrong rows grow inwards, one with each convolution, and those are dropped at its end.

Legend: H rows of a picture, h = ⌊H/8⌋ of its latents. Spans are [first, end).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

SCALE = 8
"""Rows of the picture for each of the latents."""

DECODER_REACHES = (6, 6, 6, 7)
"""Convolutions of each decoder stage, after the middle block: 3 blocks of 2, and in the last one the output's."""

Span = tuple[int, int]


class Rows(NamedTuple):
    """Of one stage, which ends with a change of size (but the decoder's last)."""

    computed: Span  # that it begins with
    kept: Span  # that are right at its end, and needed
    made: Span  # of the picture of the other size: those that the next stage begins with


def even_spans(count: int, parts: int) -> list[Span]:
    """`count` rows in so many parts, of equal sizes or one row apart."""
    ends = [count * k // parts for k in range(parts + 1)]
    return list(pairwise(ends))


def decoder_rows(height: int, band: Span) -> list[Rows]:
    """Of each stage after the middle block, for a band of the latents' h rows."""
    kept = SCALE * band[0], SCALE * band[1]
    made, stages = kept, list[Rows]()
    for level in range(len(DECODER_REACHES) - 1, -1, -1):
        rows = height * 2**level
        computed = _widened(kept, DECODER_REACHES[level], rows)
        stages.append(Rows(computed, kept, made))
        made, kept = computed, _clipped(((computed[0] - 1) // 2, computed[1] // 2 + 1), rows // 2)
    return stages[::-1]


def encoder_rows(height: int, band: Span, reaches: Sequence[int]) -> list[Rows]:
    """Of each stage down to the latents' size, for pictures of H rows and a band of the latents' rows.

    Args:
        reaches: how many convolutions each stage has before it halves the picture.
    """
    made, stages = band, list[Rows]()
    for level in range(len(reaches) - 1, -1, -1):
        rows = height // 2**level
        kept = _clipped((2 * made[0], 2 * made[1] + 2), rows)  # the last one reads a row more; pairs stay together
        computed = _widened(kept, reaches[level], rows)
        stages.append(Rows(computed, kept, made))
        made = computed
    return stages[::-1]


def _widened(span: Span, reach: int, rows: int) -> Span:
    return _clipped((span[0] - reach, span[1] + reach), rows)


def _clipped(span: Span, rows: int) -> Span:
    return max(0, span[0]), min(rows, span[1])
