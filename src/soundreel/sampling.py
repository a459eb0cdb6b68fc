"""Flow-matching sampling: noise levels as a plain list, then a plain loop over solver steps.

σ is the noise level, 1 for noise and 0 for clean latents: latents = (1 − σ)·clean + σ·noise. The network's output is
the velocity noise − clean, so that clean = latents − σ·velocity. λ = log((1 − σ)/σ) is half the logarithm of the
signal-to-noise ratio. Latents stay float32 from the first step to the last.

Solvers, as the official Wan 2.2 S2V code uses them, for flow matching and predicting the clean latents:
UniPC (arXiv 2302.04867): second order, B(h) = e^h − 1; DPM-Solver++ (arXiv 2211.01095): 2M, second order; Euler.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundreel.errors import EngineError, InputError
from soundreel.request import Solver

TRAIN_TIMESTEPS: Final = 1000
"""Timesteps of training: timestep = 1000·σ."""

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(latents in float32, 0-dim timestep on their device) → velocity of the latents' shape."""

OnStep = Callable[[int, Tensor], None]
"""Called after each step with its number, from 1, and the latents; may raise `Cancelled`."""


_FIRST_SIGMA: Final = {
    Solver.UNIPC: float(np.float32(0.999)),
    Solver.DPMPP: 1.0,
    Solver.EULER: 1.0,
}
"""σ of the first step before the shift."""


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
    """σ in equal steps down to 0, then shifted by s = `shift` towards noise: σ' = s·σ / (1 + (s − 1)·σ).

    The official schedules of UniPC, which starts at 0.999 before the shift, and DPM-Solver++, which starts at 1:
    computed in double precision, timesteps truncated to whole numbers. Euler has the σ of DPM-Solver++ and exact
    timesteps.

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
    """Euler steps through the given σ, which few-step weights prescribe; a final 0 may be left out.

    Raises:
        InputError: the numbers do not fall from at most 1 to 0.
    """
    stored = np.array(sigmas, dtype=np.float32)
    if not stored.size or stored[-1] != 0.0:
        stored = np.append(stored, np.float32(0.0))
    return Schedule(solver=Solver.EULER, sigmas=tuple(stored.tolist()), timesteps=_exact_timesteps(stored))


def draw_noise(shape: Sequence[int], seed: int) -> Tensor:
    """Standard normal float32 noise, drawn on the CPU, so that it depends on the seed only and not on the device.

    Seeds are taken modulo 2⁶⁴, the range of PyTorch's generator.
    """
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed % 2**64), dtype=torch.float32)


def guide(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance v₋ + scale·(v₊ − v₋) in float32, of any shape.

    Callers should not compute v₋ at a scale of 1 or less: there the official pipeline takes v₊ alone.
    """
    positive, negative = positive.float(), negative.float()
    return negative + scale * (positive - negative)


@torch.no_grad()
def sample(velocity: Velocity, noise: Tensor, schedule: Schedule, on_step: OnStep | None = None) -> Tensor:
    """Sample latents: follow `velocity` from `noise`, [16, F, h, w] or a batch of it, to float32 of the same shape.

    Raises:
        EngineError: the latents are no longer finite; names the step.
        Cancelled: by `on_step`.
    """
    solver = _SOLVERS[schedule.solver](torch.tensor(schedule.sigmas))
    latents = noise.float()
    for step, timestep in enumerate(torch.tensor(schedule.timesteps).to(latents.device), start=1):
        flow = velocity(latents, timestep).float()
        latents = solver.step(step - 1, latents, flow)
        if not latents.isfinite().all():
            raise EngineError(
                f"the latents hold NaN or infinite values after step {step} of {schedule.steps} "
                f"(timestep {timestep.item():g}, {schedule.solver}): check the model files with "
                "`soundreel models verify`, then LoRA strengths and precision"
            )
        if on_step is not None:
            on_step(step, latents)
    return latents


class _Solver(Protocol):
    """Steps through σ_0 … σ_N, float32 on the CPU; to be called once for each step, in order."""

    def step(self, k: int, latents: Tensor, flow: Tensor) -> Tensor:
        """Latents at σ_k and the velocity there → latents at σ_(k+1)."""
        ...


class _Euler:
    """x + (σ' − σ)·v."""

    def __init__(self, sigmas: Tensor) -> None:
        self._sigmas = sigmas

    def step(self, k: int, latents: Tensor, flow: Tensor) -> Tensor:
        return latents + (self._sigmas[k + 1] - self._sigmas[k]) * flow


class _DpmSolverPlusPlus:
    """DPM-Solver++(2M) in its midpoint form; the first and the last step are of first order.

    With the clean latents m, h = λ' − λ and g = (1 − σ')(e^(−h) − 1):
    x' = σ'/σ·x − g·m − g/2·(m − m_before)/r, r = (λ − λ_before)/h.
    """

    def __init__(self, sigmas: Tensor) -> None:
        self._sigmas, self._lambdas = sigmas, _half_log_snr(sigmas)
        self._before: Tensor | None = None

    def step(self, k: int, latents: Tensor, flow: Tensor) -> Tensor:
        sigmas, lambdas = self._sigmas, self._lambdas
        clean = latents - sigmas[k] * flow
        h = lambdas[k + 1] - lambdas[k]
        gain = (1 - sigmas[k + 1]) * (torch.exp(-h) - 1)
        moved = sigmas[k + 1] / sigmas[k] * latents - gain * clean
        if self._before is not None and k < len(sigmas) - 2:
            r = (lambdas[k] - lambdas[k - 1]) / h
            moved = moved - 0.5 * gain * (1 / r * (clean - self._before))
        self._before = clean
        return moved


class _UniPC:
    """UniPC-2 with B(h) = e^h − 1: the predictor UniP, and the corrector UniC once the next velocity is known.

    Both move latents x from σ to σ', with the clean latents m at σ, h = λ' − λ and g = (1 − σ')(e^(−h) − 1):
    x' = σ'/σ·x − g·m − g·(Σ ρ_i·D_i). Of first order, D has m' − m alone, which only the corrector knows; of second
    order D_1 = (m_before − m)/r as well, r = (λ_before − λ)/h. The first and the last step are of first order.
    """

    def __init__(self, sigmas: Tensor) -> None:
        self._sigmas, self._lambdas = sigmas, _half_log_snr(sigmas)
        self._order = 1  # of the last step
        self._start: Tensor | None = None  # corrected latents that the last step began with
        self._clean: list[Tensor] = []  # clean latents of the last two steps, the newest first

    def step(self, k: int, latents: Tensor, flow: Tensor) -> Tensor:
        clean = latents - self._sigmas[k] * flow
        if self._start is not None:
            latents = self._move(k - 1, self._start, clean)
        self._start, self._clean = latents, [clean, *self._clean[:1]]
        steps = len(self._sigmas) - 1
        self._order = min(2, k + 1, steps - k)
        return self._move(k, latents, None)

    def _move(self, k: int, latents: Tensor, clean_after: Tensor | None) -> Tensor:
        """From σ_k to σ_(k+1): corrected where the clean latents there are known, else predicted."""
        sigmas, lambdas, clean = self._sigmas, self._lambdas, self._clean[0]
        h = lambdas[k + 1] - lambdas[k]
        gain = (1 - sigmas[k + 1]) * torch.expm1(-h)
        moved = sigmas[k + 1] / sigmas[k] * latents - gain * clean
        if self._order == 1:
            return moved if clean_after is None else moved - gain * (0.5 * (clean_after - clean))
        r = (lambdas[k - 1] - lambdas[k]) / h
        change = (self._clean[1] - clean) / r
        if clean_after is None:
            return moved - gain * (0.5 * change)
        rho_before, rho_after = _corrector_weights(h, r)
        return moved - gain * (rho_before * change + rho_after * (clean_after - clean))


def _corrector_weights(h: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """ρ of UniC-2, which solve ρ_1 + ρ_2 = b_1 and r·ρ_1 + ρ_2 = b_2.

    With z = −h: b_i = i!·z·φ_(i+1)(z)/(e^z − 1), φ_1 = (e^z − 1)/z, φ_(i+1) = (φ_i − 1/i!)/z.
    """
    z, b = -h, torch.expm1(-h)
    z_phi_2 = b / z - 1
    z_phi_3 = z_phi_2 / z - 0.5
    one = torch.ones(())
    matrix = torch.stack([torch.stack([one, one]), torch.stack([r, one])])
    rho_1, rho_2 = torch.linalg.solve(matrix, torch.stack([z_phi_2 / b, 2 * z_phi_3 / b]))
    return rho_1, rho_2


def _half_log_snr(sigmas: Tensor) -> Tensor:
    """λ = log((1 − σ)/σ): −∞ at σ = 1 and ∞ at σ = 0, of which the solvers' formulas have the right limits."""
    return torch.log(1 - sigmas) - torch.log(sigmas)


_SOLVERS: Final[Mapping[Solver, Callable[[Tensor], _Solver]]] = {
    Solver.UNIPC: _UniPC,
    Solver.DPMPP: _DpmSolverPlusPlus,
    Solver.EULER: _Euler,
}


def _whole_timesteps(sigmas: NDArray[np.float64]) -> tuple[float, ...]:
    """Timesteps of N σ, truncated as in the official code."""
    return tuple((sigmas * TRAIN_TIMESTEPS).astype(np.int64).tolist())


def _exact_timesteps(sigmas: NDArray[np.float32]) -> tuple[float, ...]:
    """Timesteps of N + 1 σ without the last, in float32."""
    return tuple((sigmas[:-1] * TRAIN_TIMESTEPS).tolist())
