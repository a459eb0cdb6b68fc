"""Who wants to stop is heard at every moment: between steps, between frames, and while frames are made and encoded."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import events_of, files_below, finish, start
from counting import Counting
from media_files import tone, write_sound
from soundreel.analysis import analyse
from soundreel.driving_sound import DrivingSound
from soundreel.errors import Cancelled
from soundreel.interpolation.frames import interpolate
from soundreel.interpolation.video import VideoInterpolation, interpolate_video
from soundreel.media import mux, remux
from soundreel.media.audio import measure_levels
from soundreel.media.motion import FramePair, compensate_motion
from soundreel.media.mux import SoundTrack
from soundreel.media.video import SegmentWriter
from soundreel.pipeline import generate
from soundreel.render import publish
from soundreel.render.colour import measure
from soundreel.request import Request
from soundreel.types import CancelFlag, Check, Progress, Stage, go_on
from soundreel.units import Frames

SLOW = ("--engine", "draft", "--size", "240x416", "--interpolate", "motion", "--fps", "240")
"""Drawn in a moment, encoded in half a minute."""


def wait_for(process: "subprocess.Popen[str]", stage: Stage, clip: int = 1) -> dict[str, object]:
    """The first event of a stage in which something of a clip is done; the process goes on meanwhile."""
    return next(e for e in events_of(process) if e.get("stage") == stage and e["clip"] == clip and e["step"] > 0)


INTERRUPTED = """
import sys
from soundreel.cli.guard import guard

def command():
    try:
        exec("raise KeyboardInterrupt")
    except KeyboardInterrupt:
        sys.exit(130)

guard(command)
"""


def test_a_stop_while_a_library_is_imported_ends_with_its_exit_code(tmp_path: Path) -> None:
    """Libraries execute strings then; `python -m`, interrupted in one, would be killed by SIGINT at its end."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    assert finish(start(program=("-m", "interrupted"), cwd=tmp_path)).code == 130


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["_MediaFile.seek", "SoundreelGroup.parse_args"])
def test_a_signal_is_heard_where_it_can_be_raised_nowhere(
    tune: Path, tmp_path: Path, where: str, stop: signal.Signals
) -> None:
    """PyAV calls the first and goes on without its exception; typer takes what is raised in the second for its own."""
    program = (str(Path(__file__).with_name("moments.py")), str(tmp_path / "marks"), str(stop.value), where)
    done = finish(start("info", tune, program=program))
    assert (done.code, done.out, done.err) == (130, "", "soundreel: cancelled\n")


MORE = """
        os.kill(os.getpid(), signal.SIGTERM)
        print("tidied up", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        print("hung", flush=True)
"""
"""What follows a first signal: the second lets a process tidy up, the third ends it."""

LOST = """if True:
    import os, signal, threading, time
    from soundreel.cli.signals import stopped_by_signals
    start = threading.Thread.start
    def slowly(thread):
        start(thread)
        time.sleep(0.1)
    threading.Thread.start = slowly
    class Falls:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)
    with stopped_by_signals():
        try:
            Falls()
            time.sleep(3600)
        except KeyboardInterrupt:
            print("stopped", flush=True)
"""


def test_a_signal_that_is_lost_while_the_machine_is_busy_comes_again_and_counts_once() -> None:
    done = finish(start(program=("-c", LOST + MORE)))
    assert (done.code, done.out.splitlines(), done.err) == (130, ["stopped", "tidied up"], "")


MADE_ANOTHER = """if True:
    import os, signal
    from soundreel.cli.guard import guard
    def command():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None
    guard(command)
"""


def test_a_stop_that_a_library_makes_another_error_of_is_one() -> None:
    done = finish(start(program=("-c", MADE_ANOTHER)))
    assert (done.code, done.err) == (130, "soundreel: cancelled\n")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_while_frames_are_made_and_encoded(tune: Path, tmp_path: Path, stop: signal.Signals) -> None:
    process = start("generate", tune, *SLOW, "--frames", "77", "-o", tmp_path / "a.mp4", "--progress", "json")
    wait_for(process, Stage.INTERPOLATE)
    process.send_signal(stop)
    done = finish(process)
    *told, last = done.events
    assert (done.code, done.out, last["message"]) == (130, "", "cancelled, nothing was saved")
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
    assert done.events[-1]["message"] == f"cancelled, 1 of 2 clips are kept, go on with: soundreel resume {work}"
    assert not list(tmp_path.rglob("*.tmp"))


HEARD = """if True:
    import os, signal
    from soundreel.cli.signals import stopped_by_signals
    with stopped_by_signals():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            print("went on", flush=True)
        except KeyboardInterrupt:
            print("stopped", flush=True)
"""


def test_a_second_signal_lets_it_tidy_up_and_a_third_one_ends_it() -> None:
    done = finish(start(program=("-c", HEARD + MORE)))
    assert (done.code, done.out.splitlines(), done.err) == (130, ["stopped", "tidied up"], "")


def test_who_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    """As a process does that a script has begun in the background."""
    done = finish(start(program=("-c", HEARD), preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)))
    assert done.out.splitlines()[0] == "went on"


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


def test_a_flag_is_heard_while_sound_is_analysed(tune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flag, events, analysed = CancelFlag(), list[Progress](), list[int]()
    monkeypatch.setattr("soundreel.analysis.features.analyse_chunk", lambda chunk: analysed.append(len(chunk)))

    def hear(progress: Progress) -> None:
        events.append(progress)
        flag.set()

    sound = write_sound(tmp_path / "long.wav", tone(30.0, 8000), 8000)
    with pytest.raises(Cancelled):
        generate(ask(sound, tmp_path / "out").replace(frames=480), hear, cancel=flag)
    assert ([event.stage for event in events], analysed) == ([Stage.ANALYSE], [])
    assert files_below(tmp_path / "out") == []


@pytest.mark.parametrize("deaf", ["assemble", "verify"])
def test_a_flag_is_heard_while_the_video_is_written_and_verified(
    tune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaf: str
) -> None:
    """Both are asked to stop in the middle; the other one never asks."""
    flag, told = CancelFlag(), list[str]()
    real = {name: getattr(publish, name) for name in ("assemble", "verify")}

    def hears(*arguments: Any, check: Callable[[], object], **options: Any) -> None:
        if "finished.mp4" in str(arguments):
            told.append("asked")
            flag.set()
        real[deaf](*arguments, check=check, **options)
        told.append("done")

    def asks_nobody(*arguments: Any, check: object, **options: Any) -> None:
        real[other](*arguments, **options)

    (other,) = real.keys() - {deaf}
    monkeypatch.setattr(publish, deaf, hears)
    monkeypatch.setattr(publish, other, asks_nobody)
    request = Request(audio=tune, engine="draft", width=64, height=64, frames=9, output=tmp_path / "a.mp4")
    with pytest.raises(Cancelled) as stop:
        generate(request, cancel=flag)
    assert told == ["asked"]
    assert "1 of 1 clips are kept" in "; ".join(stop.value.__notes__)
    assert not list(tmp_path.rglob("*.mp4.*"))
    assert not (tmp_path / "a.mp4").exists()
    assert generate(request).frames == 9


def test_a_flag_is_heard_in_a_video_that_shows_what_is_there_so_far(
    tune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag, checks = CancelFlag(), list[Callable[[], object]]()
    update = publish.PartialVideo.update

    def watched(self: publish.PartialVideo, check: Callable[[], object]) -> None:
        checks.append(check)
        update(self, check)

    monkeypatch.setattr(publish.PartialVideo, "update", watched)
    request = Request(audio=tune, engine="draft", width=64, height=64, frames=9, infer_frames=4)
    generate(request.replace(output=tmp_path / "a.mp4"), cancel=flag)
    assert len(checks) == 4  # at the beginning, and after each of 3 clips
    flag.set()
    for check in checks:
        with pytest.raises(Cancelled):
            check()


@dataclass(frozen=True)
class Things:
    """What loops go over: 2 s of sound, a film of 32 frames with it, and the same at twice the rate."""

    sound: Path
    segment: Path
    film: Path
    smooth: Path
    out: Path


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Things:
    folder = tmp_path_factory.mktemp("things")
    made = Things(*(folder / name for name in ("a.wav", "segment.mp4", "film.mp4", "smooth.mp4", "out.mp4")))
    write_sound(made.sound, tone(2.0, 8000), 8000, "pcm_f32le")
    with SegmentWriter(made.segment, width=32, height=32) as writer:
        writer.write(pictures(32))
    track = SoundTrack(path=made.sound, start=0.0, seconds=2.0)
    mux.assemble([made.segment], made.film, fps=16, sound=track, metadata={})
    with SegmentWriter(made.smooth, width=32, height=32, fps=32) as writer:
        writer.write(pictures(64))
    return made


def pictures(count: int) -> Frames:
    return np.arange(count, dtype=np.uint8).repeat(32 * 32 * 3).reshape(count, 32, 32, 3)


def replace_pictures(things: Things, check: Check) -> None:
    rate = {"fps": Fraction(32), "file_format": "mp4"}
    remux.replace_pictures(things.film, things.smooth, things.out, **rate, metadata={}, check=check)  # type: ignore[arg-type]


def verify_replaced(things: Things, check: Check) -> None:
    if not things.out.exists():
        replace_pictures(things, go_on)
    remux.verify_replaced(things.film, things.out, frames=64, fps=Fraction(32), file_format="mp4", check=check)


def analyse_sound(things: Things, check: Check) -> None:
    os.utime(things.sound)  # or what was found before is given again
    analyse(things.sound, start=0.0, seconds=2.0, frames=32, check=check)


LOOPS: dict[str, tuple[Callable[[Things, Check], object], int]] = {
    "analysis": (analyse_sound, 2),
    "levels": (lambda it, check: measure_levels(it.sound, start=0, seconds=2, check=check), 2),
    "driving sound": (lambda it, check: DrivingSound(path=it.sound, start=0, seconds=2).samples(2, check), 1),
    "colours": (lambda _, check: measure(pictures(32), check), 8),
    "assembly": (
        lambda it, check: mux.assemble([it.segment], it.out, fps=16, sound=None, metadata={}, check=check),
        32,
    ),
    "verification": (lambda it, check: mux.verify(it.film, frames=32, fps=16, sound=True, check=check), 33),
    "new pictures": (replace_pictures, 64),
    "verification of new pictures": (verify_replaced, 64),
}
"""Each with the times that it asks, at least: once for a picture, a second of sound or a packet."""


@pytest.mark.parametrize("name", LOOPS)
def test_every_loop_asks_whether_to_stop(things: Things, name: str) -> None:
    loop, at_least = LOOPS[name]
    counted = Counting()
    loop(things, counted)
    assert counted.calls >= at_least
    stopped = Counting(stop_at=counted.calls)
    with pytest.raises(Cancelled):
        loop(things, stopped)
    assert stopped.calls == counted.calls


def test_a_flag_is_heard_while_a_video_is_made_smoother(things: Things, tmp_path: Path) -> None:
    film, flag, events = tmp_path / "film.mp4", CancelFlag(), list[Progress]()
    film.write_bytes(things.film.read_bytes())

    def hear(progress: Progress) -> None:
        events.append(progress)
        flag.set()

    with pytest.raises(Cancelled):
        interpolate_video(VideoInterpolation(video=film), hear, cancel=flag)
    assert len(events) == 1
    assert files_below(tmp_path) == ["film.mp4"]


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
