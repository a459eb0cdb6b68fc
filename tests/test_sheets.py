"""Sheets of storyboards and of finished videos: the same shots, and pictures of the same moments."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from draft_renders import Render
from media_files import click_train, write_sound, write_video
from soundreel.cli.sheets import EACH, MOST_STILLS, _each, _told_shots, sheet_of_request, sheet_of_video, write_sheet
from soundreel.errors import Cancelled, InputError
from soundreel.planning import plan
from soundreel.request import Request
from soundreel.types import Result

SHOTS = (
    {"start": 0, "name": "opening", "section": "intro", "prompt": "blue mist"},
    {"start": 1.5, "name": "singer", "section": "verse", "prompt": "red curtain"},
    {"start": 3, "section": "chorus", "prompt": "gold"},
)


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sound(tmp_path_factory.mktemp("songs") / "clicks.wav", click_train(5, 22_050), 22_050)


@pytest.fixture(scope="module")
def storyboard(song: Path) -> dict[str, Any]:
    return {"audio": song, "shots": SHOTS, "full": True, "frames": None, "width": 96, "height": 160}


@pytest.fixture(scope="module")
def video(storyboard: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Result:
    return Render(tmp_path_factory.mktemp("video"), **storyboard, crf=8)()


def mean_colours(pictures: tuple[Image.Image, ...]) -> np.ndarray:
    return np.array([np.asarray(picture).mean(axis=(0, 1)) for picture in pictures])


def test_a_storyboard_s_sheet_shows_what_its_draft_will(storyboard: dict[str, Any], video: Result) -> None:
    planned, rendered = sheet_of_request(Request(**storyboard)), sheet_of_video(video.path)
    assert planned.seconds == rendered.seconds == 5.0
    for before, after in zip(planned.shots, rendered.shots, strict=True):
        assert (before.name, before.start, before.stop) == (after.name, after.start, after.stop)
        assert before.prompt == after.prompt
        assert len(before.pictures) == len(after.pictures) == EACH
        np.testing.assert_allclose(mean_colours(before.pictures), mean_colours(after.pictures), atol=12)
    assert [shot.name for shot in planned.shots] == ["opening", "singer", "shot-3"]
    assert [shot.start for shot in planned.shots] == [0.0, 1.5, 3.0]


def test_scores_of_a_video_are_shown(storyboard: dict[str, Any], tmp_path: Path) -> None:
    scored = Render(tmp_path, **storyboard, score=True)()
    told = scored.recipe["scores"]["shots"]
    shots = sheet_of_video(scored.path).shots
    assert {name for shot in shots for name in shot.scores} == {"beat"}
    for shot, data in zip(shots, told, strict=True):
        assert {name: score.value for name, score in shot.scores.items()} == (
            {} if data["beat"] is None else {"beat": data["beat"]["value"]}
        )
        assert all(0 <= score.goodness <= 1 for score in shot.scores.values())
        assert shot.is_weak == (data["weakness"] >= 0.5)


def test_sheets_are_written_as_pictures(video: Result, tmp_path: Path) -> None:
    for name in ("sheet.png", "new/sheet.JPG"):
        write_sheet(sheet_of_video(video.path), tmp_path / name)
        with Image.open(tmp_path / name) as picture:
            assert picture.width == 1600


def test_shots_of_cuts_are_shown_by_number(song: Path, tmp_path: Path) -> None:
    cut = Render(tmp_path, audio=song, cuts=[1.0], frames=32, infer_frames=16)()
    sheet = sheet_of_video(cut.path)
    assert [(shot.name, shot.start, shot.stop) for shot in sheet.shots] == [("shot-1", 0.0, 1.0), ("shot-2", 1.0, 2.0)]


def test_a_part_of_a_song_has_its_own_times(storyboard: dict[str, Any]) -> None:
    request = Request(**storyboard | {"audio_start": 1.0, "full": False, "audio_duration": 3.0})
    sheet = sheet_of_request(request)
    assert (sheet.start, sheet.seconds) == (1.0, 3.0)
    assert [(shot.name, shot.start) for shot in sheet.shots] == [("opening", 0.0), ("singer", 0.5), ("shot-3", 2.0)]


def test_videos_of_others_are_refused(tmp_path: Path) -> None:
    other = write_video(tmp_path / "other.mp4", click_train(1, 22_050), 22_050)
    with pytest.raises(InputError, match=r"other\.mp4' has no recipe: expected a video that soundreel has made"):
        sheet_of_video(other)


def recipe_of(**plan: Any) -> dict[str, Any]:
    clips = [{"shot": 0, "start": 0, "frames": 16}, {"shot": 1, "start": 16, "frames": 16}]
    return {"plan": {"clips": clips, **plan}, "request": {"shots": [{"start": 0, "name": "a"}, {"start": 1}]}}


def test_shots_of_a_stranger_s_recipe_lie_in_the_video() -> None:
    wild = [(0, -5, 9), (1, 8, 8), (2, 12, 10**12), (3, 10**15, 5), (4, 2, -1)]
    clips = [{"shot": shot, "start": start, "frames": frames} for shot, start, frames in wild]
    shots = _told_shots(recipe_of(clips=clips), 2.0)
    assert [(shot.start, shot.stop) for shot in shots] == [(0.5, 1.0), (0.75, 2.0)]


def test_a_shot_that_was_moved_onto_a_latent_frame_is_still_the_same_shot() -> None:
    """As a ComfyUI server renders shots that continue: they may begin before their time."""
    asked = [{"start": 0.0, "name": "a"}, {"start": 1.0, "name": "b"}, {"start": 1.625, "name": "c", "cut": "continue"}]
    window = {"start": 1.0}
    planned = plan(Request(audio="a.wav", shots=asked, window=window | {"frames": 32}), 9.0, equal_clips=True)
    clips = [{"shot": clip.shot, "start": clip.start, "frames": clip.frames} for clip in planned.clips]
    shots = _told_shots({"plan": {"clips": clips}, "request": {"shots": asked, "window": window}}, 2.0)
    assert [(shot.name, shot.start, shot.continues) for shot in shots] == [("b", 0.0, False), ("c", 9 / 16, True)]


@pytest.mark.parametrize("clips", [[{"shot": "a", "start": 0, "frames": 1}], [{}], "none"])
def test_a_damaged_recipe_is_said(video: Result, monkeypatch: pytest.MonkeyPatch, clips: Any) -> None:
    recipe = json.loads(json.dumps(dict(video.recipe)))
    recipe["plan"]["clips"] = clips
    monkeypatch.setattr("soundreel.cli.sheets.parse_recipe", lambda *_: recipe)
    with pytest.raises(InputError, match=r"the recipe in '.*' is damaged: plan\.clips"):
        sheet_of_video(video.path)


@pytest.mark.parametrize(("shots", "each"), [(0, EACH), (1, EACH), (MOST_STILLS // 2, 2), (MOST_STILLS, 1), (5000, 1)])
def test_many_shots_have_fewer_stills(shots: int, each: int) -> None:
    assert _each(shots) == each


def test_a_sheet_can_be_stopped(storyboard: dict[str, Any], video: Result) -> None:
    def stop() -> None:
        raise Cancelled("enough")

    for draw in (
        lambda: sheet_of_request(Request(**storyboard), check=stop),
        lambda: sheet_of_video(video.path, check=stop),
    ):
        with pytest.raises(Cancelled):
            draw()
