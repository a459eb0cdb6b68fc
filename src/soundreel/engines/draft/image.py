"""Frames from a reference image, which is moved and lit by the sound.

The camera pans and zooms slowly, and zooms in a little on onsets. Low frequencies warp the image around its subject in
slow waves, high ones in fast small ones, and its highlights bloom. The factors in the formulas have no source: they
were chosen by eye.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from soundreel.engines.draft.dust import Dust
from soundreel.engines.draft.grid import Field, Grid, Picture, sample, smoothstep, to_bytes
from soundreel.engines.draft.look import Framing, Movement
from soundreel.engines.draft.motion import Motion
from soundreel.engines.draft.ripples import Ripples
from soundreel.media.image import cover

OVERSCAN = 1.3
"""The image is kept this much larger than the video, so that it stays sharp when the camera zooms in."""

CELLS = 40_000
"""Cells of the coarse grid, at most; the warps on it are smooth."""

LARGEST_CELL = 8
"""Side of a cell in pixels, unless `CELLS` demands larger ones."""

CALM_ZOOM = 1.10
"""Mean zoom of the camera, which leaves room for pan and warps without showing the image's edges."""

FOCUS_Y = -0.12
"""Assumed height of the subject, −1 at the top to 1 at the bottom: a little above the centre, as faces are."""

GAIN_ONE = 200
"""The uint8 value that stands for a gain of 1; leaves room for larger gains."""

HALO_SIDE = 200
"""The halo is computed at about this size squared, in pixels."""


class ImageRenderer:
    """Draws any frame of a video of `width` × `height` pixels from one image, uint8 [rows, columns, 3]."""

    def __init__(
        self,
        width: int,
        height: int,
        *,
        picture: Picture,
        motion: Motion,
        framing: Framing,
        movement: Movement,
        rng: np.random.Generator,
    ) -> None:
        self._motion = motion
        self._movement = movement
        cell = min(LARGEST_CELL, 2 + min(width, height) // 32)
        self._grid = Grid.with_cells(width, height, at_most=CELLS, smallest=cell)
        self._source = _sharpen(cover(picture, round(width * OVERSCAN), round(height * OVERSCAN)))
        self._halo = _halo(self._source)
        self._camera = _Camera.draw(rng, CALM_ZOOM * framing.zoom)
        self._waves = _Waves.draw(rng)
        particles = round(36 * movement.density)
        self._dust = Dust.scatter((width, height), rng, particles=particles, softness=2.2)
        self._leak = _leak(self._grid, framing, rng)
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
        gain = self._gain(frame)[..., np.newaxis] - light / np.float32(255)  # blend "screen": x + l − x · l / 255
        cv2.multiply(out, self._grid.enlarge(to_bytes(GAIN_ONE * gain)), dst=out, scale=1 / GAIN_ONE)
        cv2.add(out, self._grid.enlarge(to_bytes(light)), dst=out)
        self._dust.add_to(out, self._motion, frame)

    def _places(self, frame: int) -> tuple[Field, Field]:
        """Columns and rows of the source, in pixels, that each cell shows, [h, w]."""
        grid, motion = self._grid, self._motion
        punch = self._movement.punch * float(motion.punch[frame])
        zoom, pan_x, pan_y = self._camera.at(0.6 * self._movement.speed * float(motion.travel[frame]))
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
        """Gain, [h, w] around 1: exposure grows with loudness; a slight vignette opens on onsets."""
        punch = self._movement.punch * float(self._motion.punch[frame])
        level = float(self._motion.level[frame])
        exposure = 0.96 + 0.04 * level + 0.04 * punch
        return exposure * (1 - (0.20 - 0.10 * punch) * self._edges)

    def _light(self, columns: Field, rows: Field, frame: int) -> Field:
        """Bloom of the image's bright parts, [h, w, 3] in 0..255."""
        punch = self._movement.punch * float(self._motion.punch[frame])
        level = float(self._motion.level[frame])
        step = np.float32(self._halo.shape[1] / self._source.shape[1])
        glow = sample(self._halo, columns * step, rows * step) * (0.15 + 0.15 * level + 0.85 * punch)
        leak = self._leak * np.float32(0.5 + 0.3 * level + 0.6 * punch)
        light: Field = np.minimum(glow + 6.0 * punch * self._near[..., np.newaxis] + leak, 220)
        return light


@dataclass(frozen=True, kw_only=True, eq=False)
class _Camera:
    """A slow path of zoom and pan that stays inside the image."""

    zoom: float  # mean
    periods: NDArray[np.float64]  # [3] seconds, of zoom, pan right, pan down
    phases: NDArray[np.float64]  # [3] radians

    @classmethod
    def draw(cls, rng: np.random.Generator, zoom: float) -> "_Camera":
        return cls(zoom=zoom, periods=rng.uniform(17, 29, 3), phases=rng.uniform(0, math.tau, 3))

    def at(self, seconds: float) -> tuple[float, float, float]:
        """Zoom, and pan right and down in half widths and heights, after `seconds` on the path."""
        closer, right, down = np.sin(math.tau * seconds / self.periods + self.phases).tolist()
        zoom = self.zoom + 0.035 * closer
        room = 0.65 * (zoom - 1)
        return zoom, room * right, room * down


@dataclass(frozen=True, kw_only=True, eq=False)
class _Waves:
    """Warps of the image: slow waves by the low band, fast small ones by the high band."""

    phases: NDArray[np.float64]  # [6] radians

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Waves":
        return cls(phases=rng.uniform(0, math.tau, 6))

    def shift(self, grid: Grid, motion: Motion, frame: int) -> tuple[Field, Field]:
        """Displacement right and down at each cell, in units, [h, w]."""
        x, y, p = grid.x, grid.y, self.phases.tolist()
        sway, seconds = float(motion.sway[frame]), float(motion.seconds[frame])
        swell = 0.008 + 0.018 * float(motion.low[frame])
        shimmer = 0.0035 * float(motion.high[frame])
        bend_x = 0.8 * np.sin(2.3 * x + p[1] + 0.7 * sway)
        bend_y = 0.8 * np.sin(2.9 * y + p[3] - 0.6 * sway)
        right = swell * np.sin(3.1 * y + p[0] + 1.6 * sway + bend_x)
        down = swell * np.sin(2.7 * x + p[2] - 1.3 * sway + bend_y)
        right = right + shimmer * np.sin(31 * y + 9 * x + p[4] + 7.0 * seconds)
        down = down + shimmer * np.sin(29 * x - 8 * y + p[5] - 6.0 * seconds)
        return right, down


def _leak(grid: Grid, framing: Framing, rng: np.random.Generator) -> Field:
    """Coloured light that falls in from one side of the picture, [h, w, 3] in 0..255."""
    angle = rng.uniform(0, math.tau)
    towards = grid.x * np.float32(math.cos(angle)) + grid.y * np.float32(math.sin(angle))
    strength = np.float32(framing.light) * smoothstep(0.0, 1.3, towards)
    return np.asarray(strength[..., np.newaxis] * framing.rgb.astype(np.float32))


def _inside(grid: Grid) -> Field:
    """Weight of the warps, [h, w]: 1 inside, falling to 0 at the edges, beyond which a warp would show nothing."""
    across = np.float32(grid.width / (2 * grid.unit)) - np.abs(grid.x)
    down = np.float32(grid.height / (2 * grid.unit)) - np.abs(grid.y)
    return np.asarray(smoothstep(0, 0.15, across) * smoothstep(0, 0.15, down))


def _halo(source: Picture) -> Field:
    """Bloom around bright parts of the image and horizontal streaks through small highlights, [rows, columns, 3].

    It has about `HALO_SIDE`² pixels.
    """
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
    """Unsharp mask that makes up for the blur of bilinear sampling: together as sharp as bicubic at a quarter of its
    cost."""
    soft = cv2.GaussianBlur(picture, (0, 0), 0.9)
    return np.asarray(cv2.addWeighted(picture, 1.4, soft, -0.4, 0), np.uint8)


def _blur(field: Field, across: float, down: float = 0.0) -> Field:
    """Gaussian blur of standard deviation `across` and `down` (0: the same) in pixels."""
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigmaX=across, sigmaY=down), np.float32)
