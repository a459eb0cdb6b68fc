"""Which forward passes the steps of a clip take: with guidance two each, fewer where a result can be guessed.

The step cache goes by the observation of EasyCache (arXiv 2507.02860): past the first steps the network changes its
answer in proportion to the change of its input, so the next change is known before it is computed. While it is below
the dial, relative to the answer, the last answer is taken again; a velocity that stays is a straight path, which flows
are trained for. It needs no calibration and knows nothing of the network: passes are spared whole. The first fifth of
the steps and the last one are always computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Final

import torch
from torch import Tensor

from soundreel.sampling import TRAIN_TIMESTEPS, guide

ALWAYS_AT_FIRST: Final = 0.2
"""Share of the steps, from the first on, that are always computed: there the picture is laid out."""

Answer = Callable[[Tensor, Tensor, int], list[Tensor]]
"""Latents [16, F, h, w], timestep and a number of branches (the conditional one comes first) → their velocities."""


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What to spare.

    Attributes:
        dial: relative change of the answer that may go by uncomputed; 0 spares nothing.
        guided: share of the steps that are guided, from and to; None: all.
    """

    dial: float = 0.0
    guided: tuple[float, float] | None = None


NOTHING_SPARED: Final = Saving()


def is_guided(step: int, steps: int, interval: tuple[float, float] | None) -> bool:
    """Whether step number `step` of `steps`, from 0, lies in the share of the steps that is guided."""
    return interval is None or interval[0] <= step / steps < interval[1]


class Passes:
    """The velocity of one clip's steps, called once for each, in order.

    Args:
        answer: computes passes.
        branches: 1, or 2 with guidance.
        steps: how often it will be called.
    """

    def __init__(self, answer: Answer, *, branches: int, guide_scale: float, steps: int, saving: Saving) -> None:
        self._answer, self._branches, self._guide_scale = answer, branches, guide_scale
        self._steps, self._saving = steps, saving
        self._step = self._taken = 0
        self._memory = _Memory() if saving.dial > 0 else None
        self.picture: Tensor | None = None  # what the last step took for the finished latents
        self._begun: Tensor | None = None

    @property
    def spared(self) -> int:
        """Passes fewer than without any saving, up to the last step."""
        return self._step * self._branches - self._taken

    def begin(self, latents: Tensor, timestep: Tensor) -> None:
        """Compute the first step's velocity before it is asked for: a GPU does so while the CPU does something else."""
        self._begun = self(latents, timestep)

    def __call__(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """The velocity at `latents`, with guidance where this step has it."""
        if self._begun is not None:
            begun, self._begun = self._begun, None
            return begun
        count = self._branches if is_guided(self._step, self._steps, self._saving.guided) else 1
        answers = self._guessed(latents, count)
        if answers is None:
            answers = self._answer(latents, timestep, count)
            self._taken += count
            if self._memory is not None:
                self._memory.note(latents, answers)
        self._step += 1
        velocity = guide(answers[0], answers[1], self._guide_scale) if count > 1 else answers[0]
        self.picture = latents - timestep / TRAIN_TIMESTEPS * velocity.float()
        return velocity

    def _guessed(self, latents: Tensor, count: int) -> list[Tensor] | None:
        """The answers of `count` branches without a pass; None: they must be computed."""
        is_due = self._step < ceil(ALWAYS_AT_FIRST * self._steps) or self._step == self._steps - 1
        if self._memory is None or is_due:
            return None
        return self._memory.guess(latents, count, self._saving.dial)


class _Memory:
    """What the last computed step answered, and how fast answers change with inputs."""

    def __init__(self) -> None:
        self._input: Tensor | None = None
        self._answers: list[Tensor] = []
        self._rate: Tensor | None = None

    def note(self, latents: Tensor, answers: list[Tensor]) -> None:
        """A computed step; the conditional branch tells the rate."""
        if self._input is not None:
            moved = _size(latents - self._input).clamp(min=1e-12)
            self._rate = _size(answers[0].float() - self._answers[0]) / moved
        self._input = latents
        self._answers = [answer.float() for answer in answers]

    def guess(self, latents: Tensor, count: int, dial: float) -> list[Tensor] | None:
        """The last answers, if those to `latents` are thought to be so near; None: they are not."""
        if self._rate is None or self._input is None or len(self._answers) < count:
            return None
        change = self._rate * _size(latents - self._input) / _size(self._answers[0])
        if float(change) >= dial:  # the one wait for the device, and only with the cache
            return None
        return self._answers[:count]


def _size(x: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(x.float(), ord=1)
    return size
