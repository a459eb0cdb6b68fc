"""The parts of a song: where what is heard changes, and which parts are alike.

Letters: C cells (bars; where there is no beat, stretches of 2 s), D descriptors of a cell.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from soundreel.analysis.runs import runs_of
from soundreel.analysis.song import Span
from soundreel.analysis.song_spectrum import FRAMES_PER_SECOND, SongSpectrum
from soundreel.analysis.spectrum import HOPS_PER_SECOND, Rows, Values

CELL_SECONDS: Final = 2.0
"""Length of a cell where there are no bars."""

REST_SECONDS: Final = 1.5
"""Silence inside a song that is so long is a part of its own."""

REST_LEVEL: Final = 0.12
"""Loudness level of silence: -53 dB."""

SIDES: Final = ((2, 0.0), (4, 0.55), (8, 1.0))
"""Cells compared on both sides of a boundary, and how much harmony counts there: within two bars it changes anyway."""

CHROMA_WEIGHT, TIMBRE_WEIGHT, ACCENT_WEIGHT, LEVEL_WEIGHT, VOICE_WEIGHT = 2.9, 1.9, 0.45, 0.65, 1.6
"""How much each kind of descriptor counts, all scaled to their spread in the song."""

TIMBRE_RANGE_DB: Final = 35.0
"""Bands so far below the strongest count no less: in soft passages they are noise."""

BOUNDARY_COST: Final = 0.4
"""Novelty that a boundary needs, in multiples of the greatest within `AROUND_CELLS`."""

AROUND_CELLS: Final = 8

LEAST_GREATEST: Final = 0.72
"""Of the greatest novelty of the song: where little changes, there are few boundaries."""

ODD_COST: Final = (0.17, 0.25)
"""Of a section with an even number of bars that is no multiple of four, and with an odd number."""

SHORT_COST, LONG_COST = 0.067, 0.012
"""Per bar by which a section is shorter than 8, and longer than 16."""

LONGEST_CELLS: Final = 64
"""Of a section."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """Stretches of time that sections are made of, and what each sounds like."""

    edges: NDArray[np.float64]  # [C + 1] seconds
    rests: NDArray[np.bool_]  # [C] silence
    chroma: Values  # [C, 12] mean of the square root, of length 1 or 0
    timbre: Values  # [C, T] mean level in dB, over the mean of all bands
    level: Values  # [C] mean of all bands in dB
    accents: Values  # [C, 3] mean of low, middle and high accents
    voiced: Values  # [C] 0..1

    def __len__(self) -> int:
        return len(self.rests)


def cells_of(spectrum: SongSpectrum, accents: Rows, downbeats: NDArray[np.float64], voice: tuple[Span, ...]) -> Cells:
    """Divide a song into bars, silences, and stretches of `CELL_SECONDS` where there are neither."""
    rests = rests_of(spectrum)
    edges = _edges(downbeats, rests, spectrum.seconds)
    middle = (edges[1:] + edges[:-1]) / 2
    is_rest = np.zeros(len(middle), bool)
    for rest in rests:
        is_rest |= (rest.start < middle) & (middle < rest.stop)
    chroma = _means(np.sqrt(spectrum.chroma), edges * FRAMES_PER_SECOND)
    size = np.linalg.norm(chroma, axis=1, keepdims=True)
    timbre = np.maximum(spectrum.timbre, spectrum.timbre.max(axis=1, keepdims=True) - TIMBRE_RANGE_DB)
    timbre = _means(timbre, edges * FRAMES_PER_SECOND)
    level = timbre.mean(axis=1)
    is_voiced = np.zeros(len(spectrum.levels))
    for span in voice:
        is_voiced[round(span.start * FRAMES_PER_SECOND) : round(span.stop * FRAMES_PER_SECOND)] = 1
    return Cells(
        edges=edges,
        rests=is_rest,
        chroma=chroma / np.where(size > 0, size, 1),
        timbre=timbre - level[:, None],
        level=level,
        accents=_means(accents[:, :3], edges * HOPS_PER_SECOND),
        voiced=_means(is_voiced[:, None], edges * FRAMES_PER_SECOND)[:, 0],
    )


def rests_of(spectrum: SongSpectrum) -> list[Span]:
    """Stretches of silence, at least `REST_SECONDS` long."""
    silent = spectrum.levels[:, 0] < REST_LEVEL
    spans = (Span(start=start, stop=stop) for start, stop in (runs_of(silent) / FRAMES_PER_SECOND).tolist())
    return [span for span in spans if span.seconds >= REST_SECONDS]


def _edges(downbeats: NDArray[np.float64], rests: list[Span], seconds: float) -> NDArray[np.float64]:
    """Edges of the cells [C + 1]: 0, all downbeats, the edges of silences, the end; more where they are far apart."""
    fixed = {0.0, seconds}
    for rest in rests:
        fixed |= {rest.start, rest.stop}
    usual = float(np.median(np.diff(downbeats))) if len(downbeats) > 1 else CELL_SECONDS
    inner = [
        beat for beat in downbeats if all(beat - edge > 0.7 * usual or edge - beat > 0.3 * usual for edge in fixed)
    ]
    edges: list[float] = []
    for edge in sorted([*fixed, *inner]):
        if edges and edge - edges[-1] > 1.7 * usual:
            count = round((edge - edges[-1]) / usual)
            edges += np.linspace(edges[-1], edge, count + 1)[1:-1].tolist()
        edges.append(edge)
    return np.unique(edges)


def _means(rows: Values, edges: NDArray[np.float64]) -> Values:
    """Means of rows [n, D] between edges [C + 1], in rows, [C, D]."""
    total = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0, dtype=np.float64)])
    at = np.round(edges).astype(int).clip(0, len(rows))
    count = np.maximum(np.diff(at), 1)[:, None]
    means: Values = (total[at[1:]] - total[at[:-1]]) / count
    return means


def novelty_of(cells: Cells) -> Values:
    """How much changes at each inner edge and both ends, [C + 1], 0 at the ends.

    The checkerboard kernel of J. Foote, Automatic audio segmentation using a measure of audio novelty, ICME 2000, on
    the matrix of inner products of descriptors: the similarity on either side less that across the edge. That is the
    squared distance between the means of both sides, so that no matrix is needed.
    """
    novelty = np.zeros(len(cells) + 1)
    for first, last in stretches_of(cells):
        for reach, harmony in SIDES:
            described = descriptors_of(cells, harmony)[first:last]
            novelty[first + 1 : last] += _checkerboard(described, reach) / len(SIDES)
    return novelty


def stretches_of(cells: Cells) -> list[tuple[int, int]]:
    """First cells of the stretches between silences, and the cells after their last ones."""
    return [(first, last) for first, last in runs_of(~cells.rests).tolist()]


def _checkerboard(described: Values, reach: int) -> Values:
    """Distance between the means of up to `reach` cells on either side of each inner edge, [C - 1]."""
    count = len(described)
    edges = np.arange(1, count)
    total = np.concatenate([np.zeros((1, described.shape[1])), np.cumsum(described, axis=0)])
    first, last = np.maximum(edges - reach, 0), np.minimum(edges + reach, count)
    before = (total[edges] - total[first]) / (edges - first)[:, None]
    after = (total[last] - total[edges]) / (last - edges)[:, None]
    whole = np.minimum(edges - first, last - edges) / reach  # less is known near the ends
    distance: Values = whole * np.linalg.norm(after - before, axis=1)
    return distance


def descriptors_of(cells: Cells, harmony: float) -> Values:
    """What cells are compared by, [C, D], each kind scaled to its usual spread in the song."""
    kinds = (
        (cells.chroma, CHROMA_WEIGHT * harmony),
        (cells.timbre, TIMBRE_WEIGHT),
        (cells.accents, ACCENT_WEIGHT),
        (cells.level[:, None], LEVEL_WEIGHT),
        (cells.voiced[:, None], VOICE_WEIGHT),
    )
    sounding = ~cells.rests
    columns = []
    for values, weight in kinds:
        spread = np.sqrt(values[sounding].var(axis=0).sum()) if sounding.any() else 0.0
        columns.append(weight * values / max(float(spread), 1e-3))
    return np.concatenate(columns, axis=1)


def boundaries_of(cells: Cells, novelty: Values) -> list[int]:
    """Edges at which sections begin, the first and the last edge included.

    Those with the most novelty in all, less what they cost and what odd lengths cost (G. Sargent, F. Bimbot, E.
    Vincent, Estimating the structural segmentation of popular music pieces under regularity constraints, 2017), by
    dynamic programming. Silences have boundaries of their own.
    """
    forced = {0, len(cells)} | {edge for edge in range(1, len(cells)) if cells.rests[edge] != cells.rests[edge - 1]}
    width = 2 * AROUND_CELLS + 1
    greatest = sliding_window_view(np.pad(novelty, AROUND_CELLS), width).max(axis=1)
    gain = novelty / np.maximum(greatest, LEAST_GREATEST * novelty.max() + 1e-9) - BOUNDARY_COST
    best, back = np.full(len(cells) + 1, -np.inf), np.zeros(len(cells) + 1, int)
    best[0] = 0.0
    last_forced = 0
    for edge in range(1, len(cells) + 1):
        firsts = np.arange(max(last_forced, edge - LONGEST_CELLS), edge)
        total = best[firsts] - _length_cost(edge - firsts) + gain[edge]
        best[edge], back[edge] = total.max(), firsts[int(total.argmax())]
        if edge in forced:
            last_forced = edge
    edges = [len(cells)]
    while edges[-1]:
        edges.append(int(back[edges[-1]]))
    return edges[::-1]


def _length_cost(cells: NDArray[np.intp]) -> Values:
    """What sections of so many bars cost: nothing from 8 to 16 of them, in multiples of four."""
    odd = np.where(cells % 4 == 0, 0.0, np.where(cells % 2 == 0, *ODD_COST))
    cost: Values = odd + SHORT_COST * np.maximum(0, 8 - cells) + LONG_COST * np.maximum(0, cells - 16)
    return cost
