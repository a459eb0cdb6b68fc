"""`plan` and `info` of long sounds: a screen of text, every clip with --all, the same numbers in text and JSON."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from command import Outcome, run_here
from media_files import write_sound
from soundreel.cli.plan_report import describe_plan
from soundreel.media.mux import assemble
from soundreel.media.video import SegmentWriter
from soundreel.request import Request
from soundreel.wording.durations import duration
from weight_files import OFFICIAL, needs_golden

Soundreel = Callable[..., Outcome]

TWO_HOURS = ("--frames", "115200", "--engine", "draft")
ONE_SCREEN = 25


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str]) -> Soundreel:
    def run(*arguments: str | os.PathLike[str]) -> Outcome:
        done = run_here(capsys, *arguments)
        assert done.code == 0, done.err
        return done

    return run


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    return write_sound(tmp_path / "tone.wav", np.full((16_000, 1), 0.5, np.float32), 8000)


def clips_of(text: str) -> list[int]:
    """Numbers of the clips in a table."""
    rows = [line.split() for line in text.partition("\n\n")[2].splitlines()]
    return [int(row[0]) for row in rows if row[0].isdecimal() and row[1] != "of"]


class TestPlan:
    def test_two_hours_are_a_screen(self, soundreel: Soundreel, tone: Path) -> None:
        text = soundreel("plan", tone, *TWO_HOURS).out
        assert len(text.splitlines()) <= ONE_SCREEN
        assert "length   7200.000 s (2:00:00) in 1,441 clips" in text
        shown = clips_of(text)
        assert (shown[0], shown[-1], len(shown)) == (1, 1441, 12)
        assert text.splitlines()[-1] == "12 of 1,441 clips; --all shows every one"

    def test_all_shows_every_clip(self, soundreel: Soundreel, tone: Path) -> None:
        text = soundreel("plan", tone, *TWO_HOURS, "--all").out
        assert clips_of(text) == list(range(1, 1442))
        assert "--all" not in text

    def test_json_has_every_clip(self, soundreel: Soundreel, tone: Path) -> None:
        clips = json.loads(soundreel("plan", tone, *TWO_HOURS, "--json").out)["clips"]
        assert [clip["index"] for clip in clips] == list(range(1441))

    def test_a_few_clips_are_all_shown(self, soundreel: Soundreel, tone: Path) -> None:
        text = soundreel("plan", tone, "--frames", "957", "--engine", "draft").out
        assert clips_of(text) == list(range(1, 13))
        assert "--all" not in text

    def test_a_million_frames(self, soundreel: Soundreel, tone: Path) -> None:
        text = soundreel("plan", tone, "--frames", "1000000", "--engine", "draft").out
        assert "17:21:40) in 12,501 clips" in text
        assert len(text.splitlines()) <= ONE_SCREEN

    def test_time_is_one_estimate_in_text_and_json(self, tone: Path) -> None:
        told = describe_plan(Request(audio=tone, frames=115_200, engine="draft"))
        about = told.data["estimated_seconds"]
        assert about > 0
        assert dict(told.rows)["time"] == f"about {duration(about)} on this machine (drawing alone)"

    def test_a_part_of_the_sound_is_told_with_the_whole(self, tone: Path) -> None:
        told = describe_plan(Request(audio=tone, audio_start=0.5, frames=16, engine="draft"))
        assert dict(told.rows)["sound"] == "1.000 s from 0.5 s on, of 2.000 s"
        assert told.data["sound_seconds"] == 2.0
        whole = describe_plan(Request(audio=tone, full=True, engine="draft"))
        assert dict(whole.rows)["sound"] == "2.000 s, all of it"

    def test_a_draft_has_no_tokens(self, tone: Path) -> None:
        told = describe_plan(Request(audio=tone, engine="draft"))
        assert "tokens" not in (*told.columns, *told.data["clips"][0])

    @needs_golden
    def test_the_model_has(self, tone: Path) -> None:
        told = describe_plan(
            Request(audio=tone, engine="native", device="cpu", models=OFFICIAL, width=64, height=64, frames=77)
        )
        assert told.columns[-1] == "tokens"
        assert (told.cells[0][-1], told.data["clips"][0]["tokens"]) == ("320", 320)


class TestInfo:
    @pytest.fixture
    def video(self, tmp_path: Path) -> Path:
        """Of a render of 1,441 clips, as its recipe says, that get darker evenly."""
        clips = [{"index": k, "seed": k, "look": {"mean": [1 - k / 2880] * 3, "std": [0.1] * 3}} for k in range(1441)]
        recipe = {
            "soundreel": "0.2.0", "created": "2026-11-27", "engine": "draft", "notes": [],
            "request": {"audio": "song.mp3", "cuts": list(range(1, 41)), "window": {"full": True, "frames": None}},
            "versions": {}, "models": {}, "inputs": {}, "plan": {"clips": clips},
        }  # fmt: skip
        with SegmentWriter(tmp_path / "segment.mp4", width=32, height=32) as writer:
            writer.write(np.zeros((2, 32, 32, 3), np.uint8))
        path, metadata = tmp_path / "long.mp4", {"soundreel": json.dumps(recipe)}
        assemble([tmp_path / "segment.mp4"], path, fps=16, sound=None, metadata=metadata)
        return path

    def test_is_a_screen_that_shows_the_drift(self, soundreel: Soundreel, video: Path) -> None:
        text = soundreel("info", video).out
        assert len(text.splitlines()) <= ONE_SCREEN
        rows = [line.split() for line in text.splitlines() if line.split()[:1] in (["1"], ["1441"])]
        assert [row[7] for row in rows] == ["1.00", "0.50"]
        assert text.splitlines()[-1] == "12 of 1,441 clips; --all shows every one"

    def test_all_shows_every_clip(self, soundreel: Soundreel, video: Path) -> None:
        assert clips_of(soundreel("info", video, "--all").out) == list(range(1, 1442))

    def test_the_request_reads_as_text(self, soundreel: Soundreel, video: Path) -> None:
        text = soundreel("info", video).out
        assert "cuts     1 2 3 4 5 6 7 8 9 10 11 12 … (40)" in text
        assert "window   full yes" in text.splitlines()
