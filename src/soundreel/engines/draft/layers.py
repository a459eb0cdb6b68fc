"""Materials that are drawn by height alone: layers of cut paper, lines of light, lines of ink.

A table says which colour each height has, and is looked up at every pixel. It has a row for each steepness: where the
surface is steep a pixel spans much height, and edges and lines are drawn as many times softer or wider, so that they
are as sharp as pixels allow and never jagged. The numbers have no source: they were chosen by eye.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from soundreel.engines.draft.grid import Field, Picture
from soundreel.engines.draft.look import Material
from soundreel.engines.draft.palette import TONES

HEIGHTS: Final = 2048
"""Columns of the table, from the lowest to the highest point."""

STEEPNESSES: Final = 12
"""Rows of the table."""

FLATTEST: Final = 1 / 256
"""Levels per pixel of the first row; each following one is `STEEPER` times as steep."""

STEEPER: Final = 1.6

Values = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layers:
    """How a palette's tones are laid over the heights of a surface; curves are [STEEPNESSES, HEIGHTS]."""

    levels: int
    dims: float  # how much its light changes with the sound: 1 all, 0 nothing
    ramp: Values  # 0..1, which of the two ramps
    tone: Values  # 0..1, where on it
    glow: Values  # 0..1, how much of the ramp's light is added

    def table(self, ramps: Picture) -> Picture:
        """The colours of all heights, uint8 [STEEPNESSES, HEIGHTS, 3], for ramps [R, TONES, 3]: the first and last."""
        ramps = ramps[[0, -1]]
        at = np.rint(self.tone * (TONES - 1)).astype(np.intp)
        part = self.ramp[..., np.newaxis]
        colours = ramps[0, at] * (1 - part) + ramps[1, at] * part
        bright = ramps[:, round(LIGHT_TONE * (TONES - 1))].astype(float)
        lights = (bright[0] * part + bright[1] * (1 - part)) * self.glow[..., np.newaxis]
        return np.asarray(np.rint(np.minimum(colours + lights * (1 - colours / 255), 255)), np.uint8)

    def row(self, levels_per_pixel: Field) -> Field:
        """The row of the table for a steepness."""
        octaves = np.log2(np.maximum(levels_per_pixel, np.float32(FLATTEST)) / np.float32(FLATTEST))
        row: Field = np.minimum(octaves / np.float32(np.log2(STEEPER)), STEEPNESSES - 1)
        return row


LIGHT_TONE: Final = 0.76
"""Tone of edges and lines."""


def paper(levels: int, line_pixels: float) -> Layers:
    """Sheets that lie on each other, each with a bright edge and a shadow on the one below."""

    def draw(level: Values, within: Values, pixel: Values) -> tuple[Values, Values, Values]:
        width = np.minimum(1.3 * pixel, 0.9)
        edge = np.clip(within / width, 0, 1)
        edge = edge * edge * (3 - 2 * edge)  # 0 on the sheet below, 1 on this one
        sharp = np.clip(1.3 - 2.5 * pixel, 0, 1)
        shadow = np.where(edge < 1, 1 - edge, np.exp(-(1 - within) / (0.10 + 2 * pixel))) * sharp
        rim = 0.20 * np.exp(-np.square((within - width) / (line_pixels * pixel))) * sharp
        odd = np.where(level % 2 == 0, 1 - edge, edge)
        tone = 0.14 + 0.78 * np.clip((level - 1 + edge + 0.30 * within * edge + 0.15) / (levels - 0.7), 0, 1)
        return odd, tone * (1 - 0.45 * shadow), rim

    return _layers(levels, 0.6, draw)


def neon(levels: int, line_pixels: float) -> Layers:
    """Lines of light over a dark ground, one at each level, in the colours of both ramps by turns."""

    def draw(level: Values, within: Values, pixel: Values) -> tuple[Values, Values, Values]:
        away, width = np.abs(within - 0.5), line_pixels * pixel
        line = 0.95 * np.exp(-np.square(away / width)) + 0.26 * np.exp(-away / np.minimum(7 * width, 0.25))
        tone = 0.05 + 0.38 * np.clip((level + within) / levels, 0, 1)
        return level % 2, tone, np.minimum(line * np.minimum(0.35 / width, 1), 1)

    return _layers(levels, 1.0, draw)


def ink(levels: int, line_pixels: float) -> Layers:
    """Lines of ink on pale ground, as on a map: every other level is tinted."""

    def draw(level: Values, within: Values, pixel: Values) -> tuple[Values, Values, Values]:
        away, width = np.minimum(within, 1 - within), line_pixels * pixel
        line = np.exp(-np.square(away / width)) * np.minimum(0.35 / width, 1)
        odd = level % 2
        edge = np.clip(0.5 + away / (2.6 * pixel), 0.5, 1)
        tint = odd * edge + (1 - odd) * (1 - edge)
        ground = 0.96 - tint * (0.12 + 0.18 * np.clip(level / levels, 0, 1))
        return tint, ground - 0.62 * line * ground, np.zeros_like(ground)

    return _layers(levels, 0.35, draw)


MATERIALS: Final = {Material.PAPER: paper, Material.NEON: neon, Material.INK: ink}
"""How each of them is drawn, by the number of levels and the width of a line in pixels."""


def _layers(
    levels: int, dims: float, draw: Callable[[Values, Values, Values], tuple[Values, Values, Values]]
) -> Layers:
    """Draw every row: a function of the level from 0, of how far up in it (0..1), and of the levels in a pixel."""
    height = np.linspace(0, levels * (1 - 1e-9), HEIGHTS)
    pixel = (FLATTEST * STEEPER ** np.arange(STEEPNESSES))[:, np.newaxis]
    grid = np.ones((STEEPNESSES, 1))
    ramp, tone, glow = draw(grid * np.floor(height), grid * (height % 1), pixel)
    return Layers(levels=levels, dims=dims, ramp=ramp, tone=tone, glow=glow)
