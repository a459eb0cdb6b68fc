"""Colours of the abstract look: from words in the prompt, else from the harmony of the sound.

Colours are mixed in OKLab (Björn Ottosson, "A perceptual color space for image processing", 2020),
where equal steps look equal and a ramp from dark to light keeps its hue.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundreel.engines.draft.colour_words import COLOUR_WORDS, MOOD_WORDS, SCENE_WORDS, Mood

TONES = 256
"""Steps of a ramp from its darkest to its lightest tone."""

SHIFTS = 33
"""Hue shifts from −1 to 1 that ramps are prepared for."""

FAINT_KEY = 1e-3
"""Below this |key| a sound has no tonality to speak of."""

FREE_SHIFT = np.deg2rad(18.0)
"""How far the harmony may turn the hues that it chose itself."""

NAMED_SHIFT = np.deg2rad(7.0)
"""How far the harmony may turn colours that the prompt names."""

HUE_STEPS = np.deg2rad([38.0, -38.0, 70.0, -70.0, 110.0, 165.0])
"""Distances of the second hue from the first: neighbours, mostly, or nearly opposites."""

YELLOW = np.deg2rad(100.0)
"""Hue that is painted lighter and with browner shadows, or it turns olive."""

MOST_LEAN = np.deg2rad(60.0)
"""Farthest that light tones lean to another hue: beyond, the tones between turn grey."""

RGB_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
LMS_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
LAB_TO_LMS, LMS_TO_RGB = np.linalg.inv(LMS_TO_LAB), np.linalg.inv(RGB_TO_LMS)


@dataclass(frozen=True, kw_only=True)
class Tint:
    """A colour in OKLCh."""

    lightness: float  # 0..1
    chroma: float  # 0..about 0.3
    hue: float  # radians

    def turned(self, angle: float) -> "Tint":
        """The same colour with its hue turned by `angle`."""
        return Tint(lightness=self.lightness, chroma=self.chroma, hue=self.hue + angle)


@dataclass(frozen=True, kw_only=True, eq=False)
class Palette:
    """Two ramps of tones from one dark backdrop to light, for every hue shift."""

    tables: NDArray[np.float32]  # [SHIFTS, 2 ramps, TONES, 3], sRGB 0..255

    def ramps(self, shift: float) -> NDArray[np.uint8]:
        """The ramps, sRGB [2, TONES, 3], with hues turned by `shift`, −1..1."""
        place = (min(max(shift, -1.0), 1.0) + 1) / 2 * (SHIFTS - 1)
        below = min(int(place), SHIFTS - 2)
        part = np.float32(place - below)
        mixed = self.tables[below] * (1 - part) + self.tables[below + 1] * part
        return np.asarray(np.rint(mixed), np.uint8)


def choose_palette(prompt: str | None, key: complex, rng: np.random.Generator) -> Palette:
    """The palette for `prompt` and sound in the mean tonality `key` (|key| ≤ 1, 0 without pitch)."""
    named, moods = read_colours(prompt or "")
    free = rng.uniform(-1.0, 1.0)
    hue = (np.angle(key) if abs(key) >= FAINT_KEY else np.pi * free) + 0.3 * free
    step = rng.choice(HUE_STEPS)
    pulls = [mood.hue for mood in moods if mood.hue is not None]
    if named:
        tints = [_tint(rgb) for rgb in named]
    elif pulls:
        tints = _scheme(np.deg2rad(pulls[0]) + 0.2 * free, 0.5 * np.sign(step))
    else:
        tints = _scheme(float(hue), float(step))
    first = tints[0]
    second = tints[1] if len(tints) > 1 else first.turned(0.35 * float(np.sign(step)))
    accent = tints[2] if len(tints) > 2 else second
    shifts = np.linspace(-1, 1, SHIFTS) * (NAMED_SHIFT if named else FREE_SHIFT)
    tables = [
        [_ramp(main.turned(shift), light.turned(shift), moods) for main, light in ((first, second), (second, accent))]
        for shift in shifts
    ]
    return Palette(tables=np.array(tables, np.float32))


def read_colours(prompt: str) -> tuple[list[tuple[int, int, int]], list[Mood]]:
    """Colours (sRGB, without repeats) and moods that the words of `prompt` name, in order."""
    words = re.findall(r"[a-z]+", prompt.lower())
    names = [name for word in words for name in SCENE_WORDS.get(word, (word,)) if name in COLOUR_WORDS]
    colours = list(dict.fromkeys(COLOUR_WORDS[name] for name in names))
    return colours, [MOOD_WORDS[word] for word in dict.fromkeys(words) if word in MOOD_WORDS]


def _scheme(hue: float, step: float) -> list[Tint]:
    hues = (hue, hue + step, hue + 1.6 * step)
    return [Tint(lightness=0.60 + 0.16 * _yellowness(angle), chroma=0.17, hue=angle) for angle in hues]


def _ramp(main: Tint, light: Tint, moods: Sequence[Mood]) -> NDArray[np.float32]:
    """Tones from the backdrop over `main` to a pale `light`, sRGB [TONES, 3]."""
    chroma = main.chroma * float(np.prod([mood.chroma for mood in moods]))
    glow = light.chroma * float(np.prod([mood.chroma for mood in moods]))
    middle = min(max(main.lightness + sum(mood.lightness for mood in moods), 0.30), 0.84)
    backdrop = min(0.105 * float(np.prod([mood.backdrop for mood in moods])), 0.40)
    shadow = main.hue - 0.6 * _yellowness(main.hue)
    lean = min(max(_turn(main.hue, light.hue), -MOST_LEAN), MOST_LEAN)
    stops = [
        (0.00, backdrop, min(0.30 * chroma, 0.045), shadow),
        (0.30, backdrop + 0.42 * (middle - backdrop), 0.75 * chroma, shadow),
        (0.60, middle, chroma, main.hue),
        (0.84, middle + 0.55 * (0.95 - middle), 0.75 * glow, main.hue + lean),
        (1.00, 0.965, 0.25 * glow, main.hue + lean),
    ]
    tones = np.linspace(0, 1, TONES)
    places, lightness, chromas, hues = np.array(stops).T
    lab = np.stack([lightness, chromas * np.cos(hues), chromas * np.sin(hues)], axis=-1)
    smooth = np.stack([np.interp(tones, places, channel) for channel in lab.T], axis=-1)
    return _to_srgb(smooth)


def _yellowness(hue: float) -> float:
    """1 for yellow, next to 0 from orange-red and from green on."""
    return float(np.exp(-((_turn(YELLOW, hue) / 0.6) ** 2)))


def _turn(start: float, end: float) -> float:
    """The shorter way round from hue `start` to hue `end`, in radians."""
    return float(np.angle(np.exp(1j * (end - start))))


def _tint(rgb: tuple[int, int, int]) -> Tint:
    channels = np.array(rgb) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    lightness, a, b = LMS_TO_LAB @ np.cbrt(RGB_TO_LMS @ linear)
    return Tint(lightness=float(lightness), chroma=float(np.hypot(a, b)), hue=float(np.arctan2(b, a)))


def _to_srgb(lab: NDArray[np.float64]) -> NDArray[np.float32]:
    """OKLab [n, 3] to sRGB 0..255; colours outside are paled until they fit."""
    rgb = np.full(lab.shape, np.nan)
    for chroma in np.linspace(1, 0, 21):
        linear = _to_linear(lab * [1, chroma, chroma])
        fits = np.isnan(rgb[:, 0]) & (np.abs(linear - 0.5) <= 0.5 + 1e-3).all(axis=1)
        rgb[fits] = linear[fits]
        if not np.isnan(rgb).any():
            break
    rgb = np.clip(rgb, 0, 1)
    encoded: NDArray[np.float64] = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return (255 * encoded).astype(np.float32)


def _to_linear(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    lms = (lab @ LAB_TO_LMS.T) ** 3
    linear: NDArray[np.float64] = lms @ LMS_TO_RGB.T
    return linear
