"""One clip drawn again with another seed: an act of its own, that ends in a new video and means the same each time.

Of the 5 clips the second one is drawn again: seeds 0, 1, 2, 3, 4 become 0, 5, 2, 3, 4.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from command import events_of, files_below, finish, start
from draft_renders import WORDS, Render, Soundreel, clip_files, frames_of
from media_files import quick_sound
from soundreel.errors import InputError
from soundreel.media.video import probe_video
from soundreel.pipeline import generate, redo
from soundreel.request import WorkOptions
from soundreel.types import Progress, Result, Stage

pytestmark = pytest.mark.usefixtures("few_partial_videos")

Words = list[str | os.PathLike[str]]

FIRST, SECOND, THIRD = [0, 1, 2, 3, 4], [0, 5, 2, 3, 4], [0, 6, 2, 3, 4]


@pytest.fixture(scope="module")
def tune(tune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_sound(tune, tmp_path_factory.mktemp("quick"))


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str], tune: Path) -> Soundreel:
    return Soundreel(capsys, tune)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, tune: Path) -> Path:
    """A folder for `video`, and in another one what is put there: the paths in it are of the first."""
    folder = tmp_path_factory.mktemp("kept")
    Render(folder / "here", audio=tune)(keep_work=True)
    shutil.copytree(folder / "here", folder / "as it was")
    return folder


@pytest.fixture
def video(kept: Path) -> Path:
    """Whose clips are kept beside it."""
    shutil.rmtree(kept / "here")
    shutil.copytree(kept / "as it was", kept / "here")
    return kept / "here" / "a.mp4"


@pytest.fixture
def render(tmp_path: Path, tune: Path) -> Render:
    return Render(tmp_path, audio=tune)


def work_of(video: Path) -> Path:
    (plan,) = (video.parent / ".soundreel").glob("*/plan.json")
    return plan.parent


def commands(tune: Path, video: Path) -> dict[str, Words]:
    """Ways to say the same."""
    return {
        "a folder": ["redo", work_of(video), "2"],
        "a video": ["redo", video, "2"],
        "the command": ["generate", tune, *WORDS, "-o", video, "--redo-clip", "2"],
    }


def interrupt_in(clip: int) -> Callable[[Progress], None]:
    """Ctrl-C in the middle of a clip."""

    def listen(progress: Progress) -> None:
        if progress.stage is Stage.RENDER and progress.clip == clip and progress.step > 0:
            raise KeyboardInterrupt

    return listen


@pytest.mark.parametrize("how", ["a folder", "a video", "the command"])
def test_a_clip_is_drawn_again_and_no_other_into_a_new_video(
    soundreel: Soundreel, tune: Path, video: Path, how: str
) -> None:
    before, clips = video.read_bytes(), clip_files(work_of(video))
    again = soundreel.draw(*commands(tune, video)[how])
    assert again.path == video.with_name("a_take2.mp4")
    assert video.read_bytes() == before
    assert again.drawn == {2}
    assert soundreel.seeds(again.path) == SECOND
    assert [one == other for one, other in zip(frames_of(video), again.frames, strict=True)].count(False) == 8
    kept = clip_files(work_of(video))
    assert kept.items() >= clips.items()
    assert {name[:10] for name in kept.keys() - clips.keys()} == {"clip_00002"}


@pytest.mark.parametrize("how", ["a folder", "a video", "the command"])
def test_another_one_after_it_has_yet_another_seed(soundreel: Soundreel, tune: Path, video: Path, how: str) -> None:
    words = commands(tune, video)[how]
    second, third = soundreel.draw(*words), soundreel.draw(*words)
    assert third.path == video.with_name("a_take3.mp4")
    assert third.drawn == {2}
    assert [soundreel.seeds(path) for path in (video, second.path, third.path)] == [FIRST, SECOND, THIRD]


def test_a_seed_and_a_name_may_be_given(soundreel: Soundreel, video: Path, tmp_path: Path) -> None:
    again = soundreel.draw("redo", work_of(video), "2", "--seed", "77", "-o", tmp_path / "other" / "b.mp4")
    assert again.path == tmp_path / "other" / "b.mp4"
    assert soundreel.seeds(again.path) == [0, 77, 2, 3, 4]
    assert soundreel.seeds(soundreel.draw("redo", work_of(video), "1").path) == [78, 77, 2, 3, 4]


@pytest.mark.parametrize("seed", [0, 2**64])
def test_any_seed_will_do(soundreel: Soundreel, video: Path, seed: int) -> None:
    """A draft's clips share what is drawn from the first one's seed: that of the fifth one is four less."""
    again = soundreel.draw("redo", video, "5", "--seed", str(seed))
    assert soundreel.seeds(again.path) == [0, 1, 2, 3, seed]
    assert again.frames[-1] != frames_of(video)[-1]


def test_a_take_is_gone_on_from(soundreel: Soundreel, video: Path) -> None:
    second = soundreel.draw("redo", video, "2")
    third = soundreel.draw("redo", second.path, "4")
    assert soundreel.seeds(third.path) == [0, 5, 2, 6, 4]
    assert soundreel.seeds(soundreel.draw("redo", video, "1").path) == [7, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("options", "drawn"),
    [
        (["--interpolate", "motion"], {2, 3}),  # whose first frames lie between the two
        (["--color-match"], {2, 3}),  # which glides from the colours of the one before
        (["--cut", "0.8125", "--interpolate", "motion"], {2}),
    ],
)
def test_what_depends_on_it_is_drawn_again_too(
    soundreel: Soundreel, tmp_path: Path, options: list[str], drawn: set[int]
) -> None:
    made = soundreel.generate("-o", tmp_path / "a.mp4", "--keep-work", *options)
    again = soundreel.draw("redo", made.path, "2")
    assert again.drawn == drawn
    fresh = soundreel.draw("generate", "--recipe", again.path, "-o", tmp_path / "fresh" / "a.mp4")
    assert again.frames == fresh.frames


# broken off


def begin_redo(how: str, render: Render, on_progress: Callable[[Progress], None]) -> Result:
    """The same ways, from Python."""
    if how == "the command":
        return generate(render.request, on_progress, work=WorkOptions(redo_clip=2))
    return redo(render.work if how == "a folder" else render.folder / "a.mp4", 2, on_progress)


@pytest.mark.parametrize(("how", "clip"), [("a folder", 2), ("a folder", 3), ("a video", 3), ("the command", 3)])
def test_broken_off_it_has_the_same_seed_when_it_is_asked_for_again(render: Render, how: str, clip: int) -> None:
    render.request = render.request.replace(interpolate="motion")
    render(keep_work=True)
    drawn = set()
    with pytest.raises(KeyboardInterrupt):
        begin_redo(how, render, interrupt_in(clip))
    done = begin_redo(how, render, lambda progress: drawn.add(progress.clip))
    assert [clip.seed for clip in done.plan.clips] == SECOND
    assert drawn - {0} == set(range(clip, 4))
    assert done.path == render.folder / "a_take2.mp4"
    assert [clip.seed for clip in begin_redo(how, render, lambda _: None).plan.clips] == THIRD


def test_killed_it_has_the_same_seed_when_it_is_asked_for_again(soundreel: Soundreel, video: Path) -> None:
    process = start("redo", work_of(video), "2", "--progress", "json")
    assert any(event.get("stage") == "render" for event in events_of(process))
    process.kill()
    finish(process)
    assert not (video.with_name("a_take2.mp4")).exists()
    again = soundreel.draw("redo", work_of(video), "2")
    assert again.path == video.with_name("a_take2.mp4")
    assert soundreel.seeds(again.path) == SECOND


def test_it_may_be_resumed(render: Render) -> None:
    render(keep_work=True)
    with pytest.raises(KeyboardInterrupt) as stop:
        redo(render.work, 2, interrupt_in(2))
    assert any(f"go on with: soundreel resume {render.work}" in note for note in stop.value.__notes__)
    outcome = finish(start("resume", render.work, "--quiet"))
    assert outcome.path == render.folder / "a_take2.mp4"


@pytest.mark.parametrize("broken_off", [False, True])
def test_a_plain_command_is_its_own_video_again(soundreel: Soundreel, video: Path, broken_off: bool) -> None:
    before = frames_of(video)
    if broken_off:
        with pytest.raises(KeyboardInterrupt):
            redo(video, 2, interrupt_in(2))
    else:
        soundreel.draw("redo", video, "2")
    plain = soundreel.generate("-o", video)
    assert plain.drawn == set()
    assert frames_of(video) == before
    assert soundreel.seeds(video) == FIRST
    after = soundreel.draw("redo", video, "2")
    assert soundreel.seeds(after.path) == (SECOND if broken_off else THIRD)


def test_a_clip_of_an_unfinished_render_is_drawn_again_and_the_render_goes_on_as_it_was(render: Render) -> None:
    render.break_off(clip=4)
    before = clip_files(render.work)
    takes = [redo(render.work, 2) for _ in range(2)]
    assert [[clip.seed for clip in take.plan.clips] for take in takes] == [SECOND, THIRD]
    after = clip_files(render.work)
    assert after.items() >= before.items()
    assert {name[:10] for name in after.keys() - before.keys()} == {"clip_00004", "clip_00005"}, "both want these"
    plain = render()
    assert render.drawn == set()
    assert [clip.seed for clip in plain.plan.clips] == FIRST
    assert files_below(render.folder) == ["a.mp4", "a_take2.mp4", "a_take3.mp4"]


def test_what_was_begun_anew_leaves_nothing(render: Render) -> None:
    render.break_off(clip=4)
    with pytest.raises(KeyboardInterrupt):
        redo(render.work, 1, interrupt_in(1))
    render(resume=False)
    assert render.drawn == {1, 2, 3, 4, 5}


# where the clips are


def test_the_clips_of_a_video_are_found_under_a_work_dir(soundreel: Soundreel, tmp_path: Path) -> None:
    work = tmp_path / "work"
    made = soundreel.generate("-o", tmp_path / "a.mp4", "--keep-work", "--work-dir", work)
    alone = soundreel("redo", made.path, "2")
    assert (alone.code, "are not kept (looked in" in alone.err, len(alone.err.splitlines())) == (2, True, 1)
    again = soundreel.draw("redo", made.path, "2", "--work-dir", work)
    assert (again.path, again.drawn) == (tmp_path / "a_take2.mp4", {2})


def test_work_folders_may_lie_in_a_folder(soundreel: Soundreel, video: Path, tmp_path: Path) -> None:
    shutil.move(video.parent / ".soundreel", tmp_path / "kept")
    assert soundreel.draw("redo", video, "2", "--work-dir", tmp_path / "kept").drawn == {2}


def test_a_video_means_itself_whatever_else_is_in_its_folder(soundreel: Soundreel, tmp_path: Path) -> None:
    words = ["--keep-work", "--work-dir", tmp_path / "work"]
    made = soundreel.generate("-o", tmp_path / "a.mp4", *words)
    soundreel.generate("-o", tmp_path / "b.mp4", *words, "--crf", "30")
    soundreel.generate("-o", tmp_path / "c.mp4", *words, "--prompt", "red")
    again = soundreel.draw("redo", made.path, "2", *words[1:])
    assert again.drawn == {2}
    kept = [one == other for one, other in zip(frames_of(made.path), again.frames, strict=True)]
    assert kept.count(False) == 8


def test_of_two_videos_of_one_render_the_named_one_is_drawn_again(soundreel: Soundreel, tmp_path: Path) -> None:
    made = [soundreel.generate("-o", tmp_path / name, "--keep-work").path for name in ("a.mp4", "b.mp4")]
    assert [soundreel.draw("redo", path, "2").path.name for path in made] == ["a_take2.mp4", "b_take2.mp4"]


# what cannot be


def test_a_smoothed_video_names_the_take_without_its_rate(soundreel: Soundreel, video: Path) -> None:
    """What is drawn again is the render, at 16 frames per second, and its name does not say otherwise."""
    smooth = soundreel("interpolate", video, "--quiet").path
    assert smooth.name == "a_32fps.mp4"
    take = soundreel("redo", smooth, "2", "--quiet").path
    printed = soundreel("reprint", smooth, "--quiet").path
    assert (take.name, probe_video(take).fps) == ("a_take2.mp4", 16)
    assert (printed.name, probe_video(printed).fps) == ("a_print2.mp4", 16)


@pytest.mark.parametrize("number", ["0", "6", "-1"])
@pytest.mark.parametrize("how", ["a folder", "a video", "the command"])
def test_a_clip_that_is_not_there(soundreel: Soundreel, tune: Path, video: Path, how: str, number: str) -> None:
    before = {path: Path(video.parent, path).read_bytes() for path in files_below(video.parent) if "." in path[-5:]}
    done = soundreel(*commands(tune, video)[how][:-1], number)
    assert done.code == 2
    assert done.err == f"soundreel: clip is {number}: expected 1 to 5, the clips of this render\n"
    assert {path: Path(video.parent, path).read_bytes() for path in before} == before


@pytest.mark.parametrize("number", ["seven", "2.5", "", "9" * 5000])
def test_a_number_that_is_none(soundreel: Soundreel, tune: Path, video: Path, number: str) -> None:
    done = soundreel(*commands(tune, video)["the command"][:-1], number)
    assert (done.code, done.err) == (2, f"soundreel: redo_clip is {number!r}: expected a whole number\n")


@pytest.mark.parametrize("name", ["seven", "2.5", ""])
def test_a_shot_that_is_none(soundreel: Soundreel, tune: Path, video: Path, name: str) -> None:
    done = soundreel(*commands(tune, video)["a video"][:-1], name)
    assert done.code == 2
    said = f"there is no shot {name!r}: expected" if name else "no clip or shot is named: expected"
    assert done.err.startswith(f"soundreel: {said} a clip's number, or ")
    assert len(done.err.splitlines()) == 1


def test_nothing_is_kept(soundreel: Soundreel, tune: Path, tmp_path: Path) -> None:
    made = soundreel.generate("-o", tmp_path / "a.mp4")
    plain: Words = ["generate", tune, *WORDS, "-o", made.path, "--redo-clip", "2"]
    attempts: list[Words] = [["redo", made.path, "2"], ["redo", tmp_path, "2"], plain]
    for words in attempts:
        done = soundreel(*words)
        assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert "--keep-work keeps a finished render" in done.err
    assert files_below(tmp_path) == ["a.mp4"]


def test_a_video_of_someone_else(soundreel: Soundreel, media: Path) -> None:
    done = soundreel("redo", media / "bikes.mp4", "1")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "has no recipe in it" in done.err


def test_drawing_again_and_beginning_anew_exclude_each_other(soundreel: Soundreel, tune: Path) -> None:
    done = soundreel("generate", tune, *WORDS, "--redo-clip", "2", "--no-resume")
    assert done.code == 2
    assert done.err.startswith("soundreel: --redo-clip goes on with a kept render, --no-resume throws it away")


def test_errors_name_their_field(render: Render) -> None:
    render(keep_work=True)
    with pytest.raises(InputError) as error:
        redo(render.work, 9)
    assert error.value.field == "clip_seeds"
