"""Host memory: what a render takes of it, and that a machine without the room is told so before anything is loaded."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import torch

from command import Outcome, run_here
from full_size import GB, float8_weights, full_demand, full_plan, full_weights, write_full_size
from host import pretend_gpu, pretend_host
from soundreel.engines.native import prepared as decisions
from soundreel.engines.native.clips import next_motion
from soundreel.engines.native.ledger import GPU_PROCESS_BYTES, host_peak, moments, waiting_bytes
from soundreel.engines.native.memory_modes import choose
from soundreel.engines.native.memory_plan import MemoryPlan
from soundreel.request import Memory, Precision
from soundreel.weights.catalog import Component
from soundreel.weights.components import Outline, outline_model
from soundreel.weights.find import find_model
from weight_files import OFFICIAL, needs_golden

PC = 33_400_000_000
"""What a PC with 32 GB tells of them."""

Command = Callable[..., Outcome]


@pytest.fixture(scope="module")
def half(golden: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's files in 16 bits."""
    return write_full_size(tmp_path_factory.mktemp("half"), manifest, float8=False)


@pytest.fixture(scope="module")
def float8(golden: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the large matrices in fp8."""
    return write_full_size(tmp_path_factory.mktemp("float8"), manifest, float8=True)


@cache
def outlined(transformer: Path) -> Mapping[Component, Outline]:
    """Read once for all tests, half a second each."""
    return outline_model(find_model(transformer.parent))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets this machine have so much memory, and a GPU with so much free."""
    monkeypatch.setattr(decisions, "outline_model", lambda files: outlined(files[Component.TRANSFORMER].files[0]))

    def pretend(total: int, gpu: int | None = 24 * GB, **given: Any) -> None:
        pretend_host(monkeypatch, tmp_path, total=total, **given)
        if gpu is not None:
            pretend_gpu(monkeypatch, gpu)

    return pretend


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], tune: Path) -> Command:
    """Runs `soundreel plan`, or another command, for a large picture."""

    def run(models: Path, *options: object, command: str = "plan") -> Outcome:
        size = ("--size", "832x1216", "--frames", "161", "--attention", "sdpa")
        return run_here(capsys, command, tune, "--engine", "native", "--models", models, *size, *map(str, options))

    return run


def refusal(done: Outcome) -> str:
    assert (done.code, done.out) == (5, "")
    (line,) = done.err.splitlines()
    return line


# told


def test_plan_tells_what_is_taken_of_the_host(machine: Callable[..., None], ask: Command, float8: Path) -> None:
    machine(PC)
    told = json.loads(ask(float8, "--memory", "16gb", "--json").out)
    found = re.fullmatch(r"16gb, (\d+) of 40 blocks streamed", told["memory_mode"])
    assert found is not None
    streamed = MemoryPlan(blocks=40, streamed=int(found[1]))
    assert told["host_locked_bytes"] == pytest.approx(waiting_bytes(float8_weights(), streamed), rel=0.01)
    rest = told["host_memory_bytes"] - told["host_locked_bytes"]
    says = "the process, layers that are used once per clip, and pixels of clips of 56 frames"
    assert rest == pytest.approx(GPU_PROCESS_BYTES + 3.36 * GB + 3.15 * GB, rel=0.02), says
    (row,) = (line for line in ask(float8, "--memory", "16gb").out.splitlines() if line.startswith("host memory"))
    gib = (told["host_memory_bytes"] / 2**30, told["host_locked_bytes"] / 2**30)
    assert row.split(maxsplit=2)[2].strip() == "about {:.2f} GiB ({:.2f} GiB of it locked, for streamed blocks)".format(
        *gib
    )


@needs_golden
def test_nothing_is_locked_without_a_gpu(capsys: pytest.CaptureFixture[str], tune: Path) -> None:
    options = ("--engine", "native", "--device", "cpu", "--models", OFFICIAL, "--memory", "12gb", "--json")
    told = json.loads(run_here(capsys, "plan", tune, *options).out)
    assert told["host_locked_bytes"] == 0
    assert told["host_memory_bytes"] > told["memory_bytes"], "the CPU's memory is the host's"


# refused


def test_a_mode_that_takes_too_much_is_refused_and_fp8_named(
    machine: Callable[..., None], ask: Command, half: Path, tmp_path: Path
) -> None:
    machine(PC)
    exact = ("--memory", "12gb", "--precision", "bf16")
    told = refusal(ask(half, *exact))
    says = (
        r"832×1216 in clips of 80 takes (\d\d\.\d) GB of this machine's memory \(12gb, \d+ of 40 blocks streamed, text"
    )
    found = re.search(says, told)
    assert found is not None
    assert float(found[1]) > 33.4 - 6
    assert "it has 33.4 GB, of which 6 GB stay the system's: take --memory auto, or --precision fp8, or a" in told
    output = tmp_path / "video" / "a.mp4"
    assert refusal(ask(half, *exact, "-o", output, command="generate")) == told
    assert not output.parent.exists(), "before anything is loaded or written"
    for cure in (("--memory", "12gb", "--precision", "fp8"), ("--memory", "auto", "--precision", "bf16")):
        assert ask(half, *cure).code == 0


def test_every_mode_that_leaves_6_gb_is_taken(machine: Callable[..., None], ask: Command, float8: Path) -> None:
    machine(PC)
    needs = json.loads(ask(float8, "--memory", "12gb", "--json").out)["host_memory_bytes"]
    assert needs < PC - 6 * GB
    machine(needs + 6 * GB + 1024)
    assert ask(float8, "--memory", "12gb").code == 0
    machine(needs + 6 * GB - 100_000_000)
    assert "it has" in refusal(ask(float8, "--memory", "12gb"))


def test_a_container_s_limit_counts(machine: Callable[..., None], ask: Command, float8: Path, tmp_path: Path) -> None:
    machine(PC, cgroups="0::/\n")
    (tmp_path / "cgroup").mkdir()
    for name, value in (("memory.max", str(14 * GB)), ("memory.current", "0"), ("memory.stat", "inactive_file 0")):
        (tmp_path / "cgroup" / name).write_text(value)
    told = refusal(ask(float8, "--memory", "16gb"))
    assert "it has 14.0 GB, of which 6 GB stay the system's" in told


def test_files_that_would_do_are_named(machine: Callable[..., None], ask: Command, half: Path, float8: Path) -> None:
    machine(24 * GB, gpu=13 * GB)
    assert "the fp8 weights (soundreel models download s2v-fp8)" in refusal(ask(half))
    machine(20 * GB, gpu=13 * GB)
    told = refusal(ask(float8))
    assert "take a transformer in 4 bits (GGUF), or a smaller --width and --height" in told
    machine(8 * GB, gpu=13 * GB)
    assert "4 GB stay the system's: take a smaller --width" in refusal(ask(float8)), "nothing that would not do"


def test_a_size_may_take_more_of_the_host_than_everything_on_the_gpu(
    machine: Callable[..., None], ask: Command, float8: Path
) -> None:
    machine(14 * GB, gpu=70 * GB)
    assert "take --memory auto, or" in refusal(ask(float8, "--memory", "24gb"))
    assert json.loads(ask(float8, "--json").out)["memory_mode"] == "high"


def test_a_cpu_s_weights_are_the_host_s(machine: Callable[..., None], ask: Command, half: Path) -> None:
    machine(PC, gpu=None)
    told = refusal(ask(half, "--device", "cpu"))
    assert "of this machine's memory (auto, fp8 weights)" in told, "the least that it would take"
    machine(128 * GB, gpu=None)
    assert json.loads(ask(half, "--device", "cpu", "--json").out)["memory_mode"] == "high"
    machine(70 * GB, gpu=None)
    assert json.loads(ask(half, "--device", "cpu", "--json").out)["memory_mode"] == "auto, fp8 weights"


@needs_golden
def test_a_small_machine_keeps_half(
    machine: Callable[..., None], capsys: pytest.CaptureFixture[str], tune: Path
) -> None:
    machine(4 * GB, gpu=None)
    options = ("--engine", "native", "--device", "cpu", "--models", OFFICIAL, "--size", "64x64", "--frames", "5")
    assert run_here(capsys, "plan", tune, *options).code == 0
    machine(GB, gpu=None)
    assert "it has 1.0 GB, of which 0.5 GB stay the system's" in run_here(capsys, "plan", tune, *options).err


# the ledger


MEASURED = [
    ("832x1216", Memory.GB24, 8, 13.6),
    ("832x1216", Memory.GB16, 32, 21.0),
    ("832x1216", Memory.GB12, 29, 20.3),
    ("832x1216", Memory.GB24, 0, 11.0),
    ("480x832", Memory.GB24, 0, 7.8),
    ("480x832", Memory.GB12, 21, 14.3),
    ("480x832", Memory.HIGH, 0, 4.4),
    ("480x832", Memory.GB16, 10, 10.8),
]
"""Size, mode, streamed blocks, and GB that were resident at the peak on an H100: benchmarks/results/h100_cards.md."""

FLOATS_THEN = {"832x1216": 415, "480x832": 366}
"""Frames as float32 that were there at that version's worst moment, the encoder's pictures included."""


@pytest.mark.parametrize(("size", "mode", "streamed", "measured"), MEASURED)
def test_what_was_resident_is_the_process_and_what_waits(
    size: str, mode: Memory, streamed: int, measured: float
) -> None:
    width, height = map(int, size.split("x"))
    memory = MemoryPlan(mode=mode, blocks=40, streamed=streamed, offloads=mode is not Memory.HIGH)
    pixels = FLOATS_THEN[size] * 12 * width * height
    there = GPU_PROCESS_BYTES + waiting_bytes(float8_weights(), memory) + pixels
    assert measured - 0.05 <= there / GB <= 1.05 * measured


def test_every_moment_of_a_render_is_in_the_ledger() -> None:
    found = {moment.name: moment for moment in moments(full_weights(), full_demand(full_plan()), MemoryPlan(blocks=40))}
    assert list(found) == ["text", "sound", "load", "encode", "condition", "pass", "decode", "hand over"]
    assert found["pass"].device > found["condition"].device > found["load"].device
    assert found["decode"].host == max(moment.host for moment in found.values())


def test_the_host_holds_more_the_more_waits_and_the_larger_the_picture() -> None:
    weights, base = full_weights(), MemoryPlan(blocks=40)
    asked = full_demand(full_plan())
    streams, offloads = MemoryPlan(blocks=40, streamed=20), MemoryPlan(blocks=40, offloads=True)
    assert host_peak(weights, asked, streams) - host_peak(weights, asked, base) == sum(weights.step[1::2])
    assert host_peak(weights, asked, offloads) - host_peak(weights, asked, base) == weights.clip
    text = MemoryPlan(blocks=40, text_streamed=True)
    assert host_peak(weights, asked, text) == GPU_PROCESS_BYTES + weights.text + weights.text_loading
    several = replace(asked, workers=1)
    (decoding,) = (moment.host for moment in moments(weights, several, base) if moment.name == "decode")
    (alone,) = (moment.host for moment in moments(weights, asked, base) if moment.name == "decode")
    assert decoding - alone == 3 * 80 * 480 * 832, "all write its pictures into memory that all have"
    large, posed = full_demand(full_plan(width=832, height=1216)), full_demand(full_plan(pose_video="dance.mp4"))
    assert host_peak(weights, asked, base) < host_peak(weights, posed, base) < host_peak(weights, large, base)


def test_auto_streams_no_more_than_either_memory_allows() -> None:
    planned = full_plan(width=832, height=1216, precision=Precision.BF16)
    weights, asked = full_weights(), full_demand(planned)
    found = choose(weights, asked, planned.request, 20 * GB, host=64 * GB)
    assert found is not None
    assert found.streamed > 0
    assert choose(weights, asked, planned.request, 20 * GB, host=found.host_bytes) == found
    assert choose(weights, asked, planned.request, 20 * GB, host=found.host_bytes - 1) is None
    assert choose(weights, asked, planned.request, 80 * GB, host=found.host_bytes - 1) is not None


def test_frames_that_are_handed_on_keep_no_others_in_memory() -> None:
    for count in (80, 73, 9):
        frames = torch.rand(3, count, 2, 2)
        motion = next_motion(None if count > 73 else torch.rand(3, 73, 2, 2), frames)
        assert motion.shape == (3, 73, 2, 2)
        assert torch.equal(motion[:, -min(count, 73) :], frames[:, -73:])
        assert motion.untyped_storage().nbytes() == motion.nbytes
        assert motion.data_ptr() != frames.data_ptr()
