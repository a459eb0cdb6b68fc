"""Frames that are encoded while the others of their clip are still decoded, and what becomes of it when that fails."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import numpy as np

from conftest import SHARED
from draft_renders import frames_of
from native_renders import SPEECH, native_request
from soundreel.errors import Cancelled, EngineError, MediaError
from soundreel.pipeline import generate
from soundreel.render.clip_writer import ClipWriter
from soundreel.render.post_processing import post_process
from soundreel.render.prepared import ask, prepare
from soundreel.request import Request, WorkOptions
from soundreel.types import Arrival, CancelFlag, Clip, Progress, RenderedClip, Stage, go_on
from weight_files import needs_golden

pytestmark = needs_golden

HANGS_SECONDS = 120

SMALL: dict[str, Any] = {
    "audio": SPEECH,
    "width": 64,
    "height": 64,
    "frames": 13,
    "infer_frames": 16,
    "steps": 1,
    "guide_scale": 1.0,
}
"""One clip, which is the last one."""

LAST = 1


@pytest.fixture
def small(tmp_path: Path) -> Request:
    return native_request(**SMALL, output=tmp_path / "a.mp4")


def kept(folder: Path, name: str = "work") -> WorkOptions:
    return WorkOptions(work_dir=folder / name)


class Decoding:
    """What happens when the first frames of the last clip are there, and the others are still to come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
        self.counts: list[int] = []
        come = Arrival.come

        def come_and_tell(arrival: Arrival, count: int) -> None:
            come(arrival, count)
            self.counts.append(count)
            if len(self.counts) == 1:
                then()

        monkeypatch.setattr(Arrival, "come", come_and_tell)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a frame of the last clip is encoded."""
    event = threading.Event()
    progress = ClipWriter._progress

    def note(writer: ClipWriter, clip: Clip, done: int) -> Progress:
        if clip.index + 1 == LAST and done:
            event.set()
        return progress(writer, clip, done)

    monkeypatch.setattr(ClipWriter, "_progress", note)
    return event


def files(folder: Path) -> set[str]:
    """Of the last clip."""
    return {path.name.split(".", 1)[1] for path in folder.rglob(f"clip_{LAST:05d}_*")}


def test_the_last_clip_is_encoded_while_it_is_decoded(
    small: Request, encoded: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = frames_of(generate(small, work=kept(tmp_path)).path)
    encoded.clear()
    was_encoded: list[bool] = []
    decoding = Decoding(monkeypatch, lambda: was_encoded.append(encoded.wait(HANGS_SECONDS)))
    made = generate(small, work=kept(tmp_path, "another"))
    assert was_encoded == [True]
    assert decoding.counts[0] < decoding.counts[-1] == 13
    assert frames_of(made.path) == expected


@pytest.mark.parametrize(
    "more", [{"interpolate": "motion"}, pytest.param({"color_match": True}, marks=pytest.mark.long)], ids=str
)
def test_what_is_made_of_the_frames_is_the_same_as_if_they_had_come_at_once(
    small: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    decoding = Decoding(monkeypatch, lambda: None)
    one = generate(small.replace(**more), work=kept(tmp_path))
    frames = frames_of(one.path)
    assert len(decoding.counts) > 1
    monkeypatch.setattr(Arrival, "come", lambda *_: None)
    other = generate(small.replace(**more), work=kept(tmp_path, "another"))
    assert frames_of(other.path) == frames
    assert other.recipe["plan"]["clips"] == one.recipe["plan"]["clips"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (EngineError("the GPU is lost"), EngineError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        pytest.param(Cancelled(), Cancelled, marks=pytest.mark.long),
    ],
    ids=["an error", "Ctrl-C", "cancelled"],
)
def test_a_decode_that_ends_midway_ends_the_render_and_costs_no_step(
    small: Request,
    encoded: threading.Event,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    raised: type[BaseException],
) -> None:
    def fail() -> None:
        assert encoded.wait(HANGS_SECONDS)
        raise error

    with monkeypatch.context() as patched:
        Decoding(patched, fail)
        with pytest.raises(raised, match=str(error) or None):
            generate(small, work=kept(tmp_path))
    assert files(tmp_path) == {"latents.safetensors", "latents.json"}
    told: list[Progress] = []
    made = generate(small, told.append, work=kept(tmp_path))
    assert {one.stage for one in told} >= {Stage.PRINT, Stage.WRITE}
    assert Stage.RENDER not in {one.stage for one in told}
    assert made.frames == 13


def test_a_stop_is_heard_while_frames_are_waited_for(
    small: Request, encoded: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, has_let_go = CancelFlag(), threading.Event()
    write = ClipWriter._write

    def write_and_tell(writer: ClipWriter, rendered: RenderedClip) -> None:
        try:
            write(writer, rendered)
        finally:
            has_let_go.set()

    def ask() -> None:
        assert encoded.wait(HANGS_SECONDS)
        stop.set()
        assert has_let_go.wait(HANGS_SECONDS)  # while this thread still decodes

    monkeypatch.setattr(ClipWriter, "_write", write_and_tell)
    Decoding(monkeypatch, ask)
    with pytest.raises(Cancelled):
        generate(small, work=kept(tmp_path), cancel=stop)
    assert files(tmp_path) == {"latents.safetensors", "latents.json"}


def test_a_writer_that_fails_midway_ends_the_render(
    small: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_failed = threading.Event()
    progress = ClipWriter._progress

    def fail(writer: ClipWriter, clip: Clip, done: int) -> Progress:
        if clip.index + 1 == LAST and done:
            has_failed.set()
            raise MediaError("the disk is full")
        return progress(writer, clip, done)

    def wait_for_it() -> None:
        assert has_failed.wait(HANGS_SECONDS)

    with monkeypatch.context() as patched:
        patched.setattr(ClipWriter, "_progress", fail)
        Decoding(patched, wait_for_it)
        with pytest.raises(MediaError, match="the disk is full"):
            generate(small, work=kept(tmp_path))
    assert files(tmp_path) == {"latents.safetensors", "latents.json"}
    assert generate(small, work=kept(tmp_path)).frames == 13


RIFE_FILE = SHARED / "weights" / "rife" / "flownet_v4.14.pkl"


@pytest.mark.skipif(not RIFE_FILE.is_file(), reason="../shared/weights/rife is not here")
def test_a_network_between_frames_waits_until_the_decode_has_given_the_gpu_s_memory_back(small: Request) -> None:
    """How it divides its pictures goes by the memory that is free, and so does what a decode does without."""
    stop = CancelFlag()
    stop.set()

    def begin(**more: Any) -> None:
        render = prepare(ask(small.replace(engine="draft", **more)))
        clip = render.plan.clips[0]
        frames = np.zeros((clip.frames, 64, 64, 3), np.uint8)
        post_process(render, RenderedClip(clip=clip, frames=frames, arrival=Arrival()), {}, stop.check)

    begin(interpolate="motion")
    with pytest.raises(Cancelled):
        begin(interpolate="rife", interpolate_weights=RIFE_FILE)


# by itself


def test_who_waits_gets_what_is_there_and_hears_of_an_end() -> None:
    arrival = Arrival()
    with arrival:
        arrival.come(3)
        arrival.come(2)
        arrival.wait(go_on, 3)
    with pytest.raises(EngineError, match="ended before all frames"):
        arrival.wait(go_on, 4)
    arrival.wait(go_on, 3)
    arrival.finish()
    arrival.wait(go_on)


def test_who_waits_may_stop() -> None:
    stop = CancelFlag()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Cancelled):
        Arrival().wait(stop.check)
