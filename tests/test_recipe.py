"""A finished video is its own recipe: rendered again from its metadata, and what differs by now is named."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import SMALL, Outcome, files_below, run_here
from soundreel.media.mux import assemble
from soundreel.media.video import SegmentWriter, read_frames
from soundreel.version import __version__

Soundreel = Callable[..., Outcome]


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str]) -> Soundreel:
    def run(*arguments: str | os.PathLike[str]) -> Outcome:
        return run_here(capsys, "generate", *arguments)

    return run


@pytest.fixture(scope="module")
def rendered() -> dict[str, bytes]:
    """The file of a render, once there is one."""
    return {}


@pytest.fixture
def video(soundreel: Soundreel, tune: Path, cover: Path, tmp_path: Path, rendered: dict[str, bytes]) -> Path:
    path = tmp_path / "a.mp4"
    if "video" not in rendered:
        words = "--frames 20 --infer-frames 12 --seed 4 --crf 25 --color-match --settings tag"
        made = soundreel(tune, *SMALL, *words.split(), "--ref-image", cover, "-o", path)
        assert made.code == 0, made.err
        rendered["video"] = path.read_bytes()
    path.write_bytes(rendered["video"])
    return path


def frames(path: Path) -> list[bytes]:
    return [frame.tobytes() for frame in read_frames(path)]


def with_recipe(path: Path, change: Callable[[dict[str, Any]], Any] | str, recipe: dict[str, Any]) -> Path:
    """A video whose recipe was changed, or is some other text."""
    text = change if isinstance(change, str) else (change(recipe), json.dumps(recipe))[1]
    segment = path.with_suffix(".segment.mp4")
    with SegmentWriter(segment, width=32, height=32) as writer:
        writer.write(np.zeros((2, 32, 32, 3), np.uint8))
    assemble([segment], path, fps=16, sound=None, metadata={"soundreel": text})
    segment.unlink()
    return path


def recipe_of(capsys: pytest.CaptureFixture[str], video: Path) -> dict[str, Any]:
    recipe: dict[str, Any] = json.loads(run_here(capsys, "info", video, "--json").out)["recipe"]
    return recipe


def test_a_video_is_rendered_again_from_itself(soundreel: Soundreel, video: Path, tmp_path: Path) -> None:
    again = soundreel("--recipe", video, "-o", tmp_path / "b.mp4")
    assert again.code == 0, again.err
    assert "note:" not in again.err
    assert frames(tmp_path / "b.mp4") == frames(video)


def test_it_never_replaces_the_video(soundreel: Soundreel, video: Path, tmp_path: Path) -> None:
    before = video.read_bytes()
    again = soundreel("--recipe", video, "--output-dir", tmp_path / "out")
    assert again.path.parent == tmp_path / "out"
    assert "_tag_" in again.path.name
    assert video.read_bytes() == before


def test_options_win_over_the_recipe(
    soundreel: Soundreel, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--seed 5 --frames 8 --width 80"
    assert soundreel("--recipe", video, *words.split(), "-o", tmp_path / "b.mp4").code == 0
    request = recipe_of(capsys, tmp_path / "b.mp4")["request"]
    found = (request["seed"], request["window"]["frames"], request["width"], request["height"])
    assert found == (5, 8, 80, 64)
    assert (request["output"]["crf"], request["output"]["color_match"]) == (25, True)


def test_a_clip_s_own_seed_is_part_of_the_recipe(soundreel: Soundreel, video: Path, tune: Path, tmp_path: Path) -> None:
    options = [tune, *SMALL, "--frames", "20", "--infer-frames", "12", "-o", tmp_path / "b.mp4", "--keep-work"]
    soundreel(*options)
    plain = frames(tmp_path / "b.mp4")
    take = soundreel(*options, "--redo-clip", "2").path
    assert soundreel("--recipe", take, "-o", tmp_path / "c" / "c.mp4").code == 0
    assert frames(tmp_path / "c" / "c.mp4") == frames(take) != plain
    assert soundreel("--recipe", take, "--seed", "0", "-o", tmp_path / "c" / "c.mp4").code == 0
    assert frames(tmp_path / "c" / "c.mp4") == plain


def test_files_are_found_beside_the_video_when_they_were_moved(
    soundreel: Soundreel, tune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("song.flac").write_bytes(tune.read_bytes())
    soundreel("song.flac", *SMALL, "--frames", "4", "-o", "a.mp4")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert soundreel("--recipe", tmp_path / "a.mp4", "-o", "b.mp4").code == 0


def test_another_sound_may_be_given(soundreel: Soundreel, video: Path, media: Path, tmp_path: Path) -> None:
    again = soundreel(media / "talk.wav", "--recipe", video, "-o", tmp_path / "b.mp4")
    assert again.code == 0
    assert "note: since the recipe was made, input audio has another content" in again.err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.update(soundreel="0.0.1"), f"the recipe was made with soundreel 0.0.1, here is {__version__}"),
        (lambda r: r["versions"].update(av="1.0"), "the recipe was made with av 1.0, here is"),
        (lambda r: r["models"].update({"transformer a.st": "1-a"}), "model file transformer a.st is gone"),
        (lambda r: r["inputs"].update(audio="0"), "input audio has another content"),
        (lambda r: r.update(identity={"precision": "fp8"}), "the recipe was computed otherwise: precision fp8"),
    ],
)
def test_what_differs_by_now_is_named(
    soundreel: Soundreel,
    video: Path,
    tune: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], Any],
    says: str,
) -> None:
    old = with_recipe(tmp_path / "old.mp4", change, recipe_of(capsys, video))
    again = soundreel("--recipe", old, "--inputs", tune.parent, "-o", tmp_path / "b.mp4")
    assert again.code == 0, again.err
    assert [line for line in again.err.splitlines() if line.startswith("note:") and says in line]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("{", "the recipe in '{old}' is damaged"),
        ("[]", "the recipe in '{old}' holds no request"),
        (lambda r: r.pop("request"), "the recipe in '{old}' holds no request"),
        (lambda r: r["request"].pop("audio"), "no request that soundreel wrote"),
        (lambda r: r["request"].update(width=33), "width is 33"),
        (lambda r: (r["request"].update(audio="gone.mp3"), r["inputs"].clear()), "no such sound: 'gone.mp3'"),
    ],
)
def test_a_recipe_that_cannot_be_followed(
    soundreel: Soundreel,
    video: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], Any] | str,
    says: str,
) -> None:
    old = with_recipe(tmp_path / "old.mp4", change, recipe_of(capsys, video))
    before = files_below(tmp_path)
    done = soundreel("--recipe", old, "-o", tmp_path / "b.mp4")
    assert done.code == 2
    assert says.format(old=old) in done.err
    assert len(done.err.splitlines()) == 1
    assert files_below(tmp_path) == before


def test_a_video_of_someone_else_has_no_recipe(soundreel: Soundreel, media: Path) -> None:
    done = soundreel("--recipe", media / "bikes.mp4")
    assert (done.code, "has no recipe in it" in done.err) == (2, True)


def test_info_names_a_damaged_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run_here(capsys, "info", with_recipe(tmp_path / "old.mp4", "{", {}))
    assert (done.code, done.err.splitlines()[0].count("old.mp4' is damaged")) == (2, 1)


def test_neither_sound_nor_recipe(soundreel: Soundreel) -> None:
    done = soundreel(*SMALL)
    assert (done.code, "there is no sound" in done.err) == (2, True)
