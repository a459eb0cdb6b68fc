"""Shots that several processes render: the same video, whoever rendered what, is killed, or is one of how many."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from command import Outcome, events_of, finish, run_here, start
from draft_renders import clip_files, frames_of
from media_files import quick_sound
from native_videos import AS_OPTIONS
from soundreel import pipeline
from soundreel.disk.processes import start_of
from soundreel.engines.base import Device, Elsewhere, Estimate
from soundreel.engines.draft.engine import DraftEngine
from soundreel.errors import Cancelled
from soundreel.pipeline import generate
from soundreel.planning import plan
from soundreel.render import kept_processes
from soundreel.render.claims import Claims, read_claimant
from soundreel.render.division import Division, divide, fitting, schedule_of
from soundreel.render.kept_processes import Ended, KeptProcesses, ShotProcess
from soundreel.render.negatives import NegativeStore
from soundreel.render.recipe import read_recipe
from soundreel.render.shot_jobs import Stored
from soundreel.render.shot_processes import SharedProgress, ShotProcesses
from soundreel.render.work_folder import WorkFolder
from soundreel.request import Request, WorkOptions
from soundreel.session import Session
from soundreel.types import Plan, Progress, Stage
from weight_files import GOLDEN, OFFICIAL, needs_golden

HANGS_SECONDS = 120

DRAFT = (
    *("--engine", "draft", "--device", "cpu", "--size", "64x64", "--frames", "48", "--infer-frames", "8"),
    *("--cut", "1.0", "--cut", "2.0", "--interpolate", "motion", "--keep-work"),
)
"""Three shots of three clips, 5 + 8 + 3 frames, and frames between that hang together in a shot."""

LONG = (
    *("--engine", "draft", "--device", "cpu", "--size", "64x64", "--frames", "144", "--infer-frames", "8"),
    *("--cut", "3", "--cut", "6", "--interpolate", "motion", "--keep-work"),
)
"""Three shots of seven clips: whoever is to be stopped in one is."""

CLIPS = 21


@pytest.fixture(scope="module")
def tune(tune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_sound(tune, tmp_path_factory.mktemp("quick"))


def command(sound: Path, folder: Path, *options: str) -> list[str]:
    return ["generate", str(sound), *options, "-o", str(folder / "a.mp4"), "--progress", "json"]


def work_folder(folder: Path) -> Path:
    (plan_file,) = (folder / ".soundreel").glob("*/plan.json")
    return plan_file.parent


def rendered(capsys: pytest.CaptureFixture[str], sound: Path, folder: Path, *options: str) -> Outcome:
    folder.mkdir(exist_ok=True)
    done = run_here(capsys, *command(sound, folder, *options))
    assert done.code == 0, done.err
    return done


def content(folder: Path) -> dict[str, bytes]:
    """Of all pictures and negatives of a render."""
    work = work_folder(folder)
    return clip_files(work, ".mp4") | clip_files(work, ".safetensors")


# the same video


def test_three_processes_render_what_one_does_and_show_one_progress(
    tune: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rendered(capsys, tune, tmp_path / "one", *DRAFT)
    done = rendered(capsys, tune, tmp_path / "three", *DRAFT, "--gpus", "3")
    assert content(tmp_path / "three") == content(tmp_path / "one")
    assert len(content(tmp_path / "three")) == 9 + 6
    assert frames_of(tmp_path / "three/a.mp4") == frames_of(tmp_path / "one/a.mp4")
    assert not list(tmp_path.rglob("claim_*"))
    begun, *told, ended = done.events
    assert begun["devices"] == "3 processes on the CPU, a shot at a time each"
    assert ended["notes"] == begun["notes"] == []
    for stage in ("render", "interpolate"):
        steps = [event["done"] for event in told if event["stage"] == stage]
        assert steps == sorted(steps)
        assert {event["total"] for event in told if event["stage"] == stage} <= {48}
    assert max(event["done"] for event in told) == 48
    assert {event["clip"] for event in told if event["stage"] == "render"} == set(range(1, 10))
    recipe = read_recipe(tmp_path / "three/a.mp4")
    assert {"gpus", "parallel"}.isdisjoint(recipe["request"]["compute"])


def test_processes_end_while_the_video_is_finished_and_before_its_folder_is_let_go(
    tune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they leave in the folder is removed by then, and nobody else is at work in it."""
    events: list[str] = []
    is_waited_for = threading.Event()

    def noting(owner: Any, name: str, before: Callable[[], object] = lambda: None) -> None:
        method = getattr(owner, name)

        def noted(*given: Any, **named: Any) -> Any:
            before()
            made = method(*given, **named)
            events.append(name)
            return made

        monkeypatch.setattr(owner, name, noted)

    def as_slowly_as_a_gpu() -> None:
        if threading.current_thread() is not threading.main_thread():
            is_waited_for.wait(HANGS_SECONDS)

    noting(kept_processes, "end", as_slowly_as_a_gpu)
    noting(Claims, "remove_those_of_the_dead")
    noting(pipeline, "_write")
    noting(WorkFolder, "finish")
    wait = KeptProcesses.wait

    def asked(kept: KeptProcesses) -> None:
        if "_write" in events:
            is_waited_for.set()
        wait(kept)

    monkeypatch.setattr(KeptProcesses, "wait", asked)
    request = Request(
        audio=tune, engine="draft", device="cpu", width=64, height=64, frames=16, cuts=(0.5,), output=tmp_path / "a.mp4"
    )
    generate(request.replace(gpus="2"))
    after = events.index("_write")
    assert events[after : events.index("finish") + 1] == ["_write", "end", "remove_those_of_the_dead", "finish"]


def test_a_script_without_a_main_guard_may_use_several_processes(tune: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import soundreel\n"
        f"soundreel.generate(soundreel.Request(audio={str(tune)!r}, engine='draft', device='cpu', gpus='2', "
        f"width=64, height=64, frames=16, cuts=(0.5,), output={str(tmp_path / 'a.mp4')!r}))\n"
        "print('once')\n"
    )
    done = finish(start(program=(str(script),), cwd=tmp_path))
    assert (done.code, done.out) == (0, "once\n"), done.err


def test_a_session_renders_with_several_processes_and_then_by_itself(tune: Path, tmp_path: Path) -> None:
    request = Request(
        audio=tune, engine="draft", device="cpu", width=64, height=64, frames=16, cuts=(0.5,), output=tmp_path / "a.mp4"
    )
    with Session() as session:
        session.generate(request.replace(gpus="2"))
        session.generate(request.replace(output=tmp_path / "b.mp4"), work=WorkOptions(work_dir=tmp_path / "work"))
    assert frames_of(tmp_path / "a.mp4") == frames_of(tmp_path / "b.mp4")


def runs(pid: int) -> bool:
    """Whether a process is there, and not only its end to be heard of."""
    return start_of(pid) is not None and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


class TestSession:
    """It keeps the processes, and what they have loaded, from one render to the next."""

    @pytest.fixture
    def begun(self, monkeypatch: pytest.MonkeyPatch) -> list[ShotProcess]:
        """The processes that were started."""
        found: list[ShotProcess] = []
        start_one = ShotProcess.__init__

        def start_and_tell(process: ShotProcess, devices: tuple[str, ...]) -> None:
            start_one(process, devices)
            found.append(process)

        monkeypatch.setattr(ShotProcess, "__init__", start_and_tell)
        return found

    def request(self, sound: Path, output: Path, **more: Any) -> Request:
        fields: dict[str, Any] = {"engine": "draft", "device": "cpu", "width": 64, "height": 64, "frames": 24}
        return Request(audio=sound, output=output, **fields | {"gpus": "2", "cuts": (0.5, 1.0)} | more)

    def test_processes_stay_and_go_with_it(self, tune: Path, tmp_path: Path, begun: list[ShotProcess]) -> None:
        with Session() as session:
            for number in range(3):
                session.generate(self.request(tune, tmp_path / f"{number}.mp4", seed=number))
            assert len(begun) == 2
            assert all(runs(process.pid) for process in begun)
            session.generate(self.request(tune, tmp_path / "three.mp4", gpus="3", seed=3))
            assert len(begun) == 3
            session.generate(self.request(tune, tmp_path / "two.mp4", seed=4))
            assert len(begun) == 3
            assert sum(runs(process.pid) for process in begun) == 2, "who has nothing to do holds nothing"
            session.generate(self.request(tune, tmp_path / "alone.mp4", gpus=None, seed=5))
            assert not any(runs(process.pid) for process in begun), "this process has the devices"
            session.generate(self.request(tune, tmp_path / "last.mp4", seed=6))
            assert len(begun) == 5
        assert not any(runs(process.pid) for process in begun)
        for number in range(2):
            request = self.request(tune, tmp_path / f"alone{number}.mp4", gpus=None, seed=number)
            generate(request, work=WorkOptions(work_dir=tmp_path / "work"))
            assert frames_of(tmp_path / f"alone{number}.mp4") == frames_of(tmp_path / f"{number}.mp4")

    def test_one_that_died_meanwhile_is_replaced(self, tune: Path, tmp_path: Path, begun: list[ShotProcess]) -> None:
        with Session() as session:
            session.generate(self.request(tune, tmp_path / "one.mp4"))
            os.kill(begun[0].pid, signal.SIGKILL)
            wait_for(lambda: not begun[0].is_there)  # its last threads may outlive the one that is seen to end
            done = session.generate(self.request(tune, tmp_path / "two.mp4", seed=2))
            assert done.notes == ()
            assert len(begun) == 3

    def test_one_that_dies_before_it_is_told_of_a_job_is_heard_of(self, begun: list[ShotProcess]) -> None:
        process, messages = ShotProcess(("cpu",)), SimpleQueue[tuple[int, object]]()
        process.kill()
        process.wait()
        job: Any = "a job"
        process.begin(job, 3, messages)
        assert messages.get(timeout=HANGS_SECONDS) == (3, Ended())

    def test_after_an_error_the_next_render_has_new_ones(
        self, tune: Path, tmp_path: Path, begun: list[ShotProcess]
    ) -> None:
        def cancel(progress: Progress) -> None:
            if progress.stage is Stage.RENDER:
                raise Cancelled

        with Session() as session:
            with pytest.raises(Cancelled):
                session.generate(self.request(tune, tmp_path / "one.mp4"), cancel)
            assert not any(runs(process.pid) for process in begun)
            session.generate(self.request(tune, tmp_path / "one.mp4"))
            assert len(begun) == 4

    def test_they_end_when_the_session_is_killed(self, tune: Path, tmp_path: Path) -> None:
        script = tmp_path / "script.py"
        script.write_text(
            "import soundreel, time\n"
            "with soundreel.Session() as session:\n"
            f"    session.generate(soundreel.Request(audio={str(tune)!r}, engine='draft', device='cpu', gpus='2', "
            f"width=64, height=64, frames=16, cuts=(0.5,), output={str(tmp_path / 'a.mp4')!r}))\n"
            "    print([process.pid for process in session._kept._idle], flush=True)\n"
            f"    time.sleep({HANGS_SECONDS})\n"
        )
        process = start(program=(str(script),), cwd=tmp_path)
        assert process.stdout is not None
        pids = json.loads(process.stdout.readline())
        assert len(pids) == 2
        assert all(map(runs, pids))
        process.kill()
        wait_for(lambda: not any(map(runs, pids)))
        finish(process)

    @needs_golden
    def test_what_they_have_loaded_is_read_once(self, tmp_path: Path, begun: list[ShotProcess]) -> None:
        fields: dict[str, Any] = {
            "engine": "native",
            "models": OFFICIAL,
            "infer_frames": 8,
            "steps": 1,
            "frames": 8,
            "cuts": (0.25,),
        }
        read: list[list[str]] = []
        with Session() as session:
            for number in range(2):
                told: list[Progress] = []
                request = self.request(
                    GOLDEN / "inputs" / "speech_2s.wav", tmp_path / f"{number}.mp4", **fields, seed=number
                )
                session.generate(request.replace(parallel="shots"), told.append)
                read.append([one.what for one in told if one.stage is Stage.LOAD])
        assert len(begun) == 2
        assert len(read[0]) > 2
        assert read[1] == ["2 processes"]


def test_what_a_shot_goes_on_from_is_kept_while_another_one_is_rendered(tmp_path: Path) -> None:
    made = planned(5)
    store = NegativeStore(tmp_path, made, [f"{clip.index:08x}" for clip in made.clips])
    first, second = made.shots
    carries = {"motion": np.zeros(3, np.float32)}
    for clip in (first.clips[0], second.clips[0], first.clips[1]):
        store.keep_carry(clip.index, carries)
    kept = [path.name[:11] for path in sorted(tmp_path.glob("carry_*"))]
    assert kept == ["carry_00002", f"carry_{second.clips[0].index + 1:05d}"]
    store.end_chain(first.clips[-1].index)
    assert [path.name[:11] for path in tmp_path.glob("carry_*")] == kept[1:]


@needs_golden
def test_two_processes_of_the_native_engine_sample_the_same_latents_and_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = GOLDEN / "inputs" / "speech_2s.wav"
    options = (*AS_OPTIONS, "--frames", "18", "--steps", "1", "--cut", "0.5625")
    rendered(capsys, sound, tmp_path / "one", *options)
    rendered(capsys, sound, tmp_path / "two", *options, "--gpus", "2", "--parallel", "shots")
    assert content(tmp_path / "two") == content(tmp_path / "one")
    assert len(content(tmp_path / "two")) == 4 + 4
    assert not list(tmp_path.rglob("carry_*"))


@pytest.mark.long
@needs_golden
def test_native_shots_are_printed_and_drawn_again_by_several_processes_as_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = GOLDEN / "inputs" / "speech_2s.wav"
    options = (*AS_OPTIONS, "--frames", "27", "--steps", "2", "--cut", "0.5625", "--cut", "1.125")
    for name, more in (("one", ()), ("three", ("--gpus", "3"))):
        rendered(capsys, sound, tmp_path / name, *options, *more)
        for words in (("reprint", "--crf", "30"), ("redo", "3", "--seed", "99")):
            done = run_here(capsys, words[0], tmp_path / name / "a.mp4", *words[1:], "--quiet")
            assert done.code == 0, done.err
    for video in ("a.mp4", "a_print2.mp4", "a_take2.mp4"):
        assert frames_of(tmp_path / "three" / video) == frames_of(tmp_path / "one" / video)


@pytest.mark.long
@needs_golden
def test_fewer_shots_than_gpus_are_divided_further(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = GOLDEN / "inputs" / "speech_2s.wav"
    options = (*AS_OPTIONS, "--frames", "18", "--steps", "2", "--cut", "0.5625")
    rendered(capsys, sound, tmp_path / "one", *options)
    done = rendered(capsys, sound, tmp_path / "four", *options, "--gpus", "4")
    assert done.events[0]["devices"] == "2 processes on the CPU, a shot at a time each"
    assert frames_of(tmp_path / "four/a.mp4") == frames_of(tmp_path / "one/a.mp4")


# broken off


class UnderWay:
    """A command whose processes are in the middle of their shots."""

    def __init__(self, sound: Path, folder: Path, processes: int = 2) -> None:
        self.folder = folder
        words = command(sound, folder, *LONG, "--gpus", str(processes))
        self.first = start(*words, start_new_session=True)
        assert any(event.get("stage") == "render" and event["done"] > 16 for event in events_of(self.first))
        self.pids = wait_for(lambda: self._claimed(processes))

    def _claimed(self, processes: int) -> list[int]:
        claims = (read_claimant(path.read_bytes()) for path in work_folder(self.folder).glob("claim_*.json"))
        pids = [claim.pid for claim in claims if claim is not None]
        return pids if len(pids) == processes else []

    def wait_for_the_end_of_all(self) -> None:
        wait_for(lambda: not any(start_of(pid) for pid in self.pids))


def wait_for(found: Callable[[], object]) -> object:
    """What `found` returns once it is anything."""
    end = time.monotonic() + HANGS_SECONDS
    while not (result := found()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return result


@pytest.fixture(scope="module")
def unbroken(tune: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("unbroken")
    done = finish(start(*command(tune, folder, *LONG)))
    assert done.code == 0, done.err
    return frames_of(folder / "a.mp4")


@pytest.fixture
def under_way(tune: Path, tmp_path: Path) -> Iterator[UnderWay]:
    begun = UnderWay(tune, tmp_path)
    yield begun
    for pid in begun.pids:
        if start_of(pid):
            os.kill(pid, signal.SIGKILL)


def goes_on(capsys: pytest.CaptureFixture[str], sound: Path, folder: Path, *options: str) -> int:
    """Finish the render; returns how many clips were there."""
    before = len(list(work_folder(folder).glob("clip_*.json")))
    rendered(capsys, sound, folder, *LONG, *options)
    assert not list(folder.rglob("claim_*"))
    return before


def test_the_shot_of_a_killed_process_is_taken_over_and_the_video_is_the_same(
    under_way: UnderWay, tmp_path: Path, unbroken: list[bytes]
) -> None:
    os.kill(under_way.pids[0], signal.SIGKILL)
    done = finish(under_way.first)
    assert done.code == 0, done.err
    (note,) = (note for note in done.events[-1]["notes"] if note.startswith("process"))
    assert "of 2 (cpu) was ended by SIGKILL" in note
    assert note.endswith("the others rendered its shots")
    assert frames_of(tmp_path / "a.mp4") == unbroken
    assert not list(tmp_path.rglob("claim_*"))


def test_a_clip_of_a_process_that_was_killed_before_it_could_say_so_is_found_when_the_others_are_done(
    tune: Path,
    tmp_path: Path,
    unbroken: list[bytes],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hears = ShotProcesses.next_message
    monkeypatch.setattr(
        ShotProcesses, "next_message", lambda them: None if isinstance(said := hears(them), Stored) else said
    )
    rendered(capsys, tune, tmp_path, *LONG, "--gpus", "2")
    assert frames_of(tmp_path / "a.mp4") == unbroken


def test_claims_of_processes_that_were_killed_while_they_made_them_are_nobody_s(
    tune: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rendered(capsys, tune, tmp_path, *DRAFT, "--gpus", "2")
    before = frames_of(tmp_path / "a.mp4")
    for left in work_folder(tmp_path).glob("clip_0000[456]_*"):  # those of the second shot
        left.unlink()
    for shot in (1, 2, 3):
        (work_folder(tmp_path) / f"claim_{shot:05d}_000.json").touch()
    rendered(capsys, tune, tmp_path, *DRAFT, "--gpus", "2")
    assert frames_of(tmp_path / "a.mp4") == before
    assert not list(tmp_path.rglob("claim_*"))


def test_when_all_are_killed_one_message_says_so_and_the_command_goes_on(
    under_way: UnderWay, tune: Path, tmp_path: Path, unbroken: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    for pid in under_way.pids:
        os.kill(pid, signal.SIGKILL)
    done = finish(under_way.first)
    assert done.code == 5
    message = done.events[-1]["message"]
    assert message.count("was ended by SIGKILL") == 2
    assert "clips are kept, go on with: soundreel resume" in message
    assert goes_on(capsys, tune, tmp_path) > 0
    assert frames_of(tmp_path / "a.mp4") == unbroken


def test_a_second_command_is_refused_and_when_the_first_is_killed_the_others_end_and_another_number_goes_on(
    under_way: UnderWay, tune: Path, tmp_path: Path, unbroken: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    for pid in (under_way.first.pid, *under_way.pids):
        os.kill(pid, signal.SIGSTOP)
    second = run_here(capsys, *command(tune, tmp_path, *LONG, "--gpus", "3"))
    assert second.code == 2
    assert f"process {under_way.first.pid} is rendering" in second.err
    under_way.first.kill()
    for pid in under_way.pids:
        os.kill(pid, signal.SIGCONT)
    finish(under_way.first)
    under_way.wait_for_the_end_of_all()
    assert 0 < goes_on(capsys, tune, tmp_path, "--gpus", "3") < CLIPS
    assert frames_of(tmp_path / "a.mp4") == unbroken


@pytest.mark.parametrize("how", ["Ctrl-C in a terminal", "SIGTERM to the first"])
def test_a_stopped_command_ends_all_and_keeps_what_is_done(
    under_way: UnderWay, tune: Path, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if how == "SIGTERM to the first":
        under_way.first.send_signal(signal.SIGTERM)
    else:
        os.killpg(under_way.first.pid, signal.SIGINT)
    done = finish(under_way.first)
    assert done.code == 130
    assert not any(start_of(pid) for pid in under_way.pids)
    kept = len(list(work_folder(tmp_path).glob("clip_*.json")))
    says = f"cancelled, {kept} of {CLIPS} clips are kept, go on with: soundreel resume {work_folder(tmp_path)}"
    assert done.events[-1]["message"] == says
    assert kept > 0
    assert "Traceback" not in done.err
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("claim_*"))


def test_ctrl_c_while_the_processes_start_is_one_line(tune: Path, tmp_path: Path) -> None:
    first = start(*command(tune, tmp_path, *LONG, "--gpus", "3"), start_new_session=True)
    assert any(event.get("what") == "3 processes" for event in events_of(first))
    time.sleep(0.1)  # whenever it comes: in the middle of their start, most likely
    os.killpg(first.pid, signal.SIGINT)
    done = finish(first)
    assert done.code == 130
    assert [event["event"] for event in done.events[-1:]] == ["error"]
    assert "Traceback" not in done.err
    wait_for(lambda: not is_there(first.pid))


def is_there(group: int) -> bool:
    """Whether any process of a group is."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_error_that_would_come_again_ends_all_with_one_message(tune: Path, tmp_path: Path) -> None:
    limit = 8_000  # bytes: enough for plan and pictures
    program = (
        "-c",
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "import sys; sys.argv[0] = 'soundreel'\n"
        "from soundreel.__main__ import main; main()",
    )
    done = finish(start(*command(tune, tmp_path, *DRAFT, "--gpus", "2"), program=program))
    assert done.code == 3, done.err
    assert re.match(r"cannot write 'clip_\d{5}_[0-9a-f]{8}\.safetensors'", done.events[-1]["message"])
    assert "Traceback" not in done.err
    assert not list(tmp_path.rglob("claim_*"))


# what is said of it


def test_a_plan_shows_how_it_would_be_done(tune: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("plan", str(tune), *DRAFT[:-1], "--gpus", "2")
    told = run_here(capsys, *words)
    expected = (
        "devices 2 processes on the CPU, a shot at a time each, for nothing passes a cut: 2 + 1 shots, all compute on "
        "the same cores"
    )
    assert expected in " ".join(told.out.split())
    facts = json.loads(run_here(capsys, *words, "--json").out)
    assert facts["processes"] == [{"devices": ["cpu"], "shots": 2}, {"devices": ["cpu"], "shots": 1}]
    assert facts["speedup"] is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--gpus", "two"), "gpus is 'two': expected a number as 2, all, or different numbers as 0,2"),
        (("--gpus", "1,1"), "gpus is '1,1': expected"),
        (("--gpus", "0"), "gpus is '0': expected"),
        (("--gpus", "2", "--parallel", "clips"), "parallel is 'clips': expected auto, shots, guidance or tokens"),
    ],
)
def test_what_cannot_be_is_refused(
    tune: Path, tmp_path: Path, options: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run_here(capsys, *command(tune, tmp_path, *DRAFT, *options))
    assert done.code == 2
    assert says in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "notes"),
    [
        (("--device", "auto", "--gpus", "2"), ["--gpus has no effect on the engine draft"]),
        (
            ("--device", "cpu", "--gpus", "2", "--parallel", "shots"),
            ["--parallel shots: there is one shot, which one process renders; --cut makes more of them"],
        ),
        (("--device", "cpu", "--gpus", "3", "--cut", "0.5"), ["1 process has nothing to do: there are 2 shots"]),
        (("--device", "cpu", "--gpus", "1", "--cut", "0.5"), []),
    ],
)
def test_what_is_of_no_use_is_said(
    tune: Path, options: tuple[str, ...], notes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("plan", str(tune), "--engine", "draft", "--size", "64x64", "--frames", "16", *options, "--json")
    assert json.loads(run_here(capsys, *words).out)["notes"] == notes


# arithmetic


class EightGpus:
    """Of an engine, what a division asks for."""

    name = "native"
    divides_clips = True

    kinds = ("NVIDIA H200",) * 9

    def devices(self, request: Request) -> list[Device]:
        return [Device(f"cuda:{number}", self.kinds[number]) for number in range(int(request.compute.gpus or "1"))]


def planned(*cuts: float, **compute: str) -> Plan:
    request = Request(audio="song.mp3", frames=160, infer_frames=16, cuts=cuts, **compute)
    return plan(request, 10.0)


def divided(made: Plan) -> Division:
    engine: Any = EightGpus()
    return divide(made, engine)


@pytest.mark.parametrize(
    ("gpus", "cuts", "parallel", "expected"),
    [
        ("4", (2.5, 5, 7.5), "auto", ["0", "1", "2", "3"]),
        ("8", (2.5, 5, 7.5), "auto", ["0,1", "2,3", "4,5", "6,7"]),
        ("8", (5,), "auto", ["0,1,2,3", "4,5,6,7"]),
        ("9", (5,), "auto", []),  # 8 of 9 in use
        ("8", (2, 4), "auto", []),  # 2 + 2 + 6 s
        ("2", (1, 2, 6), "auto", ["0", "1"]),  # 1 + 1 + 4 + 4 s
        ("2", (4, 6), "auto", []),  # 4 + 2 + 4 s
        ("8", (2, 4), "shots", ["0", "1", "2"]),
        ("2", (), "auto", []),
        ("2", (), "shots", []),
        ("2", (5,), "tokens", []),
        ("1", (5,), "auto", []),
    ],
)
def test_gpus_divide_shots_where_all_stay_busy_and_several_may_have_one_shot(
    gpus: str, cuts: tuple[float, ...], parallel: str, expected: list[str]
) -> None:
    made = planned(*cuts, gpus=gpus, parallel=parallel)
    division = divided(made)
    assert [",".join(name[5:] for name in devices) for devices in division.processes] == expected
    for number, devices in enumerate(expected):
        compute = division.request_of(made.request, number).compute
        assert compute.device == f"cuda:{devices[0]}"
        assert compute.gpus == (devices if "," in devices else None)
        assert compute.parallel == "auto"


def test_who_would_do_nothing_is_told_of_however_shots_are_divided() -> None:
    engine: Any = EightGpus()
    engine.kinds = ("NVIDIA H200",) * 10
    nine = plan(Request(audio="song.mp3", frames=144, cuts=tuple(map(float, range(1, 9))), gpus="10"), 9.0)
    division = divide(nine, engine)
    assert (len(division.processes), division.notes) == (9, ("1 GPU has nothing to do: there are 9 shots",))
    assert divided(planned(2, 4, 6, gpus="2")).notes == ()


@pytest.mark.parametrize("parallel", ["auto", "shots"])
def test_gpus_of_several_kinds_divide_shots_alone_and_that_is_noted(parallel: str) -> None:
    engine: Any = EightGpus()
    engine.kinds = ("NVIDIA A40", "NVIDIA H200", "NVIDIA A40", "NVIDIA A40")
    division = divide(planned(5, gpus="4", parallel=parallel), engine)
    assert division.processes == (("cuda:0",), ("cuda:1",)), "auto would have had two in each"
    assert division.kinds == ("NVIDIA A40", "NVIDIA H200")
    idle, several = division.notes
    assert idle == "2 GPUs have nothing to do: there are 2 shots"
    assert several.startswith("--gpus are of several kinds (NVIDIA A40, NVIDIA H200), and each rounds in its own way")
    assert fitting(division, None) == division


def test_the_recipe_says_which_clip_is_whose_where_kinds_differ(
    tune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = ["one kind", "another"]
    monkeypatch.setattr(DraftEngine, "devices", lambda *_: [Device("cpu", kind) for kind in kinds])
    done = rendered(capsys, tune, tmp_path / "several", *DRAFT, "--gpus", "2")
    noted = [clip.get("device") for clip in read_recipe(done.path)["plan"]["clips"]]
    assert set(noted) <= set(kinds), "whoever took them"
    of_shots = {clip["shot"]: clip["device"] for clip in read_recipe(done.path)["plan"]["clips"]}
    assert [of_shots[clip["shot"]] for clip in read_recipe(done.path)["plan"]["clips"]] == noted
    kinds[1] = kinds[0]
    done = rendered(capsys, tune, tmp_path / "one", *DRAFT, "--gpus", "2")
    assert all("device" not in clip for clip in read_recipe(done.path)["plan"]["clips"])


def test_what_is_divided_by_shots_alone_no_engine_divides_further() -> None:
    made = planned(gpus="2", parallel="shots")
    assert divided(made).plan_of(made).request.compute.gpus is None
    made = planned(gpus="2", parallel="auto")
    assert divided(made).plan_of(made).request.compute.gpus == "2"


def test_the_speedup_is_that_of_the_longest_process() -> None:
    made = planned(1, 2, 6, gpus="2", parallel="shots")
    division = divided(made)
    assert schedule_of(made, division, Estimate(seconds=None, memory_bytes=None)).speedup == pytest.approx(2.0)
    seconds = tuple(clip.frames / 16 + (clip.shot == 3) for clip in made.clips)
    estimate = Estimate(seconds=100.0 + sum(seconds), memory_bytes=None, clip_seconds=seconds)
    found = schedule_of(made, division, estimate)
    last = 4 + len(made.shots[3].clips)
    assert found.speedup == pytest.approx(sum(seconds) / max(last, sum(seconds) - last))
    assert found.saved_seconds == pytest.approx(sum(seconds) - max(last, sum(seconds) - last))
    assert sum(found.shots) == 4


def test_there_are_no_more_processes_than_host_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soundreel.render.division.available_memory", lambda: 100 * 10**9)
    division = divided(planned(2, 4, 6, gpus="4", parallel="shots"))
    assert fitting(division, None) == division
    assert fitting(division, 25 * 10**9) == division
    fewer = fitting(division, 40 * 10**9)
    assert fewer.processes == division.processes[:2]
    assert "40.00 GB" in fewer.notes[0]
    assert not fitting(division, 80 * 10**9).is_divided


def test_processes_that_are_there_have_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    division = Division(processes=(("cuda:0",), ("cuda:1",), ("cuda:2",)))
    monkeypatch.setattr("soundreel.render.division.available_memory", lambda: 11 * 10**9)
    assert len(fitting(division, 10 * 10**9).processes) == 1
    assert len(fitting(division, 10 * 10**9, there=2).processes) == 3
    engine = pytest.importorskip("soundreel.engines.native").NativeEngine()
    engine.elsewhere = Elsewhere(there=1, held={"cuda:0": 7})
    device = pytest.importorskip("torch").device
    assert [engine._bytes_on(device("cuda", number)) for number in range(2)] == [7, 0]


def test_progress_of_several_processes_only_rises() -> None:
    made, told = planned(5), list[Progress]()
    total = len(made.clips)
    shared = SharedProgress(made, range(2, total), told.append)
    assert all(clip.frames > 1 for clip in made.clips)
    shared(Progress(stage=Stage.LOAD, what="VAE", done=1, total=2))
    for clip, step in ((4, 1), (8, 1), (4, 2), (4, 1)):
        shared(Progress(stage=Stage.RENDER, clip=clip, clips=total, step=step, steps=2, done=99, total=100))
    shared.is_stored(2)
    shared(Progress(stage=Stage.PRINT, clip=8, clips=total, done=3, total=total))
    assert told[0].what == "VAE"
    there = made.clips[0].frames + made.clips[1].frames
    half, other = made.clips[3].frames / 2, made.clips[7].frames / 2
    done = [there + half, there + half + other, there + 2 * half + other, there + 2 * half + other]
    done.append(done[-1] + made.clips[2].frames)
    assert [progress.done for progress in told[1:]] == [round(count) for count in done]
    assert {progress.total for progress in told[1:]} == {160}
