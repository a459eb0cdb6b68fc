"""Presets and moods mean what the seed documents say of them."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import REPO, SMALL, run_here
from media_files import write_sound
from soundreel.planning import plan
from soundreel.request import Request, Sampling
from soundreel.request.presets import DEFAULT_FRAMES, DEFAULT_PROMPT, MOODS, PRESETS, preset

Planned = Callable[..., dict[str, Any]]

SIZES = {"quick": [48], "balanced": [80], "high": [112], "long": [80, 80, 80], "turbo": [80]}
"""Frames that are sampled, clip by clip: what the seed document gives as --num_clip and --infer_frames."""


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute."""
    sound = np.full((480_000, 1), 0.5, np.float32)
    return write_sound(tmp_path_factory.mktemp("sound") / "song.wav", sound, 8000)


@pytest.fixture
def planned(capsys: pytest.CaptureFixture[str], song: Path) -> Planned:
    """What `soundreel plan` says of a draft of the song."""

    def run(*words: str | os.PathLike[str]) -> dict[str, Any]:
        done = run_here(capsys, "plan", song, "--engine", "draft", "--json", *words)
        assert done.code == 0, done.err
        told: dict[str, Any] = json.loads(done.out)
        return told

    return run


@pytest.mark.parametrize(
    ("name", "frames"), [("quick", 45), ("balanced", 77), ("high", 109), ("long", 237), ("turbo", 77)]
)
def test_a_preset_gives_the_length(planned: Planned, name: str, frames: int) -> None:
    told = planned("--preset", name)
    assert told["frames"] == frames
    assert [clip["size"] for clip in told["clips"]] == SIZES[name]
    assert told["notes"] == [f"the first {frames / 16:.2f} of 60.00 s (1:00) of the sound; --full makes all of it"]


@pytest.mark.parametrize(
    ("length", "frames"),
    [
        ("--frames 100", 100),
        ("--audio-duration 2", 32),
        ("--full", 960),
        ("--num-clip 2", 2 * 48 - 3),
        ("--infer-frames 80", 77),  # still one clip
    ],
)
def test_a_length_that_is_given_wins(planned: Planned, length: str, frames: int) -> None:
    assert planned("--preset", "quick", *length.split())["frames"] == frames


def test_less_sound_less_video(planned: Planned) -> None:
    assert planned("--preset", "long", "--audio-start", "50")["frames"] == 160


def test_a_cut_changes_no_length(planned: Planned) -> None:
    told = planned("--preset", "long", "--cut", "3")
    assert (told["frames"], [clip["shot"] for clip in told["clips"]]) == (237, [0, 1, 1, 1])


def test_python_has_the_same_presets() -> None:
    request = Request(audio="a.wav", **preset("long"))
    assert plan(request, 60.0).frames == 237
    assert plan(request, 60.0, equal_clips=True).frames == 237
    assert plan(request.replace(frames=5), 60.0).frames == 5


def test_the_page_says_what_presets_are() -> None:
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d+) .*? \| (.+) \| (.+) \| (.+) \| (.+) \|$", readme, re.MULTILINE)
    assert rows == [(name, *as_said(name)) for name in PRESETS]


def as_said(name: str) -> tuple[str, ...]:
    """Frames, clips, steps, guidance and size."""
    given, usual = PRESETS[name], Sampling()
    clips, longest = given.get("default_clips", 1), given.get("infer_frames", usual.infer_frames)
    frames = plan(Request(audio="a.wav", **given), 3600).frames
    assert frames == DEFAULT_FRAMES or "default_clips" in given
    guidance = "off" if given["guide_scale"] == 1 else f"{given['guide_scale']:g}"
    shift = f", shift {given['shift']:g}" if "shift" in given else ""
    size = f"{given['width']}×{given['height']}"
    return str(frames), f"{clips} × {longest}", str(given["steps"]), guidance + shift, size


# moods


@pytest.mark.parametrize("name", MOODS)
def test_a_mood_is_a_prompt(capsys: pytest.CaptureFixture[str], song: Path, tmp_path: Path, name: str) -> None:
    video = tmp_path / "a.mp4"
    run_here(capsys, song, *SMALL, "--engine", "draft", "--frames", "2", "--mood", name, "-o", video)
    recipe = json.loads(run_here(capsys, "info", video, "--json").out)["recipe"]
    assert recipe["request"]["prompt"] == MOODS[name]


def test_moods_are_the_seed_s() -> None:
    assert {name: prompt.split(",")[0] for name, prompt in MOODS.items()} == {
        "music": "rhythmic motion",
        "calm": "smooth flowing motion",
        "speech": "subtle motion",
    }
    assert MOODS["music"] == DEFAULT_PROMPT, "the mood that is taken where none is given"


def test_a_mood_wins_over_a_recipe(capsys: pytest.CaptureFixture[str], song: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.mp4", tmp_path / "b.mp4"
    words = (*SMALL, "--engine", "draft", "--frames", "2")
    run_here(capsys, song, *words, "--prompt", "red", "-o", first)
    run_here(capsys, "generate", "--recipe", first, "--mood", "calm", "-o", second)
    recipe = json.loads(run_here(capsys, "info", second, "--json").out)["recipe"]
    assert recipe["request"]["prompt"] == MOODS["calm"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--mood calm --prompt red", "--prompt and --mood are two prompts: give one of them"),
        ("--mood wild", "there is no mood 'wild': choose one of music, calm, speech"),
    ],
)
def test_one_prompt_of_one_kind(capsys: pytest.CaptureFixture[str], song: Path, words: str, says: str) -> None:
    done = run_here(capsys, "plan", song, *words.split())
    assert (done.code, done.err) == (2, f"soundreel: {says}\n")
