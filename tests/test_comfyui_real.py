"""The comfyui engine on a real server: `make test-comfyui URL=http://localhost:8188`.

Skipped without one. Sizes and lengths are the smallest that chain, so that tiny random weights on a CPU will do; any
server with the S2V models does as well. Nothing on it is deleted.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import av
import numpy as np
import pytest

from comfyui_renders import CrashError, crash_at, pictures, plan, prepare
from conftest import SHARED
from soundreel.engines.comfyui.answers import State
from soundreel.engines.comfyui.client import Client
from soundreel.engines.comfyui.editor_files import to_graph
from soundreel.engines.comfyui.export import export_workflow
from soundreel.engines.comfyui.pictures import output_files
from soundreel.engines.comfyui.record import PromptRecord
from soundreel.errors import Cancelled, EngineError, InputError, WeightsError
from soundreel.media.audio import probe_sound
from soundreel.media.video import SegmentWriter, probe_video
from soundreel.pipeline import generate
from soundreel.request import Request, Server
from soundreel.types import Progress, Stage

URL = os.environ.get("COMFYUI_URL")

pytestmark = pytest.mark.skipif(URL is None, reason="no server: COMFYUI_URL is not set")

Ask = Callable[..., Request]


@pytest.fixture
def ask(tune: Path) -> Ask:
    """A small request: three chunks of 8 frames. Fields of `Server` go into it."""

    def make(**fields: Any) -> Request:
        options = {name: fields.pop(name) for name in list(fields) if name in Server.__dataclass_fields__}
        small = {"width": 64, "height": 64, "frames": 19, "infer_frames": 8, "steps": 2, "engine": "comfyui"}
        return Request(audio=tune, server=Server(urls=(str(URL),), **options), **small | fields)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[], Path]:
    """New scratch folders."""
    made: list[Path] = []

    def make() -> Path:
        made.append(tmp_path / f"scratch{len(made)}")
        made[-1].mkdir()
        return made[-1]

    return make


Folder = Callable[[], Path]


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for something on the server, which tells of nothing by itself."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


@pytest.mark.parametrize("frames", [1, 2, 5, 6, 19, 21])
def test_exactly_the_frames_that_were_asked_for(ask: Ask, folder: Folder, frames: int) -> None:
    assert pictures(ask(frames=frames), folder()).shape == (frames, 64, 64, 3)


def test_each_shot_is_a_prompt_of_its_own(ask: Ask, folder: Folder) -> None:
    scratch = folder()
    assert pictures(ask(cuts=(0.5,)), scratch).shape == (19, 64, 64, 3)
    first, second = (PromptRecord.read(scratch / f"shot_0000{number}") for number in (1, 2))
    assert first is not None
    assert second is not None
    assert first.prompt_id != second.prompt_id


def test_the_same_request_gives_the_same_pictures_and_another_seed_others(ask: Ask, folder: Folder) -> None:
    one, again, other = (pictures(ask(seed=seed), folder()) for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert one.std() > 1, "the pictures show something"


def test_the_first_clip_is_nearly_the_same_however_many_follow(ask: Ask, folder: Folder) -> None:
    """Not quite: the sound is normalised over a longer window."""
    alone, chained, other = (
        pictures(ask(**fields), folder())[:5].astype(int) for fields in ({"frames": 5}, {}, {"seed": 9})
    )
    assert np.abs(alone - chained).mean() < np.abs(chained - other).mean() / 3


def test_the_fix_changes_the_first_frame_and_moves_no_other(ask: Ask, folder: Folder) -> None:
    """After a few latent frames the decoder has forgotten how it began: frame j is frame j with and without the fix."""
    fixed, plain = pictures(ask(), folder()), pictures(ask(first_frame_fix=False), folder())
    assert fixed.shape == plain.shape
    assert not np.array_equal(fixed[0], plain[0])
    last = plain[-2].astype(int)
    errors = [np.abs(frame - last).mean() for frame in fixed.astype(int)]
    assert int(np.argmin(errors)) == len(fixed) - 2


def test_with_reference_pose_and_lora(ask: Ask, folder: Folder, cover: Path, tmp_path: Path) -> None:
    pose = tmp_path / "pose.mp4"
    with SegmentWriter(pose, width=96, height=64) as writer:
        writer.write(np.random.default_rng(0).integers(0, 255, (30, 64, 96, 3), np.uint8))
    plain = pictures(ask(), folder())
    for fields in ({"ref_image": cover}, {"pose_video": pose}, {"turbo": True, "steps": 4, "guide_scale": 1.0}):
        assert not np.array_equal(plain, pictures(ask(**fields), folder()))


def test_every_step_is_told_and_a_preview_is_kept(ask: Ask, folder: Folder) -> None:
    told: list[Progress] = []
    previews: list[bytes] = []

    def report(progress: Progress) -> None:
        told.append(progress)
        if progress.preview is not None:
            previews.append(progress.preview.read_bytes())

    with Client(str(URL), Server()) as client:
        has_previews = not client.version().startswith("0.3.")
    pictures(ask(seed=int.from_bytes(os.urandom(4)), steps=3, preview=True), folder(), report)
    steps = {(progress.clip, progress.step) for progress in told if progress.stage is Stage.RENDER}
    assert {(clip, 3) for clip in (1, 2, 3)} <= steps
    assert previews or not has_previews, "0.3.64 sends them if it was started with --preview-method"


def test_cancelling_takes_the_prompt_from_the_server(ask: Ask, folder: Folder) -> None:
    def report(progress: Progress) -> None:
        if progress.stage is Stage.RENDER and progress.step == 1:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        pictures(ask(seed=int.from_bytes(os.urandom(4)), steps=200), folder(), report)
    with Client(str(URL), Server()) as client:
        wait_until(lambda: client.queue_length() == 0)


def test_cancelling_a_waiting_prompt_leaves_the_running_one_alone(ask: Ask, folder: Folder) -> None:
    seed = int.from_bytes(os.urandom(4))
    done: list[int] = []
    first = threading.Thread(target=lambda: done.append(len(pictures(ask(seed=seed, steps=30), folder()))))

    def report(progress: Progress) -> None:
        if progress.stage is Stage.QUEUE:
            raise Cancelled("stop")

    with Client(str(URL), Server()) as client:
        first.start()
        wait_until(lambda: client.queue_length() == 1)
        with pytest.raises(Cancelled):
            pictures(ask(seed=seed + 10, steps=30), folder(), report)
        first.join()
        assert done == [19]
        assert client.queue_length() == 0


def test_after_a_crash_the_same_prompt_is_found_again(ask: Ask, folder: Folder) -> None:
    scratch, request = folder(), ask(seed=int.from_bytes(os.urandom(4)), steps=20)
    with pytest.raises(CrashError):
        pictures(request, scratch, crash_at(Stage.RENDER))
    record = PromptRecord.read(scratch)
    assert len(pictures(request, scratch)) == 19
    found = PromptRecord.read(scratch)
    assert record is not None
    assert found is not None
    assert found.prompt_id == record.prompt_id


def test_a_failure_on_the_server_is_told_in_its_words(ask: Ask, folder: Folder, tmp_path: Path) -> None:
    graph = json.loads(export_workflow(ask(frames=5), tmp_path / "graph.json")[0].read_text(encoding="utf-8"))
    graph["cut"]["inputs"]["length"] = 1
    (tmp_path / "graph.json").write_text(json.dumps(graph), encoding="utf-8")
    with pytest.raises(EngineError, match="made 1 frames, 5 were expected"):
        pictures(ask(frames=5, workflow=tmp_path / "graph.json"), folder())


def test_a_missing_model_is_named(ask: Ask) -> None:
    with pytest.raises(WeightsError, match=r"no mine\.safetensors in models/audio_encoders: it has "):
        prepare(ask(audio_encoder="mine.safetensors"))


def test_an_exported_graph_runs_as_it_is(ask: Ask, folder: Folder, tmp_path: Path) -> None:
    graph_file = export_workflow(ask(), tmp_path / "graph.json")[0]
    exported, ours, other = (
        pictures(ask(**fields), folder()).astype(int) for fields in ({"workflow": graph_file}, {}, {"seed": 9})
    )
    assert np.abs(exported - ours).mean() < np.abs(exported - other).mean() / 2


def test_what_is_exported_for_the_editor_plays_the_original_sound_in_a_common_form(ask: Ask, tmp_path: Path) -> None:
    _, editor, *files = export_workflow(ask(), tmp_path / "graph.json")
    with Client(str(URL), Server()) as client:
        names = {file.name: client.upload(file.name, file.read_bytes()) for file in files}
        graph = to_graph(json.loads(editor.read_text(encoding="utf-8")), client.node_classes())
        for node in graph.values():
            node["inputs"] = {key: names.get(str(value), value) for key, value in node["inputs"].items()}
        prompt_id = str(uuid4())
        client.queue_prompt(graph, prompt_id=prompt_id, client_id="", preview=False)
        wait_until(lambda: client.status(prompt_id).state is State.DONE)
        entry = client.status(prompt_id).entry
        assert entry is not None
        (saved,) = output_files(entry)
        client.download_rest(saved, tmp_path / "video.mp4", lambda *_: None)
    video, source = probe_video(tmp_path / "video.mp4"), probe_sound(ask().audio)
    assert (video.frames, video.codec) == (19, "h264")
    assert (video.sound_rate, video.sound_channels) == (source.sample_rate, source.channels)
    with av.open(tmp_path / "video.mp4") as container:
        context = container.streams.video[0].codec_context
        assert (context.profile, context.pix_fmt) == ("High", "yuv420p")


def test_the_official_kind_of_graph_is_filled(ask: Ask, folder: Folder, cover: Path) -> None:
    workflow = SHARED / "comfyui" / "s2v_extend_api.json"
    if not workflow.is_file():
        pytest.skip("../shared/comfyui is not here")
    assert len(pictures(ask(workflow=workflow, ref_image=cover), folder())) == 19
    with pytest.raises(InputError, match="has 3 chunks"):
        pictures(ask(workflow=workflow, frames=40), folder())


def test_a_finished_video_keeps_the_contract(ask: Ask, tmp_path: Path) -> None:
    result = generate(ask(frames=20, audio_start=1.5, output=tmp_path / "out.mp4"))
    video = probe_video(result.path)
    assert (video.frames, video.fps, video.width, video.height) == (20, 16, 64, 64)
    assert video.sound_seconds == pytest.approx(20 / 16, abs=1024 / 44100)
    assert len(plan(ask(frames=20)).clips) == 3
