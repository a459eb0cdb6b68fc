"""Which forward passes the steps of a clip take: with guidance two each, fewer where a result can be guessed.

The step cache goes by the observation of EasyCache (arXiv 2507.02860): past the first steps the network changes its
answer in proportion to the change of its input, so the next change is known before it is computed. While it is below
the dial, relative to the answer, the last answer is taken again; a velocity that stays is a straight path, which flows
are trained for. It needs no calibration and knows nothing of the network: passes are spared whole. The first fifth of
the steps and the last one are always computed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

import torch
from torch import Tensor

from soundreel.sampling import guide

ALWAYS_AT_FIRST: Final = 0.2
"""Share of the steps, from the first on, that are always computed: there the picture is laid out."""

Branch = Callable[[Tensor, Tensor], Tensor]
"""A pass: latents [16, F, h, w], timestep → velocity of the latents' shape."""


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What to spare.

    Attributes:
        dial: relative change of the answer that may go by uncomputed; 0 spares nothing.
        guided: share of the steps that are guided, from and to; None: all.
    """

    dial: float = 0.0
    guided: tuple[float, float] | None = None

    def is_guided(self, step: int, steps: int) -> bool:
        """Whether step number `step` of `steps`, from 0, takes a pass without the words and the sound, too."""
        return self.guided is None or self.guided[0] <= step / steps < self.guided[1]

    def passes(self, steps: int, branches: int) -> int:
        """Passes of a clip, the cache not counted: nobody knows before what it spares."""
        return steps + (branches - 1) * sum(self.is_guided(step, steps) for step in range(steps))


NOTHING_SPARED: Final = Saving()


class Passes:
    """The velocity of one clip's steps, called once for each, in order.

    Args:
        branches: the conditional pass and, with guidance, the unconditional one.
        steps: how often it will be called.
    """

    def __init__(self, branches: Sequence[Branch], *, guide_scale: float, steps: int, saving: Saving) -> None:
        self._branches, self._guide_scale, self._steps, self._saving = branches, guide_scale, steps, saving
        self._step = 0
        self._memory = _Memory() if saving.dial > 0 else None
        self.taken = 0

    @property
    def spared(self) -> int:
        """Passes fewer than without any saving, up to the last step."""
        return self._step * len(self._branches) - self.taken

    def __call__(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """The velocity at `latents`, with guidance where this step has it."""
        is_guided = len(self._branches) > 1 and self._saving.is_guided(self._step, self._steps)
        branches = self._branches[: 2 if is_guided else 1]
        answers = self._guessed(latents, len(branches))
        if answers is None:
            answers = [branch(latents, timestep) for branch in branches]
            self.taken += len(branches)
            if self._memory is not None:
                self._memory.note(latents, answers)
        self._step += 1
        return guide(answers[0], answers[1], self._guide_scale) if is_guided else answers[0]

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
