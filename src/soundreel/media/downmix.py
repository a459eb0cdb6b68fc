"""Surround sound to stereo, with the coefficients of ITU-R BS.775-4, annex 4. Axes: n samples, c channels."""

from collections.abc import Sequence
from math import sqrt
from typing import Final

import numpy as np
from av import AudioLayout
from numpy.typing import NDArray

_UNNAMED_LAYOUTS: Final = {3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""Number of channels → the layout that players assume for files that do not state one."""

_MINUS_3_DB: Final = sqrt(0.5)
"""Gain of a surround channel, and of the centre in each of the two stereo channels."""


def stereo_gains(channels: Sequence[str]) -> NDArray[np.float32]:
    """Gain of each channel in the left and right of the mix, float32 [c, 2]; [1, 1] for mono, which stays mono.

    `channels` are FFmpeg's names ("FL", "FC", "LFE", "BR", …; "NONE" for a file without names). Stereo stays as it is.
    With more channels the gains are scaled down so that the mix cannot clip even at full scale in all channels.
    """
    if len(channels) == 1:
        return np.ones((1, 1), dtype=np.float32)
    gains = np.array([_gains(name) for name in _named(channels)], dtype=np.float32)
    gains /= gains.sum(axis=0).max()
    return gains


def left_out(channels: Sequence[str]) -> list[str]:
    """Names of the channels that are not in the mix."""
    return [name for name in _named(channels) if not any(_gains(name))]


def _named(channels: Sequence[str]) -> Sequence[str]:
    """Channels by the names that players give to those of a file without any."""
    if "NONE" in channels and len(channels) in _UNNAMED_LAYOUTS:
        return [channel.name for channel in AudioLayout(_UNNAMED_LAYOUTS[len(channels)]).channels]
    return channels


def _gains(name: str) -> tuple[float, float]:
    if name.startswith("LFE"):
        return 0.0, 0.0  # low frequency effects only support what the other channels carry
    loudness = 1.0 if name in {"FL", "FR", "DL", "DR"} else _MINUS_3_DB
    if name.endswith("L"):
        return loudness, 0.0
    if name.endswith("R"):
        return 0.0, loudness
    between = loudness * (1.0 if name == "FC" else _MINUS_3_DB)
    return between, between
