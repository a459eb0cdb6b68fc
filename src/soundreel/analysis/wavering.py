"""How much pitches waver: the vibrato, glides and inflections by which a voice differs from most instruments.

A fluctogram (R. Sonnleitner, B. Niedermayer, G. Widmer, J. Schlüter, A simple and effective spectral feature for speech
detection in mixed audio signals, DAFx 2012; B. Lehner, G. Widmer, R. Sonnleitner, On the reduction of false positives
in singing voice detection, ICASSP 2014): from one moment to the next, in which bands does the spectrum move up or down
by less than half a semitone or so? Letters: W moments (32 per second), K frequencies, B bands, S shifts.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis.spectrum import CHUNK_SAMPLES, SAMPLE_RATE, Rows, Values, power_spectrum, windows_of
from soundreel.analysis.streaming import Samples

WAVERINGS_PER_SECOND: Final = 32
HOP: Final = SAMPLE_RATE // WAVERINGS_PER_SECOND
COUNT: Final = CHUNK_SAMPLES // HOP

WINDOW: Final = 2048
"""Samples (64 ms): shorter than half a period of vibrato."""

STEPS_PER_OCTAVE: Final = 60
LOWEST_HZ, OCTAVES = 250.0, 4
MOST_STEPS: Final = 6
"""Shifts that are compared: 1.2 semitones up and down."""

VOICE_STEPS: Final = 4
"""A shift of 1 to so many steps is a voice's: beyond, another note begins."""

BAND_STEPS: Final = 60
BAND_STARTS: Final = range(0, STEPS_PER_OCTAVE * OCTAVES - BAND_STEPS + 1, BAND_STEPS // 2)

FLOOR: Final = 1e-9
RANGE: Final = 9.0
"""Natural logarithm of the power below the strongest partial that still counts: 39 dB."""

PARTIAL: Final = 1.0
"""How far above its surroundings a partial stands out: 4 dB."""

ALIKE: Final = 0.6
"""Correlation at the best shift, at least."""

MORE_ALIKE: Final = 0.03
"""And so much above that without a shift."""


def wavering_of(chunk: Samples) -> Rows:
    """Share of the bands that waver, [W] 0..1, of the middle of a chunk."""
    windows = windows_of(chunk, WINDOW, hop=HOP, first=0, count=COUNT + 1)
    partials = _partials(power_spectrum(windows))
    wavers = [_wavers(partials[:, start : start + BAND_STEPS + 2 * MOST_STEPS]) for start in BAND_STARTS]
    share: Rows = np.mean(wavers, axis=0, dtype=np.float32)
    return share


def _partials(power: Values) -> Values:
    """How far partials stand out, on a logarithmic scale that reaches `MOST_STEPS` further, [W + 1, K]."""
    steps = np.arange(-MOST_STEPS, STEPS_PER_OCTAVE * OCTAVES + MOST_STEPS)
    bins = LOWEST_HZ * 2 ** (steps / STEPS_PER_OCTAVE) * (WINDOW / SAMPLE_RATE)
    below = bins.astype(int)
    part = (bins - below).astype(np.float32)
    logarithm = np.log(power[:, : below[-1] + 2] + np.float32(FLOOR))
    level = logarithm[:, below] * (1 - part) + logarithm[:, below + 1] * part
    level = np.maximum(level, level.max(axis=1, keepdims=True) - RANGE)
    partials: Values = np.maximum(level - _surroundings(level) - PARTIAL, 0)
    return partials


def _surroundings(level: Values) -> Values:
    """Mean level within half a band of each frequency, [W + 1, K]."""
    reach = BAND_STEPS // 2
    total = np.cumsum(np.pad(level, ((0, 0), (reach + 1, reach)), mode="edge"), axis=1, dtype=np.float64)
    mean: Values = (total[:, 2 * reach + 1 :] - total[:, : -2 * reach - 1]) / (2 * reach + 1)
    return mean


def _wavers(band: Values) -> NDArray[np.bool_]:
    """Whether a band [W + 1, MOST_STEPS + BAND_STEPS + MOST_STEPS] wavers from each moment to the next, [W]."""
    now = band[:-1, MOST_STEPS:-MOST_STEPS]
    correlations = []
    for shift in range(2 * MOST_STEPS + 1):
        then = band[1:, shift : shift + BAND_STEPS]
        size = np.linalg.norm(now, axis=1) * np.linalg.norm(then, axis=1)
        correlations.append((now * then).sum(axis=1) / (size + 1e-6))
    correlation = np.stack(correlations)
    best = np.abs(correlation.argmax(axis=0) - MOST_STEPS)
    clear = correlation.max(axis=0) > np.maximum(ALIKE, correlation[MOST_STEPS] + MORE_ALIKE)
    wavers: NDArray[np.bool_] = clear & (best >= 1) & (best <= VOICE_STEPS)
    return wavers
