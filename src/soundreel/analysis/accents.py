"""What a listener's foot follows: accents and changes of harmony, measured against what is usual around them.

Letters: H hops (100 per second), F frames (16 per second), X kinds of accent.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from soundreel.analysis.song_spectrum import FRAMES_PER_SECOND, SongSpectrum
from soundreel.analysis.spectrum import HOPS_PER_SECOND, Rows, Values

KINDS = 6
"""Low, middle and high accents (in loudness), any accent (in dB, so that soft ones count), quick and slow changes of
harmony."""

MEAN_REACH_HOPS = 10
"""Flux counts as far as it exceeds its mean within this many hops, 100 ms."""

USUAL_HOPS, USUAL_STRIDE, USUAL_RANK = 1200, 300, 24
"""Strong, as is usual, is the 24th largest value of 12 s, taken every 3 s: a few accents are stronger."""

LEAST_USUAL = (0.03, 0.03, 0.03, 0.3, 0.2, 0.2)
"""[X] Of the most that is usual anywhere in the song: so far soft passages are raised."""

MOST = 1.5
"""An accent counts at most as much as so many usual ones."""

BLUR = np.exp(-0.5 * (np.arange(-6, 7) / 1.8) ** 2)
"""An accent counts for the hops around it, less and less: players and onset times are not exact."""

HARMONY_FRAMES = (7, 16)
"""Harmony is compared over 0.44 s and over 1 s on both sides: of chords, and of notes that make up a chord in turn."""

HARMONY_MEAN_REACH_HOPS = 50


HARMONY = KINDS - len(HARMONY_FRAMES)
"""First kind that is a change of harmony; those before are accents."""


def accents_of(spectrum: SongSpectrum) -> Rows:
    """How accented each hop is, [H, X] 0..1.5: 1 is a usual strong accent of that kind around there."""
    curves = [_above_mean(curve) for curve in (*spectrum.accents.T, spectrum.flux_db)]
    curves += [_change_of_harmony(spectrum.chroma, reach, len(spectrum.flux_db)) for reach in HARMONY_FRAMES]
    found = [np.minimum(_against_usual(curve, least), MOST) for curve, least in zip(curves, LEAST_USUAL, strict=True)]
    return np.stack([*(_blurred(curve) for curve in found[:HARMONY]), *found[HARMONY:]], axis=1).astype(np.float32)


def mean_around(curve: Values, reach: int) -> Values:
    """Mean of a curve within `reach` of each of its values; beyond its ends it is 0."""
    mean: Values = sliding_window_view(np.pad(curve, reach), 2 * reach + 1).mean(axis=1)
    return mean


def _above_mean(flux: Rows) -> Values:
    above: Values = np.maximum(flux - mean_around(flux, MEAN_REACH_HOPS), 0)
    return above


def _against_usual(curve: Values, least: float) -> Values:
    """A curve [H] in multiples of what is usual around each hop, and at least `least` of the most usual anywhere."""
    centres = range(0, len(curve) + USUAL_STRIDE, USUAL_STRIDE)
    around = (curve[max(0, centre - USUAL_HOPS // 2) : centre + USUAL_HOPS // 2] for centre in centres)
    usual = np.array([np.sort(values)[-USUAL_RANK:].min(initial=np.inf) if len(values) else 0.0 for values in around])
    usual = np.maximum(usual, least * usual.max() + 1e-6)
    against: Values = curve / np.interp(np.arange(len(curve)), np.array(centres), usual)
    return against


def _blurred(curve: Values) -> Values:
    """Each hop has the greatest accent around it, weighted by `BLUR`."""
    padded = np.pad(curve, len(BLUR) // 2)
    blurred: Values = np.zeros(len(curve))
    for shift, weight in enumerate(BLUR):
        np.maximum(blurred, weight * padded[shift : shift + len(curve)], out=blurred)
    return blurred


def _change_of_harmony(chroma: Rows, reach: int, hops: int) -> Values:
    """How much the harmony after each hop differs from that before it over `reach` frames, [H].

    It is the cosine distance of the mean chroma (its square root, so that the loudest voice does not drown the chord).
    """
    total = np.cumsum(np.concatenate([np.zeros((1, 12)), np.sqrt(chroma, dtype=np.float64)]), axis=0)
    frames = np.arange(len(chroma))
    after = total[np.minimum(frames + reach, len(chroma))] - total[frames]
    before = total[frames] - total[np.maximum(frames - reach, 0)]
    size = np.linalg.norm(after, axis=1) * np.linalg.norm(before, axis=1)
    distance = np.where(size > 0, 1 - (after * before).sum(axis=1) / np.maximum(size, 1e-9), 0)
    change = np.interp(np.arange(hops) / HOPS_PER_SECOND, frames / FRAMES_PER_SECOND, distance)
    peaks: Values = np.maximum(change - 0.5 * mean_around(change, HARMONY_MEAN_REACH_HOPS), 0)
    return peaks
