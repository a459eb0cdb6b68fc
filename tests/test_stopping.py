"""Who wants to stop is heard at every moment: between steps, between frames, and while frames are made and encoded."""

import json
import signal
import subprocess
import threading
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import files_below, finish, start
from soundreel.errors import Cancelled
from soundreel.interpolation.frames import interpolate
from soundreel.media.motion import FramePair, compensate_motion
from soundreel.pipeline import generate
from soundreel.request import Request
from soundreel.types import CancelFlag, Progress, Stage

SLOW = ("--engine", "draft", "--size", "480x832", "--interpolate", "motion", "--fps", "240")
"""Drawn in a second, encoded in minutes."""


def wait_for(process: "subprocess.Popen[str]", stage: Stage, clip: int = 1) -> dict[str, object]:
    """The first event of a stage in which something of a clip is done; the process goes on meanwhile."""
    assert process.stdout is not None
    events = map(json.loads, process.stdout)
    return next(e for e in events if e.get("stage") == stage and e["clip"] == clip and e["step"] > 0)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_while_frames_are_made_and_encoded(tune: Path, tmp_path: Path, stop: signal.Signals) -> None:
    process = start("generate", tune, *SLOW, "--frames", "77", "-o", tmp_path / "a.mp4", "--progress", "json")
    wait_for(process, Stage.INTERPOLATE)
    process.send_signal(stop)
    done = finish(process)
    assert (done.code, done.err) == (130, "soundreel: cancelled, nothing was saved\n")
    told = [json.loads(line) for line in done.out.splitlines()]
    assert all(event["step"] < event["steps"] / 2 for event in told)
    assert files_below(tmp_path) == []


def test_clips_before_the_one_in_hand_are_kept(tune: Path, tmp_path: Path) -> None:
    options = (*SLOW, "--cut", "0.25", "--frames", "77", "-o", tmp_path / "a.mp4", "--progress", "json")
    process = start("generate", tune, *options)
    wait_for(process, Stage.INTERPOLATE, clip=2)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    (work,) = (tmp_path / ".soundreel").iterdir()
    assert done.code == 130
    assert done.err == f"soundreel: cancelled, 1 of 2 clips are kept, go on with: soundreel resume {work}\n"
    assert not list(tmp_path.rglob("*.tmp"))


def ask(tune: Path, folder: Path) -> Request:
    """A draft whose encoding takes some seconds."""
    return Request(
        audio=tune,
        engine="draft",
        width=256,
        height=256,
        frames=33,
        fps=120,
        interpolate="motion",
        output=folder / "a.mp4",
    )


def test_progress_is_told_while_frames_are_made(tune: Path, tmp_path: Path) -> None:
    events: list[Progress] = []
    result = generate(ask(tune, tmp_path).replace(infer_frames=20), events.append)
    made = [event for event in events if event.stage is Stage.INTERPOLATE]
    assert {event.clip for event in made} == {1, 2}
    assert len({event.done for event in made}) > 3
    assert all(before.done <= after.done for before, after in pairwise(made))
    assert {event.total for event in made} == {result.frames}
    assert all(0 <= event.step <= event.steps < result.frames for event in made)
    assert max(event.done for event in made) <= result.frames


def stop_at_first(stage: Stage, flag: CancelFlag) -> Callable[[Progress], None]:
    """Lets another thread set the flag once something of a stage is done, and goes on only when it is set."""

    def listen(progress: Progress) -> None:
        if progress.stage is stage and progress.step > 0:
            other = threading.Thread(target=flag.set)
            other.start()
            other.join()

    return listen


def test_a_flag_is_heard_between_frames(tune: Path, tmp_path: Path) -> None:
    flag, events = CancelFlag(), list[Progress]()
    listen = stop_at_first(Stage.INTERPOLATE, flag)

    def hear(progress: Progress) -> None:
        events.append(progress)
        listen(progress)

    with pytest.raises(Cancelled):
        generate(ask(tune, tmp_path), hear, cancel=flag)
    assert (events[-1].stage, events[-1].step > 0) == (Stage.INTERPOLATE, True)
    assert events[-1].step < events[-1].steps
    assert files_below(tmp_path) == []


def test_a_flag_is_heard_between_steps(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
    pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")
    renders = pytest.importorskip("native_videos")
    flag, steps = CancelFlag(), list[int]()
    listen = stop_at_first(Stage.RENDER, flag)

    def hear(progress: Progress) -> None:
        if progress.stage is Stage.RENDER:
            steps.append(progress.step)
        listen(progress)

    with pytest.raises(Cancelled):
        generate(Request(**renders.NATIVE | {"steps": 4, "output": tmp_path / "a.mp4"}), hear, cancel=flag)
    assert steps == [1]
    assert files_below(tmp_path) == []


def test_a_flag_that_is_set_before_stops_at_once(tune: Path, tmp_path: Path) -> None:
    flag, events = CancelFlag(), list[Progress]()
    flag.set()
    with pytest.raises(Cancelled):
        generate(ask(tune, tmp_path), events.append, cancel=flag)
    assert events == []


# between the frames of one pair


def two_pictures() -> list[np.ndarray]:
    noise = np.random.default_rng(0).integers(0, 255, (64, 68, 3), dtype=np.uint8)
    return [noise[:, :64], noise[:, 4:]]


def test_motion_compensation_can_be_stopped_before_each_picture() -> None:
    asked: list[int] = []
    before, after = two_pictures()
    times = tuple(Fraction(k, 10) for k in range(1, 10))
    made = compensate_motion(FramePair(before, after, times), lambda: asked.append(0))
    assert len(asked) >= len(made) == 9


def test_a_network_can_be_stopped_before_each_picture() -> None:
    torch = pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
    network = pytest.importorskip("soundreel.interpolation.network")
    seen: list[int] = []

    class Blend(torch.nn.Module):  # type: ignore[name-defined, misc]
        """The plainest network that a method takes."""

        multiple = 1

        def __init__(self) -> None:
            super().__init__()
            self.one = torch.nn.Parameter(torch.ones(1))

        def forward(self, x0: Any, x1: Any, times: Any) -> Any:
            seen.append(len(x0))
            return x0 + (x1 - x0) * times[:, :, None, None] * self.one

    def check() -> None:
        if len(seen) == 3:
            raise Cancelled

    method = network.FrameInterpolator(Blend(), by_halves=False, batch=1)
    with pytest.raises(Cancelled):
        list(interpolate(two_pictures(), method=method, fps=160, check=check))
    assert seen == [1, 1, 1]
