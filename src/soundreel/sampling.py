"""Flow-matching sampling: noise levels as a plain list, then a plain loop over solver steps.

σ is the noise level, 1 for noise and 0 for the picture: latents = (1 − σ)·picture + σ·noise. The network
answers with the velocity noise − picture. Latents stay float32 from the first step to the last.

The solvers are diffusers'. Only their σ are not those of the official Wan 2.2 S2V code, which starts UniPC at
0.999 and DPM++ at 1 before the shift; so σ and timesteps are computed here and handed to them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from numpy.typing import NDArray
from torch import Tensor

from soundreel.errors import EngineError, InputError
from soundreel.request import Solver

TRAIN_TIMESTEPS: Final = 1000
"""Timesteps the model was trained with: timestep = 1000·σ."""

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(latents float32, timestep 0-dim on the same device) → velocity of the latents' shape."""

OnStep = Callable[[int, Tensor], None]
"""Called after each step with its number, from 1, and the latents; may raise `Cancelled`."""


_FIRST_SIGMA: Final = {
    Solver.UNIPC: float(np.float32(0.999)),
    Solver.DPMPP: 1.0,
    Solver.EULER: 1.0,
}
"""σ of the first step before the shift."""

_DIFFUSERS: Final[Mapping[Solver, Callable[[], Any]]] = {
    Solver.UNIPC: partial(
        UniPCMultistepScheduler, prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=2
    ),
    Solver.DPMPP: partial(
        DPMSolverMultistepScheduler, prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=2
    ),
    Solver.EULER: FlowMatchEulerDiscreteScheduler,
}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The noise levels of a sampling run of N steps.

    Raises:
        InputError: `sigmas` do not fall from at most 1 to 0, or begin at 1 with UniPC.
    """

    solver: Solver
    sigmas: tuple[float, ...]  # N + 1 values representable in float32, the last one 0
    timesteps: tuple[float, ...]  # N values for the model: whole numbers, fractional with Euler

    def __post_init__(self) -> None:
        assert len(self.sigmas) == len(self.timesteps) + 1
        shown = ", ".join(f"{sigma:g}" for sigma in self.sigmas[:-1]) or "none"
        falling = all(before > after for before, after in pairwise(self.sigmas))
        if not self.timesteps or not falling or self.sigmas[0] > 1.0 or self.sigmas[-1] != 0.0:
            raise InputError(f"the sigmas are {shown}: expected one or more, falling, from at most 1 to above 0")
        if self.solver is Solver.UNIPC and self.sigmas[0] == 1.0:
            raise InputError(f"the sigmas are {shown}: unipc begins below 1; lower the shift or take dpm++")

    @property
    def steps(self) -> int:
        """N, calls of the network per guidance branch."""
        return len(self.timesteps)


def shifted_schedule(solver: Solver, *, steps: int, shift: float) -> Schedule:
    """σ falling evenly to 0 in `steps` steps, then moved towards noise: σ' = s·σ / (1 + (s − 1)·σ).

    The official schedules of UniPC and DPM++: computed in double precision, timesteps cut to whole numbers
    while σ stay fractional. Euler takes the σ of DPM++ with exact timesteps.

    Raises:
        InputError: no steps, a shift that is not positive, or one too high for float32.
    """
    if not 0.0 < shift < math.inf:
        raise InputError(f"shift is {shift}: expected a number above 0; 3 to 5 are usual")
    sigmas = np.linspace(_FIRST_SIGMA[solver], 0.0, steps + 1)[:-1]
    sigmas = shift * sigmas / (1.0 + (shift - 1.0) * sigmas)
    stored = np.append(sigmas, 0.0).astype(np.float32)
    timesteps = _exact_timesteps(stored) if solver is Solver.EULER else _whole_timesteps(sigmas)
    return Schedule(solver=solver, sigmas=tuple(stored.tolist()), timesteps=timesteps)


def explicit_schedule(sigmas: Sequence[float]) -> Schedule:
    """Euler steps through the given σ, as few-step weights prescribe them; a final 0 may be left out.

    Raises:
        InputError: the numbers do not fall from at most 1 to 0.
    """
    stored = np.array(sigmas, dtype=np.float32)
    if not stored.size or stored[-1] != 0.0:
        stored = np.append(stored, np.float32(0.0))
    return Schedule(solver=Solver.EULER, sigmas=tuple(stored.tolist()), timesteps=_exact_timesteps(stored))


def draw_noise(shape: Sequence[int], seed: int) -> Tensor:
    """Standard normal float32 noise, drawn on the CPU so that one seed gives one video on every device.

    Seeds count modulo 2⁶⁴, all that PyTorch's generator takes.
    """
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed % 2**64), dtype=torch.float32)


def guide(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance v₋ + scale·(v₊ − v₋) in float32, of any shape.

    At a scale of 1 or less the official pipeline takes v₊ alone and does not compute v₋: so should callers.
    """
    positive, negative = positive.float(), negative.float()
    return negative + scale * (positive - negative)


@torch.no_grad()
def sample(velocity: Velocity, noise: Tensor, schedule: Schedule, on_step: OnStep | None = None) -> Tensor:
    """Follow `velocity` from `noise`, [16, F, h, w] or a batch of it, to float32 latents of the same shape.

    Raises:
        EngineError: the latents are no longer finite; names the step.
        Cancelled: by `on_step`.
    """
    scheduler = _scheduler(schedule)
    latents = noise.float()
    for step, timestep in enumerate(scheduler.timesteps.to(latents.device), start=1):
        flow = velocity(latents, timestep).float()
        latents = scheduler.step(flow, timestep, latents, return_dict=False)[0]
        if not latents.isfinite().all():
            raise EngineError(
                f"the latents hold NaN or infinite values after step {step} of {schedule.steps} "
                f"(timestep {timestep.item():g}, {schedule.solver}): check the model files with "
                "`soundreel models verify`, then LoRA strengths and precision"
            )
        if on_step is not None:
            on_step(step, latents)
    return latents


def first_timestep(schedule: Schedule, device: torch.device) -> Tensor:
    """That `sample` begins with, as it hands it to the velocity."""
    return torch.tensor(schedule.timesteps)[0].to(device)


def _scheduler(schedule: Schedule) -> Any:
    """A fresh diffusers scheduler that walks `schedule`."""
    scheduler = _DIFFUSERS[schedule.solver]()
    # In place of `set_timesteps`: DPM++ takes no σ there, and UniPC would move a first σ close to 1.
    scheduler.num_inference_steps = schedule.steps
    scheduler.sigmas = torch.tensor(schedule.sigmas, dtype=torch.float32)
    scheduler.timesteps = torch.tensor(schedule.timesteps)
    # By position, not by looking the timestep up: with hundreds of steps two of them are equal.
    scheduler.set_begin_index(0)
    return scheduler


def _whole_timesteps(sigmas: NDArray[np.float64]) -> tuple[float, ...]:
    """Of the first N σ, truncated as the official code does."""
    return tuple((sigmas * TRAIN_TIMESTEPS).astype(np.int64).tolist())


def _exact_timesteps(sigmas: NDArray[np.float32]) -> tuple[float, ...]:
    """Of all N + 1 σ but the last, in float32 as diffusers computes them."""
    return tuple((sigmas[:-1] * TRAIN_TIMESTEPS).tolist())
