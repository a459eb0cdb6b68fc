"""soundreel clean: kept work folders go, videos and what a process holds stay."""

import json
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from command import events_of, files_below, finish, run_here, start
from soundreel.errors import InputError
from soundreel.media.video import probe_video
from soundreel.pipeline import generate
from soundreel.render.cleaning import clean, parse_age
from soundreel.request import Request, WorkOptions
from soundreel.types import Progress
from soundreel.wording import readable_size


class StopHereError(Exception):
    """What no part of soundreel raises."""


def make(tune: Path, folder: Path, *, stop_in: int | None = None) -> Path:
    """A kept render of three clips, or one that is broken off in a clip; returns its work folder."""

    def listen(progress: Progress) -> None:
        if progress.clip == stop_in:
            raise StopHereError

    request = Request(
        audio=tune, engine="draft", width=64, height=64, frames=33, infer_frames=16, output=folder / "a.mp4"
    )
    try:
        generate(request, listen, work=WorkOptions(keep_work=True))
    except StopHereError:
        assert stop_in is not None
    (work,) = (folder / ".soundreel").iterdir()
    return work


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def finished(tune: Path, tmp_path: Path) -> Path:
    return make(tune, tmp_path / "finished")


@pytest.fixture
def unfinished(tune: Path, tmp_path: Path) -> Path:
    return make(tune, tmp_path / "unfinished", stop_in=3)


def test_finished_folders_go_and_the_rest_stays(
    tmp_path: Path, finished: Path, unfinished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size, kept = size_of(finished), files_below(unfinished)
    done = run_here(capsys, "clean", tmp_path)
    assert done.code == 0
    assert f"freed  {readable_size(size)}, 1 work folder of 2" in done.out
    assert "left: not finished: --all removes it, too" in done.out
    assert files_below(finished.parents[1]) == ["a.mp4"]
    assert files_below(unfinished) == kept
    assert finish(start("resume", unfinished, "-q")).code == 0


def test_all_takes_unfinished_ones_too(tmp_path: Path, finished: Path, unfinished: Path) -> None:
    size = size_of(finished) + size_of(unfinished)
    assert sum(entry.freed for entry in clean(tmp_path, unfinished=True)) == size
    assert [name for name in files_below(tmp_path) if "soundreel" in name] == []
    assert clean(tmp_path, unfinished=True) == []


def test_a_dry_run_says_the_same_and_removes_nothing(
    tmp_path: Path, finished: Path, unfinished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_below(tmp_path)
    told = json.loads(run_here(capsys, "clean", tmp_path, "--dry-run", "--json").out)
    assert files_below(tmp_path) == before
    assert told["freed_bytes"] == size_of(finished)
    by_folder = {entry["folder"]: (entry["removed"], entry["left"] != "") for entry in told["folders"]}
    assert by_folder == {str(finished): (False, False), str(unfinished): (False, True)}
    really = json.loads(run_here(capsys, "clean", tmp_path, "--json").out)
    assert really["freed_bytes"] == told["freed_bytes"]
    assert [entry["removed"] for entry in really["folders"] if entry["folder"] == str(finished)] == [True]


def test_only_what_is_old_enough_goes(tmp_path: Path, tune: Path, capsys: pytest.CaptureFixture[str]) -> None:
    young, old = make(tune, tmp_path / "young"), make(tune, tmp_path / "old")
    plan = json.loads((old / "plan.json").read_text())
    plan["written"] = (datetime.now(UTC) - timedelta(days=8)).isoformat(timespec="seconds")
    (old / "plan.json").write_text(json.dumps(plan))
    told = run_here(capsys, "clean", tmp_path, "--older-than", "7d").out
    assert "left: not that old" in told
    assert (young.exists(), old.exists()) == (True, False)


def test_nothing_to_remove_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run_here(capsys, "clean", tmp_path)
    assert (done.code, done.out) == (0, "freed  nothing: there is no work folder here\n")


def test_what_a_process_holds_is_never_removed(tmp_path: Path, tune: Path) -> None:
    options = ("--engine", "draft", "--size", "64x64", "--frames", "65", "--infer-frames", "16", "--keep-work")
    process = start("generate", tune, *options, "-o", tmp_path / "a.mp4", "--progress", "json")
    assert any(event.get("clip") == 2 for event in events_of(process))
    process.send_signal(signal.SIGSTOP)
    try:
        (entry,) = clean(tmp_path, unfinished=True)
    finally:
        process.send_signal(signal.SIGCONT)
    assert (entry.freed, entry.left) == (0, f"process {process.pid} is rendering in it")
    assert finish(process).code == 0
    assert probe_video(tmp_path / "a.mp4").frames == 65
    (entry,) = clean(tmp_path)
    assert (entry.left, files_below(tmp_path)) == ("", ["a.mp4"])


def test_a_process_that_takes_it_in_between_keeps_it(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock decides, not what was seen when the folders were listed."""
    holder = "import sys, time; from pathlib import Path; from soundreel.disk.locks import locked\n"
    holder += "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    process = start(str(finished), program=("-c", holder), stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    monkeypatch.setattr("soundreel.render.stored_renders.holder", lambda folder: None)  # it was not there yet
    (entry,) = clean(finished)
    assert f"process {process.pid}" in entry.left
    assert (finished / "plan.json").exists()
    finish(process)


def test_an_unfinished_render_beside_a_finished_one_stays(tmp_path: Path, tune: Path, unfinished: Path) -> None:
    request = Request(
        audio=tune, engine="draft", width=64, height=64, frames=33, infer_frames=16, crf=30, output=tmp_path / "b.mp4"
    )
    generate(request, work=WorkOptions(work_dir=unfinished, keep_work=True))
    kept = files_below(unfinished)
    (entry,) = clean(unfinished)
    assert (entry.freed, entry.left) == (0, "an earlier render in it is not finished: --all removes it, too")
    assert files_below(unfinished) == kept
    (entry,) = clean(unfinished, unfinished=True)
    assert (entry.left, unfinished.exists()) == ("", False)


def test_what_a_killed_process_leaves_goes(tmp_path: Path, tune: Path, finished: Path) -> None:
    """It held the name of its video, and had begun no clip."""
    claim = "import os, sys; from pathlib import Path; from soundreel.disk.outputs import claimed\n"
    claim += "with claimed(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    for output in (finished.parents[1] / "b.mp4", tmp_path / "alone" / "c.mp4"):
        assert finish(start(str(output), program=("-c", claim))).code == -signal.SIGKILL
        assert (output.parent / ".soundreel" / output.name / "lock").exists()
    clean(tmp_path, dry_run=True)
    assert (finished.parent / "b.mp4").exists()
    clean(tmp_path)
    assert files_below(tmp_path) == ["alone", "finished", "finished/a.mp4"]


def test_files_of_others_stay(tmp_path: Path, finished: Path) -> None:
    (finished / "notes.txt").write_text("mine")
    other = tmp_path / "other"
    other.mkdir()
    (other / "plan.json").write_text("{}")
    clean(tmp_path)
    assert files_below(finished) == ["notes.txt"]
    assert files_below(other) == ["plan.json"]


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("7d", timedelta(days=7)),
        ("12h", timedelta(hours=12)),
        ("1.5w", timedelta(days=10.5)),
        ("30m", timedelta(minutes=30)),
        ("90s", timedelta(seconds=90)),
    ],
)
def test_ages(text: str, age: timedelta) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["", "7", "d", "7x", "-1d", "7 d", "99999999999999999999d"])
def test_ages_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="--older-than is "):
        parse_age(text)


@pytest.mark.parametrize("place", ["nowhere", "a.txt"])
def test_places_that_are_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    done = run_here(capsys, "clean", tmp_path / place)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert place in done.err
