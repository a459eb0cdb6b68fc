"""Several sounds or seeds in one command: a video each, and what fails keeps no other from being made."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command import SMALL, Outcome, run_here
from soundreel import Session
from soundreel.media.video import read_frames

Soundreel = Callable[..., Outcome]

SHORT = (*SMALL, "--frames", "4", "--engine", "draft")


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str]) -> Soundreel:
    def run(*arguments: Any) -> Outcome:
        return run_here(capsys, *map(str, arguments))

    return run


@pytest.fixture
def other(tune: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tune, tmp_path / "other.flac"))


def frames_of(video: str | Path) -> list[bytes]:
    return [frame.tobytes() for frame in read_frames(video)]


def test_every_sound_becomes_a_video(soundreel: Soundreel, tune: Path, other: Path, tmp_path: Path) -> None:
    done = soundreel(tune, other, *SHORT, "--output-dir", tmp_path / "out")
    assert done.code == 0
    first, second = done.out.splitlines()
    assert Path(first).name.startswith("tune_64x64_4f")
    assert Path(second).name.startswith("other_64x64_4f")
    assert "video 1 of 2: tune.flac, seed 0" in done.err
    assert frames_of(first) == frames_of(second)


def test_every_seed_becomes_a_video_with_its_number(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    done = soundreel(tune, *SHORT, "--seeds", "1, 2", "-o", tmp_path / "a.mp4")
    assert (done.code, done.out.splitlines()) == (0, [str(tmp_path / f"a_seed{seed}.mp4") for seed in (1, 2)])
    alone = soundreel(tune, *SHORT, "--seed", "2", "-o", tmp_path / "b.mp4")
    first, second = map(frames_of, done.out.splitlines())
    assert frames_of(alone.path) == second != first


def test_automatic_names_tell_seeds_apart(soundreel: Soundreel, tune: Path, other: Path, tmp_path: Path) -> None:
    done = soundreel(tune, other, *SHORT, "--seeds", "1,2", "--settings", "try", "--output-dir", tmp_path, "-q")
    names = [Path(line).name for line in done.out.splitlines()]
    assert done.err == ""
    expected = [f"{sound}_64x64_4f_0.2s_no_ref_try-seed{k}-draft" for sound in ("tune", "other") for k in (1, 2)]
    assert [name[: len(start)] for name, start in zip(names, expected, strict=True)] == expected


def test_what_fails_is_said_and_the_others_are_made(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"no sound at all")
    done = soundreel(tmp_path / "gone.mp3", noise, tune, *SHORT, "--output-dir", tmp_path / "out")
    assert len(done.out.splitlines()) == 1
    failed = [line for line in done.err.splitlines() if line.startswith("soundreel: ")]
    assert [line.split(":")[1] for line in failed[:2]] == [" gone.mp3, seed 0", " noise.wav, seed 0"]
    assert failed[2:] == ["soundreel: 2 of 3 videos were not made"]
    alone = soundreel(tmp_path / "gone.mp3", *SHORT, "--output-dir", tmp_path / "out")
    assert done.code == alone.code != 0


def test_verbose_shows_how_each_error_came(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    words = (tmp_path / "gone.mp3", tune, *SHORT, "--output-dir", tmp_path)
    told, verbose = soundreel(*words), soundreel(*words, "--verbose")
    assert ["Traceback" in done.err for done in (told, verbose)] == [False, True]
    assert len(verbose.out.splitlines()) == 1


def test_programs_hear_of_each(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    done = soundreel(tmp_path / "gone.mp3", tune, *SHORT, "--output-dir", tmp_path, "--progress", "json")
    told = [event["event"] for event in done.events if event["event"] != "progress"]
    assert (told, done.code != 0) == (["error", "start", "result"], True)


def test_a_stop_ends_all(soundreel: Soundreel, tune: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def stop(_session: Session, request: Any, *_: Any, **__: Any) -> None:
        asked.append(request.audio)
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "generate", stop)
    assert soundreel(tune, other, *SHORT).code == 130
    assert asked == [str(tune)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-o", "a.mp4"), "--output names one video, and there are 2 sounds: name a folder with --output-dir"),
        (("--seeds", "1,x"), "--seeds is '1,x': expected whole numbers and commas, as 1,2,3"),
        (("--seeds", ""), "--seeds is ''"),
        (("--seeds", "3,3"), "--seeds has 3 twice"),
        (("--seeds", "-2"), "seed is -2"),
        (("--seeds", "1", "--seed", "2"), "--seed and --seeds both say the seed"),
        (("--work-dir", "here"), "--work-dir is for one video, and 2 are asked for"),
        (("--redo-clip", "1"), "--redo-clip is for one video"),
        (("--export-workflow", "a.json"), "--export-workflow is for one video"),
    ],
)
def test_bad_input(soundreel: Soundreel, tune: Path, other: Path, options: tuple[str, ...], says: str) -> None:
    done = soundreel(tune, other, *SHORT, *options)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert says in done.err
