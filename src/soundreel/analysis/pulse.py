"""The pulse of a song: beats and downbeats, how sure they are, tempo and meter.

Letters: H hops, B beats, K onsets.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis.bar_model import BEFORE, FIRSTS, METER_OF, METERS, WEIGHTS
from soundreel.analysis.bar_tracking import Beat, track
from soundreel.analysis.rhythm import Onsets, Times, find_onsets
from soundreel.analysis.runs import runs_of
from soundreel.analysis.song import Bar, Meter, Span, Tempo, sounding
from soundreel.analysis.song_spectrum import SongSpectrum
from soundreel.analysis.spectrum import HOPS_PER_SECOND, Rows

SNAP_SECONDS: Final = 0.03
"""A beat is moved onto an onset that is so near."""

ON_GRID_SECONDS: Final = 0.035
"""An onset so near to a beat, or to a part of one, belongs to the pulse."""

CONTRAST: Final = (2.5, 5.5)
"""Accents on beats in multiples of those anywhere: as in speech, and as in music with a drummer."""

LEAST_CONFIDENCE: Final = 0.35
"""A run of beats is one if a quarter of it is so clear: speech comes to 0.2, clicks at random times to 0.3."""

LEAST_LOCAL_CONFIDENCE: Final = 0.08
"""Where it is less, a run of beats ends: long speech comes to 0.03."""

LEAST_BEATS: Final = 4
"""Fewer are no beat."""

LOCAL_SECONDS: Final = 30.0
"""Confidence is asked of stretches of this length."""

CLEAR_DOWNBEAT: Final = 0.3
"""What a beat is worth more where it stands than a beat later or earlier, when downbeats are clear."""

TEMPO_STEP: Final = 0.04
"""A tempo is another one if it differs by 4 %, for at least `STEADY_BEATS`."""

STEADY_BEATS: Final = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class Pulse:
    """Beats of a song, and what they say; empty, with confidence 0, where there is none."""

    seconds: Times  # [B]
    places: NDArray[np.intp]  # [B] place in the bar, as in `bar_model`
    confidence: float
    downbeat_confidence: float

    @property
    def downbeats(self) -> Times:
        """Times of the first beats of bars."""
        return self.seconds[np.isin(self.places, FIRSTS)]


NO_PULSE = Pulse(seconds=np.empty(0), places=np.empty(0, np.intp), confidence=0.0, downbeat_confidence=0.0)


def find_pulse(spectrum: SongSpectrum, accents: Rows, rests: list[Span]) -> Pulse:
    """The pulse of what lies between the silences of a song, each by itself: after a silence it begins anew."""
    onsets = find_onsets(spectrum.flux_db, spectrum.onset_shift)
    beats: list[Beat] = []
    for stretch in sounding(rests, spectrum.seconds):
        first, last = (round(second * HOPS_PER_SECOND) for second in (stretch.start, stretch.stop))
        found = track(accents[first:last], WEIGHTS)
        if len(found) >= LEAST_BEATS:
            beats += [Beat(hop=first + beat.hop, place=beat.place, interval=beat.interval) for beat in found]
    return _sure(beats, accents, onsets)


def _sure(beats: list[Beat], accents: Rows, onsets: Onsets) -> Pulse:
    """The beats that are some, on the onsets that they belong to."""
    if len(beats) < LEAST_BEATS:
        return NO_PULSE
    hops, places = np.array([beat.hop for beat in beats]), np.array([beat.place for beat in beats])
    seconds = hops / HOPS_PER_SECOND
    clear = _clarity(seconds, places, accents, onsets)
    kept = _clear_runs(clear)
    if not kept.any():
        return NO_PULSE
    return Pulse(
        seconds=_snapped(seconds[kept], onsets.seconds),
        places=places[kept],
        confidence=float(np.mean(clear[kept])),
        downbeat_confidence=_downbeat_confidence(hops[kept], places[kept], accents),
    )


def _clear_runs(clear: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which beats belong to runs that are clear enough, [B]; so music keeps its beats beside talk that has none."""
    kept = np.zeros(len(clear), bool)
    for first, last in runs_of(clear >= LEAST_LOCAL_CONFIDENCE):
        run = clear[first:last]
        kept[first:last] = len(run) >= LEAST_BEATS and np.percentile(run, 75) >= LEAST_CONFIDENCE
    return kept


def _clarity(seconds: Times, places: NDArray[np.intp], accents: Rows, onsets: Onsets) -> NDArray[np.float64]:
    """How clear the pulse is around each beat, [B] 0..1.

    It is the share of the accents of all onsets that lie on beats or on parts of beats, beyond the share that would lie
    there by chance, times how far accents on beats exceed those anywhere.
    """
    accent = accents[:, :3].mean(axis=1)
    heard = accent[_hops(onsets.seconds, len(accent))]
    beat = np.searchsorted(seconds, onsets.seconds, side="right").clip(1, len(seconds) - 1) - 1
    interval = np.diff(seconds)[beat]
    parts = np.array([METERS[meter].division for meter in METER_OF])[places[beat]]
    phase = (onsets.seconds - seconds[beat]) / interval * parts
    on_grid = np.abs(phase - np.round(phase)) * interval / parts < ON_GRID_SECONDS
    chance = np.minimum(2 * ON_GRID_SECONDS * parts / interval, 0.9)
    reach = LOCAL_SECONDS / 2
    first, last = (np.searchsorted(onsets.seconds, seconds + side) for side in (-reach, reach))
    share = _mean_of(heard * on_grid, first, last) / np.maximum(_mean_of(heard, first, last), 1e-9)
    by_chance = _mean_of(chance, first, last)
    explained = ((share - by_chance) / np.maximum(1 - by_chance, 0.1)).clip(0, 1)
    on_beats = accent[_hops(seconds, len(accent))]
    near = (np.searchsorted(seconds, seconds + side) for side in (-reach, reach))
    around = (_hops(seconds + side, len(accent)) for side in (-reach, reach))
    contrast = _mean_of(on_beats, *near) / np.maximum(_mean_of(accent, *around), 1e-9)
    low, high = CONTRAST
    clear: NDArray[np.float64] = explained * ((contrast - low) / (high - low)).clip(0, 1)
    return clear


def _hops(seconds: Times, count: int) -> NDArray[np.intp]:
    return np.round(seconds * HOPS_PER_SECOND).astype(np.intp).clip(0, count - 1)


def _mean_of(values: NDArray[np.float64] | Rows, first: NDArray[np.intp], last: NDArray[np.intp]) -> Times:
    """Means of `values[first:last]`, 0 of none."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    mean: Times = (total[last] - total[first]) / np.maximum(last - first, 1)
    return mean


def _snapped(beats: Times, onsets: Times) -> Times:
    """Beats, moved onto onsets within `SNAP_SECONDS`."""
    if not len(onsets):
        return beats
    after = np.searchsorted(onsets, beats).clip(1, max(1, len(onsets) - 1)).clip(0, len(onsets) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(beats - onsets[before] < onsets[after] - beats, onsets[before], onsets[after])
    snapped: Times = np.where(np.abs(nearest - beats) <= SNAP_SECONDS, nearest, beats)
    return snapped


def _downbeat_confidence(hops: NDArray[np.intp], places: NDArray[np.intp], accents: Rows) -> float:
    """How much better beats fit their places in the bar than other places: 0 as well, 1 clearly better."""
    worth = WEIGHTS.of_places(accents[hops])
    here = np.arange(len(hops))
    moved, best_elsewhere = places, -np.inf
    for _ in range(METERS[int(METER_OF[places[0]])].beats - 1):
        moved = BEFORE[moved]
        best_elsewhere = max(best_elsewhere, float(worth[here, moved].mean()))
    margin = float(worth[here, places].mean()) - best_elsewhere
    return float(np.clip(margin / CLEAR_DOWNBEAT, 0, 1))


def meter_of(pulse: Pulse) -> Meter | None:
    """The meter of most beats."""
    if not len(pulse.places):
        return None
    return METERS[int(np.bincount(METER_OF[pulse.places]).argmax())]


def bars_of(pulse: Pulse, rests: list[Span]) -> tuple[Bar, ...]:
    """From each downbeat to the next, and where the pulse ends or rests, to where the next downbeat would have been."""
    bars: list[Bar] = []
    firsts = np.flatnonzero(np.isin(pulse.places, FIRSTS))
    usual = float(np.median(np.diff(pulse.seconds))) if len(pulse.seconds) > 1 else 0.0
    for first, following in pairwise([*firsts.tolist(), len(pulse.seconds)]):
        beats = METERS[int(METER_OF[pulse.places[first]])].beats
        start = float(pulse.seconds[first])
        is_last = following == len(pulse.seconds)
        stop = start + beats * usual if is_last else float(pulse.seconds[following])
        for rest in rests:
            if start < rest.start < stop:
                stop = rest.start
        bars.append(Bar(start=start, stop=stop, number=len(bars) + 1, beats=following - first))
    return tuple(bars)


def tempo_of(seconds: Times) -> float:
    """Beats per minute, the middle of all; 0 without any."""
    return float(60 / np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0


def tempi_of(pulse: Pulse) -> tuple[Tempo, ...]:
    """Stretches with one tempo each.

    They are split where that makes the intervals most alike on both sides (binary segmentation, A. Scott and M. Knott,
    1974), as long as the tempo differs there by `TEMPO_STEP`.
    """
    if len(pulse.seconds) < 2:
        return ()
    octaves = np.log2(np.diff(pulse.seconds))
    usual = np.median(octaves)
    octaves = np.where(np.abs(octaves - usual) > 1, usual, octaves)  # across a silence
    stretches = _split(octaves, 0, len(octaves))
    return tuple(
        Tempo(
            start=float(pulse.seconds[first]),
            stop=float(pulse.seconds[last]),
            bpm=float(60 / 2 ** np.median(octaves[first:last])),
        )
        for first, last in stretches
    )


def _split(octaves: Times, first: int, last: int) -> list[tuple[int, int]]:
    """Stretches of intervals of one tempo each."""
    count = last - first
    if count < 2 * STEADY_BEATS:
        return [(first, last)]
    part = octaves[first:last]
    total = np.cumsum(part)
    at = np.arange(STEADY_BEATS, count - STEADY_BEATS + 1)
    before, after = total[at - 1] / at, (total[-1] - total[at - 1]) / (count - at)
    split = int(at[((before - after) ** 2 * at * (count - at)).argmax()])
    change = abs(np.median(part[:split]) - np.median(part[split:]))
    if change < np.log2(1 + TEMPO_STEP):
        return [(first, last)]
    return _split(octaves, first, first + split) + _split(octaves, first + split, last)
