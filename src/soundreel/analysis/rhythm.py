"""Onsets, tempo and beats from the spectral flux, of which there are `HOPS_PER_SECOND` values per second.

Letters: H hops, W tempo windows, P candidate tempos, K onsets, B beats.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from soundreel.analysis.spectrum import HOPS_PER_SECOND, Rows

Times = NDArray[np.float64]
Curve = NDArray[np.float64]

ONSET_REACH_HOPS = 4
"""An onset is the largest flux within this many hops, so that onsets are at least 50 ms apart."""

MEAN_REACH_HOPS = 10
"""Flux is compared with its mean within this many hops, 100 ms."""

ONSET_FLUX_DB = 1.8
"""How far the flux of an onset exceeds the mean around it; the fluctuation of steady noise does not."""

FULL_ONSET_DB = 8.0
"""Smallest flux above the mean that may have strength 1, however soft the rest of the sound is."""

TEMPI_BPM = 40.0 * 2 ** (np.arange(147) / 60)
"""Candidate tempos [P]: 40 to 216 beats per minute, 60 to the octave."""

USUAL_BPM = 120.0
"""Centre of the log-normal prior over tempos, one octave wide, as in librosa (Ellis 2007)."""

TEMPO_WINDOW = 1024
"""Hops (10 s) over which a tempo is estimated."""

TEMPO_STRIDE = TEMPO_WINDOW // 4

LEAST_PERIODICITY = 0.12
"""Autocorrelation at the beat period, relative to lag 0, below which there is no beat."""

TEMPO_INERTIA = 4.0
"""Cost of a tempo change of one octave from a window to the next, in units of periodicity."""

LEAST_ONSETS = 3
"""With fewer onsets, or beats, there is no beat."""

TIGHTNESS = 100.0
"""Weight of equal beat intervals against onset strength (Ellis 2007)."""

SNAP_SECONDS = 0.04
"""A beat within this of an onset is moved onto it."""

REST_SECONDS = 2.0
"""Beats further than this from any onset are dropped."""


@dataclass(frozen=True, kw_only=True)
class Onsets:
    """Detected onsets, ascending in time."""

    seconds: Times  # [K]
    strength: Rows  # [K] 0..1


@dataclass(frozen=True, kw_only=True)
class Beats:
    """Tempo and beats; tempo 0 and no beats where there is none."""

    tempo_bpm: float
    seconds: Times  # [B] ascending


def find_onsets(flux: Rows, shift: Rows) -> Onsets:
    """Pick onsets from the spectral flux [H] in dB; `shift` [H] is their exact time in seconds relative to the hop."""
    highest = sliding_window_view(np.pad(flux, ONSET_REACH_HOPS), 2 * ONSET_REACH_HOPS + 1).max(axis=1)
    first = np.append(True, flux[1:] > flux[:-1])  # of equal neighbours
    above = flux - _mean_around(flux)
    hops = np.flatnonzero((flux == highest) & first & (above > ONSET_FLUX_DB))
    strength = above[hops]
    full = np.percentile(strength, 90) if len(hops) else 0.0
    return Onsets(
        seconds=np.maximum(hops / HOPS_PER_SECOND + shift[hops], 0.0),
        strength=np.minimum(strength / max(full, FULL_ONSET_DB), 1).astype(np.float32),
    )


def find_beats(flux: Rows, onsets: Onsets) -> Beats:
    """Track beats in the spectral flux [H]: tempo by autocorrelation, beats by dynamic programming.

    Source: D. Ellis, Beat tracking by dynamic programming, Journal of New Music Research 36 (2007); here the tempo may
    change along the sound.
    """
    none = Beats(tempo_bpm=0.0, seconds=np.empty(0))
    if len(onsets.seconds) < LEAST_ONSETS:
        return none
    envelope = _onset_envelope(flux)
    period, steady = _periods(envelope)
    if not steady.any():
        return none
    hops = _track(envelope, period)
    seconds = _snap(hops[steady[hops]] / HOPS_PER_SECOND, onsets.seconds)
    if len(seconds) < LEAST_ONSETS:
        return none
    return Beats(tempo_bpm=_tempo(seconds), seconds=seconds)


def _tempo(beats: Times) -> float:
    """Beats per minute by the mean of the beat intervals that are within 10 % of their median."""
    intervals = np.diff(beats)
    usual = np.median(intervals)
    return float(60 / intervals[np.abs(intervals - usual) <= 0.1 * usual].mean())


def _mean_around(flux: Rows) -> Rows:
    """Mean of the flux within `MEAN_REACH_HOPS` of each hop, [H]."""
    mean: Rows = sliding_window_view(np.pad(flux, MEAN_REACH_HOPS), 2 * MEAN_REACH_HOPS + 1).mean(axis=1)
    return mean


def _onset_envelope(flux: Rows) -> Curve:
    """Onset strength envelope [H]: flux above the mean around it, smoothed against timing errors, of deviation 1."""
    above = np.maximum(flux - _mean_around(flux), 0)
    blur = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)
    envelope: Curve = np.convolve(above, blur, mode="same")
    return envelope / float(envelope.std())


def _periods(envelope: Curve) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Beat period in hops around each hop, [H], and whether there is a beat there at all, [H]."""
    padded = np.pad(envelope, (0, max(0, TEMPO_WINDOW - len(envelope))))
    windows = sliding_window_view(padded, TEMPO_WINDOW)[::TEMPO_STRIDE]
    periodicity = np.stack([_autocorrelation(window) for window in windows])
    lags = 60 * HOPS_PER_SECOND / TEMPI_BPM
    path = _viterbi(_tempo_score(periodicity, lags))
    steady = _at(periodicity, lags)[np.arange(len(path)), path] > LEAST_PERIODICITY
    nearest = np.round((np.arange(len(envelope)) - TEMPO_WINDOW / 2) / TEMPO_STRIDE).astype(int)
    nearest = nearest.clip(0, len(path) - 1)
    return np.round(lags[path]).astype(int)[nearest], steady[nearest]


def _autocorrelation(window: Curve) -> Curve:
    """Autocorrelation of a window about its mean, 1 at lag 0, up to the lag of two beats at the slowest tempo."""
    longest = math.ceil(2 * 60 * HOPS_PER_SECOND / TEMPI_BPM[0]) + 1
    spectrum = np.fft.rfft(window - window.mean(), 2 * TEMPO_WINDOW)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: longest + 1]
    return correlation / max(float(correlation[0]), 1e-9)  # 0 in silence


def _tempo_score(periodicity: Curve, lags: Curve) -> Curve:
    """Score [W, P] of each tempo in each window: its periodicity, weighted by the prior.

    Periodicity at two beats supports a tempo. Periodicity at half a beat or two thirds of one counts against it: such
    tempos are too slow by a factor of 2 or 3/2.
    """
    prior = np.exp(-0.5 * np.log2(TEMPI_BPM / USUAL_BPM) ** 2)
    support = _at(periodicity, lags) + 0.5 * _at(periodicity, 2 * lags)
    against = 0.15 * _at(periodicity, lags / 2) + 0.15 * _at(periodicity, lags * 2 / 3)
    return (support - against) * prior


def _at(periodicity: Curve, lags: Curve) -> Curve:
    """Periodicity [W, P] at fractional lags [P] in hops, linearly interpolated."""
    below = np.floor(lags).astype(int)
    part = lags - below
    values: Curve = periodicity[:, below] * (1 - part) + periodicity[:, below + 1] * part
    return values


def _viterbi(score: Curve) -> NDArray[np.intp]:
    """Path [W] through the score [W, P] with the greatest sum of scores less the costs of tempo changes (Viterbi)."""
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


def _track(envelope: Curve, period: NDArray[np.intp]) -> NDArray[np.intp]:
    """Hops [B] of the beats: where the envelope [H] is strong, one period apart (dynamic programming).

    A beat's predecessor lies half a period to two periods before it, so that half a period can be solved at once.
    """
    lead = 2 * int(period.max())
    total = np.zeros(lead + len(envelope))
    back = np.full(len(envelope), -1)
    begin = 0
    while begin < len(envelope):
        beat = period[begin]
        stop = min(begin + beat // 2, len(envelope))
        distance = np.arange(2 * beat, beat // 2 - 1, -1)
        cost = TIGHTNESS * np.log(distance / beat) ** 2
        reach = total[lead + begin - 2 * beat : lead + stop - beat // 2]
        candidates = sliding_window_view(reach, len(distance)) - cost
        chosen = candidates.argmax(axis=1)
        hops = np.arange(begin, stop)
        total[lead + begin : lead + stop] = envelope[begin:stop] + candidates[hops - begin, chosen]
        back[begin:stop] = hops - distance[chosen]
        begin = stop
    last = max(0, len(envelope) - period[-1])
    beats = [last + int(total[lead + last :].argmax())]
    while back[beats[-1]] >= 0:
        beats.append(int(back[beats[-1]]))
    return np.array(beats[::-1])


def _snap(beats: Times, onsets: Times) -> Times:
    """Beats moved onto onsets within `SNAP_SECONDS`, without those before the first, after the last, or far from any
    onset."""
    after = np.searchsorted(onsets, beats).clip(1, len(onsets) - 1)
    before = onsets[after - 1]
    nearest = np.where(beats - before < onsets[after] - beats, before, onsets[after])
    distance = np.abs(nearest - beats)
    within = (beats > onsets[0] - SNAP_SECONDS) & (beats < onsets[-1] + SNAP_SECONDS)
    snapped: Times = np.where(distance < SNAP_SECONDS, nearest, beats)[within & (distance < REST_SECONDS)]
    return snapped
