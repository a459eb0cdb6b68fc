"""Frames without a reference image: an abstract pattern, a flowing surface lit from the upper left.

The coordinates of a plane are displaced by one sine wave after the other (domain warping). The warped surface is shaded
as a height field and coloured on a coarse grid; a texture of fine lines, "threads", follows it at full resolution.
The factors in the formulas have no source: they were chosen by eye.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from soundreel.engines.draft.dust import Dust
from soundreel.engines.draft.forms import fold
from soundreel.engines.draft.grid import Field, Grid, Picture, sample, smoothstep, to_bytes
from soundreel.engines.draft.layers import HEIGHTS, MATERIALS
from soundreel.engines.draft.look import Look, Material
from soundreel.engines.draft.motion import Motion
from soundreel.engines.draft.palette import FAINT_KEY, TONES
from soundreel.engines.draft.ripples import Ripples

CELLS = 130_000
"""Cells of the coarse grid, at most: enough to be smooth, few enough for real time."""

SMALLEST_CELL = 2
"""Smallest side of a cell in pixels."""

WARPS = 5
"""Number of pairs of sine waves; the waves of each pair are shorter by `WARP_RATIO` than those before."""

WARP_RATIO = 1.25

THREADS_SIDE = 1024
"""Side of the thread texture in pixels."""

THREAD_LIGHT = 200
"""Mean of the thread texture, which stands for a gain of 1; leaves room for brighter threads."""

LAYERS = 8
"""Layers of paper, or lines of light, between the lowest and the highest point; by density there are more or fewer."""

LAYERS_VIGNETTE = 0.7
"""Of the vignette: in flat colours it looks stronger."""

HEIGHT_SHARE = 0.30
"""Of all heights of the table that one unit of the surface's height takes."""

LINES_PER_UNIT = 190
"""Width of a line of light: a unit is so many times as wide."""

THINNEST_LINE = 0.8
"""Pixels."""

GAIN_ONE = 160
"""The uint8 value that stands for a gain of 1; leaves room for larger gains."""

FINEST_UNIT = 600
"""Pixels per unit up to which threads keep their width in pixels; in larger pictures they grow with the picture."""


class PatternRenderer:
    """Draws any frame of an abstract video of `width` × `height` pixels.

    Args:
        threads: gives a thread texture; to generate one takes longer than to draw a frame.
    """

    def __init__(
        self,
        width: int,
        height: int,
        *,
        motion: Motion,
        look: Look,
        rng: np.random.Generator,
        threads: Callable[[], Picture],
    ) -> None:
        self._motion = motion
        self._look = look
        self._grid = Grid.with_cells(width, height, at_most=CELLS, smallest=SMALLEST_CELL)
        self._warp = _Warp.draw(rng)
        x, y = rng.uniform(-0.3, 0.3, 2) * (width, height) / (2 * self._grid.unit)
        self._space = fold(look.form, self._grid, x, y, rng)
        self._ripples = Ripples.around(self._grid, x, y)
        self._focus = np.exp(-((self._grid.distance(x, y) / np.float32(0.75)) ** 2))
        self._vignette = 1 - np.float32(0.5) * smoothstep(0.9, 2.1, self._grid.distance(0, 0))
        if look.material is Material.SILK:
            self._threads = threads()
        else:
            levels, line = round(LAYERS * look.movement.density**0.5), self._grid.unit / LINES_PER_UNIT
            self._layers = MATERIALS[look.material](levels, max(line, THINNEST_LINE))
        particles = round(56 * look.movement.density)
        self._dust = Dust.scatter((width, height), rng, particles=particles, softness=1.0, rgb=look.palette.spark)

    def draw(self, frame: int, out: Picture) -> None:
        """Draw frame `frame` into `out`, uint8 [H, W, 3]."""
        draw = self._draw_silk if self._look.material is Material.SILK else self._draw_layers
        draw(self._warped_surface(frame), frame, out)
        self._dust.add_to(out, self._motion, frame)

    def _warped_surface(self, frame: int) -> "_Surface":
        motion, movement, space = self._motion, self._look.movement, self._space
        punch = movement.punch * float(motion.punch[frame])
        push = np.float32(0.1 * movement.punch) * self._ripples.rings(motion, frame)
        closer = np.float32((1 - 0.05 * punch) / movement.size)
        x, y = self._warp.bend(
            (space.u + push * space.out_u) * closer,
            (space.v + push * space.out_v) * closer,
            flow=0.11 * movement.speed * float(motion.travel[frame]),
            swing=0.5 * movement.speed * float(motion.sway[frame]),
            depth=0.9 + 0.25 * float(motion.low[frame]),
        )
        return _Surface(x=x, y=y)

    # silk

    def _draw_silk(self, surface: "_Surface", frame: int, out: Picture) -> None:
        colours = self._grid.enlarge(self._colour(surface, frame))
        threads = cv2.cvtColor(self._draw_threads(surface), cv2.COLOR_GRAY2RGB)
        cv2.multiply(colours, threads, dst=out, scale=1 / THREAD_LIGHT)

    def _colour(self, surface: "_Surface", frame: int) -> Picture:
        """Colours of the cells, [h, w, 3]: the tone by height and light, on a ramp by position."""
        movement, level = self._look.movement, float(self._motion.level[frame])
        punch = movement.punch * float(self._motion.punch[frame])
        shine = surface.light(self._grid.unit / self._grid.cell)
        gleam = np.square(np.square(np.square(np.square(shine))))
        tone = 0.06 + 0.62 * smoothstep(0.05, 1.0, surface.depth) + 0.20 * self._focus
        tone *= (0.35 + 0.75 * shine) * (0.95 + 0.10 * level + 0.12 * punch) * movement.light
        tone += self._focus * (0.3 + shine) * (0.26 * punch) + gleam * (0.30 + 0.20 * punch)
        tone *= self._vignette
        held = tone / np.sqrt(np.sqrt(1 + np.square(np.square(tone))))  # soft clipping below 1
        ramps = self._look.palette.ramps(self._turn(frame))
        return sample(ramps, held * (TONES - 1), surface.ramp * (len(ramps) - 1))

    def _turn(self, frame: int) -> float:
        """Distance of the current tonality from the video's key around the circle of fifths, about −1..1."""
        key = self._motion.key
        if abs(key) < FAINT_KEY:
            return 0.0
        return float(2.0 * (self._motion.tonality[frame] * key.conjugate() / abs(key)).imag)

    def _draw_threads(self, surface: "_Surface") -> NDArray[Any]:
        """The thread texture along the surface, uint8 [H, W] around `THREAD_LIGHT`; faint where it would alias."""
        fineness = min(self._grid.unit, FINEST_UNIT)
        across = 0.5 * fineness * (surface.height + 0.18 * np.sin(1.6 * surface.x)) + THREADS_SIDE / 2
        along = 0.6 * fineness * np.sin(0.5 * (surface.y - surface.x)) + THREADS_SIDE / 2
        threads = sample(self._threads, self._grid.enlarge(across), self._grid.enlarge(along))
        faint = smoothstep(1.0, 3.6, surface.steepness * np.float32(0.5 * fineness / self._grid.cell))
        cv2.multiply(threads, self._grid.enlarge(to_bytes(255 * (1 - faint))), dst=threads, scale=1 / 255)
        cv2.add(threads, self._grid.enlarge(to_bytes(THREAD_LIGHT * faint)), dst=threads)
        return threads

    # paper, neon and ink

    def _draw_layers(self, surface: "_Surface", frame: int, out: Picture) -> None:
        movement, level, layers = self._look.movement, float(self._motion.level[frame]), self._layers
        punch = movement.punch * float(self._motion.punch[frame])
        place = np.float32(0.5) + np.float32(HEIGHT_SHARE) * surface.height + (0.05 + 0.07 * punch) * self._focus
        columns = self._grid.enlarge(np.clip(place, 0, 1) * np.float32(HEIGHTS - 1))
        steepness = surface.steepness * np.float32(HEIGHT_SHARE * layers.levels / self._grid.cell)
        table = layers.table(self._look.palette.ramps(self._turn(frame)))
        sample(table, columns, self._grid.enlarge(layers.row(steepness)), out)
        light = movement.light * (0.86 + 0.10 * level) + 0.10 * punch + (0.06 + 0.25 * punch) * self._focus
        light = 1 + np.float32(layers.dims) * (light - 1)
        light *= 1 - np.float32(LAYERS_VIGNETTE * layers.dims) * (1 - self._vignette)
        gain = self._grid.enlarge(to_bytes(GAIN_ONE * light))
        cv2.multiply(out, cv2.cvtColor(gain, cv2.COLOR_GRAY2RGB), dst=out, scale=1 / GAIN_ONE)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Warp:
    """Sine waves that displace the coordinates of a plane one after the other."""

    angle: float  # radians
    offset: NDArray[np.float64]  # [2] units
    phases: NDArray[np.float64]  # [WARPS, 2] radians
    rates: NDArray[np.float64]  # [WARPS, 2] factors on the wave numbers

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Warp":
        return cls(
            angle=rng.uniform(0, math.tau),
            offset=rng.uniform(-9, 9, 2),
            phases=rng.uniform(0, math.tau, (WARPS, 2)),
            rates=rng.uniform(0.85, 1.15, (WARPS, 2)),
        )

    def bend(self, x: Field, y: Field, *, flow: float, swing: float, depth: float) -> tuple[Field, Field]:
        """The warped coordinates of (`x`, `y`); `flow` and `swing` are phases in radians, `depth` scales the waves."""
        cos, sin = 1.1 * math.cos(self.angle), 1.1 * math.sin(self.angle)
        right, down = self.offset.tolist()
        x, y = cos * x - sin * y + right, sin * x + cos * y + down
        for k in range(WARPS):
            scale = WARP_RATIO ** (k + 1)
            reach = 0.75 * depth / scale
            number_x, number_y = (1.3 * scale * self.rates[k]).tolist()
            phase_x, phase_y = self.phases[k].tolist()
            phase_x += (0.6 + 0.10 * k) * flow + 0.3 * math.sin(swing + k)
            phase_y -= (0.4 - 0.05 * k) * flow - 0.3 * math.cos(0.8 * swing + 2 * k)
            x = x + reach * np.sin(number_x * y + phase_x % math.tau)
            y = y + reach * np.sin(number_y * x + phase_y % math.tau)
        return x, y


@dataclass(frozen=True, eq=False)
class _Surface:
    """The warped coordinates of each cell, [h, w], taken as a height field."""

    x: Field
    y: Field

    @cached_property
    def height(self) -> Field:
        height: Field = np.sin(1.6 * self.x + 1.1 * self.y) + 0.6 * np.sin(2.9 * self.y - self.x)
        return height

    @cached_property
    def depth(self) -> Field:
        """How far up a point lies, in broad waves, 0..1."""
        depth: Field = 0.5 + 0.26 * np.sin(1.6 * self.x) + 0.24 * np.sin(1.3 * self.y + 0.7 * self.x)
        return depth

    @cached_property
    def ramp(self) -> Field:
        """Which of a palette's ramps colours a point, 0..1 from the first to the last."""
        ramp: Field = np.float32(0.5) * (1 + np.sin(0.9 * self.x - 0.8 * self.y + 2.0))
        return ramp

    @cached_property
    def slopes(self) -> tuple[Field, Field]:
        """Gradient of the height per cell, down and right."""
        return np.asarray(np.gradient(self.height, axis=0)), np.asarray(np.gradient(self.height, axis=1))

    @cached_property
    def steepness(self) -> Field:
        """Magnitude of the gradient."""
        down, right = self.slopes
        return np.sqrt(down * down + right * right)

    def light(self, cells_per_unit: float) -> Field:
        """Diffuse light (Lambert) from the upper left, 0..1."""
        down, right = self.slopes
        relief = np.float32(0.10 * cells_per_unit)
        facing = relief * (0.5 * right + 0.6 * down) + 0.62
        return np.asarray(np.clip(facing / np.sqrt(1 + np.square(relief * self.steepness)), 0, 1))


def plain_thread_texture() -> Picture:
    """A texture of one tone, uint8 [THREADS_SIDE, THREADS_SIDE], for measurements: drawing it takes as long."""
    return np.full((THREADS_SIDE, THREADS_SIDE), THREAD_LIGHT, np.uint8)


def thread_texture(rng: np.random.Generator) -> Picture:
    """Fine vertical lines, uint8 [THREADS_SIDE, THREADS_SIDE] around `THREAD_LIGHT`: noise blurred vertically."""
    side = THREADS_SIDE
    down, right = np.fft.fftfreq(side)[:, np.newaxis], np.fft.rfftfreq(side)[np.newaxis]
    lines = np.zeros((side, side))
    for thick, long in ((1.3, 60), (2.5, 120), (7, 200)):
        noise = np.fft.rfft2(rng.standard_normal((side, side)))
        blur = np.exp(-2 * np.pi**2 * ((right * thick) ** 2 + (down * long) ** 2))
        layer = np.fft.irfft2(noise * blur)
        lines += layer / layer.std()
    return to_bytes((THREAD_LIGHT + 18 * lines / lines.std()).astype(np.float32))
