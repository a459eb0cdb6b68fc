"""Dust: bright particles that drift across the picture, twinkle, and become brighter on onsets."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from soundreel.engines.draft.motion import Motion

MARGIN = 0.08
"""How far outside the picture, as a part of its side, particles drift before they reappear on the other side."""

DRIFT = np.array([0.5, -1.0])
"""Mean direction of the particles, right and down."""

WARM_WHITE: Final = np.array([255.0, 240.0, 215.0])
"""Colour of a particle at full brightness, where no other is wanted."""

SMALLEST_RADIUS = 0.9
"""Pixels. Smaller particles would visibly jump from pixel to pixel; they are drawn fainter instead."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dust:
    """M particles over a picture of `size` pixels; positions are in units of its width and height, [0, 1]²."""

    home: NDArray[np.float64]  # [M, 2] position at travel 0
    course: NDArray[np.float64]  # [M, 2] velocity per second of `Motion.travel`
    radius: NDArray[np.float64]  # [M] pixels
    strength: NDArray[np.float64]  # [M] 0..1
    phase: NDArray[np.float64]  # [M] radians, of the twinkling
    size: tuple[int, int]  # width, height
    rgb: NDArray[np.float64]  # [3] colour at full brightness, 0..255

    @classmethod
    def scatter(
        cls,
        size: tuple[int, int],
        rng: np.random.Generator,
        *,
        particles: int,
        softness: float,
        rgb: NDArray[np.float64] = WARM_WHITE,
    ) -> "Dust":
        """Random particles all over the picture, most of them small; `softness` is a factor on their size."""
        near = rng.beta(1.2, 4.0, particles)
        wanted = softness * np.sqrt(size[0] * size[1]) / 700 * (0.9 + 3.5 * near)
        radius = np.maximum(wanted, SMALLEST_RADIUS)
        pace = 0.004 + 0.02 * near[:, np.newaxis]
        return cls(
            home=rng.uniform(0, 1, (particles, 2)),
            course=pace * (DRIFT + 0.6 * rng.standard_normal((particles, 2))),
            radius=radius,
            strength=rng.uniform(0.25, 0.9, particles) / (softness * (0.6 + 2 * near)) * (wanted / radius) ** 2,
            phase=rng.uniform(0, 2 * np.pi, particles),
            size=size,
            rgb=rgb,
        )

    def add_to(self, out: NDArray[np.uint8], motion: Motion, frame: int) -> None:
        """Add the particles of frame `frame` to the picture `out`, uint8 [height, width, 3]."""
        span = 1 + 2 * MARGIN
        places = (self.home + self.course * float(motion.travel[frame]) + MARGIN) % span - MARGIN
        twinkle = 0.5 + 0.5 * np.sin(self.phase + float(motion.seconds[frame]) * (0.5 + self.phase / 6))
        energy = 0.45 + 0.9 * float(motion.high[frame]) + 0.6 * float(motion.punch[frame])
        light = np.minimum(self.strength * (0.15 + 0.45 * twinkle) * energy, 1.0)
        for (x, y), radius, strength in zip(places * self.size, self.radius, light, strict=True):
            _add_particle(out, x, y, radius, strength * self.rgb)


def _add_particle(out: NDArray[np.uint8], x: float, y: float, radius: float, light: NDArray[np.float64]) -> None:
    """Add a Gaussian spot to the picture by the blend mode "screen", which keeps detail in bright areas."""
    reach = int(np.ceil(3 * radius))
    left, top = max(int(x) - reach, 0), max(int(y) - reach, 0)
    part = out[top : max(int(y) + reach + 2, 0), left : max(int(x) + reach + 2, 0)]
    down = np.exp(-0.5 * ((np.arange(part.shape[0]) + top - y) / radius) ** 2)
    across = np.exp(-0.5 * ((np.arange(part.shape[1]) + left - x) / radius) ** 2)
    spot = down[:, np.newaxis, np.newaxis] * across[:, np.newaxis] * light
    part[...] = part + spot * (1 - part / 255)
