"""Colours and type of a sheet."""

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final, cast

import numpy as np
from PIL import ImageFont

from soundreel.analysis import Role, Section
from soundreel.media.oklch import to_srgb

Rgb = tuple[int, int, int]

GROUND: Final[Rgb] = (19, 20, 26)
FAINT: Final[Rgb] = (40, 42, 52)
"""Lines of the grid, and what stands for nothing."""

DIM: Final[Rgb] = (138, 142, 156)
TEXT: Final[Rgb] = (232, 233, 238)
VOICE: Final[Rgb] = (244, 160, 182)
WEAK: Final[Rgb] = (255, 92, 84)

GOLDEN_ANGLE: Final = 137.5
"""Degrees of hue from one letter to the next."""

FIRST_HUE: Final = 262.0


OTHER_TYPEFACES: Final = (
    "NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf",
    "Arial Unicode.ttf", "PingFang.ttc", "msyh.ttc", "arial.ttf",
)  # fmt: skip
"""Of systems, for scripts that Pillow's own typeface does not have: the first that is there and has all letters."""

FONT_FOLDERS: Final = (
    "/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
"""Where systems keep them; never the current folder, whose files may be anyone's."""


def font(size: int, words: str = "") -> ImageFont.FreeTypeFont:
    """Pillow's own typeface, which is there wherever Pillow is; one of the system where it lacks letters of `words`."""
    own = _own(size)
    if all(map(_is_known, words)):
        return own
    return next((other for other in _others(size) if not _missing(other, words)), own)


@lru_cache(maxsize=32)
def _own(size: int) -> ImageFont.FreeTypeFont:
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))


@lru_cache(maxsize=32)
def _others(size: int) -> tuple[ImageFont.FreeTypeFont, ...]:
    found = []
    for file in _files_of_others():
        with suppress(OSError):
            found.append(ImageFont.truetype(file, size))
    return tuple(found)


@lru_cache(maxsize=1)
def _files_of_others() -> tuple[Path, ...]:
    files = (next(Path(folder).rglob(name), None) for name in OTHER_TYPEFACES for folder in FONT_FOLDERS)
    return tuple(file for file in files if file is not None)


@lru_cache(maxsize=4096)
def _is_known(letter: str) -> bool:
    return not _missing(_own(16), letter)


def _missing(typeface: ImageFont.FreeTypeFont, words: str) -> bool:
    """Whether a typeface draws any of the letters as it draws those that it does not have."""
    nothing = bytes(typeface.getmask("\uffff"))
    return any(not letter.isspace() and bytes(typeface.getmask(letter)) == nothing for letter in set(words))


def tint(lightness: float, chroma: float, degrees: float) -> Rgb:
    """A colour of OKLCh as sRGB."""
    red, green, blue = to_srgb(np.array([[lightness, chroma, np.deg2rad(degrees)]]))[0]
    return round(red), round(green), round(blue)


def section_colour(section: Section, lightness: float = 0.0) -> Rgb:
    """Sections that sound alike share a hue; strong ones are lighter. `lightness` is added."""
    if section.role is Role.SILENCE or not section.letter:
        return tint(0.45 + lightness, 0.01, 0)
    place = sum((ord(sign) - ord("A")) * 26**power for power, sign in enumerate(reversed(section.letter)))
    return tint(0.58 + 0.18 * section.energy + lightness, 0.125, FIRST_HUE + GOLDEN_ANGLE * place)


def score_colour(score: float) -> Rgb:
    """From red for 0 through amber to green for 1."""
    return tint(0.72, 0.15, 25 + 130 * min(max(score, 0.0), 1.0))
