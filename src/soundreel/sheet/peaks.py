"""The outline of a sound."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from soundreel.media.audio import stream_sound
from soundreel.types import Check, go_on, heard
from soundreel.units import StrPath

PEAKS_PER_SECOND: Final = 50
"""As fine as a sheet shows it."""

SAMPLE_RATE: Final = 8000
"""Hz: enough for an outline."""


def sound_peaks(path: StrPath, *, start: float, seconds: float, check: Check = go_on) -> NDArray[np.float32]:
    """Lowest and highest sample of each moment, [PEAKS_PER_SECOND · seconds, 2], the loudest as 1.

    The sound is streamed: what is kept of it grows by 1.4 MB an hour.
    """
    count, size = max(1, round(seconds * PEAKS_PER_SECOND)), SAMPLE_RATE // PEAKS_PER_SECOND
    blocks = heard(stream_sound(path, start=start, seconds=seconds, sample_rate=SAMPLE_RATE, mono=True), check)
    rest, parts = np.zeros(0, np.float32), []
    for block in blocks:
        samples = np.concatenate([rest, block[:, 0]])
        whole = len(samples) // size * size
        moments, rest = samples[:whole].reshape(-1, size), samples[whole:]
        parts.append(np.stack([moments.min(axis=1), moments.max(axis=1)], axis=1))
    found = np.concatenate([*parts, np.zeros((count, 2), np.float32)])[:count]
    return np.asarray(found / max(float(np.abs(found).max()), 1e-6), np.float32)
