"""The native engine on several processes: what one process renders, nothing that hangs, nobody who stays behind."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")

import torch

from command import REPO, Outcome, events_of, finish, run_here, start
from conftest import GIVEN
from native_renders import CHAIN, SPEECH, chain_of, native_plan, native_request, rendered
from native_videos import AS_OPTIONS
from parity.case import read_cases
from parity.end_to_end import run_end_to_end
from soundreel.engines.native import shared_work, workers
from soundreel.engines.native.rank_process import Begin, Load
from soundreel.engines.native.team import Team
from soundreel.engines.native.workers import Crew
from soundreel.errors import EngineError
from soundreel.media.video import read_frames
from soundreel.session import Session
from soundreel.types import Plan, Progress, Stage
from weight_files import OFFICIAL

LIMIT = 1e-5
"""Relative L2 of the difference, in float32."""

SECONDS_TO_END = 30
CPU = torch.device("cpu")


def latents(planned: Plan, folder: Path) -> list[Any]:
    """What a render left of each clip."""
    chain = chain_of(planned, folder)
    return [negative.latents.numpy() for clip in planned.clips if (negative := chain.find(clip)) is not None]


def frames(path: Path) -> list[bytes]:
    return [frame.tobytes() for frame in read_frames(path)]


def assert_equal(made: list[Any], expected: list[Any]) -> None:
    assert len(made) == len(expected)
    for ours, theirs in zip(made, expected, strict=True):
        assert np.linalg.norm(ours - theirs) < LIMIT * np.linalg.norm(theirs)


FIELDS = CHAIN | {"steps": 3}


@pytest.fixture(scope="module")
def expected(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[float, list[Any]]:
    """Latents of one process, by guidance scale."""
    found = {}
    for scale in (1.0, 4.5):
        folder, planned = tmp_path_factory.mktemp("one"), native_plan(**FIELDS, guide_scale=scale)
        rendered(planned, folder=folder)
        found[scale] = latents(planned, folder)
    return found


class TestResult:
    """It is that of one process."""

    @pytest.mark.parametrize(
        ("scale", "more"),
        [
            (4.5, {"gpus": "2"}),
            pytest.param(4.5, {"gpus": "2", "parallel": "tokens"}, marks=pytest.mark.long),
            (1.0, {"gpus": "2"}),
        ],
    )
    def test_latents(
        self, expected: dict[float, list[Any]], tmp_path: Path, scale: float, more: dict[str, str]
    ) -> None:
        planned = native_plan(**FIELDS, guide_scale=scale, **more)
        rendered(planned, folder=tmp_path)
        assert_equal(latents(planned, tmp_path), expected[scale])

    def test_pictures_are_made_by_all_and_their_clips_say_so(
        self, golden: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a CPU PyTorch's convolutions may round otherwise, for other rows beside them."""
        rooms, room_of = list[int](), shared_work.shared_memory
        monkeypatch.setattr(shared_work, "shared_memory", lambda size: (rooms.append(size), room_of(size))[1])
        fields = CHAIN | {"height": 80}
        made = {gpus: rendered(native_plan(**fields, gpus=gpus)) for gpus in (None, "2")}
        for ours, theirs in zip(made["2"], made[None], strict=True):
            apart = np.abs(ours.frames.astype(int) - theirs.frames)
            assert apart.max() <= 1
            assert np.mean(apart) < 1e-3
        assert [clip.facts for clip in made["2"]] == [
            {"decoded": "in smaller pieces"},
            {"encoded": "in smaller pieces", "decoded": "in smaller pieces"},
        ]
        first, last = native_plan(**fields).clips
        numbers = 3 * 80 * native_plan(**fields).request.width
        assert rooms == [
            (first.size - first.lead_in) * numbers * (4 + 1),
            (last.size - last.lead_in) * numbers,  # nothing continues it: pictures alone
        ]

    def test_a_lora_reaches_every_process(self, expected: dict[float, list[Any]], tmp_path: Path) -> None:
        lora = tmp_path / "style.pth"  # PyTorch's own format: each process maps it itself
        torch.save({"diffusion_model.blocks.0.self_attn.q.diff": torch.full((256, 256), 0.02)}, lora)
        made = []
        for more in ({}, {"gpus": "2", "parallel": "tokens"}):
            folder = tmp_path / str(len(made))
            folder.mkdir()
            planned = native_plan(**FIELDS | {"frames": 5}, guide_scale=1.0, loras=(str(lora),), **more)
            rendered(planned, folder=folder)
            made.append(latents(planned, folder))
        assert_equal(made[1], made[0])
        assert np.abs(made[0][0] - expected[1.0][0]).max() > 0

    @pytest.mark.parametrize("dials", [{"cache": 1.0, "cfg_interval": (0.0, 0.5), "steps": 8}])
    def test_passes_are_skipped_alike(self, golden: Path, tmp_path: Path, dials: dict[str, Any]) -> None:
        made = {}
        for gpus in (None, "2"):
            folder, planned = tmp_path / str(gpus), native_plan(**CHAIN | {"frames": 5} | dials, gpus=gpus)
            folder.mkdir()
            (clip,) = rendered(planned, folder=folder)
            made[gpus] = clip.facts["passes_spared"], latents(planned, folder)
        assert made["2"][0] == made[None][0] > 0
        assert_equal(made["2"][1], made[None][1])

    @pytest.mark.parametrize(
        ("name", "gpus"),
        [
            ("e2e_2clip_start_from_ref" if GIVEN else "e2e_1clip_start_from_ref", "4"),
            pytest.param("e2e_3clip_dpmpp_nocfg" if GIVEN else "e2e_2clip_dpmpp_nocfg", "2", marks=pytest.mark.long),
            pytest.param("e2e_2clip_pose", "2", marks=pytest.mark.long),
        ],
    )
    def test_golden_renders(self, golden: Path, name: str, gpus: str) -> None:
        (case,) = (case for case in read_cases(golden) if case.name == name)
        for comparison in run_end_to_end(case, gpus=gpus):
            assert comparison.passed, comparison


class TestSession:
    def test_workers_stay_for_the_next_render_and_go_with_the_session(self, golden: Path, tmp_path: Path) -> None:
        fields = CHAIN | {"frames": 5, "gpus": "2"}
        with Session() as session:
            pids = []
            for seed in (1, 2):
                session.generate(native_request(**fields | {"seed": seed, "output": tmp_path / f"{seed}.mp4"}))
                pids.append(workers_of(os.getpid()))
            alone = session.generate(native_request(**fields | {"gpus": None, "seed": 2, "output": tmp_path / "3.mp4"}))
        assert pids[0] == pids[1]
        assert len(pids[0]) == 1
        assert frames(alone.path) == frames(tmp_path / "2.mp4"), "guidance apart changes no bit"
        assert_gone(pids[0])

    def test_what_they_have_loaded_is_read_once(self, golden: Path, tmp_path: Path) -> None:
        fields = CHAIN | {"frames": 5, "gpus": "2"}
        weights = max(path.stat().st_size for path in OFFICIAL.glob("*.safetensors"))
        read = []
        with Session() as session:
            for seed in (1, 2):
                session.generate(native_request(**fields | {"seed": seed, "output": tmp_path / f"{seed}.mp4"}))
                (pid,) = workers_of(os.getpid())
                said = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
                read.append(int(said["rchar"]))
        assert read[1] - read[0] < weights / 10, read

    def test_a_worker_that_died_between_two_renders_is_replaced(self, golden: Path, tmp_path: Path) -> None:
        fields = CHAIN | {"frames": 5, "gpus": "2"}
        with Session() as session:
            session.generate(native_request(**fields | {"seed": 1, "output": tmp_path / "1.mp4"}))
            (first,) = workers_of(os.getpid())
            os.kill(first, signal.SIGKILL)
            assert_gone([first])
            session.generate(native_request(**fields | {"seed": 2, "output": tmp_path / "2.mp4"}))
            (second,) = workers_of(os.getpid())
        assert second != first


# what goes wrong


def workers_of(pid: int) -> list[int]:
    """Processes that this one started as ranks."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid and any(b"spawn_main" in word for word in words):
            found.append(int(entry.name))
    return sorted(found)


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_gone(pids: list[int]) -> None:
    """Within the time that a render has to come to its end."""
    end = time.monotonic() + SECONDS_TO_END
    while any(map(is_there, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [pid for pid in pids if is_there(pid)]


def command(folder: Path, *more: str) -> list[str]:
    return [
        "generate", str(SPEECH), *AS_OPTIONS, "--steps", "16", "--seed", "3", "-o", str(folder / "a.mp4"),
        "--progress", "json", *more,
    ]  # fmt: skip


def wait_for_step(process: "subprocess.Popen[str]", clip: int, step: int) -> None:
    """Until a step of a clip has been taken."""
    assert any((event.get("clip"), event.get("step")) == (clip, step) for event in events_of(process))


def what_was_said(done: Outcome) -> str:
    """After the last step: one message, and nothing but events."""
    assert len(done.events) == len(done.err.splitlines()), done.err
    message = done.events[-1]["message"]
    assert isinstance(message, str)
    return message


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


class TestWhoeverEnds:
    """All others do, too."""

    def test_a_worker_is_killed_and_another_number_goes_on(
        self, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        process = start(*command(tmp_path, "--gpus", "4"), cwd=REPO)
        wait_for_step(process, 2, 2)
        pids = workers_of(process.pid)
        assert len(pids) == 3
        begun = time.monotonic()
        os.kill(pids[-1], signal.SIGKILL)
        done = finish(process)
        assert time.monotonic() - begun < SECONDS_TO_END
        assert done.code == 5
        says = r"rank \d \(cpu\) was ended by SIGKILL .*; finished clips are kept"
        assert re.match(says, what_was_said(done))
        assert_gone(pids)
        again = run_here(capsys, *command(tmp_path))
        assert again.code == 0, again.err
        assert {event["clip"] for event in again.events if event.get("stage") == "render"} == {2, 3}, "clip 1 is kept"

    @pytest.mark.parametrize(
        "stage",
        [
            "loading",
            "decoding",
            pytest.param("encoding", marks=pytest.mark.long),
            pytest.param("the beginning of clip 2", marks=pytest.mark.long),
            pytest.param("pass 3 of clip 1", marks=pytest.mark.long),
        ],
    )
    def test_a_worker_is_killed_in_any_stage(
        self, expected: dict[float, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
    ) -> None:
        step, killed = Crew.step, list[int]()

        @contextmanager
        def kill_one(crew: Crew, what: str) -> Iterator[None]:
            with step(crew, what):
                if what == stage:
                    killed.extend(workers_of(os.getpid()))
                    os.kill(killed[0], signal.SIGKILL)
                yield

        monkeypatch.setattr(Crew, "step", kill_one)
        begun = time.monotonic()
        with pytest.raises(EngineError, match=r"rank 1 \(cpu\) was ended by SIGKILL .*; finished clips are kept"):
            rendered(native_plan(**FIELDS, guide_scale=1.0, gpus="2"), folder=tmp_path)
        assert time.monotonic() - begun < SECONDS_TO_END
        assert_gone(killed)
        alone = native_plan(**FIELDS, guide_scale=1.0)
        rendered(alone, folder=tmp_path)
        assert_equal(latents(alone, tmp_path), expected[1.0])

    def test_a_worker_is_killed_before_it_has_started(
        self, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begin, killed = Crew.start, list[int]()

        def kill_one(crew: Crew, *given: Any) -> None:
            killed.extend(workers_of(os.getpid()))
            os.kill(killed[0], signal.SIGKILL)
            begin(crew, *given)

        monkeypatch.setattr(Crew, "start", kill_one)
        with pytest.raises(EngineError, match=r"rank 1 \(cpu\) was ended by SIGKILL .*; finished clips are kept"):
            rendered(native_plan(**FIELDS, gpus="2"), folder=tmp_path)
        assert_gone(killed)

    @pytest.mark.parametrize("stage", ["starting", "loading"])
    def test_a_worker_that_never_gets_ready_is_given_up(
        self, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
    ) -> None:
        stopped, begin, tell = list[int](), workers._Worker.__init__, Crew.tell

        def stop(worker: Any) -> None:
            stopped.append(worker.process.pid)
            os.kill(stopped[0], signal.SIGSTOP)

        def begin_and_stop(worker: Any, *given: Any) -> None:
            begin(worker, *given)
            monkeypatch.setattr(workers, "STARTING_SECONDS", 0.5)
            stop(worker)

        def stop_before_it_is_told(crew: Crew, command: Any, *given: Any) -> None:
            if isinstance(command, Load):
                monkeypatch.setattr(workers, "TIME_LIMIT", 0.5)
                stop(crew._workers[0])
            tell(crew, command, *given)

        if stage == "starting":
            monkeypatch.setattr(workers._Worker, "__init__", begin_and_stop)
        else:
            monkeypatch.setattr(Crew, "tell", stop_before_it_is_told)
        says = r"the ranks waited for each other for 0.5 s: rank 0.*; rank 1 does not answer; finished clips are kept"
        with pytest.raises(EngineError, match=says):
            rendered(native_plan(**FIELDS, gpus="2"), folder=tmp_path)
        assert_gone(stopped)

    def test_the_first_rank_is_killed(self, golden: Path, tmp_path: Path) -> None:
        process = start(*command(tmp_path, "--gpus", "2"), cwd=REPO)
        wait_for_step(process, 1, 2)
        pids = workers_of(process.pid)
        process.kill()
        assert_gone(pids)

    def test_ctrl_c_reaches_all_and_is_one_line(self, golden: Path, tmp_path: Path) -> None:
        process = start(*command(tmp_path, "--gpus", "2"), cwd=REPO, start_new_session=True)
        wait_for_step(process, 1, 2)
        pids = workers_of(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        done = finish(process)
        assert done.code == 130
        assert what_was_said(done).startswith("cancelled")
        assert_gone(pids)

    def test_a_worker_does_not_answer(self, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stopped = []

        def stop(progress: Progress) -> None:
            if progress.stage is Stage.RENDER and not stopped:
                stopped.extend(workers_of(os.getpid()))
                monkeypatch.setattr(workers, "TIME_LIMIT", 1.0)
                os.kill(stopped[0], signal.SIGSTOP)

        planned = native_plan(**CHAIN | {"steps": 3}, gpus="2", parallel="tokens")
        says = (
            "the ranks waited for each other for 1 s: rank 0, pass 2 of clip 1, taking over the latents; "
            "rank 1 does not answer; finished clips are kept"
        )
        with pytest.raises(EngineError, match=says):
            rendered(planned, report=stop, folder=tmp_path)
        assert_gone(stopped)


@pytest.fixture
def crew() -> Iterator[Crew]:
    crew = Crew(Team(devices=(CPU, CPU), guidance=2))
    crew.start()
    yield crew
    crew.close()


def test_ranks_meet_where_nobody_else_can_reach_them(crew: Crew) -> None:
    listening = [
        line.split()[1]
        for path in Path("/proc/net").glob("tcp*")
        for line in path.read_text().splitlines()[1:]
        if line.split()[3] == "0A"  # it listens
    ]
    (address,) = [address for address in listening if int(address.rpartition(":")[2], 16) == crew._store.port]
    assert address.rpartition(":")[0] == "0100007F", "127.0.0.1"


def test_a_worker_that_takes_nothing_is_given_up(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process waits in the middle of what it tells it."""
    monkeypatch.setattr(workers, "TIME_LIMIT", 0.5)
    (pid,) = workers_of(os.getpid())
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(EngineError, match=r"for 0.5 s: rank 0, a stage; rank 1 does not answer"), crew.step("a stage"):
        crew.tell(Begin(bytes(10_000_000)))
    assert time.monotonic() - begun < SECONDS_TO_END
    assert_gone([pid])


def test_an_error_in_a_worker_is_told_in_one_line(crew: Crew) -> None:
    crew.tell(Begin(b"no conditions"))
    with pytest.raises(EngineError, match=r"rank 1 \(cpu\): AssertionError.*; finished clips are kept"):
        crew.wait_for("what it will never say")
    assert crew.is_closed
