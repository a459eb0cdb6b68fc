"""Where no length is asked for, a video shows the first 77 frames of a sound: that is said before and after."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from command import REPO, SMALL, Outcome, run_here, run_script_here
from media_files import write_sound
from no_server import NO_SERVER
from soundreel.pipeline import generate
from soundreel.request import Request

Soundreel = Callable[..., Outcome]

SAID = "the first 4.81 of 6.50 s of the sound; --full makes all of it"


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str], song: Path, tmp_path: Path) -> Soundreel:
    """Render the song as a small draft."""

    def run(*arguments: str | os.PathLike[str]) -> Outcome:
        words = ("generate", song, *SMALL, "--engine", "draft", "-o", tmp_path / "a.mp4")
        done = run_here(capsys, *words, *arguments)
        assert done.code == 0, done.err
        return done

    return run


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """6.5 s, 104 frames."""
    return write_sound(tmp_path / "song.wav", np.full((52_000, 1), 0.5, np.float32), 8000)


@pytest.mark.parametrize("style", ["lines", "bar", "auto"])
def test_it_is_said_before_and_after(soundreel: Soundreel, style: str) -> None:
    lines = [line.strip() for line in soundreel("--progress", style).err.splitlines()]
    done = next(k for k, line in enumerate(lines) if line.startswith("done in"))
    assert f"note: {SAID}" in lines[:done]
    assert lines[done + 1] == SAID


def test_programs_get_it_as_a_note(soundreel: Soundreel) -> None:
    events = soundreel("--progress", "json").events
    told = {event["event"]: event["notes"] for event in events if "notes" in event}
    assert told == {"start": [SAID], "result": [SAID]}


def test_python_gets_it(song: Path, tmp_path: Path) -> None:
    result = generate(Request(audio=song, width=64, height=64, engine="draft", output=tmp_path / "a.mp4"))
    assert (result.excerpt, result.notes) == (SAID, (SAID,))


def test_plan_says_it(capsys: pytest.CaptureFixture[str], song: Path) -> None:
    assert SAID in run_here(capsys, "plan", song, "--engine", "draft").out


def test_from_a_start_on(soundreel: Soundreel) -> None:
    said = soundreel("--audio-start", "1.5").err
    assert "note: 4.81 s from 1.5 s on, of 6.50 s of the sound; --full makes all from there\n" in said


@pytest.mark.parametrize(
    "length",
    [
        "--frames 77",
        "--audio-duration 4.8",
        "--full",
        "--num-clip 1",
        "--audio-start 1.65",  # 77.6 frames are left
        "--quiet",
    ],
)
def test_it_is_not_said_of_a_length_that_was_asked_for_nor_where_the_sound_ends(
    soundreel: Soundreel, length: str
) -> None:
    assert "of the sound" not in soundreel(*length.split()).err


def test_an_earlier_render_keeps_its_length(soundreel: Soundreel, capsys: pytest.CaptureFixture[str]) -> None:
    video = soundreel("--keep-work").path
    again = run_here(capsys, "redo", video, "1")
    assert again.code == 0, again.err
    assert "--full" not in again.err


def test_a_graph_says_it(capsys: pytest.CaptureFixture[str], song: Path, tmp_path: Path) -> None:
    done = run_here(capsys, song, "--url", NO_SERVER, "--export-workflow", tmp_path / "graph.json")
    assert (done.code, done.err) == (0, f"note: {SAID}\n")


def test_the_seed_s_script_takes_full(
    capsys: pytest.CaptureFixture[str], song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = REPO / "scripts" / "generate_wan22_sound_video.py"
    size = ("--width", "64", "--height", "64", "--engine", "draft")
    assert f"note: {SAID}\n" in run_script_here(capsys, script, song, *size).err
    whole = run_script_here(capsys, script, song, *size, "--full")
    assert "_104f_" in whole.path.name
    assert "of the sound" not in whole.err
