"""Memory that another process takes in the middle of a render: what is done then, what is said, and what is kept."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import torch
from torch import Tensor

from command import Outcome, run_here
from native_videos import AS_OPTIONS, CLIPS, NATIVE, Render
from soundreel.engines.native import block_placement
from soundreel.engines.native import vae as native_vae
from soundreel.engines.native.block_placement import ResidentBlocks
from soundreel.engines.native.memory_plan import MemoryPlan
from soundreel.engines.native.vae import Vae
from soundreel.media.video import read_frames
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.render.recipe import read_recipe
from test_models_transformer import random_model
from weight_files import needs_golden

pytestmark = needs_golden

Command = Callable[..., Outcome]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Frames of an undisturbed render."""
    render = Render(tmp_path_factory.mktemp("whole"))
    render()
    return render.frames


@pytest.fixture
def render(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    def run(*more: str) -> Outcome:
        options = (*AS_OPTIONS, "--steps", "1", "-o", tmp_path / "a.mp4", "--progress", "lines", *more)
        return run_here(capsys, "generate", str(NATIVE["audio"]), *options)

    return run


def frames(path: Path) -> list[bytes]:
    return [frame.tobytes() for frame in read_frames(path)]


def take_gpu_memory(patch: pytest.MonkeyPatch, name: str, calls: set[int], *, host_too: bool = False) -> None:
    """The CPU stands for a GPU whose memory runs out in some calls of the VAE's `encode` or `decode`, from 1."""
    work, count = getattr(native_vae, name), []

    def short_of_memory(network: Any, given: Tensor, *options: Any, **heard: Any) -> Tensor:
        by_the_gpu = heard["on_piece"] is native_vae._hear_nothing
        if by_the_gpu and (not count or count[-1] is not given):
            count.append(given)
        if len(count) in calls and (by_the_gpu or host_too):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return work(network, given, *options, **heard)

    patch.setattr(Vae, "_is_on_a_gpu", True)
    patch.setattr(native_vae, name, short_of_memory)


def facts(path: Path, name: str) -> list[Any]:
    return [clip.get(name) for clip in read_recipe(path)["plan"]["clips"]]


CPU = "on the CPU, not as the render was begun"
DECODED = f"clip 2 was decoded {CPU}: printed or rendered again, frames may differ in the last bits"
ENCODED = f"what clip 3 began from was encoded {CPU}: rendered again, frames may differ"


def test_the_cpu_stands_in_for_the_gpu_and_that_is_said(
    render: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], whole: list[bytes]
) -> None:
    with monkeypatch.context() as patch:
        take_gpu_memory(patch, "decode", {2})
        take_gpu_memory(patch, "encode", {2})  # of what clip 3 continues: the first one begins from nothing
        done = render()
    lines = done.err.splitlines()
    assert done.code == 0
    assert any(line.startswith("print on the CPU, the GPU has no memory left: clip 2/3") for line in lines)
    assert any(line.startswith("encode on the CPU, the GPU has no memory left: clip 3/3") for line in lines)
    assert [line for line in lines if line.startswith("note: ")] == [f"note: {DECODED}", f"note: {ENCODED}"]
    assert not any("float32" in line for line in lines), "nothing but what is meant for users"
    assert frames(done.path) == whole, "the CPU was the GPU all the time"
    assert facts(done.path, "decoded") == [None, "on the CPU", None]
    assert facts(done.path, "encoded") == [None, None, "on the CPU"]
    told = run_here(capsys, "info", done.path).out.splitlines()
    notes = [line.split(maxsplit=1)[1].strip() for line in told if line.startswith("note")]
    assert notes == json.loads(run_here(capsys, "info", done.path, "--json").out)["recipe"]["notes"]
    assert notes == [DECODED, ENCODED]
    again = run_here(capsys, "plan", "--recipe", done.path).out
    assert DECODED in again, "who renders it again is told that it is another"
    assert ENCODED in again
    printed = run_here(capsys, "reprint", done.path, "--crf", "40", "-q").path
    assert facts(printed, "decoded") == [None] * CLIPS, "this time there was room"
    assert facts(printed, "encoded") == [None, None, "on the CPU"], "the latents are the same"


def test_where_not_even_the_cpu_has_room_resume_goes_on_without_sampling(
    render: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    whole: list[bytes],
) -> None:
    with monkeypatch.context() as patch:
        take_gpu_memory(patch, "decode", {2}, host_too=True)
        done = render()
    (work,) = (tmp_path / ".soundreel").iterdir()
    assert (done.code, done.out) == (5, "")
    assert done.err.splitlines()[-1] == (
        "soundreel: neither the GPU's memory nor the host's holds what the VAE takes for this video: what was sampled "
        f"is kept; free some of either, and go on; 1 of {CLIPS} clips and the latents of 1 more are kept, go on with: "
        f"soundreel resume {work}"
    )
    again = run_here(capsys, "resume", work, "--progress", "json")
    events = again.events
    assert [event["clip"] for event in events if event.get("stage") == "print"] == [2]
    assert {event["clip"] for event in events if event.get("stage") == "render"} == {3}
    assert frames(tmp_path / "a.mp4") == whole


def test_a_pass_that_runs_out_of_memory_costs_that_clip_alone(
    render: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: list[bytes]
) -> None:
    passes, forward = [], WanS2VTransformer3DModel.forward

    def run_out(self: Any, *given: Any) -> Tensor:
        passes.append(0)
        if len(passes) == 4:  # the second pass of clip 2
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(WanS2VTransformer3DModel, "forward", run_out)
        done = render()
    (work,) = (tmp_path / ".soundreel").iterdir()
    assert (done.code, done.out) == (5, "")
    line = done.err.splitlines()[-1]
    assert line.startswith("soundreel: cpu ran out of memory (high): take a smaller --memory")
    assert line.endswith(f"1 of {CLIPS} clips are kept, go on with: soundreel resume {work}")
    again = render()
    assert "1 of 3 clips are there, going on with clip 2" in again.err
    assert frames(again.path) == whole


def test_blocks_leave_only_for_a_host_that_has_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(num_layers=2, audio_inject_layers=(0,))
    blocks = ResidentBlocks(model, MemoryPlan(blocks=2), torch.device("meta"))
    size = sum(place.tensor.nbytes for place in blocks._places)
    monkeypatch.setattr(block_placement, "available_memory", lambda: size + block_placement.HOST_MARGIN_BYTES - 1)
    assert not blocks.leave()
    monkeypatch.setattr(block_placement, "available_memory", lambda: size + block_placement.HOST_MARGIN_BYTES)
    assert blocks.leave()
    assert not blocks.leave(), "they are gone"
