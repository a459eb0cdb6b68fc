"""The beats that fit a song best, each with its place in the bar: dynamic programming over the model of `bar_model`.

A state is a beat: its hop, its place in the bar, and the interval since the beat before. Since no interval is shorter
than `BLOCK` hops, so many hops are solved at once. Letters: H hops, N hops of a block, P places, T intervals, X kinds
of accent.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis.bar_model import BEFORE, FIRSTS, INTERVALS, METER_OF, OCTAVES, Weights
from soundreel.analysis.spectrum import HOPS_PER_SECOND, Rows

BLOCK = int(INTERVALS[0])
LONGEST = int(INTERVALS[-1])
PLACES = len(METER_OF)

WINDOW_HOPS = 240 * HOPS_PER_SECOND
"""Solved at once: memory holds the worth of all beats of so much, 32 MB."""

OVERLAP_HOPS = 60 * HOPS_PER_SECOND
"""What comes so much later no longer changes which beats are best."""

SKIPPED = 0.2 / HOPS_PER_SECOND
"""Cost of a hop before the first beat or after the last one."""

UPBEAT = 2.0
"""Cost of beginning with another beat than the first of a bar."""

NEVER = -1e4


@dataclass(frozen=True, kw_only=True)
class Beat:
    """A beat, as it is tracked."""

    hop: int
    place: int  # in the bar, of `bar_model`
    interval: int  # since the beat before, index in `INTERVALS`

    @property
    def is_down(self) -> bool:
        """Whether a bar begins with it."""
        return self.place in FIRSTS


def track(accents: Rows, weights: Weights, worth: Rows | None = None) -> list[Beat]:
    """The best beats for accents [H, X], in order.

    `worth` [H, P] is added to what each beat is worth; of use to those who look for better weights. Songs of more than
    four minutes are solved in windows, each going on from a beat of the one before.
    """
    beats: list[Beat] = []
    begin, start = 0, None
    while True:
        stop = begin + WINDOW_HOPS
        found = _solve(accents[begin:stop], weights, None if worth is None else worth[begin:stop], start)
        placed = [replace(beat, hop=begin + beat.hop) for beat in found]
        settled = [beat for beat in placed if begin < beat.hop < stop - OVERLAP_HOPS]
        if stop >= len(accents) or not placed:
            return beats + placed
        if not settled:  # one beat and then none for minutes
            begin, start = stop - OVERLAP_HOPS, None
            continue
        beats += [beat for beat in placed if beat.hop < settled[-1].hop]
        begin, start = settled[-1].hop, replace(settled[-1], hop=0)


def _solve(accents: Rows, weights: Weights, worth: Rows | None, start: Beat | None) -> list[Beat]:
    place = weights.of_places(accents)
    trellis = _Trellis(place if worth is None else place + worth, weights, start)
    for first, between in _between(accents, weights):
        trellis.add(first, between)
    return trellis.best_path()


def _between(accents: Rows, weights: Weights) -> Iterator[tuple[int, Rows]]:
    """First hops of blocks, and what lies between each beat and the one before is worth there, [N, P, T]."""
    accent = accents[:, :4].mean(axis=1)
    tempo = weights.of_intervals()
    for first in range(0, len(accents), BLOCK):
        hops = np.arange(first, min(first + BLOCK, len(accents)))[:, None]
        middle, early, late = (accent[np.maximum(hops - part, 0)][:, None] for part in parts_before())
        of_meters = weights.middle[:, None] * middle + weights.thirds[:, None] * (early + late) / 2 + tempo
        yield first, of_meters.astype(np.float32)[:, METER_OF]


def parts_before() -> tuple[NDArray[np.intp], ...]:
    """Hops [T] from a beat back to the middle and to both thirds of the interval before it."""
    return tuple(np.round(part * INTERVALS).astype(np.intp) for part in (1 / 2, 1 / 3, 2 / 3))


def _one_beat_before() -> NDArray[np.intp]:
    """Where in `_Trellis._ahead`, flat, the hop one interval before each hop of a block is, [N, P, T]."""
    hop = LONGEST + np.arange(BLOCK)[:, None, None] - INTERVALS
    place, interval = np.arange(PLACES)[:, None], np.arange(len(INTERVALS))
    return np.ravel_multi_index(np.broadcast_arrays(hop, place, interval), (LONGEST + BLOCK, PLACES, len(INTERVALS)))


ONE_BEAT_BEFORE = _one_beat_before()


class _Trellis:
    """The best way to each beat, block by block.

    Over which beat a way came is not noted: it is found again from the worths when the best way is followed back.
    """

    def __init__(self, place: Rows, weights: Weights, start: Beat | None) -> None:
        self._place = place  # [H, P] what each beat is worth by itself
        self._start = start  # the only beat from which ways begin; None: they begin anywhere
        self._surprise = np.float32(weights.surprise)
        self._slope = np.float32(weights.change) * OCTAVES.astype(np.float32)
        shape = (PLACES, len(INTERVALS))
        # worth of the best way to each beat, in [H, P, T] less the greatest at its hop
        self._greatest = np.zeros(len(place))
        self._below = np.empty((len(place), *shape), np.float16)
        # worth of the best way to a beat, if T comes after it; hop h is at LONGEST + h - first of the block
        self._ahead = np.full((LONGEST + BLOCK, *shape), NEVER, np.float32)

    def add(self, first: int, between: Rows) -> None:
        """Find the best way to each beat in the block that begins at hop `first`."""
        hops = slice(first, first + len(between))
        before = self._ahead.take(ONE_BEAT_BEFORE[: len(between)])
        worth = before[:, BEFORE]
        surprised = before.max(axis=1) - self._surprise
        for place in FIRSTS:
            np.maximum(worth[:, place], surprised, out=worth[:, place])
        worth += between
        np.maximum(worth, self._begun(first, len(between)), out=worth)
        worth += self._place[hops, :, None]
        self._greatest[hops] = worth.max(axis=(1, 2))
        self._below[hops] = np.maximum(worth - self._greatest[hops, None, None], NEVER)
        self._ahead[LONGEST : LONGEST + len(between)] = self._changed(worth)
        self._ahead[:-BLOCK] = self._ahead[BLOCK:].copy()

    def best_path(self) -> list[Beat]:
        """The beats of the best way to its end."""
        if not len(self._place):
            return []
        ends = self._greatest - SKIPPED * np.arange(len(self._place) - 1, -1, -1)
        beat: Beat | None = self._best_at(int(ends.argmax()))
        path: list[Beat] = []
        while beat is not None:
            path.append(beat)
            beat = self._before(beat)
        return path[::-1]

    def _begun(self, first: int, count: int) -> Rows:
        """Worth of beginning at each beat, [N, 1, 1] or [N, P, T]."""
        if self._start is None:
            skipped = np.float32(SKIPPED) * np.arange(first, first + count, dtype=np.float32)
            upbeat = np.where(np.isin(np.arange(PLACES), FIRSTS), np.float32(0), np.float32(UPBEAT))
            return -skipped[:, None, None] - upbeat[:, None]
        begun = np.full((count, PLACES, len(INTERVALS)), NEVER, np.float32)
        if first == 0:
            begun[0, self._start.place, self._start.interval] = 0
        return begun

    def _changed(self, worth: Rows) -> Rows:
        """Worth [N, P, T] if the next interval is T, of the worth [N, P, T] after the last one.

        A change costs in proportion to its size in octaves, so that two sweeps find the best of all (P. Felzenszwalb
        and D. Huttenlocher, Distance transforms of sampled functions, 2012). A change to a neighbour is free, since
        hops are coarse.
        """
        near = worth.copy()
        np.maximum(near[..., 1:], worth[..., :-1], out=near[..., 1:])
        np.maximum(near[..., :-1], worth[..., 1:], out=near[..., :-1])
        shorter = np.maximum.accumulate(near + self._slope, axis=-1) - self._slope
        longer = np.maximum.accumulate((near - self._slope)[..., ::-1], axis=-1)[..., ::-1] + self._slope
        changed: Rows = np.maximum(shorter, longer)
        return changed

    def _best_at(self, hop: int) -> Beat:
        place, interval = np.unravel_index(self._below[hop].argmax(), self._below[hop].shape)
        return Beat(hop=hop, place=int(place), interval=int(interval))

    def _before(self, beat: Beat) -> Beat | None:
        """The beat over which the best way to `beat` came; None if it begins there."""
        arrived = self._greatest[beat.hop] + float(self._below[beat.hop, beat.place, beat.interval])
        arrived -= float(self._place[beat.hop, beat.place])
        begun = float(
            np.broadcast_to(self._begun(beat.hop, 1), (1, *self._below.shape[1:]))[0, beat.place, beat.interval]
        )
        hop = beat.hop - int(INTERVALS[beat.interval])
        if hop < 0 or arrived <= begun + ROUNDING:
            return None
        distance = np.abs(np.arange(len(INTERVALS)) - beat.interval)
        cost = np.where(distance <= 1, 0, np.abs(self._slope - self._slope[beat.interval]))
        total = self._below[hop].astype(np.float32) - cost
        if beat.is_down:
            total -= np.where(np.arange(PLACES) == BEFORE[beat.place], 0, self._surprise)[:, None]
        else:
            total[np.arange(PLACES) != BEFORE[beat.place]] = NEVER
        place, interval = np.unravel_index(total.argmax(), total.shape)
        return Beat(hop=hop, place=int(place), interval=int(interval))


ROUNDING = 0.01
"""Of the worths that are kept."""
