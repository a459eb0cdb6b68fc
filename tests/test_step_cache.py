"""Fewer passes: the step cache, guidance on a share of the steps, and what both leave as it is."""

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import numpy as np
import torch
from torch import Tensor

from native_renders import CHAIN, native_plan, rendered
from soundreel.engines.native.cost import step_passes
from soundreel.engines.native.passes import GuidedVelocity, PassOptions
from soundreel.errors import InputError
from soundreel.request import Request, Solver
from soundreel.sampling import sample, shifted_schedule
from soundreel.types import RenderedClip
from weight_files import needs_golden

STEPS = 20
DIALLED: dict[str, Any] = CHAIN | {"steps": 10, "guide_scale": 3.0, "seed": 0}


class Flow:
    """A branch whose velocity turns slowly with the input, and that counts its calls."""

    def __init__(self, turn: float = 0.0) -> None:
        self.turn, self.calls = turn, 0

    def __call__(self, latents: Tensor, timestep: Tensor) -> Tensor:
        self.calls += 1
        return torch.roll(latents, 1, -1) * (1 + self.turn * torch.sin(timestep / 40))


def guided_velocity(*branches: Flow, steps: int = STEPS, scale: float = 3.0, **options: Any) -> GuidedVelocity:
    def network(latents: Tensor, timestep: Tensor, count: int) -> list[Tensor]:
        return [branch(latents, timestep) for branch in branches[:count]]

    return GuidedVelocity(
        network, branches=len(branches), guide_scale=scale, steps=steps, options=PassOptions(**options)
    )


def sampled(velocity: Callable[[Tensor, Tensor], Tensor], solver: Solver = Solver.UNIPC, steps: int = STEPS) -> Tensor:
    noise = torch.randn(4, 2, 3, 8, generator=torch.Generator().manual_seed(0))
    return sample(velocity, noise, shifted_schedule(solver, steps=steps, shift=3.0))


@pytest.mark.parametrize("solver", list(Solver))
def test_without_a_cache_all_is_as_it_was(solver: Solver) -> None:
    positive, negative = Flow(0.1), Flow()
    made = guided_velocity(positive, negative)

    def plain(latents: Tensor, timestep: Tensor) -> Tensor:
        v, w = Flow(0.1)(latents, timestep), Flow()(latents, timestep)
        return w + 3.0 * (v - w)

    assert torch.equal(sampled(made, solver), sampled(plain, solver))
    assert (positive.calls, negative.calls, made.passes_saved) == (STEPS, STEPS, 0)


@pytest.mark.parametrize("solver", list(Solver))
def test_what_changes_evenly_is_reused_and_comes_out_near(solver: Solver) -> None:
    exact = sampled(guided_velocity(Flow(), Flow(0.02)), solver)
    positive, negative = Flow(), Flow(0.02)
    made = guided_velocity(positive, negative, cache_threshold=0.3)
    result = sampled(made, solver)
    assert made.passes_saved >= 6
    assert positive.calls == negative.calls == STEPS - made.passes_saved / 2
    assert float((result - exact).norm() / exact.norm()) < 0.15


def test_a_higher_threshold_saves_more() -> None:
    saved = []
    for threshold in (0.0, 0.1, 0.3, 1.0):
        made = guided_velocity(Flow(0.05), cache_threshold=threshold)
        sampled(made)
        saved.append(made.passes_saved)
    assert saved[0] == 0
    assert saved == sorted(saved)
    assert saved[1] < saved[-1]


def test_first_and_last_steps_are_always_computed() -> None:
    flow, seen = Flow(), list[int]()
    made = guided_velocity(flow, cache_threshold=1.0)
    for step in range(STEPS):
        before = flow.calls
        made(torch.full((1, 1, 1, 4), 1.0 + step / 1000), torch.tensor(500.0))
        seen += [step] * (flow.calls - before)
    assert set(range(4)) <= set(seen)
    assert seen[-1] == STEPS - 1
    assert len(seen) < STEPS / 2


def test_what_jumps_is_computed() -> None:
    made = guided_velocity(Flow(), cache_threshold=0.05)
    for step in range(STEPS):
        made(torch.randn(1, 1, 1, 64, generator=torch.Generator().manual_seed(step)), torch.tensor(500.0))
    assert made.passes_saved == 0


def test_guidance_on_a_share_of_the_steps() -> None:
    positive, negative = Flow(), Flow(0.1)
    made = guided_velocity(positive, negative, guidance_interval=(0.25, 0.75))
    sampled(made)
    assert (positive.calls, negative.calls, made.passes_saved) == (STEPS, STEPS / 2, STEPS / 2)
    assert sum(step_passes(STEPS, guided=True, interval=(0.25, 0.75))) == 30
    assert sum(step_passes(STEPS, guided=False, interval=(0.25, 0.75))) == STEPS


def test_a_branch_that_was_not_computed_is_not_reused() -> None:
    """Guidance begins in the middle of the run: its branch has no velocity to reuse yet."""
    positive, negative = Flow(), Flow()
    made = guided_velocity(positive, negative, cache_threshold=1.0, guidance_interval=(0.5, 1.0))
    assert sampled(made).isfinite().all()
    assert negative.calls >= 2


@pytest.mark.parametrize(
    "fields",
    [
        {"cache": -0.1},
        {"cache": 1.5},
        {"cfg_interval": (0.5, 0.2)},
        {"cfg_interval": (0.0, 1.1)},
        {"cfg_interval": (0.1,)},
    ],
)
def test_values_that_cannot_be_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="expected"):
        Request(audio="a.wav", **fields)


@pytest.fixture(scope="module")
def cached() -> list[RenderedClip]:
    return rendered(native_plan(**DIALLED, cache=0.55))


@needs_golden
class TestRenders:
    """On tiny weights."""

    def test_a_clip_says_how_many_passes_it_saved_and_stays_near(self, cached: list[RenderedClip]) -> None:
        exact = rendered(native_plan(**DIALLED))
        assert all(not clip.facts for clip in exact)
        assert all(clip.facts["passes_spared"] >= 2 for clip in cached)
        assert np.abs(exact[0].frames.astype(int) - cached[0].frames).mean() < 8

    def test_every_clip_begins_anew(self, cached: list[RenderedClip]) -> None:
        """So a render that is resumed makes the clips of one that was not."""
        again = rendered(native_plan(**DIALLED, cache=0.55), 1, cached[0].carry)
        assert np.array_equal(again[0].frames, cached[1].frames)
        assert again[0].facts == cached[1].facts
