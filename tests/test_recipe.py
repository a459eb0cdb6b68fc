"""A finished video is its own recipe: rendered again from its metadata, and what differs by now is named."""

import dataclasses
import json
import operator
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import SMALL, Outcome, files_below, run_here
from draft_renders import Render
from soundreel.cli.video_report import describe_video
from soundreel.errors import SoundreelError
from soundreel.media.mux import assemble
from soundreel.media.video import SegmentWriter, probe_video, read_frames
from soundreel.render.recipe import request_fields
from soundreel.render.unfinished import load_redo
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
    assert "_tag-draft_" in again.path.name
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
        (lambda r: r["request"].update(audio=5), "audio is 5: expected a path"),
        (lambda r: r["request"].update(audio=None), "audio is None: expected a path"),
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


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "it is nested too deeply"),
        ('{"request": ' * 5_000 + "1" + "}" * 5_000, "it is nested too deeply"),
        ('{"request": {"audio": ' + "[" * 500 + "]" * 500 + "}}", "it is nested too deeply"),
        ('{"request": {"seed": ' + "9" * 5_000 + "}}", "is damaged: Exceeds the limit"),
        ('{"request": {}}', "is damaged: soundreel: expected text"),
        (lambda r: r.pop("engine"), "is damaged: engine: expected text"),
        (lambda r: r.update(versions=[]), "is damaged: versions: expected an object"),
        (lambda r: r["inputs"].update(audio=[]), "is damaged: inputs.audio: expected text"),
        (lambda r: r["plan"]["clips"][1].update(seed=True), "is damaged: plan.clips[1].seed: expected a whole number"),
        (lambda r: r["plan"]["clips"][0]["look"].update(mean=[1, 2]), "plan.clips[0].look.mean: expected 3 values"),
        (lambda r: r.update(notes="none"), "is damaged: notes: expected a list"),
    ],
)
@pytest.mark.parametrize("command", ["info", "generate --recipe", "redo", "reprint"])
def test_a_recipe_that_is_none_is_said_by_every_command(
    video: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    text: Callable[[dict[str, Any]], Any] | str,
    says: str,
) -> None:
    old = with_recipe(tmp_path / "old.mp4", text, recipe_of(capsys, video))
    before = files_below(tmp_path)
    number = ["1"] if command == "redo" else []
    done = run_here(capsys, *command.split(), old, *number)
    (line,) = done.err.splitlines()
    assert (done.code, done.out) == (2, "")
    assert says in line
    assert files_below(tmp_path) == before


def places(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values are in JSON; of lists the first."""
    if at:
        yield at
    inner = data.items() if isinstance(data, dict) else enumerate(data[:1]) if isinstance(data, list) else ()
    for key, value in inner:
        yield from places(value, (*at, key))


@pytest.mark.parametrize("wrong", [5, None, "text", [{}], {"a": 1}])
def test_no_wrong_value_in_a_recipe_is_a_bug(
    video: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wrong: Any
) -> None:
    """In any place of it, by whatever reads it; the video is looked at once."""
    found, good = probe_video(video), recipe_of(capsys, video)
    read = [lambda: describe_video(video), lambda: request_fields(video), lambda: load_redo(video, 1)]
    for place in places(good):
        recipe = json.loads(json.dumps(good))
        reduce(operator.getitem, place[:-1], recipe)[place[-1]] = wrong
        told = dataclasses.replace(found, metadata={"soundreel": json.dumps(recipe)})
        monkeypatch.setattr("soundreel.cli.video_report.probe_video", lambda _, told=told: told)
        monkeypatch.setattr("soundreel.render.recipe.read_metadata", lambda _, told=told: told.metadata)
        for reading in read:
            with suppress(SoundreelError):
                reading()


def test_a_video_of_someone_else_has_no_recipe(soundreel: Soundreel, media: Path) -> None:
    done = soundreel("--recipe", media / "bikes.mp4")
    assert (done.code, "has no recipe in it" in done.err) == (2, True)


@pytest.mark.parametrize("what", ["gone", "damaged", "a folder"])
def test_a_render_goes_on_without_the_video_whose_recipe_it_follows(
    video: Path, tune: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    source = video.rename(tmp_path / "source.mp4")
    render = Render(tmp_path / "out", audio=tune, recipe=source)
    render.break_off(clip=4)
    source.unlink()
    if what == "damaged":
        source.write_text("no video")
    elif what == "a folder":
        source.mkdir()
    done = run_here(capsys, "resume", render.work, "--progress", "lines")
    assert done.code == 0, done.err
    assert probe_video(render.folder / "a.mp4").frames == 35
    (note,) = (line for line in done.err.splitlines() if "recipe" in line)
    assert note.startswith("note: what differs from the recipe cannot be told: ")
    assert str(source) in note


def test_info_names_a_damaged_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run_here(capsys, "info", with_recipe(tmp_path / "old.mp4", "{", {}))
    assert (done.code, done.err.splitlines()[0].count("old.mp4' is damaged")) == (2, 1)


def test_neither_sound_nor_recipe(soundreel: Soundreel) -> None:
    done = soundreel(*SMALL)
    assert (done.code, "there is no sound" in done.err) == (2, True)
