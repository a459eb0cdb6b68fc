"""Surround sound to stereo, with the coefficients of ITU-R BS.775-4, annex 4. Axes: n samples, c channels."""

from collections.abc import Sequence
from math import sqrt
from typing import Final

import numpy as np
from av import AudioLayout
from numpy.typing import NDArray

_UNNAMED_LAYOUTS: Final = {3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""What players take files for that have so many channels and do not name them."""

_BEHIND_OR_BETWEEN: Final = sqrt(0.5)
"""-3 dB: how loud a surround channel, or the centre in each of the two, becomes."""


def stereo_gains(channels: Sequence[str]) -> NDArray[np.float32]:
    """How much of each channel goes to left and right, float32 [c, 2].

    `channels` are FFmpeg's names ("FL", "FC", "LFE", "BR", …; "NONE" for a file without names). Mono and
    stereo stay as they are. With more channels the sums are scaled down so that they cannot clip, however
    loud all are at once.
    """
    if len(channels) == 1:
        return np.ones((1, 1), dtype=np.float32)
    names = channels
    if "NONE" in channels and len(channels) in _UNNAMED_LAYOUTS:
        names = [channel.name for channel in AudioLayout(_UNNAMED_LAYOUTS[len(channels)]).channels]
    gains = np.array([_gains(name) for name in names], dtype=np.float32)
    gains /= gains.sum(axis=0).max()
    return gains


def _gains(name: str) -> tuple[float, float]:
    if name.startswith("LFE"):
        return 0.0, 0.0  # the effects channel repeats nothing that must be heard
    loudness = 1.0 if name in {"FL", "FR", "DL", "DR"} else _BEHIND_OR_BETWEEN
    if name.endswith("L"):
        return loudness, 0.0
    if name.endswith("R"):
        return 0.0, loudness
    between = loudness * (1.0 if name == "FC" else _BEHIND_OR_BETWEEN)
    return between, between
