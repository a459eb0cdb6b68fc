"""Attacks, tempo and beats from how the spectrum rises, 100 values per second.

Letters: H hops, W tempo windows, P candidate tempos.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from soundreel.analysis.spectrum import HOPS_PER_SECOND, Rows

Times = NDArray[np.float64]
Curve = NDArray[np.float64]

ATTACK_RISE_DB = 1.8
"""An attack rises this far above the mean rise around it; the ripple of steady noise does not."""

FULL_ATTACK_DB = 8.0
"""Least rise that is drawn as a full attack, however soft the rest of the sound is."""

TEMPI_BPM = 40.0 * 2 ** (np.arange(147) / 60)
"""Candidate tempos [P]: 40 to 216 beats per minute, 60 to the octave."""

USUAL_BPM = 120.0
"""Middle of the prior over tempos, one octave wide, as in librosa (Ellis 2007)."""

TEMPO_WINDOW = 1024
"""Hops (10 s) over which a tempo is measured."""

TEMPO_STRIDE = TEMPO_WINDOW // 4

LEAST_PERIODICITY = 0.12
"""Autocorrelation at the beat, relative to lag 0, below which there is no beat."""

TEMPO_INERTIA = 4.0
"""Cost of an octave's change of tempo from one window to the next, in units of periodicity."""

LEAST_ATTACKS = 3
"""Fewer attacks, or beats, make no pulse."""

TIGHTNESS = 100.0
"""How strongly beats keep their distance (Ellis 2007)."""

SNAP_SECONDS = 0.04
"""A beat this close to an attack falls on it."""

REST_SECONDS = 2.0
"""Beats go on for this long without an attack."""


@dataclass(frozen=True, kw_only=True)
class Attacks:
    """The detected attacks, ascending in time."""

    seconds: Times  # [K]
    strength: Rows  # [K] 0..1


@dataclass(frozen=True, kw_only=True)
class Beats:
    """The pulse: tempo 0 and no beats where there is none."""

    tempo_bpm: float
    seconds: Times  # [B] ascending


def find_attacks(rise: Rows, offset: Rows) -> Attacks:
    """Pick the attacks from the rise [H] in dB and the exact times' offsets [H] in seconds from the hops."""
    apart = 4  # hops: attacks are at least 50 ms from each other
    highest = sliding_window_view(np.pad(rise, apart), 2 * apart + 1).max(axis=1)
    first = np.append(True, rise[1:] > rise[:-1])  # of a plateau
    above = rise - _mean_around(rise)
    hops = np.flatnonzero((rise == highest) & first & (above > ATTACK_RISE_DB))
    strength = above[hops]
    full = np.percentile(strength, 90) if len(hops) else 0.0
    return Attacks(
        seconds=np.maximum(hops / HOPS_PER_SECOND + offset[hops], 0.0),
        strength=np.minimum(strength / max(full, FULL_ATTACK_DB), 1).astype(np.float32),
    )


def find_beats(accent: Rows, attacks: Attacks) -> Beats:
    """Follow the pulse of the accents [H]: tempo by autocorrelation, beats by dynamic programming.

    After D. Ellis, Beat tracking by dynamic programming, Journal of New Music Research 36 (2007), with the
    tempo free to change along the sound.
    """
    none = Beats(tempo_bpm=0.0, seconds=np.empty(0))
    if len(attacks.seconds) < LEAST_ATTACKS:
        return none
    pulse = _pulse(accent)
    period, steady = _periods(pulse)
    if not steady.any():
        return none
    hops = _track(pulse, period)
    seconds = _snap(hops[steady[hops]] / HOPS_PER_SECOND, attacks.seconds)
    if len(seconds) < LEAST_ATTACKS:
        return none
    return Beats(tempo_bpm=_tempo(seconds), seconds=seconds)


def _tempo(beats: Times) -> float:
    """Beats per minute by the mean of the usual intervals; rests and slips are not counted."""
    intervals = np.diff(beats)
    usual = np.median(intervals)
    return float(60 / intervals[np.abs(intervals - usual) <= 0.1 * usual].mean())


def _mean_around(rise: Rows) -> Rows:
    """Mean of the rise within 100 ms of each hop, [H]."""
    around = 10
    mean: Rows = sliding_window_view(np.pad(rise, around), 2 * around + 1).mean(axis=1)
    return mean


def _pulse(accent: Rows) -> Curve:
    """What stands out of the accents [H], in standard deviations, blurred to forgive players and the grid."""
    above = np.maximum(accent - _mean_around(accent), 0)
    blur = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)
    pulse: Curve = np.convolve(above, blur, mode="same")
    return pulse / float(pulse.std())


def _periods(pulse: Curve) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Hops per beat around each hop [H], and whether there is a beat at all, [H]."""
    padded = np.pad(pulse, (0, max(0, TEMPO_WINDOW - len(pulse))))
    windows = sliding_window_view(padded, TEMPO_WINDOW)[::TEMPO_STRIDE]
    periodicity = np.stack([_autocorrelation(window) for window in windows])
    lags = 60 * HOPS_PER_SECOND / TEMPI_BPM
    path = _smoothest(_tempo_score(periodicity, lags))
    steady = _at(periodicity, lags)[np.arange(len(path)), path] > LEAST_PERIODICITY
    nearest = np.round((np.arange(len(pulse)) - TEMPO_WINDOW / 2) / TEMPO_STRIDE).astype(int)
    nearest = nearest.clip(0, len(path) - 1)
    return np.round(lags[path]).astype(int)[nearest], steady[nearest]


def _autocorrelation(window: Curve) -> Curve:
    """Autocorrelation of a window's variation at lags up to two beats of the slowest tempo, 1 at lag 0."""
    longest = math.ceil(2 * 60 * HOPS_PER_SECOND / TEMPI_BPM[0]) + 1
    spectrum = np.fft.rfft(window - window.mean(), 2 * TEMPO_WINDOW)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: longest + 1]
    return correlation / max(float(correlation[0]), 1e-9)  # 0 in silence


def _tempo_score(periodicity: Curve, lags: Curve) -> Curve:
    """How well each tempo [P] explains each window [W].

    A beat returns after two as well. Taken twice too slow it returns after a half, taken for a dotted beat it
    returns after two thirds.
    """
    prior = np.exp(-0.5 * np.log2(TEMPI_BPM / USUAL_BPM) ** 2)
    support = _at(periodicity, lags) + 0.5 * _at(periodicity, 2 * lags)
    doubt = 0.15 * _at(periodicity, lags / 2) + 0.15 * _at(periodicity, lags * 2 / 3)
    return (support - doubt) * prior


def _at(periodicity: Curve, lags: Curve) -> Curve:
    """Periodicity [W, P] at lags [P] between the hops, linearly interpolated."""
    below = np.floor(lags).astype(int)
    part = lags - below
    values: Curve = periodicity[:, below] * (1 - part) + periodicity[:, below + 1] * part
    return values


def _smoothest(score: Curve) -> NDArray[np.intp]:
    """Path [W] through the score [W, P] of greatest sum that changes tempo reluctantly (Viterbi)."""
    octave = np.log2(TEMPI_BPM)
    cost = TEMPO_INERTIA * np.abs(octave[:, None] - octave[None, :])
    best, back = score[0], []
    for row in score[1:]:
        reached = best[:, None] - cost
        back.append(reached.argmax(axis=0))
        best = reached.max(axis=0) + row
    path = [int(best.argmax())]
    for step in reversed(back):
        path.append(int(step[path[-1]]))
    return np.array(path[::-1])


def _track(pulse: Curve, period: NDArray[np.intp]) -> NDArray[np.intp]:
    """Hops [B] of the beats: strong in the pulse [H] and one period apart.

    A beat's predecessor lies half a period to two periods before it, so half a period is solved at once.
    """
    lead = 2 * int(period.max())
    total = np.zeros(lead + len(pulse))
    back = np.full(len(pulse), -1)
    begin = 0
    while begin < len(pulse):
        beat = period[begin]
        stop = min(begin + beat // 2, len(pulse))
        distance = np.arange(2 * beat, beat // 2 - 1, -1)
        cost = TIGHTNESS * np.log(distance / beat) ** 2
        reach = total[lead + begin - 2 * beat : lead + stop - beat // 2]
        candidates = sliding_window_view(reach, len(distance)) - cost
        chosen = candidates.argmax(axis=1)
        hops = np.arange(begin, stop)
        total[lead + begin : lead + stop] = pulse[begin:stop] + candidates[hops - begin, chosen]
        back[begin:stop] = hops - distance[chosen]
        begin = stop
    last = max(0, len(pulse) - period[-1])
    beats = [last + int(total[lead + last :].argmax())]
    while back[beats[-1]] >= 0:
        beats.append(int(back[beats[-1]]))
    return np.array(beats[::-1])


def _snap(beats: Times, attacks: Times) -> Times:
    """Beats moved onto the attacks they mean; those before, after and far from any attack are dropped."""
    after = np.searchsorted(attacks, beats).clip(1, len(attacks) - 1)
    before = attacks[after - 1]
    nearest = np.where(beats - before < attacks[after] - beats, before, attacks[after])
    distance = np.abs(nearest - beats)
    within = (beats > attacks[0] - SNAP_SECONDS) & (beats < attacks[-1] + SNAP_SECONDS)
    snapped: Times = np.where(distance < SNAP_SECONDS, nearest, beats)[within & (distance < REST_SECONDS)]
    return snapped
