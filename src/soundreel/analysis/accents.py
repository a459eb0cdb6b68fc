"""What a listener's foot follows: accents and changes of harmony, measured against what is usual around them.

Letters: H hops (100 per second), F frames (16 per second), X kinds of accent.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from soundreel.analysis.song_spectrum import FRAMES_PER_SECOND, SongSpectrum
from soundreel.analysis.spectrum import HOPS_PER_SECOND, Rows, Values

KINDS = 5
"""Low, middle and high accents (in loudness), any accent (in dB, so that soft ones count), change of harmony."""

MEAN_REACH_HOPS = 10
"""Flux counts as far as it exceeds its mean within this many hops, 100 ms."""

USUAL_HOPS, USUAL_STRIDE, USUAL_PEAKS = 1200, 300, 120
"""What is usual is the median of the 120 largest values of 12 s, taken every 3 s."""

LEAST_USUAL = (0.03, 0.03, 0.03, 0.3, 0.2)
"""[X] Of the most that is usual anywhere in the song: so far soft passages are raised."""

MOST = 1.5
"""An accent counts at most as much as so many usual ones."""

BLUR = np.exp(-0.5 * (np.arange(-6, 7) / 1.8) ** 2)
"""An accent counts for the hops around it, less and less: players and onset times are not exact."""

HARMONY_FRAMES = 7
"""Harmony is compared over 0.44 s on both sides."""

HARMONY_MEAN_HOPS = 101


def accents_of(spectrum: SongSpectrum) -> Rows:
    """How accented each hop is, [H, X] 0..1.5: 1 is a usual strong accent of that kind around there."""
    curves = [_above_mean(curve) for curve in (*spectrum.accents.T, spectrum.flux_db)]
    curves.append(_change_of_harmony(spectrum.chroma, len(spectrum.flux_db)))
    found = [np.minimum(_against_usual(curve, least), MOST) for curve, least in zip(curves, LEAST_USUAL, strict=True)]
    return np.stack([*(_blurred(curve) for curve in found[:-1]), found[-1]], axis=1).astype(np.float32)


def _above_mean(flux: Rows) -> Values:
    width = 2 * MEAN_REACH_HOPS + 1
    above: Values = np.maximum(flux - np.convolve(flux, np.ones(width) / width, "same")[: len(flux)], 0)
    return above


def _against_usual(curve: Values, least: float) -> Values:
    """A curve [H] in multiples of what is usual around each hop, and at least `least` of the most usual anywhere."""
    centres = range(0, len(curve) + USUAL_STRIDE, USUAL_STRIDE)
    around = (curve[max(0, centre - USUAL_HOPS // 2) : centre + USUAL_HOPS // 2] for centre in centres)
    usual = np.array([np.median(np.sort(values)[-USUAL_PEAKS:]) if len(values) else 0.0 for values in around])
    usual = np.maximum(usual, least * usual.max() + 1e-6)
    against: Values = curve / np.interp(np.arange(len(curve)), np.array(centres), usual)
    return against


def _blurred(curve: Values) -> Values:
    """Each hop has the greatest accent around it, weighted by `BLUR`."""
    reach = len(BLUR) // 2
    blurred: Values = (sliding_window_view(np.pad(curve, reach), len(BLUR)) * BLUR).max(axis=1)
    return blurred


def _change_of_harmony(chroma: Rows, hops: int) -> Values:
    """How much the harmony after each hop differs from that before it, [H], above the mean of a second.

    It is the cosine distance of the mean chroma (its square root, so that the loudest voice does not drown the chord).
    """
    total = np.cumsum(np.concatenate([np.zeros((1, 12)), np.sqrt(chroma, dtype=np.float64)]), axis=0)
    frames = np.arange(len(chroma))
    after = total[np.minimum(frames + HARMONY_FRAMES, len(chroma))] - total[frames]
    before = total[frames] - total[np.maximum(frames - HARMONY_FRAMES, 0)]
    size = np.linalg.norm(after, axis=1) * np.linalg.norm(before, axis=1)
    distance = np.where(size > 0, 1 - (after * before).sum(axis=1) / np.maximum(size, 1e-9), 0)
    if not len(frames):
        return np.zeros(hops)
    change = np.interp(np.arange(hops) / HOPS_PER_SECOND, frames / FRAMES_PER_SECOND, distance)
    mean = np.convolve(change, np.full(HARMONY_MEAN_HOPS, 1 / HARMONY_MEAN_HOPS), "same")[:hops]
    peaks: Values = np.maximum(change - 0.5 * mean, 0)
    return peaks
