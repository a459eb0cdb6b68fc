"""How strong a song is at each moment: loud, driven and bright."""

from typing import Final

import numpy as np

from soundreel.analysis.song import ENERGY_RATE
from soundreel.analysis.song_spectrum import FRAMES_PER_SECOND, SongSpectrum
from soundreel.analysis.spectrum import HOPS_PER_SECOND, RANGE_DB, Rows, Values

LOUDNESS_SHARE, DRIVE_SHARE, BRIGHTNESS_SHARE = 0.5, 0.35, 0.15

LOUDNESS_RANGE_DB: Final = 24.0
"""What is so much softer than the loudest has no loudness."""

SMOOTH_SECONDS: Final = 1.0
DRIVE_SECONDS: Final = 2.0
"""Accents are counted over so long: about a bar."""

STRONGEST: Final = 98
"""Percentile of all moments that counts as 1."""


def energy_of(spectrum: SongSpectrum) -> Rows:
    """Energy [E] 0..1 at `ENERGY_RATE`; 1 is the strongest there is in the song, 0 is silence.

    It is the mean of loudness, accents (spectral flux) and brightness, each against the most there is of it. In music
    that is mastered to one loudness, the other two tell a chorus from a verse.
    """
    count = round(spectrum.seconds * ENERGY_RATE)
    loudness, high = _ranged(spectrum.levels[:, 0]), _ranged(spectrum.levels[:, 3])
    drive = spectrum.accents.mean(axis=1)
    parts = (
        (LOUDNESS_SHARE, _smooth(loudness, FRAMES_PER_SECOND, SMOOTH_SECONDS, count)),
        (BRIGHTNESS_SHARE, _smooth(high, FRAMES_PER_SECOND, SMOOTH_SECONDS, count)),
        (DRIVE_SHARE, _smooth(drive, HOPS_PER_SECOND, DRIVE_SECONDS, count)),
    )
    energy = sum(share * _against_strongest(part) for share, part in parts)
    return _against_strongest(np.asarray(energy)).astype(np.float32)


def _ranged(level: Rows) -> Values:
    """A level in 0..1 for 60 dB as one in 0..1 for the uppermost `LOUDNESS_RANGE_DB` of it."""
    most = float(level.max(initial=0.0))
    above: Values = (1 + (level - most) * RANGE_DB / LOUDNESS_RANGE_DB).clip(0, 1) * (level > 0)
    return above


def _smooth(curve: Values, rate: int, seconds: float, count: int) -> Values:
    """Mean of a curve over so many seconds around each of `count` moments."""
    total = np.concatenate([[0.0], np.cumsum(curve, dtype=np.float64)])
    middle = (np.arange(count) + 0.5) / ENERGY_RATE
    first, last = (np.round((middle + side * seconds / 2) * rate).astype(int).clip(0, len(curve)) for side in (-1, 1))
    mean: Values = (total[last] - total[first]) / np.maximum(last - first, 1)
    return mean


def _against_strongest(curve: Values) -> Values:
    strongest = float(np.percentile(curve, STRONGEST)) if len(curve) else 0.0
    against: Values = np.minimum(curve / strongest, 1) if strongest > 0 else np.zeros_like(curve)
    return against
