"""Nothing is lost: what a render leaves when it is broken off, what goes on with it, and what it never mixes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import files_below
from draft_renders import CLIPS, Render, clip_files, frames_of, plain_names
from media_files import quick_sound
from soundreel.errors import InputError
from soundreel.media.video import probe_video
from soundreel.pipeline import generate
from soundreel.render.stored_renders import find_renders
from soundreel.render.unfinished import load_render
from soundreel.request import FLAT_NAMES
from soundreel.types import Progress, Stage

MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "interpolated": {"interpolate": "motion"},
    "matched": {"color_match": True},
    "interpolated and matched": {"interpolate": "motion", "color_match": True},
}


@pytest.fixture(scope="module")
def tune(tune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_sound(tune, tmp_path_factory.mktemp("quick"))


@pytest.fixture
def render(tmp_path: Path, tune: Path) -> Render:
    return Render(tmp_path, audio=tune)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, tune: Path) -> dict[str, list[bytes]]:
    """Frames of renders that nobody disturbed, by mode."""
    found = {}
    for name, fields in MODES.items():
        whole = Render(tmp_path_factory.mktemp("whole"), audio=tune, **fields)
        whole()
        found[name] = whole.frames
    return found


Broken = Callable[[Render, str], None]


@pytest.fixture(scope="module")
def break_off_in_4(tmp_path_factory: pytest.TempPathFactory, tune: Path) -> Broken:
    """Leaves in a render's folder what one in that mode leaves that is cancelled in clip 4: done once, then copied."""
    done: dict[str, Path] = {}

    def leave(render: Render, mode: str) -> None:
        render.request = render.request.replace(**MODES[mode])
        if mode not in done:
            done[mode] = tmp_path_factory.mktemp("broken")
            Render(done[mode], audio=tune, **MODES[mode]).break_off(clip=4)
        shutil.copytree(done[mode], render.folder, dirs_exist_ok=True)

    return leave


# what is left behind


def test_after_success_there_is_the_video_and_nothing_else(render: Render) -> None:
    render()
    assert files_below(render.folder) == ["a.mp4"]


def test_a_render_without_a_finished_clip_leaves_nothing(render: Render) -> None:
    assert render.break_off(clip=1) == ""
    assert files_below(render.folder) == []


def test_a_render_that_is_broken_off_keeps_its_clips_and_says_how_to_go_on(render: Render) -> None:
    told = render.break_off(clip=4)
    assert told == f"3 of 5 clips are kept, go on with: soundreel resume {render.work}"
    kept = [f"clip_{number:05d}{ending}" for number in (1, 2, 3) for ending in (".json", ".mp4")]
    (scratch,) = (render.work / "engine").iterdir()
    expected = [*kept, "engine", f"engine/{scratch.name}", "lock", "plan.json"]
    assert plain_names(files_below(render.work)) == expected


def test_a_clip_without_a_carry_has_no_file_for_it_and_others_have(render: Render) -> None:
    render.request = render.request.replace(interpolate="motion")
    render.break_off(clip=3)
    assert plain_names(clip_files(render.work, ".safetensors")) == [
        "clip_00001.safetensors",
        "clip_00002.safetensors",
    ]


def test_automatic_names_go_on_as_well(render: Render) -> None:
    render.request = render.request.replace(output=None, output_dir=render.folder)
    render.break_off(clip=3)
    result = render()
    assert render.drawn == {3, 4, 5}
    assert files_below(render.folder) == [result.path.name]


def test_a_work_folder_may_be_elsewhere(render: Render, tmp_path: Path) -> None:
    render.folder = tmp_path / "videos"
    render.request = render.request.replace(output=render.folder / "a.mp4")
    render.break_off(clip=3, work_dir=tmp_path / "work")
    assert files_below(render.folder) == ["a.partial.mp4"]
    assert "clip_00002.mp4" in plain_names(files_below(tmp_path / "work"))
    render(work_dir=tmp_path / "work")
    assert render.drawn == {3, 4, 5}
    assert files_below(tmp_path) == ["videos", "videos/a.mp4"]


# going on


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("clip", [2, 5])
def test_the_same_request_goes_on_and_ends_in_the_same_frames(
    render: Render, unbroken: dict[str, list[bytes]], mode: str, clip: int
) -> None:
    render.request = render.request.replace(**MODES[mode])
    render.break_off(clip)
    render()
    assert render.drawn == set(range(clip, CLIPS + 1))
    assert render.told == f"{clip - 1} of 5 clips are there, going on with clip {clip}"
    assert render.frames == unbroken[mode]
    assert files_below(render.folder) == ["a.mp4"]


def test_an_interpolated_join_is_as_the_middle_of_a_clip(
    tmp_path: Path, tune: Path, unbroken: dict[str, list[bytes]]
) -> None:
    """One clip has no join. Its encoding is another one: so decoded pictures are near, not equal."""
    single = Render(tmp_path, audio=tune, interpolate="motion", infer_frames=80, crf=0)
    joined = Render(tmp_path / "joined", audio=tune, interpolate="motion", crf=0)
    single()
    joined()
    pictures = [[np.frombuffer(frame, np.uint8).astype(int) for frame in each.frames] for each in (single, joined)]
    assert [len(each) for each in pictures] == [70, 70]
    assert max(np.abs(one - other).max() for one, other in zip(*pictures, strict=True)) <= 3


def test_an_interrupted_file_equals_an_unbroken_one_but_for_its_date(render: Render) -> None:
    """The recipe tells what the pictures are, not how often the render was interrupted."""
    recipes = []
    for clip in (None, 3):
        if clip:
            render.break_off(clip)
        recipes.append({name: value for name, value in render().recipe.items() if name != "created"})
    assert recipes[0] == recipes[1]


def test_resuming_needs_the_folder_only(render: Render, unbroken: dict[str, list[bytes]]) -> None:
    render.break_off(clip=3)
    for place in (render.work, render.folder):
        assert load_render(place)[0].output.path == str(render.folder / "a.mp4")
    render.request, work = load_render(render.work)
    render(**vars(work))
    assert render.drawn == {3, 4, 5}
    assert render.frames == unbroken["plain"]


def test_no_resume_begins_anew(render: Render, unbroken: dict[str, list[bytes]]) -> None:
    render.break_off()
    render(resume=False)
    assert render.drawn == {1, 2, 3, 4, 5}
    assert render.told == ""
    assert render.frames == unbroken["plain"]


# what is damaged


FILES = ["plan.json", "lock", *(f"{k}{end}" for k in (1, 2, 3) for end in (".json", ".mp4", ".safetensors"))]
"""Of clips their number and ending."""


def a_file(render: Render, name: str) -> Path:
    return render.clip(int(name[0]), name[1:]) if name[0].isdecimal() else render.work / name


@pytest.mark.parametrize("name", FILES)
def test_a_power_cut_that_cuts_a_file_short_is_noticed(
    render: Render, break_off_in_4: Broken, unbroken: dict[str, list[bytes]], name: str
) -> None:
    break_off_in_4(render, "interpolated and matched")
    damaged = a_file(render, name)
    size = damaged.stat().st_size
    with damaged.open("r+b") as file:
        file.truncate(np.random.default_rng(size).integers(size))
    render()
    assert render.frames == unbroken["interpolated and matched"]
    assert files_below(render.folder) == ["a.mp4"]


@pytest.mark.parametrize("name", ["2.mp4", "2.json"])
def test_only_what_is_damaged_is_drawn_again(render: Render, break_off_in_4: Broken, name: str) -> None:
    break_off_in_4(render, "plain")
    a_file(render, name).write_bytes(b"{}")
    render()
    assert render.drawn == {2, 4, 5}
    assert "to be rendered again: 2" in render.told


def test_a_damaged_carry_is_drawn_again_where_it_is_needed(
    render: Render, break_off_in_4: Broken, unbroken: dict[str, list[bytes]]
) -> None:
    break_off_in_4(render, "interpolated")
    render.clip(3, ".safetensors").unlink()
    render()
    assert render.drawn == {3, 4, 5}
    assert render.frames == unbroken["interpolated"]


def test_halves_of_files_are_removed(render: Render) -> None:
    render.break_off(clip=3)
    (render.work / "clip_00003_0123abcd.mp4.tmp").write_bytes(b"half")
    render()
    assert files_below(render.folder) == ["a.mp4"]


# what has changed


@pytest.mark.parametrize(
    "change", [{"seed": 7}, {"frames": 34}, {"crf": 30}, {"interpolate": "motion"}, {"prompt": "red"}]
)
def test_another_request_never_takes_clips_of_this_one(
    render: Render, tmp_path: Path, tune: Path, change: dict[str, Any]
) -> None:
    render.break_off(work_dir=tmp_path / "work")
    fresh = Render(tmp_path / "fresh", audio=tune, **change)
    fresh()
    render.request = render.request.replace(**change)
    render(work_dir=tmp_path / "work")
    (name,) = change
    told = "clips" if name == "frames" else FLAT_NAMES.get(name, name)
    assert told in render.told
    assert "the earlier clips stay" in render.told
    assert render.frames == fresh.frames


def test_another_request_leaves_the_clips_of_this_one_alone(render: Render) -> None:
    render.break_off(clip=4)
    before = render.segments()
    render.request, asked = render.request.replace(seed=9), render.request
    render()
    render.request = asked
    assert render.segments() == before


def test_a_changed_sound_is_another_request(render: Render, tmp_path: Path, tune: Path) -> None:
    sound = tmp_path / "sound.flac"
    shutil.copy(tune, sound)
    render.request = render.request.replace(audio=sound)
    render.break_off(clip=3)
    with sound.open("ab") as file:
        file.write(b"tail")
    request, work = load_render(render.work)
    with pytest.raises(InputError, match="changed since: audio"):
        generate(request, work=work)
    assert len(render.segments()) == 2


# folders that are none


@pytest.mark.parametrize("name", ["holiday.jpg", "clip_1.mp4", "plan.json.bak"])
def test_a_folder_with_other_things_in_it_is_refused(render: Render, tmp_path: Path, name: str) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / name).write_text("precious")
    with pytest.raises(InputError, match=f"no work folder of soundreel .it holds '{name}'"):
        render(work_dir=tmp_path / "work")
    assert files_below(tmp_path) == ["work", f"work/{name}"]


def test_unfinished_renders_tell_how_far_they_are(render: Render) -> None:
    render.break_off(clip=4)
    render.request = render.request.replace(seed=3)
    render(keep_work=True)
    interrupted, finished = find_renders(render.folder)
    assert (interrupted.done, interrupted.clips, interrupted.state) == (3, 5, "interrupted")
    assert (finished.done, finished.clips, finished.state) == (5, 5, "finished, kept")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"asked": 1}'])
def test_a_damaged_plan_is_no_end(
    render: Render, break_off_in_4: Broken, unbroken: dict[str, list[bytes]], damage: str
) -> None:
    break_off_in_4(render, "plain")
    (render.work / "plan.json").write_text(damage)
    (found,) = find_renders(render.folder)
    assert (found.state, found.problem.split(":")[0]) == ("damaged", f"'{render.work}/plan.json' is damaged")
    with pytest.raises(InputError, match="damaged: give the command that began the render again"):
        load_render(render.work)
    render()
    assert render.drawn == {4, 5}
    assert render.frames == unbroken["plain"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "is not there: expected a folder"),
        (lambda path: path.write_text("x"), "is a file: expected a folder"),
        (lambda path: path.mkdir(), "no work folder, and of the folders in it these are: none"),
    ],
)
def test_a_place_without_a_render_cannot_be_resumed(tmp_path: Path, make: Callable[[Path], Any], says: str) -> None:
    make(tmp_path / "place")
    with pytest.raises(InputError, match=says):
        load_render(tmp_path / "place")


# an early look


def test_what_is_there_so_far_can_be_played(render: Render) -> None:
    seen = {}
    path = render.folder / "a.partial.mp4"

    def listen(progress: Progress) -> None:
        if path.exists() and progress.stage is Stage.RENDER:
            video = probe_video(path)
            seen[progress.clip] = (video.frames, video.sound_seconds, video.metadata["comment"].split(", ")[-1])

    generate(render.request, listen)
    stops = [5, 13, 21, 29]
    assert seen == {
        number + 2: (stop, pytest.approx(stop / 16, abs=0.065), f"unfinished: clips 1 to {number + 1} of 5")
        for number, stop in enumerate(stops)
    }
    assert files_below(render.folder) == ["a.mp4"]


def test_an_early_look_is_the_beginning_of_the_video(render: Render) -> None:
    render.request = render.request.replace(interpolate="motion")
    render.break_off(clip=4)
    early = frames_of(render.folder / "a.partial.mp4")
    render()
    assert len(early) == 2 * 21 - 1, "what follows the last frame needs the next clip"
    assert early == render.frames[: len(early)]


def test_early_looks_have_a_share_of_the_time(render: Render, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soundreel.render.publish.FREE_SECONDS", 0.0)
    monkeypatch.setattr("soundreel.render.publish.SHARE", 0.0)
    render.break_off(clip=5)
    assert probe_video(render.folder / "a.partial.mp4").frames == 5


def test_an_automatic_name_has_one_early_look(render: Render) -> None:
    render.request = render.request.replace(output=None, output_dir=render.folder)
    render.break_off(clip=3)
    render.break_off(clip=4)
    (name,) = (path.name for path in render.folder.glob("*.partial.mp4"))
    assert name == f"tune_64x64_35f_2.2s_no_ref_draft_{render.work.name[:8]}.partial.mp4"


# what the plan says


def test_the_plan_says_what_the_pictures_depend_on(render: Render) -> None:
    render.break_off()
    told = json.loads((render.work / "plan.json").read_text())
    assert told["asked"].startswith(render.work.name)
    assert [name[11:19] for name in clip_files(render.work, ".json")] == [
        clip["fingerprint"][:8] for clip in told["clips"][:3]
    ]
    assert [clip["seed"] for clip in told["clips"]] == [0, 1, 2, 3, 4]
    assert told["parts"]["audio"] != told["request"]["audio"]
    assert Path(told["request"]["audio"]).is_absolute()
