"""The velocity of a clip's steps: classifier-free guidance, its interval, and a step cache that skips forward passes.

The step cache follows EasyCache (arXiv 2507.02860). Past the first steps the change of the network's output is nearly
proportional to the change of its input, so the next change can be predicted before it is computed:

    rate = ‖v(x₂) − v(x₁)‖₁ / ‖x₂ − x₁‖₁, from the last two computed steps
    predicted change at x = rate · ‖x − x₂‖₁ / ‖v(x₂)‖₁

While that is below the threshold, the last computed velocities are used again. It needs no calibration and no access
to the network's inside: whole passes are skipped. The first fifth of the steps and the last one are always computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Final

import torch
from torch import Tensor

from soundreel.sampling import TRAIN_TIMESTEPS, guide

ALWAYS_COMPUTED: Final = 0.2
"""Share of the steps, from the first one on, that the step cache never skips: they lay out the picture."""

Network = Callable[[Tensor, Tensor, int], list[Tensor]]
"""Latents [16, F, h, w], timestep, number of branches (1: the conditional one, 2: both) → the velocity of each."""


@dataclass(frozen=True, kw_only=True)
class PassOptions:
    """Which forward passes a clip does without.

    Attributes:
        cache_threshold: of the step cache: predicted relative change of the velocity below which it is not computed
            again; 0: no cache.
        guidance_interval: share of the steps that are guided, from and to; None: all.
    """

    cache_threshold: float = 0.0
    guidance_interval: tuple[float, float] | None = None


ALL_PASSES: Final = PassOptions()


def is_guided(step: int, steps: int, interval: tuple[float, float] | None) -> bool:
    """Whether step number `step` of `steps`, from 0, lies in the guidance interval."""
    return interval is None or interval[0] <= step / steps < interval[1]


class GuidedVelocity:
    """The velocity of one clip, to be called once for each step, in order.

    Args:
        network: computes forward passes.
        branches: 1, or 2 with guidance.
        guide_scale: of classifier-free guidance.
        steps: how often it will be called.
        options: which passes to do without.
    """

    def __init__(
        self, network: Network, *, branches: int, guide_scale: float, steps: int, options: PassOptions = ALL_PASSES
    ) -> None:
        self._network, self._branches, self._guide_scale = network, branches, guide_scale
        self._steps, self._interval = steps, options.guidance_interval
        self._cache = StepCache(options.cache_threshold) if options.cache_threshold > 0 else None
        self._step = self._computed = 0
        self.picture: Tensor | None = None
        """The clean latents that the last step predicted, float32 [16, F, h, w]; None before the first one."""

    @property
    def passes_saved(self) -> int:
        """Passes fewer than with guidance in every step and without the cache, up to the last step."""
        return self._step * self._branches - self._computed

    def __call__(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """The velocity at `latents` [16, F, h, w], guided where this step is: the same shape."""
        count = self._branches if is_guided(self._step, self._steps, self._interval) else 1
        velocities = self._cached(latents, count)
        if velocities is None:
            velocities = self._network(latents, timestep, count)
            self._computed += count
            if self._cache is not None:
                self._cache.store(latents, velocities)
        self._step += 1
        velocity = guide(velocities[0], velocities[1], self._guide_scale) if count > 1 else velocities[0]
        self.picture = latents - timestep / TRAIN_TIMESTEPS * velocity.float()
        return velocity

    def _cached(self, latents: Tensor, count: int) -> list[Tensor] | None:
        """The velocities of `count` branches from the step cache; None: they must be computed."""
        must_compute = self._step < ceil(ALWAYS_COMPUTED * self._steps) or self._step == self._steps - 1
        if self._cache is None or must_compute:
            return None
        return self._cache.reuse(latents, count)


class StepCache:
    """Velocities of the last computed step, and how fast they change with the latents."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._latents: Tensor | None = None
        self._velocities: list[Tensor] = []
        self._rate: Tensor | None = None

    def store(self, latents: Tensor, velocities: list[Tensor]) -> None:
        """Keep what a step computed; the rate is that of the conditional branch, the first one."""
        if self._latents is not None:
            moved = _l1(latents - self._latents).clamp(min=1e-12)
            self._rate = _l1(velocities[0].float() - self._velocities[0]) / moved
        self._latents = latents
        self._velocities = [velocity.float() for velocity in velocities]

    def reuse(self, latents: Tensor, count: int) -> list[Tensor] | None:
        """The stored velocities of `count` branches, if the predicted change is below the threshold."""
        if self._rate is None or self._latents is None or len(self._velocities) < count:
            return None
        change = self._rate * _l1(latents - self._latents) / _l1(self._velocities[0])
        if float(change) >= self._threshold:  # waits for the device, as `sample` does after every step
            return None
        return self._velocities[:count]


def _l1(x: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(x.float(), ord=1)
    return size
