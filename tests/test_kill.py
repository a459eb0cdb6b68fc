"""Real processes that are killed, stopped, crowded out and short of disk: the video comes out the same."""

import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest

from command import Outcome, files_below, finish, run_here, start
from media_files import quick_sound
from soundreel.media.video import probe_video, read_frames

ROUNDS, LONG_ROUNDS = 3, 20
EARLY_FRAMES = {2 * stop - 1 for stop in (5, 13, 21, 29)}
"""Of the clips so far: 5 clips in all, twice the frames, and what follows the last one needs the next clip."""

EVENTS = 18
"""A render tells of as many."""

PICTURES = ("--size", "64x64", "--crf", "8", "--frames", "35", "--infer-frames", "8")
OPTIONS = (*PICTURES, "--engine", "draft", "--interpolate", "motion")


def command(tune: Path, folder: Path, *more: str) -> list[str]:
    return ["generate", str(tune), *OPTIONS, "-o", str(folder / "a.mp4"), "--progress", "json", *more]


def wait_for_event(process: "subprocess.Popen[str]", number: int) -> None:
    """Until `number` events were told, or all."""
    assert process.stdout is not None
    list(islice(process.stdout, number))


def wait_for_clip(process: "subprocess.Popen[str]", clip: int) -> None:
    """Until a clip is being drawn."""
    assert process.stdout is not None
    assert any(json.loads(line).get("clip") == clip for line in process.stdout)


def frames(path: Path) -> list[bytes]:
    return [frame.tobytes() for frame in read_frames(path)]


def work_folder(folder: Path) -> Path:
    (plan,) = (folder / ".soundreel").glob("*/plan.json")
    return plan.parent


@pytest.fixture(scope="module")
def tune(tune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_sound(tune, tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, tune: Path) -> list[bytes]:
    folder = tmp_path_factory.mktemp("unbroken")
    assert finish(start(*command(tune, folder))).code == 0
    return frames(folder / "a.mp4")


@dataclass(frozen=True)
class Killed:
    """A render that was killed in its fourth clip."""

    folder: Path
    pid: int

    def copy_to(self, folder: Path) -> None:
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, tune: Path) -> Killed:
    folder = tmp_path_factory.mktemp("killed")
    process = start(*command(tune, folder))
    wait_for_clip(process, 4)
    process.kill()
    finish(process)
    return Killed(folder, process.pid)


@pytest.mark.parametrize(
    "seed", [*range(ROUNDS), *(pytest.param(k, marks=pytest.mark.long) for k in range(ROUNDS, LONG_ROUNDS))]
)
def test_killed_at_any_moment_it_goes_on(tune: Path, tmp_path: Path, unbroken: list[bytes], seed: int) -> None:
    """SIGKILL after a random event and a random moment, until it is through; half the time the power is cut, too."""
    chance = random.Random(seed)
    video, early, cut = tmp_path / "a.mp4", tmp_path / "a.partial.mp4", set[Path]()
    while True:
        process = start(*command(tune, tmp_path))
        wait_for_event(process, chance.randrange(1, EVENTS))
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        if finish(process).code == 0:
            break
        assert not video.exists() or video in cut or frames(video) == unbroken
        assert not early.exists() or early in cut or probe_video(early).frames in EARLY_FRAMES
        if chance.random() < 0.5:
            cut |= cut_power(tmp_path, chance)
    assert frames(tmp_path / "a.mp4") == unbroken
    assert files_below(tmp_path) == ["a.mp4"]


def cut_power(folder: Path, chance: random.Random) -> set[Path]:
    """The file written last, if any, loses its end; returns which it was."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    last = max(files, key=lambda path: path.stat().st_mtime_ns, default=None)
    if last is None:
        return set()
    os.truncate(last, chance.randrange(last.stat().st_size))
    return {last}


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_render_says_how_to_go_on(
    tune: Path, tmp_path: Path, unbroken: list[bytes], stop: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start(*command(tune, tmp_path))
    wait_for_clip(process, 3)
    process.send_signal(stop)
    done = finish(process)
    work = work_folder(tmp_path)
    assert done.code == 130
    kept = len(list(work.glob("clip_*.json")))
    says = f"soundreel: cancelled, {kept} of 5 clips are kept, go on with: soundreel resume {work}"
    assert done.err.splitlines() == [says]
    assert kept >= 2
    assert not list(tmp_path.rglob("*.tmp"))
    assert run_here(capsys, "resume", work, "--quiet").code == 0
    assert frames(tmp_path / "a.mp4") == unbroken


def test_a_signal_in_the_middle_of_a_write_waits_for_its_end() -> None:
    program = """if True:
        import os, signal, sys
        from soundreel.disk.durable import uninterrupted
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with uninterrupted():
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGINT)
                print("written")
            print("went on")
        except KeyboardInterrupt:
            print("stopped")
    """
    assert finish(start(program=("-c", program))).out.split() == ["written", "stopped"]


def test_a_second_process_is_refused_with_the_pid_of_the_first(
    tune: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = start(*command(tune, tmp_path))
    wait_for_clip(first, 1)
    first.send_signal(signal.SIGSTOP)
    second = run_here(capsys, *command(tune, tmp_path))
    listed = run_here(capsys, "jobs", tmp_path, "--json")
    first.send_signal(signal.SIGCONT)
    assert second.code == 2
    assert f"process {first.pid} is rendering '{tmp_path / 'a.mp4'}'" in second.err
    assert len(second.err.splitlines()) == 1
    (render,) = json.loads(listed.out)["renders"]
    assert render["pid"] == str(first.pid)
    assert finish(first).code == 0
    assert files_below(tmp_path) == ["a.mp4"]


def test_the_lock_of_a_dead_process_is_taken_over(
    tune: Path, tmp_path: Path, killed: Killed, capsys: pytest.CaptureFixture[str]
) -> None:
    killed.copy_to(tmp_path)
    assert (work_folder(tmp_path) / "lock").read_text().split() == [str(killed.pid), socket.gethostname()]
    assert run_here(capsys, *command(tune, tmp_path)).code == 0


def with_room_for(size: int, *arguments: str) -> Outcome:
    """Run with files of at most `size` bytes: a longer write fails, as on a full disk."""
    return finish(start(*arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))))


@pytest.mark.parametrize(("room", "ending"), [(5_000, "mp4"), (12_000, "safetensors")])
def test_a_full_disk_is_named_and_what_was_there_is_kept(
    tune: Path,
    tmp_path: Path,
    killed: Killed,
    unbroken: list[bytes],
    capsys: pytest.CaptureFixture[str],
    room: int,
    ending: str,
) -> None:
    killed.copy_to(tmp_path)
    work = work_folder(tmp_path)
    before = {path.name: path.read_bytes() for path in work.glob("clip_*")}
    assert len(before) == 9
    full = with_room_for(room, *command(tune, tmp_path))
    last = full.err.splitlines()[-1]
    assert full.code == 3
    assert re.search(rf"clip_00004_[0-9a-f]{{8}}\.{ending}", last)
    assert str(work) in last
    assert "needed" in last
    assert f"3 of 5 clips are kept, go on with: soundreel resume {work}" in last
    assert {path.name: path.read_bytes() for path in work.glob("clip_*")}.items() >= before.items()
    assert not list(tmp_path.rglob("*.tmp"))
    assert run_here(capsys, *command(tune, tmp_path)).code == 0
    assert frames(tmp_path / "a.mp4") == unbroken


# the commands


def test_resume_and_jobs_in_words(tune: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start(*command(tune, tmp_path))
    wait_for_clip(process, 3)
    process.kill()
    finish(process)
    told = run_here(capsys, "jobs", tmp_path).out
    assert "2/5" in told
    assert "interrupted" in told
    assert f"soundreel resume {work_folder(tmp_path)}" in told
    done = run_here(capsys, "resume", tmp_path, "--progress", "lines")
    assert "2 of 5 clips are there, going on with clip 3" in done.err.splitlines()
    assert done.path == tmp_path / "a.mp4"
    assert "none here" in run_here(capsys, "jobs", tmp_path).out


@pytest.mark.parametrize("words", ["resume", "jobs", "generate --recipe"])
@pytest.mark.parametrize("place", ["nowhere", "a.txt"])
def test_places_that_are_no_such_thing(
    tmp_path: Path, words: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("text")
    done = run_here(capsys, *words.split(), tmp_path / place)
    assert done.code in {2, 3}
    assert place in done.err
    assert len(done.err.splitlines()) == 1
