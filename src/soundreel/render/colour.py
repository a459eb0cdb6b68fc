"""Colour and contrast of clips in linear light: how far later clips have drifted from the first, and back again.

sRGB values 0–255 are decoded to linear light 0–1 (IEC 61966-2-1). The mean of each channel is brightness and tint, the
standard deviation contrast. Every fourth frame and every second row and column are looked at.

Shapes: T frames, H rows, W columns, 3 = red, green, blue.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from soundreel.types import Check, go_on, heard
from soundreel.units import Frames

FRAME_STEP: Final = 4
PIXEL_STEP: Final = 2

LARGEST_GAIN: Final = 2.0
"""A clip whose contrast differs by more than this is another picture, not a drift: it is brought this far."""

SMALLEST_STD: Final = 1e-3
"""Below this a channel is one flat colour and has no contrast to match."""

_SRGB: Final = np.arange(256) / 255
TO_LINEAR: Final[NDArray[np.float64]] = np.where(_SRGB <= 0.04045, _SRGB / 12.92, ((_SRGB + 0.055) / 1.055) ** 2.4)
"""Linear light of each 8-bit value."""

LUMA: Final = np.array([0.2126, 0.7152, 0.0722])
"""Share of each channel in luminance (BT.709)."""


@dataclass(frozen=True, kw_only=True)
class ColourStats:
    """Mean and standard deviation of each channel in linear light."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """From JSON, where tuples are lists."""
        return cls(mean=tuple(data["mean"]), std=tuple(data["std"]))

    @property
    def data(self) -> dict[str, list[float]]:
        """Ready for JSON."""
        return {"mean": list(self.mean), "std": list(self.std)}

    @property
    def brightness(self) -> float:
        """Mean luminance, 0–1."""
        return float(LUMA @ self.mean)

    @property
    def contrast(self) -> float:
        """Standard deviation of the channels, weighted as for luminance."""
        return float(LUMA @ self.std)


def measure(frames: Frames, check: Check = go_on) -> ColourStats:
    """The look of pictures, uint8 [T, H, W, 3]; `check` may raise to stop."""
    counts = np.zeros((256, 3))
    for frame in heard(frames[::FRAME_STEP, ::PIXEL_STEP, ::PIXEL_STEP], check):
        for channel in range(3):
            counts[:, channel] += np.bincount(frame[..., channel].ravel(), minlength=256)
    shares = counts / counts.sum(axis=0)
    mean = TO_LINEAR @ shares
    variance = (TO_LINEAR**2) @ shares - mean**2
    return ColourStats(mean=tuple(mean.tolist()), std=tuple(np.sqrt(np.maximum(variance, 0)).tolist()))


@dataclass(frozen=True)
class Correction:
    """Linear light x becomes gain · x + offset, channel by channel."""

    values: NDArray[np.float64]  # [2, 3]: gains, offsets

    @classmethod
    def none(cls) -> Self:
        """Leaves everything as it is."""
        return cls(np.array([[1.0] * 3, [0.0] * 3]))

    @classmethod
    def between(cls, look: ColourStats, wanted: ColourStats) -> Self:
        """Brings `look` to the mean and, as far as `LARGEST_GAIN` allows, the contrast of `wanted`."""
        std, wanted_std = np.array(look.std), np.array(wanted.std)
        flat = np.minimum(std, wanted_std) < SMALLEST_STD
        gain = np.where(flat, 1.0, wanted_std / np.maximum(std, SMALLEST_STD))
        gain = gain.clip(1 / LARGEST_GAIN, LARGEST_GAIN)
        return cls(np.stack([gain, np.array(wanted.mean) - gain * np.array(look.mean)]))

    def towards(self, other: "Correction", share: float) -> "Correction":
        """A mixture: 0 is this one, 1 is `other`."""
        return Correction((1 - share) * self.values + share * other.values)

    def apply(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture, uint8 [H, W, 3], corrected."""
        gain, offset = self.values[:, None]
        linear = (TO_LINEAR[:, None] * gain + offset).clip(0, 1)
        srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        table = np.round(srgb * 255).astype(np.uint8)
        return np.asarray(cv2.LUT(np.ascontiguousarray(frame), table[:, None]), np.uint8)
