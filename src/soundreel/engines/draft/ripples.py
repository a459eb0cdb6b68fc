"""Ripples: a circular wave per hit that runs outwards from a point, as on water."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundreel.engines.draft.grid import Field, Grid
from soundreel.engines.draft.motion import Motion
from soundreel.units import MODEL_FPS

LIFE_FRAMES = 20
"""Frames after which a ripple has decayed."""

SPEED = 1.5
"""Units (see `Grid.unit`) per second."""

FADE_SECONDS = 0.18
"""Time constant of the decay."""

FIRST_RADIUS = 0.1
"""Radius of a ring in the frame of its hit, in units."""

WIDTH = 0.16
"""Half width of a ring, in units."""

STEPS_PER_UNIT = 256
"""Resolution of the radial profile."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ripples:
    """Rings around one point of a grid."""

    steps: NDArray[np.intp]  # [h, w] index of each cell into the radial profile
    outward_x: Field  # [h, w] direction away from the point; length 1, less near the point
    outward_y: Field
    radii: Field  # [steps] radius of each step of the profile, in units

    @classmethod
    def around(cls, grid: Grid, x: float, y: float) -> "Ripples":
        """Rings around (`x`, `y`), in the grid's units."""
        radius = grid.distance(x, y)
        outward = radius / (radius**2 + np.float32(0.03))
        steps = (radius * STEPS_PER_UNIT).astype(np.intp)
        return cls(
            steps=steps,
            outward_x=(grid.x - np.float32(x)) * outward,
            outward_y=(grid.y - np.float32(y)) * outward,
            radii=(np.arange(steps.max() + 1) / STEPS_PER_UNIT).astype(np.float32),
        )

    def push(self, motion: Motion, frame: int) -> tuple[Field, Field]:
        """Displacement right and down, [h, w]; its magnitude is about 1 on a new ring."""
        rings = self.rings(motion, frame)
        return rings * self.outward_x, rings * self.outward_y

    def rings(self, motion: Motion, frame: int) -> Field:
        """How far each cell is pushed outwards, [h, w]; about 1 on a new ring."""
        first, last = np.searchsorted(motion.hit_frames, [frame - LIFE_FRAMES, frame + 1])
        profile = np.zeros_like(self.radii)
        for hit in range(first, last):
            age = (frame - int(motion.hit_frames[hit])) / MODEL_FPS
            height = np.float32(motion.hit_jumps[hit] * np.exp(-age / FADE_SECONDS))
            distance = (self.radii - np.float32(FIRST_RADIUS + SPEED * age)) / np.float32(WIDTH)
            profile += height * np.exp(-(distance**2))
        rings: Field = profile[self.steps]
        return rings
