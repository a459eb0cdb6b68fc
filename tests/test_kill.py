"""Real processes that are killed, stopped, crowded out and short of disk: the video comes out the same."""

import json
import re
import resource
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from command import Outcome, events_of, files_below, finish, run_here, start
from media_files import quick_sound
from soundreel.media.video import read_frames

PICTURES = ("--size", "64x64", "--crf", "8", "--frames", "35", "--infer-frames", "8")
OPTIONS = (*PICTURES, "--engine", "draft", "--crf", "24", "--interpolate", "motion")


def command(tune: Path, folder: Path, *more: str) -> list[str]:
    return ["generate", str(tune), *OPTIONS, "-o", str(folder / "a.mp4"), "--progress", "json", *more]


def wait_for_clip(process: "subprocess.Popen[str]", clip: int) -> None:
    """Until a clip is being drawn."""
    assert any(event.get("clip") == clip for event in events_of(process))


def frames(path: Path) -> list[bytes]:
    return [frame.tobytes() for frame in read_frames(path)]


def work_folder(folder: Path) -> Path:
    (plan,) = (folder / ".soundreel").glob("*/plan.json")
    return plan.parent


@pytest.fixture(scope="module")
def tune(tune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_sound(tune, tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tune: Path) -> Path:
    """The video of a render that nobody disturbed."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert finish(start(*command(tune, folder))).code == 0
    return folder / "a.mp4"


@pytest.fixture(scope="module")
def unbroken(whole: Path) -> list[bytes]:
    return frames(whole)


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
    says = f"cancelled, {kept} of 5 clips are kept, go on with: soundreel resume {work}"
    assert done.events[-1]["message"] == says
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


def test_a_signal_in_a_write_that_fails_is_not_lost() -> None:
    program = """if True:
        import os, signal
        from soundreel.disk.durable import uninterrupted
        try:
            with uninterrupted():
                os.kill(os.getpid(), signal.SIGINT)
                raise OSError
        except OSError:
            print("went on")
        except KeyboardInterrupt:
            print("stopped")
    """
    assert finish(start(program=("-c", program))).out.split() == ["stopped"]


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


def test_a_disk_that_is_full_in_the_final_write_costs_no_clip_and_not_the_earlier_video(
    tune: Path, tmp_path: Path, whole: Path, unbroken: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"an earlier video")
    full = with_room_for(whole.stat().st_size - 1, *command(tune, tmp_path))
    work = work_folder(tmp_path)
    last = full.events[-1]["message"]
    assert full.code == 3
    assert re.match(rf"cannot write 'finished\.mp4' in folder '{work}': .*needed", last)
    assert last.endswith(f"5 of 5 clips are kept, go on with: soundreel resume {work}")
    assert (tmp_path / "a.mp4").read_bytes() == b"an earlier video"
    assert not [name for name in files_below(work) if name.endswith(".tmp") or name == "finished.mp4"]
    again = run_here(capsys, *command(tune, tmp_path))
    assert again.code == 0
    assert "render" not in {event.get("stage") for event in again.events}
    assert frames(tmp_path / "a.mp4") == unbroken
    assert files_below(tmp_path) == ["a.mp4"]


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
