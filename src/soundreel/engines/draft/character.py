"""The character of a song: what two songs differ in at first hearing, for pictures that differ at first sight."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from soundreel.analysis import SoundFeatures
from soundreel.units import MODEL_FPS

SLOWEST_BPM, FASTEST_BPM = 60.0, 170.0
DARKEST_HZ, BRIGHTEST_HZ = 900.0, 3600.0
"""Spectral centroids of a soft piano and of cymbals and breath."""

USUAL_TEMPO: Final = 0.3
"""Where there is no beat."""

BUSY: Final = 5.0
"""Onsets per second of a song with full energy."""

SOFTEST, LOUDEST = 0.35, 0.8
"""Loudness (see `SoundFeatures`) of a soft song and of a loud one."""


@dataclass(frozen=True, kw_only=True)
class Character:
    """What is told apart first in a sound, each from 0 to 1 unless it says otherwise."""

    tempo: float
    energy: float  # loud and busy
    brightness: float  # where the middle of the spectrum lies
    key: complex  # mean of the chroma on the circle of fifths, |z| ≤ 1; 0 without pitch
    number: int  # from the content of the file: what differs where all else is alike


def character_of(features: SoundFeatures, key: complex, number: int) -> Character:
    """That of a sound with these features."""
    sounding = features.loudness > 0
    seconds = max(features.loudness.size / MODEL_FPS, 1e-3)
    loud = float(features.loudness[sounding].mean()) if sounding.any() else 0.0
    centroid = float(features.centroid_hz[sounding].mean()) if sounding.any() else 0.0
    busy = min(len(features.onset_times) / seconds / BUSY, 1.0)
    return Character(
        tempo=_share(np.log(features.tempo_bpm), np.log(SLOWEST_BPM), np.log(FASTEST_BPM))
        if features.tempo_bpm > 0
        else USUAL_TEMPO,
        energy=0.5 * _share(loud, SOFTEST, LOUDEST) + 0.5 * busy,
        brightness=_share(centroid, DARKEST_HZ, BRIGHTEST_HZ),
        key=key,
        number=number,
    )


def _share(value: float, low: float, high: float) -> float:
    """Where a value lies between two others, 0..1."""
    return float(np.clip((value - low) / (high - low), 0, 1))
