"""Time: the arithmetic against the specification's table, how it scales, and plans that read what was measured."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import torch

from command import run_here
from native_renders import native_plan
from soundreel.cli.plan_report import describe_plan
from soundreel.engines.native import NativeEngine, calibration, prepared
from soundreel.engines.native.calibration import (
    Calibration,
    attention_speeds,
    calibration_file,
    find_speeds,
    keep_calibration,
    measure,
    read_calibration,
)
from soundreel.engines.native.cost import (
    ClipSeconds,
    Forecast,
    Share,
    Speeds,
    clip_seconds,
    decode_flops,
    encode_flops,
    pass_cost,
    pass_seconds,
    step_passes,
)
from soundreel.engines.native.links import HOST, NVLINK, PEERS, Links
from soundreel.engines.native.prepared import forecast
from soundreel.engines.native.progress import RemainingTime
from soundreel.engines.native.shared_cost import share_of
from soundreel.engines.native.team import Team
from soundreel.engines.native.vae_memory import ENCODER_REACHES
from soundreel.errors import WeightsError
from soundreel.models import attention
from soundreel.models.attention import Kernel
from soundreel.models.vae_network import WanVae
from soundreel.models.vae_stages import encoder_reaches
from soundreel.planning import Tokens
from soundreel.planning import plan as plan_clips
from soundreel.request import Precision, Request, VaePrecision
from soundreel.types import Plan
from soundreel.weights.find import find_model
from weight_files import GOLDEN, OFFICIAL, needs_golden

CPU = torch.device("cpu")
TERA = 1e12
WAYS: dict[str, Any] = {"precision": Precision.BF16, "kernel": Kernel.SDPA, "vae": VaePrecision.FP32}

SIZES: dict[str, Any] = {
    "num_attention_heads": 40, "attention_head_dim": 128, "ffn_dim": 13824, "num_layers": 40,
    "audio_inject_layers": (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39),
}  # fmt: skip

SPEEDS = Speeds(
    products=7e14, attention={16_384: 5e14, 65_536: 6e14}, rows=3e12, vae=2e14, to_device=5e10, read=5e9, start=10.0
)


@pytest.fixture(autouse=True)
def own_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


# operations


@pytest.mark.parametrize(
    ("tokens", "total", "scores", "linears_and_ffn", "audio"),
    [  # the specification's table, §17
        ((31200, 1560, 0), 1718, 893, 414 + 371, 39.5),
        ((31200, 1560, 2314), 1903, 1023, 444 + 397, 39.5),
        ((56320, 2816, 0), 4377, 2890, 746 + 670, 71.1),
        ((56320, 2816, 4224), 4904, 3315, 799 + 718, 71.1),
        ((79040, 3952, 0), 7764, 5677, 1046 + 940, 99.7),
        ((79040, 3952, 5928), 8743, 6515, 1121 + 1007, 99.7),
    ],
)
def test_a_pass_by_the_table(
    tokens: tuple[int, int, int], total: float, scores: float, linears_and_ffn: float, audio: float
) -> None:
    noise, reference, motion = tokens
    work = pass_cost(SIZES, Tokens(noise=noise, reference=reference, motion=motion), text_rows=512)
    assert work.attention / TERA == pytest.approx(scores, rel=0.005)
    assert work.products / TERA == pytest.approx(linears_and_ffn + audio, rel=0.005)
    assert (work.products + work.attention) / TERA == pytest.approx(total, rel=0.005)


@pytest.mark.parametrize(
    ("width", "height", "encodes", "decodes"),
    [
        (480, 832, {1: 2.7, 73: 148, 81: 164}, {21: 275, 39: 519}),
        (1024, 704, {1: 5.0, 73: 268, 81: 297}, {21: 499, 39: 941}),
        (832, 1216, {1: 7.1, 73: 378, 81: 420}, {21: 702, 39: 1325}),
    ],
)
def test_the_vae_by_the_table(width: int, height: int, encodes: dict[int, float], decodes: dict[int, float]) -> None:
    for frames, expected in encodes.items():
        assert encode_flops(width, height, frames) / TERA == pytest.approx(expected, rel=0.05)
    for latents, expected in decodes.items():
        assert decode_flops(width, height, latents) / TERA == pytest.approx(expected, rel=0.02)


def test_a_later_clip_is_decoded_for_its_own_frames_only() -> None:
    """367 of 519 TFLOP (§18, item 8)."""
    assert decode_flops(480, 832, 39, keep=80) / TERA == pytest.approx(367, rel=0.03)
    assert decode_flops(480, 832, 39, keep=153) == decode_flops(480, 832, 39)


# seconds


def one_clip(**fields: Any) -> Plan:
    return plan_clips(Request(**{"audio": "a.wav", "ref_image": "a.png", "frames": 157, **fields}), 100.0)


def seconds(planned: Plan, clip: int = 1, **options: Any) -> ClipSeconds:
    given: dict[str, Any] = {"sizes": SIZES, "speeds": SPEEDS, "steps": planned.request.sampling.steps, **options}
    return clip_seconds(planned, planned.clips[clip], **given)


def test_a_pass_is_the_sum_of_its_parts() -> None:
    work = pass_cost(SIZES, Tokens(noise=31200, reference=1560, motion=2314))
    attained = SPEEDS.attention_at(work.tokens)
    assert 5e14 < attained < 6e14
    expected = work.products / 7e14 + work.attention / attained + work.row_bytes / 3e12
    assert pass_seconds(work, SPEEDS) == pytest.approx(expected)
    assert work.row_bytes / 1e12 == pytest.approx(0.39, rel=0.03), (
        "55 bytes per element, where the specification (§18, item 3) had 60"
    )


def test_attention_between_and_beyond_the_measured_lengths() -> None:
    assert [SPEEDS.attention_at(n) for n in (1, 16_384, 32_768, 65_536, 10**6)] == pytest.approx(
        [5e14, 5e14, 5.5e14, 6e14, 6e14]
    )


def test_steps_and_guidance_multiply() -> None:
    base, twice = seconds(one_clip(steps=20)), seconds(one_clip(steps=40))
    assert sum(twice.steps) == pytest.approx(2 * sum(base.steps))
    assert sum(seconds(one_clip(steps=20, guide_scale=1.0)).steps) == pytest.approx(sum(base.steps) / 2)
    assert (twice.before, twice.after) == (base.before, base.after)


def test_guidance_apart_halves_guided_steps_and_leaves_others() -> None:
    planned = one_clip(steps=4, cfg_interval=(0.0, 0.5))
    alone = seconds(planned)
    apart = seconds(planned, share=shared(guidance=2))
    guided, unguided = alone.steps[0], alone.steps[-1]
    assert apart.steps == pytest.approx((guided / 2, guided / 2, unguided, unguided))


@pytest.mark.parametrize("links", [NVLINK, PEERS, HOST])
def test_what_is_shared_is_quicker_and_never_as_quick_as_it_were_without_links(links: Links) -> None:
    alone = seconds(one_clip(), clip=1)
    for count in (2, 3, 4, 8):
        made = seconds(one_clip(), clip=1, share=shared(tokens=count, links=links))
        assert alone.steps[0] / count < made.steps[0]
        assert alone.after / count < made.after <= alone.after
        assert alone.before / count < made.before < alone.before
        if links is not HOST:
            assert made.steps[0] < alone.steps[0]


def test_the_arithmetic_knows_the_vae() -> None:
    assert tuple(encoder_reaches(WanVae(base_dim=8))) == ENCODER_REACHES


FP8 = {"precision": Precision.FP8, "kernel": Kernel.FP8}
EXACT = {"precision": Precision.BF16, "kernel": Kernel.CUDNN}


@pytest.mark.parametrize(
    ("way", "gpus", "one", "step", "tokens"),
    [  # benchmarks/results/h200_{two,four}_gpus.md: a pass, a guided step apart, a pass with its tokens divided
        (EXACT, 2, 3.082, 3.091, 1.623),
        (FP8, 2, 2.004, 2.023, 1.090),
        (EXACT, 4, 3.135, 1.696, 0.817),
        (FP8, 4, 2.050, 1.101, 0.554),
    ],
)
def test_several_gpus_take_what_was_measured(
    way: dict[str, Any], gpus: int, one: float, step: float, tokens: float
) -> None:
    planned, unguided = one_clip(steps=1), one_clip(steps=1, guide_scale=1.0)
    is_float8 = way is FP8
    later = {"clip": 1, "speeds": h200(way), "float8": is_float8}
    assert seconds(unguided, **later).steps[0] == pytest.approx(one, rel=0.15)
    apart = seconds(planned, **later, share=shared(guidance=2, tokens=gpus // 2, float8_attention=is_float8))
    assert apart.steps[0] == pytest.approx(step, rel=0.15)
    divided = seconds(unguided, **later, share=shared(tokens=gpus, float8_attention=is_float8))
    assert divided.steps[0] == pytest.approx(tokens, rel=0.15)


@pytest.mark.parametrize(
    ("gpus", "decode", "encode"),
    [(1, 0.684, 0.352), (2, 0.370, 0.220)],  # the same: a later clip's decode and the encode before it
)
def test_pictures_take_what_was_measured(gpus: int, decode: float, encode: float) -> None:
    made = seconds(one_clip(), clip=1, speeds=h200(EXACT), share=shared(tokens=gpus))
    assert made.after == pytest.approx(decode, rel=0.15)
    assert made.before == pytest.approx(encode, rel=0.15)


def h200(way: dict[str, Any]) -> Speeds:
    found = calibration.MEASURED["NVIDIA H200"].speeds(**way, vae=VaePrecision.BF16)
    assert found is not None
    return found


def shared(*, guidance: int = 1, tokens: int = 1, links: Links = NVLINK, float8_attention: bool = False) -> Share:
    return share_of(SIZES, guidance=guidance, tokens=tokens, links=links, float8_attention=float8_attention)


def test_unguided_steps_take_one_pass() -> None:
    assert step_passes(5, guided=True) == (2, 2, 2, 2, 2)
    assert step_passes(5, guided=False) == (1, 1, 1, 1, 1)
    assert step_passes(5, guided=True, interval=(0.2, 0.6)) == (1, 2, 2, 1, 1)
    assert step_passes(5, guided=True, interval=(0.0, 1.0)) == (2, 2, 2, 2, 2)
    half = seconds(one_clip(steps=20, cfg_interval=(0.0, 0.5)))
    assert sum(half.steps) == pytest.approx(0.75 * sum(seconds(one_clip(steps=20)).steps))


def test_larger_pictures_and_later_clips_take_longer() -> None:
    totals = [seconds(one_clip(width=w, height=h)).total for w, h in ((480, 832), (704, 1024), (832, 1216))]
    assert totals == sorted(totals)
    first, later = seconds(one_clip(), clip=0), seconds(one_clip(), clip=1)
    assert first.total < later.total
    assert first.before == 0 < later.before


def test_a_clip_after_a_cut_takes_what_a_first_one_takes() -> None:
    """It continues nothing: there are no motion frames to encode, to attend to, or to decode behind."""
    planned = one_clip(frames=231, cuts=(77 / 16,))
    assert [(clip.shot, clip.size) for clip in planned.clips] == [(0, 80), (1, 80), (1, 80)]
    first, after_the_cut, continued = (seconds(planned, clip) for clip in range(3))
    assert after_the_cut == first
    assert first.before == 0 < continued.before
    assert first.total < continued.total


def test_copies_hide_behind_computation_until_they_do_not() -> None:
    free = seconds(one_clip()).steps[0]
    assert seconds(one_clip(), streamed_bytes=14e9).steps[0] == free
    slow = replace(SPEEDS, to_device=2e9)
    assert seconds(one_clip(), streamed_bytes=14e9, speeds=slow).steps[0] == pytest.approx(2 * 14e9 / 2e9)
    together = seconds(one_clip(), streamed_bytes=14e9, speeds=slow, together=True).steps[0]
    assert together == pytest.approx(14e9 / 2e9)


# while it runs

FORECAST = Forecast(
    load=20.0,
    clips=(
        ClipSeconds(steps=(2.0, 2.0, 1.0), before=0.0, after=3.0),
        ClipSeconds(steps=(4.0, 4.0, 2.0), before=1.0, after=5.0),
    ),
)


def test_what_is_left_falls_to_the_last_decode() -> None:
    assert FORECAST.total == 20 + 5 + 3 + 1 + 10 + 5
    left = [FORECAST.remaining(clip, step) for clip in range(2) for step in (1, 2, 3)]
    assert left == [3 + 3 + 16, 1 + 3 + 16, 3 + 16, 6 + 5, 2 + 5, 5]
    assert FORECAST.remaining(0, 2, pace=2.0) == 2 * (1 + 10) + 3 + 6


def test_the_remaining_time_goes_by_measured_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 103.0, 104.5, 200.0, 206.0])
    monkeypatch.setattr("soundreel.engines.native.progress.time.monotonic", lambda: next(times))
    left = RemainingTime(FORECAST)
    assert left(0, 1) == FORECAST.remaining(0, 1), "nothing is measured yet"
    assert left(0, 2) == FORECAST.remaining(0, 2, pace=1.5)
    assert left(0, 3) == FORECAST.remaining(0, 3, pace=1.5)
    assert left(1, 1) == FORECAST.remaining(1, 1, pace=1.5), "the decode between clips is no step"
    assert left(1, 2) == FORECAST.remaining(1, 2, pace=1.5)


# what was measured


def some_calibration(**fields: Any) -> Calibration:
    made = Calibration(
        device="cpu",
        torch=torch.__version__,
        when="2026-11-27T01:02:03+00:00",
        products={Precision.BF16: 5e10},
        attention={Kernel.SDPA: {"256": 1e10, "1024": 2e10}},
        rows=1e10,
        vae={VaePrecision.FP32: 3e10},
        to_device=1e10,
        read=1e9,
        start=1.0,
    )
    return replace(made, **fields)


def test_measurements_are_kept_by_device_and_torch() -> None:
    assert read_calibration(CPU) is None
    path = keep_calibration(some_calibration())
    keep_calibration(some_calibration(device="NVIDIA H200"))
    assert path == calibration_file()
    assert set(json.loads(path.read_text())) == {
        f"{name}, torch {torch.__version__}" for name in ("cpu", "NVIDIA H200")
    }
    found = read_calibration(CPU)
    assert found is not None
    assert asdict(found) == json.loads(json.dumps(asdict(some_calibration())))


@pytest.mark.parametrize("damage", ["{", "[]", '{"cpu, torch": 3}'])
def test_a_damaged_file_is_none(damage: str) -> None:
    calibration_file().parent.mkdir(parents=True)
    calibration_file().write_text(damage)
    assert read_calibration(CPU) is None
    keep_calibration(some_calibration())
    assert read_calibration(CPU) is not None


def test_another_format_is_none() -> None:
    keep_calibration(some_calibration(format=0))
    assert read_calibration(CPU) is None


def test_speeds_are_the_calibrated_ones_where_they_are() -> None:
    keep_calibration(some_calibration())
    basis = find_speeds(CPU, **WAYS)
    assert basis.says == "calibrated 2026-11-27"
    assert basis.speeds.products == 5e10
    assert basis.speeds.attention == {256: 1e10, 1024: 2e10}
    other = find_speeds(CPU, **WAYS | {"precision": Precision.FP8})
    assert other.says.startswith("uncalibrated"), "fp8 was not measured"


def test_without_a_calibration_a_known_gpu_goes_by_what_was_measured_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MEASURED", {"cpu": some_calibration(start=7.0)})
    basis = find_speeds(CPU, **WAYS)
    assert (basis.speeds.start, basis.says.split(":")[0]) == (7.0, "uncalibrated")


def test_everything_is_measured_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "LEAST_SECONDS", 0.01)
    monkeypatch.setattr(calibration, "find_model", _model)
    told: list[str] = []
    found = measure(CPU, told.append)
    assert set(found.products) == {Precision.BF16}
    assert set(found.attention[Kernel.SDPA]) == {"256", "1024"}
    numbers = [found.rows, found.to_device, found.start, *found.products.values(), *found.vae.values()]
    assert all(1e-4 < number < 1e14 for number in numbers)
    assert told == ["start", "products", "attention", "row operations", "VAE", "copies", "reading weights"]
    assert found.speeds(**WAYS) is not None


def _model() -> Any:
    if not GOLDEN.is_dir():
        raise WeightsError("none here")
    return find_model(OFFICIAL)


# what plans and people see


@needs_golden
def test_a_plan_reads_the_calibration() -> None:
    planned, engine = native_plan(width=64, height=64, steps=3), NativeEngine()
    decided = engine.prepare(planned)
    assert "uncalibrated" in engine.estimate(decided).seconds_basis
    keep_calibration(some_calibration(start=100.0))
    slow = engine.estimate(decided)
    keep_calibration(some_calibration(start=1.0))
    quick = engine.estimate(decided)
    assert slow.seconds is not None
    assert quick.seconds is not None
    assert slow.seconds - quick.seconds == pytest.approx(99.0)
    assert quick.seconds_basis == "calibrated 2026-11-27"
    shown = dict(describe_plan(planned.request).rows)
    assert shown["time"].endswith("s on this machine (calibrated 2026-11-27)")
    assert shown["memory"].endswith("GiB (high)")
    assert describe_plan(planned.request).data["estimate_basis"] == "calibrated 2026-11-27"


@needs_golden
@pytest.mark.parametrize(("flash", "taken"), [(1e10, Kernel.SDPA), (3e10, Kernel.FLASH)])
def test_auto_takes_the_attention_that_was_measured_fastest(
    monkeypatch: pytest.MonkeyPatch, flash: float, taken: Kernel
) -> None:
    runs = (Kernel.SDPA, Kernel.FLASH)
    monkeypatch.setattr(attention, "why_not", lambda kernel, *_: None if kernel in runs else "it is missing")
    measured = {Kernel.SDPA: {"256": 9e10, "1024": 2e10}, Kernel.FLASH: {"256": 1e9, "1024": flash}}
    keep_calibration(some_calibration(attention=measured))
    assert NativeEngine().prepare(native_plan(width=64, height=64, steps=3)).identity["attention"] == taken


def test_a_known_gpu_has_known_speeds_of_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attention_speeds(CPU) == {}
    monkeypatch.setattr(calibration, "device_name", lambda _: "NVIDIA H200")
    speeds = attention_speeds(CPU)
    assert speeds[Kernel.FLASH] < 0.95 * speeds[Kernel.SDPA], "so that it is not taken before PyTorch's choice"


@needs_golden
@pytest.mark.parametrize("two", [{"guidance": 2}, {"tokens": 2}])
def test_a_plan_for_two_gpus_says_over_what_they_speak(monkeypatch: pytest.MonkeyPatch, two: dict[str, int]) -> None:
    decided = NativeEngine().prepare(native_plan(frames=9))
    gpus = Team(devices=(torch.device("cuda", 0), torch.device("cuda", 1)), **two)
    monkeypatch.setattr(prepared, "links_between", lambda _: PEERS)
    placement = replace(decided.placement, team=gpus)
    speeds = calibration.Basis(speeds=SPEEDS, says="measured")
    monkeypatch.setattr(prepared, "find_speeds", lambda *_, **__: speeds)
    seconds, basis = forecast(decided.plan, placement)
    alone, alone_basis = forecast(decided.plan, placement, alone=True)
    assert basis == f"{alone_basis}, GPUs over PCIe"
    assert seconds.rendering < alone.rendering
    estimate = NativeEngine().estimate(replace(decided, placement=placement))
    assert estimate.speedup == pytest.approx(alone.rendering / seconds.rendering)
    assert NativeEngine().estimate(decided).speedup is None


def test_doctor_calibrates(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def measured(_: torch.device, tell: Callable[[str], object]) -> Calibration:
        tell("products")
        return some_calibration()

    monkeypatch.setattr(calibration, "measure", measured)
    done = run_here(capsys, "doctor", "--calibrate", "--device", "cpu")
    assert done.code == 0
    assert "measuring: products" in done.err
    assert "products bf16" in done.out
    assert read_calibration(CPU) is not None
