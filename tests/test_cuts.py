"""Hard cuts asked for with --cut: shots that stand alone, totals that stay exact, and nothing blended across a cut."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from draft_renders import Render, Soundreel, frames_of
from soundreel.interpolation.frames import Rates
from soundreel.media.cuts import is_cut
from soundreel.media.video import read_frames

WORDS = ["--size", "64x64", "--frames", "49", "--infer-frames", "16", "--engine", "draft", "--crf", "0"]
"""Quality 0 is lossless: the same picture is decoded as the same picture."""

CUTS = ("--cut", "1", "--cut", "0:02.0625")
SHOTS = [0, 16, 33, 49]
"""First frames, and the end."""


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str], tune: Path) -> Soundreel:
    return Soundreel(capsys, tune)


def recipe_of(soundreel: Soundreel, video: Path) -> dict[str, Any]:
    recipe: dict[str, Any] = json.loads(soundreel("info", video, "--json").out)["recipe"]
    return recipe


def test_the_plan_tells_of_shots(soundreel: Soundreel, tune: Path) -> None:
    done = soundreel("plan", tune, *WORDS, *CUTS)
    assert "in 6 clips, 3 shots" in done.out
    clips = json.loads(soundreel("plan", tune, *WORDS, *CUTS, "--json").out)["clips"]
    assert [(clip["shot"], clip["start"], clip["frames"], clip["size"], clip["lead_in"]) for clip in clips] == [
        (0, 0, 9, 12, 3),
        (0, 9, 7, 8, 0),
        (1, 16, 9, 12, 3),
        (1, 25, 8, 8, 0),
        (2, 33, 9, 12, 3),
        (2, 42, 7, 8, 0),
    ]


@pytest.fixture
def pictures(soundreel: Soundreel, tune: Path, cover: Path, tmp_path: Path) -> list[np.ndarray]:
    """As the model makes them, of shots that look alike: nobody would see a cut in the pictures themselves."""
    made = soundreel.draw("generate", tune, *WORDS, *CUTS, "--ref-image", cover, "-o", tmp_path / "plain.mp4")
    frames = list(read_frames(made.path))
    assert len(frames) == 49
    for cut in SHOTS[1:-1]:
        assert not np.array_equal(frames[cut - 1], frames[cut])
        assert not is_cut(frames[cut - 1], frames[cut])
    return frames


@pytest.mark.parametrize("fps", [24, 25, 30, 60])
def test_no_frame_is_blended_across_a_cut(
    soundreel: Soundreel, tune: Path, cover: Path, tmp_path: Path, pictures: list[np.ndarray], fps: int
) -> None:
    """From the last picture of a shot to the cut that picture is held, and the next shot begins with its own."""
    words = ["--ref-image", cover, "--interpolate", "motion", "--fps", str(fps), "-o", tmp_path / "a.mp4"]
    made = soundreel.draw("generate", tune, *WORDS, *CUTS, *words)
    frames = list(read_frames(made.path))
    rates = Rates(target=Fraction(fps))
    assert len(frames) == rates.count(49)
    for cut in SHOTS[1:-1]:
        before, after = Fraction(cut - 1, 16), Fraction(cut, 16)
        held = [m for m in range(len(frames)) if before <= Fraction(m, fps) < after]
        assert held
        assert all(np.array_equal(frames[m], pictures[cut - 1]) for m in held)
    shown = [m for m in range(len(frames)) if Fraction(m, fps) * 16 % 1 == 0]
    assert all(np.array_equal(frames[m], pictures[int(Fraction(m, fps) * 16)]) for m in shown)
    inside = [
        m for m in range(len(frames)) if m not in shown and not any(np.array_equal(frames[m], p) for p in pictures)
    ]
    assert len(inside) > len(frames) // 4, "inside shots frames are made"


def test_shots_do_not_need_each_other(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    """Each shot is, frame for frame, what it is where the others are cut elsewhere."""
    one = soundreel.draw("generate", tune, *WORDS, *CUTS, "--interpolate", "motion", "-o", tmp_path / "a.mp4")
    moved = ("--cut", "1", "--cut", "1.75")
    other = soundreel.draw("generate", tune, *WORDS, *moved, "--interpolate", "motion", "-o", tmp_path / "b.mp4")
    assert len(one.frames) == len(other.frames) == 98
    assert one.frames[:32] == other.frames[:32]
    assert one.frames[32:] != other.frames[32:]


def test_colours_are_matched_anew_after_a_cut(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    plain = soundreel.draw("generate", tune, *WORDS, *CUTS, "-o", tmp_path / "plain.mp4")
    made = soundreel.draw("generate", tune, *WORDS, *CUTS, "--color-match", "-o", tmp_path / "a.mp4")
    clips = recipe_of(soundreel, made.path)["plan"]["clips"]
    corrected = [not np.allclose(clip["correction"], [[1, 1, 1], [0, 0, 0]]) for clip in clips]
    assert corrected == [False, True, False, True, False, True]
    for clip, is_corrected in zip(clips, corrected, strict=True):
        frames = slice(clip["start"], clip["start"] + clip["frames"])
        assert (made.frames[frames] == plain.frames[frames]) is not is_corrected


def test_a_recipe_has_its_cuts(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    made = soundreel.draw("generate", tune, *WORDS, *CUTS, "-o", tmp_path / "a.mp4")
    assert recipe_of(soundreel, made.path)["request"]["cuts"] == [1.0, 2.0625]
    again = soundreel.draw("generate", "--recipe", made.path, "-o", tmp_path / "b.mp4")
    assert again.frames == made.frames
    shorter = soundreel.draw("generate", "--recipe", made.path, "--frames", "10", "-o", tmp_path / "c.mp4")
    assert (len(shorter.frames), recipe_of(soundreel, shorter.path)["request"]["cuts"]) == (10, [])


@pytest.mark.parametrize("clip", [3, 4])
def test_a_render_with_cuts_goes_on(tmp_path: Path, tune: Path, clip: int) -> None:
    """Broken off in the first and in the second clip of the second shot."""
    fields: dict[str, Any] = {"cuts": [1.0, 2.0625], "frames": 49, "infer_frames": 16, "interpolate": "motion"}
    fields |= {"color_match": True}
    whole = Render(tmp_path / "whole", audio=tune, **fields)
    whole()
    render = Render(tmp_path / "broken", audio=tune, **fields)
    render.break_off(clip)
    carries = sorted(int(path.name[5:10]) for path in render.work.glob("*.safetensors"))
    assert carries == ([1] if clip == 3 else [1, 3]), "nothing passes from shot to shot"
    render()
    assert render.drawn == set(range(clip, 7))
    assert render.frames == whole.frames


def test_what_is_there_of_a_video_ends_with_a_frame_of_its_last_shot(tmp_path: Path, tune: Path) -> None:
    render = Render(tmp_path, audio=tune, cuts=[1.0], frames=49, infer_frames=16, interpolate="motion", fps=25)
    render.break_off(clip=3)
    partial = frames_of(tmp_path / "a.partial.mp4")
    render()
    assert len(partial) == 25
    assert partial == render.frames[:25]


@pytest.mark.parametrize(
    ("cuts", "says"),
    [
        (["99"], "--cut is 99 s: expected a time inside the video, which shows 0 to 3.0625 s of it"),
        (["0"], "cut is 0.0: expected more than 0"),
        (["soon"], "cut is 'soon': expected a number"),
        (["1:2:3:4"], "cut is '1:2:3:4': expected seconds, or a time as 1:23.5"),
        (["1", "1.01"], "--cut 1.01 s falls on the same frame as the cut before it"),
    ],
)
def test_cuts_that_cannot_be(soundreel: Soundreel, tune: Path, tmp_path: Path, cuts: list[str], says: str) -> None:
    words = [word for cut in cuts for word in ("--cut", cut)]
    done = soundreel("generate", tune, *WORDS, *words, "-o", tmp_path / "a.mp4")
    assert done.code == 2
    assert done.err.startswith(f"soundreel: {says}")
    assert len(done.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
