"""Solvers and schedules: the official ones to the last digit, explicit sigmas, and a plain loop."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch
from torch import Tensor

from official_package import official_module
from parity.case import read_cases
from parity.plumbing import velocity_field
from soundreel.errors import EngineError, InputError
from soundreel.sampling import (
    Schedule,
    Solver,
    draw_noise,
    explicit_schedule,
    guide,
    sample,
    shifted_schedule,
)

LATENT_SHAPE = (16, 3, 4, 6)  # channels, latent frames, rows, columns

UNIPC_TIMESTEPS = [
    999, 991, 982, 973, 963, 954, 944, 933, 922, 911, 899, 887, 874, 861, 847, 832, 817, 801, 785, 767,
    749, 730, 710, 688, 666, 642, 617, 590, 562, 531, 499, 465, 428, 388, 345, 299, 249, 195, 136, 71,
]  # fmt: skip
DPMPP_TIMESTEPS = [
    1000, 991, 982, 973, 964, 954, 944, 933, 923, 911, 900, 887, 874, 861, 847, 833, 818, 802, 785, 768,
    750, 730, 710, 689, 666, 642, 617, 590, 562, 532, 500, 465, 428, 388, 346, 300, 249, 195, 136, 71,
]  # fmt: skip


def a_field(seed: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A smooth, strongly non-linear velocity field for latents with a batch axis."""
    numbers = torch.Generator().manual_seed(seed)
    mix = torch.randn(2, 16, 16, generator=numbers) / 4
    return velocity_field(mix[0], mix[1], torch.randn(1, 16, 1, 1, 1, generator=numbers))


@pytest.mark.parametrize(("solver", "timesteps"), [(Solver.UNIPC, UNIPC_TIMESTEPS), (Solver.DPMPP, DPMPP_TIMESTEPS)])
def test_timesteps_are_the_official_whole_numbers(solver: Solver, timesteps: list[int]) -> None:
    assert list(shifted_schedule(solver, steps=40, shift=3.0).timesteps) == timesteps


class TestAgainstTheOfficialCode:
    """The `wan22` package, where it is installed: other steps, shifts and fields than the golden ones."""

    @pytest.mark.parametrize("shift", [0.7, 1.0, 3.0, 5.0, 11.0])
    @pytest.mark.parametrize("steps", [1, 2, 3, 5, 14, 15, 60, 77])
    @pytest.mark.parametrize("solver", [Solver.UNIPC, Solver.DPMPP])
    def test_same_path(self, solver: Solver, steps: int, shift: float) -> None:
        official = official_scheduler(solver, steps, shift)
        schedule = shifted_schedule(solver, steps=steps, shift=shift)
        assert schedule.timesteps == tuple(official.timesteps.tolist())
        assert schedule.sigmas == tuple(official.sigmas.tolist())

        field, noise = a_field(steps), draw_noise((1, *LATENT_SHAPE), seed=steps)
        expected = noise
        for timestep in official.timesteps:
            velocity = field(expected, timestep)
            expected = official.step(velocity, timestep, expected, return_dict=False)[0]
        torch.testing.assert_close(sample(field, noise, schedule), expected, rtol=1e-6, atol=1e-6)


def official_scheduler(solver: Solver, steps: int, shift: float):
    if solver is Solver.UNIPC:
        scheduler = official_module("utils.fm_solvers_unipc").FlowUniPCMultistepScheduler(shift=1)
        scheduler.set_timesteps(steps, shift=shift)
    else:
        solvers = official_module("utils.fm_solvers")
        scheduler = solvers.FlowDPMSolverMultistepScheduler(shift=1)
        scheduler.set_timesteps(sigmas=solvers.get_sampling_sigmas(steps, shift))
    return scheduler


class TestExplicitSigmas:
    def test_are_euler_steps(self) -> None:
        sigmas = [1.0, 0.8577, 0.6022, 0.0089]
        field, noise = a_field(1), draw_noise((1, *LATENT_SHAPE), seed=1)
        expected = noise
        for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
            expected = expected + (following - sigma) * field(expected, torch.tensor(sigma * 1000))
        torch.testing.assert_close(sample(field, noise, explicit_schedule(sigmas)), expected)

    def test_timesteps_stay_fractional(self) -> None:
        assert explicit_schedule([1.0, 0.8125, 0.4375]).timesteps == (1000.0, 812.5, 437.5)

    def test_final_zero_may_be_given(self) -> None:
        assert explicit_schedule([1.0, 0.5, 0.0]) == explicit_schedule([1.0, 0.5])

    @pytest.mark.parametrize(
        "sigmas",
        [[], [0.0], [1.0, 1.0], [0.5, 0.7], [1.5, 0.5], [0.5, -0.1], [1.0, 0.0, 0.5], [float("nan")]],
        ids=str,
    )
    def test_must_fall_from_one_to_zero(self, sigmas: list[float]) -> None:
        with pytest.raises(InputError, match="falling, from at most 1 to above 0"):
            explicit_schedule(sigmas)


class TestShift:
    @pytest.mark.parametrize("shift", [0.0, -3.0, float("nan"), float("inf")])
    def test_must_be_positive(self, shift: float) -> None:
        with pytest.raises(InputError, match=f"shift is {shift}"):
            shifted_schedule(Solver.UNIPC, steps=4, shift=shift)

    def test_beyond_float32_is_refused(self) -> None:
        with pytest.raises(InputError, match="unipc begins below 1"):
            shifted_schedule(Solver.UNIPC, steps=4, shift=2e5)
        with pytest.raises(InputError, match="falling"):
            shifted_schedule(Solver.DPMPP, steps=4, shift=1e12)

    def test_moves_steps_towards_noise(self) -> None:
        low, high = (shifted_schedule(Solver.EULER, steps=8, shift=shift) for shift in (1.0, 5.0))
        assert all(b > a for a, b in zip(low.sigmas[1:-1], high.sigmas[1:-1], strict=True))


def test_no_steps_are_refused() -> None:
    with pytest.raises(InputError, match="one or more"):
        shifted_schedule(Solver.EULER, steps=0, shift=3.0)


@pytest.mark.parametrize("solver", Solver)
class TestSample:
    @pytest.mark.parametrize("steps", [1, 2, 3, 20, 300])
    def test_straight_flow_is_followed_to_the_picture(self, solver: Solver, steps: int) -> None:
        # With shift 12 and 300 steps some whole timesteps are equal: the official code fails there.
        schedule = shifted_schedule(solver, steps=steps, shift=12.0)
        noise, picture = draw_noise(LATENT_SHAPE, seed=1), draw_noise(LATENT_SHAPE, seed=2)
        first = schedule.sigmas[0]
        start = (1 - first) * picture + first * noise
        end = sample(lambda x, t: noise - picture, start, schedule)
        torch.testing.assert_close(end, picture, rtol=1e-4, atol=1e-4)

    def test_half_precision_velocity_leaves_float32_latents(self, solver: Solver) -> None:
        schedule = shifted_schedule(solver, steps=3, shift=3.0)
        seen: list[torch.dtype] = []

        def velocity(x: Tensor, timestep: Tensor) -> Tensor:
            seen.append(x.dtype)
            return x.bfloat16()

        assert sample(velocity, draw_noise(LATENT_SHAPE, 0).bfloat16(), schedule).dtype == torch.float32
        assert seen == [torch.float32] * 3

    def test_a_schedule_can_be_walked_again(self, solver: Solver) -> None:
        schedule, field = shifted_schedule(solver, steps=5, shift=5.0), a_field(3)
        noise = draw_noise((1, *LATENT_SHAPE), seed=3)
        before = noise.clone()
        assert torch.equal(sample(field, noise, schedule), sample(field, noise, schedule))
        assert torch.equal(noise, before)

    def test_batch_is_sampled_as_each_alone(self, solver: Solver) -> None:
        schedule, field = shifted_schedule(solver, steps=4, shift=3.0), a_field(4)
        noise = draw_noise((2, *LATENT_SHAPE), seed=4)
        alone = torch.cat([sample(field, part, schedule) for part in noise.split(1)])
        torch.testing.assert_close(sample(field, noise, schedule), alone)

    def test_reports_every_step(self, solver: Solver) -> None:
        steps: list[tuple[int, Tensor]] = []
        schedule = shifted_schedule(solver, steps=4, shift=3.0)
        end = sample(a_field(5), draw_noise((1, *LATENT_SHAPE), 5), schedule, on_step=lambda *s: steps.append(s))
        assert [number for number, _ in steps] == [1, 2, 3, 4]
        assert torch.equal(steps[-1][1], end)

    def test_report_can_stop_it(self, solver: Solver) -> None:
        calls: list[int] = []

        def stop(step: int, latents: Tensor) -> None:
            calls.append(step)
            if step == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            sample(
                a_field(6),
                draw_noise((1, *LATENT_SHAPE), 6),
                shifted_schedule(solver, steps=9, shift=3),
                stop,
            )
        assert calls == [1, 2]

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_stops_at_the_step_that_is_not_finite(self, solver: Solver, bad: float) -> None:
        calls: list[int] = []

        def velocity(x: Tensor, timestep: Tensor) -> Tensor:
            calls.append(len(calls) + 1)
            flow = torch.zeros_like(x)
            if calls[-1] == 3:
                flow[5, 1, 2, 3] = bad
            return flow

        with pytest.raises(EngineError, match="after step 3 of 8"):
            sample(velocity, draw_noise(LATENT_SHAPE, 7), shifted_schedule(solver, steps=8, shift=3.0))
        assert calls == [1, 2, 3]


def test_timesteps_reach_the_model_as_tensors_of_their_kind() -> None:
    for solver, dtype in (
        (Solver.UNIPC, torch.int64),
        (Solver.DPMPP, torch.int64),
        (Solver.EULER, torch.float32),
    ):
        seen: list[Tensor] = []

        def velocity(x: Tensor, timestep: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(timestep)
            return x

        schedule = shifted_schedule(solver, steps=3, shift=3.0)
        sample(velocity, draw_noise(LATENT_SHAPE, 8), schedule)
        assert [(t.dtype, t.shape) for t in seen] == [(dtype, ())] * 3
        assert [t.item() for t in seen] == pytest.approx(schedule.timesteps)


def test_schedule_is_frozen() -> None:
    schedule = explicit_schedule([1.0])
    with pytest.raises(FrozenInstanceError):
        schedule.sigmas = ()  # type: ignore[misc]
    assert isinstance(schedule, Schedule)
    assert schedule.steps == 1


class TestNoise:
    def test_one_seed_one_noise(self) -> None:
        assert torch.equal(draw_noise(LATENT_SHAPE, 42), draw_noise(LATENT_SHAPE, 42))
        assert not torch.equal(draw_noise(LATENT_SHAPE, 42), draw_noise(LATENT_SHAPE, 43))

    def test_any_seed_will_do(self) -> None:
        assert torch.equal(draw_noise(LATENT_SHAPE, 2**64 + 5), draw_noise(LATENT_SHAPE, 5))

    def test_is_the_official_noise_of_each_clip(self, golden: Path) -> None:
        case = next(case for case in read_cases(golden) if case.name == "e2e_2clip_pose")
        seed = case.params["args"]["seed"]
        for clip in range(2):
            expected = case[f"in.clip{clip}.noise"]
            assert torch.equal(draw_noise(expected.shape, seed + clip), expected)


class TestGuide:
    def test_goes_past_the_positive(self) -> None:
        positive, negative = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0])
        assert guide(positive, negative, 4.0).tolist() == [5.0, -3.0]
        assert torch.equal(guide(positive, negative, 1.0), positive)

    def test_is_float32(self) -> None:
        assert guide(torch.ones(2).bfloat16(), torch.zeros(2).bfloat16(), 4.5).tolist() == [4.5, 4.5]
        assert guide(torch.ones(2).bfloat16(), torch.zeros(2).bfloat16(), 4.5).dtype == torch.float32
