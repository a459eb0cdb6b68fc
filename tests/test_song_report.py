"""`soundreel info SONG`: its strongest parts as options of a render, its beat, its sections."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from benchmarks.songs import synthesize

from command import Outcome, run_here
from media_files import tone, write_sound
from soundreel.analysis.spectrum import SAMPLE_RATE


@pytest.fixture(scope="module")
def a_song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    _, sound = synthesize("4/4", 31, 40)
    return write_sound(tmp_path_factory.mktemp("song") / "a song.flac", sound[:, None], SAMPLE_RATE)


def info(capsys: pytest.CaptureFixture[str], *words: object) -> Outcome:
    done = run_here(capsys, "info", *words)
    assert (done.code, done.err) == (0, "")
    return done


def test_a_song_is_shown_with_its_strongest_parts(capsys: pytest.CaptureFixture[str], a_song: Path) -> None:
    lines = info(capsys, a_song).out.splitlines()
    rows = {line[:14].strip(): line[14:].strip() for line in lines if line}
    assert "4/4" in rows["beat"]
    assert "flac, 32000 Hz mono" in rows["sound"]
    assert [name for name in rows if name.startswith("strongest")] == [
        "strongest 5 s",
        "strongest 10 s",
        "strongest 20 s",
    ]
    (heading,) = (line for line in lines if line.startswith("section"))
    assert {"like", "from", "to", "energy", "voice", "confidence"} <= set(heading.split())


def test_the_strongest_part_can_be_rendered_as_it_stands(
    capsys: pytest.CaptureFixture[str], a_song: Path, tmp_path: Path
) -> None:
    told = json.loads(info(capsys, a_song, "--json").out)
    options = shlex.split(told["strongest"][0]["options"])
    assert options[::2] == ["--audio-start", "--audio-duration"]
    done = run_here(capsys, "plan", a_song, *options, "--engine", "draft", "--json")
    assert json.loads(done.out)["audio_start"] == told["strongest"][0]["audio_start"]


def test_programs_get_all_of_it(capsys: pytest.CaptureFixture[str], a_song: Path) -> None:
    told = json.loads(info(capsys, a_song, "--json").out)
    assert told["meter"] == "4/4"
    assert set(told["downbeats"]) <= set(told["beats"])
    assert len(told["beats"]) > 50
    assert told["sections"][0]["start"] == 0
    assert told["sections"][-1]["stop"] == pytest.approx(told["sound"]["seconds"], abs=0.002)
    assert told["voice_source"] == "spectrum"


def test_without_a_beat_that_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_sound(tmp_path / "tone.wav", tone(3, 16000), 16000)
    out = info(capsys, path).out
    assert "beat" in out
    assert "none" in out
    assert "strongest" not in out, "three seconds have no strongest five"


def test_a_cover_is_no_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sound = np.repeat(tone(6, 44100), 2, axis=1)
    path = write_sound(tmp_path / "cover.mp3", sound, 44100, cover=True)
    assert "mp3" in info(capsys, path).out
