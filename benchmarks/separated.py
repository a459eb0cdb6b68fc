"""Reading what a voice is separated from, and how well it is."""

import numpy as np
from numpy.typing import NDArray

from soundreel.media.audio import stream_sound
from soundreel.separation.masking import RATE
from soundreel.units import StrPath

Samples = NDArray[np.float32]


def read_stereo(path: StrPath) -> Samples:
    """[n, 2] at the separation's rate."""
    sound = np.concatenate(list(stream_sound(path, sample_rate=RATE)))
    return sound if sound.shape[1] == 2 else np.repeat(sound.mean(axis=1, keepdims=True), 2, axis=1)


def si_sdr(estimate: Samples, truth: Samples) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, of mono sound (J. Le Roux et al., ICASSP 2019)."""
    target = (estimate @ truth) / (truth @ truth) * truth
    return float(10 * np.log10((target @ target) / np.square(estimate - target).sum()))
