"""Progress: lines for logs, events for programs as docs/progress.md describes them, and the time that is left."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from command import REPO, SMALL, Outcome, run_here
from event_schema import OF_A_BATCH, SCHEMA, kind, kinds_of
from media_files import quick_sound
from soundreel.cli.display import DisplayOptions, Lines, Style, open_display, percent, progress_line
from soundreel.errors import Cancelled
from soundreel.interpolation.video import VideoInterpolation, interpolate_video
from soundreel.media.video import SegmentWriter
from soundreel.pipeline import generate
from soundreel.progress_timer import ProgressTimer
from soundreel.request import Request
from soundreel.types import CancelFlag, Progress, Stage

PAGE = REPO / "docs" / "progress.md"
DRAFT = (*SMALL, "--frames", "35", "--infer-frames", "8", "--engine", "draft")
"""5 clips."""

Soundreel = Callable[..., Outcome]


@pytest.fixture(scope="module")
def sound(tune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_sound(tune, tmp_path_factory.mktemp("quick"))


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Soundreel:
    monkeypatch.chdir(tmp_path)
    return lambda *words: run_here(capsys, *words)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A short video."""
    with SegmentWriter(tmp_path / "pictures.mp4", width=32, height=32) as writer:
        writer.write(np.zeros((4, 32, 32, 3), np.uint8))
    return tmp_path / "pictures.mp4"


class TestEvents:
    def test_all_that_is_told_is_as_the_schema_says(self, soundreel: Soundreel, sound: Path, pictures: Path) -> None:
        """And every kind of event in it is told by some command here, those of a batch by `test_batch_driver`."""
        told = []
        for code, words in (
            (0, (sound, *DRAFT, "-o", "a.mp4", "--interpolate", "motion", "--keep-work", "--seed", "3")),
            (0, ("redo", "a.mp4", "2")),
            (0, ("interpolate", pictures, "--fps", "40")),
            (0, ("join", pictures, pictures, "--reencode", "-o", "joined.mp4")),
            (2, (sound, *DRAFT, "--width", "65")),
            (2, (sound, *DRAFT, "--output-dir", sound)),
            (2, ("interpolate", pictures, "--fps", "5")),
            (5, (sound, *SMALL, "--url", "http://localhost:9")),
        ):
            done = soundreel(*words, "--progress", "json")
            assert done.code == code, done.err
            told += done.events
        assert kinds_of(told) == {name for name in SCHEMA["$defs"] if "event" in kind(name)} - OF_A_BATCH

    def test_the_schema_is_one(self) -> None:
        jsonschema.Draft202012Validator.check_schema(SCHEMA)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"event": "progress"}, SCHEMA)

    def test_it_has_every_field_of_progress_and_every_stage(self) -> None:
        fields = {field.name for field in dataclasses.fields(Progress)}
        assert set(kind("progress")) == set(SCHEMA["$defs"]["progress"]["required"]) == {"event", *fields}
        assert kind("progress")["stage"]["enum"] == list(Stage)

    @pytest.mark.parametrize("event", ["start", "progress", "result", "error", *sorted(OF_A_BATCH)])
    def test_the_page_has_every_field(self, event: str) -> None:
        part = PAGE.read_text(encoding="utf-8").partition(f"\n## `{event}`\n")[2].partition("\n## ")[0]
        rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
        assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == {*kind(event)} - {"event"}
        if event == "progress":
            assert [stage for stage in Stage if f"`{stage}`" not in part] == []

    def test_standard_output_has_the_path_alone(self, soundreel: Soundreel, sound: Path, tmp_path: Path) -> None:
        done = soundreel(sound, *DRAFT, "-o", "a.mp4", "--progress", "json")
        assert done.out == f"{tmp_path / 'a.mp4'}\n"
        assert [done.events[0]["event"], done.events[-1]["event"]] == ["start", "result"]
        assert done.events[-1]["path"] == str(tmp_path / "a.mp4")

    def test_an_error_is_the_last_event(self, soundreel: Soundreel, sound: Path) -> None:
        done = soundreel(sound, *DRAFT, "--steps", "0", "--progress", "json")
        says = "steps is 0: expected at least 1"
        assert (done.code, done.out) == (2, "")
        assert done.events == [{"event": "error", "message": says, "exit_code": 2, "field": "sampling.steps"}]

    def test_a_fault_of_ours_is_one_as_well(
        self, soundreel: Soundreel, sound: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr("soundreel.pipeline.generate", fail)
        done = soundreel(sound, *DRAFT, "--progress", "json")
        (event,) = done.events
        assert (done.code, event["exit_code"]) == (1, 1)
        assert event["message"].startswith("RuntimeError: broken (a bug; ")

    def test_quiet_tells_errors_only(self, soundreel: Soundreel, sound: Path) -> None:
        assert soundreel(sound, *DRAFT, "-o", "a.mp4", "--quiet", "--progress", "json").err == ""


class TestLines:
    def lines(self, capsys: pytest.CaptureFixture[str], *told: Progress, **options: Any) -> list[str]:
        display = Lines(**options)
        for progress in told:
            display(progress)
        return capsys.readouterr().err.splitlines()

    def test_one_a_second_and_a_percent_at_most(self, capsys: pytest.CaptureFixture[str]) -> None:
        told = [
            Progress(stage=Stage.RENDER, share=step / 10_000, seconds=step / 100, eta_seconds=100 - step / 100)
            for step in range(10_000)
        ]  # 100 seconds, a percent in each of them
        lines = self.lines(capsys, *told)
        assert 90 <= len(lines) <= 100
        assert lines[:3] == ["render", "render: 1 %, 1 min 39 s left", "render: 2 %, 1 min 38 s left"]

    @pytest.mark.parametrize(("seconds", "most"), [(10.0, 11), (10_000.0, 101)])
    def test_whatever_is_rarer(self, capsys: pytest.CaptureFixture[str], seconds: float, most: int) -> None:
        told = [Progress(stage=Stage.RENDER, share=k / 5000, seconds=seconds * k / 5000) for k in range(5000)]
        assert most - 2 <= len(self.lines(capsys, *told)) <= most

    def test_stages_that_take_turns_are_no_beginnings(self, capsys: pytest.CaptureFixture[str]) -> None:
        stages = enumerate([Stage.RENDER, Stage.WRITE] * 50)
        told = [Progress(stage=s, clip=k // 2 + 1, clips=50, share=k / 100, seconds=k / 10) for k, s in stages]
        lines = self.lines(capsys, *told)
        assert lines[:2] == ["render clip 1/50", "write clip 1/50: 1 %"]
        assert len(lines) <= 2 + 10

    def test_what_begins_is_said_at_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        networks = [Progress(stage=Stage.LOAD, what=what) for what in ("text encoder", "VAE", "VAE", "transformer")]
        assert self.lines(capsys, *networks) == ["load text encoder", "load VAE", "load transformer"]

    def test_a_stage_that_comes_before_has_its_own_percent(self) -> None:
        loading = Progress(stage=Stage.LOAD, what="transformer", done=3, total=4)
        assert progress_line(loading) == "load transformer: 75 %"

    def test_every_step_with_verbose(self, capsys: pytest.CaptureFixture[str]) -> None:
        told = [Progress(stage=Stage.RENDER, share=k / 5000, seconds=k / 5000) for k in range(20)]
        assert len(self.lines(capsys, *told, seconds_between=0.0)) == 20

    def test_a_log_has_percent_and_time_left(self, soundreel: Soundreel, sound: Path) -> None:
        """Of a render so short that only --verbose shows more than its beginnings."""
        done = soundreel(sound, *DRAFT, "-o", "a.mp4", "-v")
        assert done.code == 0
        assert re.match(r"soundreel \d.*, Python 3\.", done.err)
        shown = re.findall(r"^(?:render|write) clip \d+/\d+: (\d+) %, [\d.]+ s left$", done.err, re.MULTILINE)
        assert len(shown) > 3, done.err

    def test_a_preview_is_named_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        told = [Progress(stage=Stage.RENDER, preview=Path("p.png")) for _ in range(3)]
        assert self.lines(capsys, *told) == ["render", "preview: p.png"]


@pytest.mark.parametrize("style", [Style.AUTO, Style.BAR, Style.LINES])
def test_where_nothing_can_be_redrawn_there_are_lines(style: Style) -> None:
    assert isinstance(open_display(DisplayOptions(style=style)), Lines)


class TestTimer:
    """By a clock that the test sets."""

    @pytest.fixture
    def at(self) -> Callable[[float, Progress], Progress]:
        """What is told at a time of a progress."""
        now, heard = [0.0], []
        timer = ProgressTimer(heard.append, clock=lambda: now[0])

        def tell(seconds: float, progress: Progress) -> Progress:
            now[0] = seconds
            timer(progress)
            last: Progress = heard[-1]
            return last

        return tell

    def test_what_is_left_goes_by_what_was_done(self, at: Callable[[float, Progress], Progress]) -> None:
        assert at(5.0, Progress(stage=Stage.LOAD, done=1, total=1)).eta_seconds is None
        assert at(6.0, Progress(stage=Stage.RENDER, done=0, total=10)).share is None
        told = at(8.0, Progress(stage=Stage.RENDER, done=2, total=10))
        assert (told.eta_seconds, told.share, told.seconds, percent(told)) == (pytest.approx(8), 0.2, 8.0, 20)

    def test_work_that_takes_turns_is_counted_together(self, at: Callable[[float, Progress], Progress]) -> None:
        """Of 10 clips each takes 1 s to render and 3 s to write."""
        at(0.0, Progress(stage=Stage.RENDER, done=0, total=10))
        at(1.0, Progress(stage=Stage.RENDER, done=1, total=10))
        at(1.0, Progress(stage=Stage.WRITE, done=0, total=10))
        told = at(4.0, Progress(stage=Stage.WRITE, done=1, total=10))
        assert (told.eta_seconds, told.share) == (pytest.approx(36), pytest.approx(0.1))
        told = at(5.0, Progress(stage=Stage.RENDER, done=2, total=10))
        assert (told.eta_seconds, told.share) == (pytest.approx(35), pytest.approx(0.125))

    def test_what_was_there_before_took_no_time(self, at: Callable[[float, Progress], Progress]) -> None:
        at(0.0, Progress(stage=Stage.RENDER, done=50, total=100))
        told = at(10.0, Progress(stage=Stage.RENDER, done=75, total=100))
        assert (told.eta_seconds, told.share) == (pytest.approx(10), 0.75)

    def test_the_engine_knows_better(self, at: Callable[[float, Progress], Progress]) -> None:
        at(0.0, Progress(stage=Stage.RENDER, done=0, total=10))
        assert at(1.0, Progress(stage=Stage.RENDER, done=1, total=10, eta_seconds=90.0)).eta_seconds == 90
        assert at(2.0, Progress(stage=Stage.WRITE, done=0, total=10)).eta_seconds == 89

    def test_a_flag_is_heard(self) -> None:
        stop = CancelFlag()
        stop.set()
        with pytest.raises(Cancelled):
            ProgressTimer(None, stop)(Progress(stage=Stage.RENDER))


def test_python_hears_the_same(sound: Path, tmp_path: Path, pictures: Path) -> None:
    heard: list[Progress] = []
    request = {"width": 64, "height": 64, "frames": 35, "infer_frames": 8, "engine": "draft"}
    generate(Request(audio=sound, output=tmp_path / "a.mp4", **request), heard.append)
    shares = [progress.share for progress in heard if progress.share is not None]
    assert shares[-1] == 1
    assert all(0 <= share <= 1 for share in shares)
    heard.clear()
    made = interpolate_video(VideoInterpolation(video=pictures), heard.append)
    assert heard[-1].share == 1
    assert made.seconds >= heard[-1].seconds > 0


def test_the_demo_says_what_it_does(soundreel: Soundreel) -> None:
    said = soundreel("demo", "--output-dir", "out", "--frames", "4").err.splitlines()
    assert [line for line in said if re.match(r"[12] of 3: the example sound and ", line)] != []
    assert sum("sound and picture verified" in line for line in said) == 3
