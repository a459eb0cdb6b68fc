"""Colours in OKLCh, and how they become sRGB.

OKLab (Björn Ottosson, "A perceptual color space for image processing", 2020) is perceptually uniform: of two colours
with one lightness neither looks darker, and a ramp keeps its hue. OKLCh is the same in polar form: lightness L (0..1),
chroma C (0 is grey, 0.1 is coloured, 0.3 is the most a screen shows), hue h (radians; red 0.5, yellow 1.9, green 2.5,
blue 4.6).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

RGB_TO_LMS: Final = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
LMS_TO_LAB: Final = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
LAB_TO_LMS: Final = np.linalg.inv(LMS_TO_LAB)
LMS_TO_RGB: Final = np.linalg.inv(RGB_TO_LMS)

MOST_CHROMA: Final = 0.33
"""More than any colour of sRGB has."""

GAMUT_HUES, GAMUT_LIGHTNESSES = 180, 101
"""Steps of the table of the gamut."""


@dataclass(frozen=True, kw_only=True)
class Tint:
    """A colour in OKLCh."""

    lightness: float  # 0..1
    chroma: float  # 0..about 0.3
    hue: float  # radians

    @classmethod
    def of_rgb(cls, rgb: tuple[int, int, int]) -> "Tint":
        """That of an sRGB colour, 0..255."""
        lightness, chroma, hue = from_srgb(np.array([rgb]))[0].tolist()
        return cls(lightness=lightness, chroma=chroma, hue=hue)

    @classmethod
    def vivid(cls, hue: float) -> "Tint":
        """The colour of a hue that has the most chroma: yellow is light, blue is dark."""
        column = _gamut()[:, _hue_index(hue)]
        at = int(column.argmax())
        return cls(lightness=at / (GAMUT_LIGHTNESSES - 1), chroma=float(column[at]), hue=hue)


def most_chroma(lightness: float, hue: float) -> float:
    """The greatest chroma that sRGB has at a lightness and hue."""
    at = round(min(max(lightness, 0.0), 1.0) * (GAMUT_LIGHTNESSES - 1))
    return float(_gamut()[at, _hue_index(hue)])


def angle_between(start: float, end: float) -> float:
    """Angle from hue `start` to hue `end` the shorter way around, -π..π."""
    return float(np.angle(np.exp(1j * (end - start))))


def from_srgb(rgb: NDArray[Any]) -> NDArray[np.float64]:
    """sRGB 0..255 [n, 3] to OKLCh [n, 3]."""
    channels = rgb / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    lightness, a, b = (np.cbrt(linear @ RGB_TO_LMS.T) @ LMS_TO_LAB.T).T
    return np.stack([lightness, np.hypot(a, b), np.arctan2(b, a)], axis=-1)


def to_srgb(lch: NDArray[np.float64]) -> NDArray[np.float64]:
    """OKLCh [..., 3] to sRGB 0..255 [..., 3]; the chroma of colours out of gamut is reduced until they fit."""
    lightness, chroma, hue = np.moveaxis(lch, -1, 0)
    rows = np.rint(np.clip(lightness, 0, 1) * (GAMUT_LIGHTNESSES - 1)).astype(int)
    columns = np.rint(hue / (2 * np.pi) * GAMUT_HUES).astype(int) % GAMUT_HUES
    held = np.stack([lightness, np.minimum(chroma, _gamut()[rows, columns]), hue], axis=-1)
    rgb = np.clip(_to_linear(held), 0, 1)
    encoded: NDArray[np.float64] = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return 255 * encoded


def _to_linear(lch: NDArray[np.float64]) -> NDArray[np.float64]:
    lightness, chroma, hue = np.moveaxis(lch, -1, 0)
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    linear: NDArray[np.float64] = ((lab @ LAB_TO_LMS.T) ** 3) @ LMS_TO_RGB.T
    return linear


def _in_gamut(lch: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((np.abs(_to_linear(lch) - 0.5) <= 0.5 + 1e-3).all(axis=-1))


def _hue_index(hue: float) -> int:
    return round(hue / (2 * np.pi) * GAMUT_HUES) % GAMUT_HUES


@lru_cache(maxsize=1)
def _gamut() -> NDArray[np.float64]:
    """The greatest chroma of sRGB by lightness and hue, [GAMUT_LIGHTNESSES, GAMUT_HUES], by bisection."""
    lightness, hue = np.meshgrid(
        np.linspace(0, 1, GAMUT_LIGHTNESSES), np.arange(GAMUT_HUES) / GAMUT_HUES * 2 * np.pi, indexing="ij"
    )
    low, high = np.zeros(lightness.size), np.full(lightness.size, MOST_CHROMA)
    for _ in range(10):
        middle = (low + high) / 2
        inside = _in_gamut(np.stack([lightness.ravel(), middle, hue.ravel()], axis=-1))
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return low.reshape(lightness.shape)
