"""The image look: the reference picture itself, moved and lit by the sound.

The camera drifts and punches in on attacks, bass swells and treble shimmers through the picture around its
subject, and its own highlights bloom. The numbers below are a matter of taste: they were found by looking.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from soundreel.engines.draft.dust import Dust
from soundreel.engines.draft.grid import Field, Grid, Picture, sample, smoothstep, to_bytes
from soundreel.engines.draft.motion import Motion
from soundreel.engines.draft.ripples import Ripples
from soundreel.media.image import cover

OVERSCAN = 1.3
"""The picture is kept this much larger than the video, so that zooming in stays crisp."""

CELLS = 40_000
"""Most cells that the warps, which are smooth, are computed on."""

LARGEST_CELL = 8
"""Pixels of a cell as long as there are not too many."""

CALM_ZOOM = 1.10
"""Zoom of the resting camera: the room that drift and warps move in without showing an edge."""

FOCUS_Y = -0.12
"""Where the subject is taken to be: a little above the middle, as faces are; −1..1 down the picture."""

GAIN_ONE = 200
"""The byte that stands for a gain of 1; leaves room for more."""

HALO_SIDE = 200
"""Side in pixels of a square of the area that the halo is kept at."""


class ImageLook:
    """Draws any frame of a video of one picture."""

    def __init__(self, width: int, height: int, *, picture: Picture, motion: Motion, rng: np.random.Generator) -> None:
        self._motion = motion
        cell = min(LARGEST_CELL, 2 + min(width, height) // 32)
        self._grid = Grid.with_cells(width, height, at_most=CELLS, smallest=cell)
        self._source = _sharpen(cover(picture, round(width * OVERSCAN), round(height * OVERSCAN)))
        self._halo = _halo(self._source)
        self._camera = _Camera.draw(rng)
        self._waves = _Waves.draw(rng)
        self._dust = Dust.scatter((width, height), rng, motes=36, softness=2.2)
        focus_y = FOCUS_Y * height / (2 * self._grid.unit)
        self._ripples = Ripples.around(self._grid, 0, focus_y)
        distance = self._grid.distance(0, focus_y)
        self._near = np.exp(-((distance / np.float32(0.9)) ** 2))
        self._inside = _inside(self._grid)
        self._around = 0.2 + 0.8 * smoothstep(0.25, 1.0, distance)
        self._edges = smoothstep(0.5, 1.7, distance)

    def draw(self, frame: int, out: Picture) -> None:
        """Draw frame `frame` into `out`, uint8 [H, W, 3]."""
        columns, rows = self._places(frame)
        sample(self._source, self._grid.enlarge(columns), self._grid.enlarge(rows), out)
        light = self._light(columns, rows, frame)
        gain = self._gain(frame)[..., np.newaxis] - light / np.float32(255)  # screen: x + light − x · light / 255
        cv2.multiply(out, self._grid.enlarge(to_bytes(GAIN_ONE * gain)), dst=out, scale=1 / GAIN_ONE)
        cv2.add(out, self._grid.enlarge(to_bytes(light)), dst=out)
        self._dust.add_to(out, self._motion, frame)

    def _places(self, frame: int) -> tuple[Field, Field]:
        """Columns and rows of the source that the cells look at, pixels, [h, w]."""
        grid, motion = self._grid, self._motion
        punch = float(motion.punch[frame])
        zoom, pan_x, pan_y = self._camera.at(0.6 * float(motion.travel[frame]))
        wave_x, wave_y = self._waves.shift(grid, motion, frame)
        ripple_x, ripple_y = self._ripples.push(motion, frame)
        bulge = 1 - 0.02 * punch * self._near
        x = grid.x * bulge + self._inside * (self._around * wave_x - 0.012 * ripple_x)
        y = grid.y * bulge + self._inside * (self._around * wave_y - 0.012 * ripple_y)
        height, width = self._source.shape[:2]
        scale = OVERSCAN / (zoom + 0.025 * punch)
        columns = (x * grid.unit + pan_x * grid.width / 2) * scale + (width - 1) / 2
        rows = (y * grid.unit + pan_y * grid.height / 2) * scale + (height - 1) / 2
        return columns, rows

    def _gain(self, frame: int) -> Field:
        """Exposure, [h, w] around 1: brighter in loud sound; the edges are a little dark and open on attacks."""
        punch, level = float(self._motion.punch[frame]), float(self._motion.level[frame])
        exposure = 0.96 + 0.04 * level + 0.04 * punch
        return exposure * (1 - (0.20 - 0.10 * punch) * self._edges)

    def _light(self, columns: Field, rows: Field, frame: int) -> Field:
        """Light that the bright parts of the picture spill, [h, w, 3] in 0..255."""
        punch, level = float(self._motion.punch[frame]), float(self._motion.level[frame])
        step = np.float32(self._halo.shape[1] / self._source.shape[1])
        glow = sample(self._halo, columns * step, rows * step) * (0.15 + 0.15 * level + 0.85 * punch)
        light: Field = np.minimum(glow + 6.0 * punch * self._near[..., np.newaxis], 220)
        return light


@dataclass(frozen=True, kw_only=True, eq=False)
class _Camera:
    """A slow path of zoom and pan that stays inside the picture."""

    periods: NDArray[np.float64]  # [zoom, right, down] seconds
    phases: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Camera":
        return cls(periods=rng.uniform(17, 29, 3), phases=rng.uniform(0, math.tau, 3))

    def at(self, seconds: float) -> tuple[float, float, float]:
        """Zoom, and pan in half pictures right and down, after `seconds` on the path."""
        breath, right, down = np.sin(math.tau * seconds / self.periods + self.phases).tolist()
        zoom = CALM_ZOOM + 0.035 * breath
        room = 0.65 * (zoom - 1)
        return zoom, room * right, room * down


@dataclass(frozen=True, kw_only=True, eq=False)
class _Waves:
    """Swells of the bass and shimmer of the treble."""

    phases: NDArray[np.float64]  # [6]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Waves":
        return cls(phases=rng.uniform(0, math.tau, 6))

    def shift(self, grid: Grid, motion: Motion, frame: int) -> tuple[Field, Field]:
        """How far the picture is shifted right and down at each cell, in units, [h, w]."""
        x, y, p = grid.x, grid.y, self.phases.tolist()
        sway, clock = float(motion.sway[frame]), float(motion.clock[frame])
        swell = 0.008 + 0.018 * float(motion.low[frame])
        shimmer = 0.0035 * float(motion.high[frame])
        bend_x = 0.8 * np.sin(2.3 * x + p[1] + 0.7 * sway)
        bend_y = 0.8 * np.sin(2.9 * y + p[3] - 0.6 * sway)
        right = swell * np.sin(3.1 * y + p[0] + 1.6 * sway + bend_x)
        down = swell * np.sin(2.7 * x + p[2] - 1.3 * sway + bend_y)
        right = right + shimmer * np.sin(31 * y + 9 * x + p[4] + 7.0 * clock)
        down = down + shimmer * np.sin(29 * x - 8 * y + p[5] - 6.0 * clock)
        return right, down


def _inside(grid: Grid) -> Field:
    """1 in the picture, falling to 0 at its edges, where a warp would reach beyond them, [h, w]."""
    across = np.float32(grid.width / (2 * grid.unit)) - np.abs(grid.x)
    down = np.float32(grid.height / (2 * grid.unit)) - np.abs(grid.y)
    return np.asarray(smoothstep(0, 0.15, across) * smoothstep(0, 0.15, down))


def _halo(source: Picture) -> Field:
    """Light around bright parts of the picture, and streaks through its sparkling ones; small, [rows, columns, 3]."""
    height, width = source.shape[:2]
    step = max(1, round(math.sqrt(height * width) / HALO_SIDE))
    size = (max(width // step, 1), max(height // step, 1))
    small: Field = cv2.resize(source, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    brightness: Field = small.max(axis=2)
    sparkle = np.clip(brightness - _blur(brightness, 6) - 10, 0, None) / 60
    hot = small * (sparkle * smoothstep(110, 220, brightness))[..., np.newaxis]
    bright = small * smoothstep(150, 250, brightness)[..., np.newaxis]
    streaks = _blur(hot, 14, 0.8)
    halo: Field = 0.5 * _blur(hot, 2) + 1.2 * _blur(hot, 7) + 0.7 * streaks + 0.12 * _blur(bright, 9)
    return halo


def _sharpen(picture: Picture) -> Picture:
    """Give beforehand what bilinear sampling takes: together they look like bicubic at a quarter of its cost."""
    soft = cv2.GaussianBlur(picture, (0, 0), 0.9)
    return np.asarray(cv2.addWeighted(picture, 1.4, soft, -0.4, 0), np.uint8)


def _blur(field: Field, across: float, down: float = 0.0) -> Field:
    """Gaussian of standard deviation `across`, and `down` where it differs, in pixels."""
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigmaX=across, sigmaY=down), np.float32)
