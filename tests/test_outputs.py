"""Where results go: never in place of what they are made from, never two at once, never under a name that cannot be."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from command import SMALL, Outcome, events_of, files_below, finish, start
from draft_renders import CLIPS, WORDS, Render, Soundreel
from media_files import quick_sound, tone, write_video
from soundreel.disk import locks
from soundreel.disk.outputs import claimed, fitting, longest_name
from soundreel.errors import InputError
from soundreel.media.video import probe_video
from soundreel.pipeline import generate
from soundreel.request import Request, files_read
from soundreel.request.fields import fields_of
from soundreel.types import Progress, Stage
from test_disk import asking_until_another_tried

pytestmark = pytest.mark.usefixtures("few_partial_videos")

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

QUICK = (*SMALL, "--frames", "4", "--engine", "draft")


@pytest.fixture(scope="module")
def tune(tune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_sound(tune, tmp_path_factory.mktemp("quick"))


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str], tune: Path) -> Soundreel:
    return Soundreel(capsys, tune)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory, tune: Path) -> Path:
    """A video with a recipe and kept clips."""
    folder = tmp_path_factory.mktemp("rendered")
    Render(folder, audio=tune)(keep_work=True)
    return folder / "a.mp4"


@pytest.fixture
def video(rendered: Path, tmp_path: Path) -> Path:
    """A copy of the video, without its clips."""
    return Path(shutil.copy(rendered, tmp_path / "a.mp4"))


def assert_refused(done: Outcome, *says: str) -> None:
    assert (done.code, done.out) == (2, ""), done.err
    (line,) = done.err.splitlines()
    assert all(text in line for text in says), line


# of one file: another way to name it


def by_itself(path: Path) -> Path:
    return path


def by_the_way_round(path: Path) -> Path:
    return path.parent / "." / ".." / path.parent.name / path.name


def by_a_link(path: Path) -> Path:
    (path.parent / "link.mp4").symlink_to(path.name)
    return path.parent / "link.mp4"


def by_a_hard_link(path: Path) -> Path:
    (path.parent / "twin.mp4").hardlink_to(path)
    return path.parent / "twin.mp4"


def by_a_link_to_its_folder(path: Path) -> Path:
    (path.parent / "folder").symlink_to(path.parent)
    return path.parent / "folder" / path.name


SPELLINGS = [by_itself, by_the_way_round, by_a_link, by_a_hard_link, by_a_link_to_its_folder]


@pytest.mark.parametrize("spell", SPELLINGS)
def test_a_sound_is_never_replaced_however_it_is_named(
    soundreel: Soundreel, video: Path, spell: Callable[[Path], Path]
) -> None:
    output = spell(video)
    before, files = video.read_bytes(), files_below(video.parent)
    for sound, named in ((video, output), (output, video)):
        done = soundreel("generate", sound, *QUICK, "-o", named)
        assert_refused(done, f"--output is {str(named)!r}, which is the sound itself", "choose another name")
    assert (video.read_bytes(), files_below(video.parent)) == (before, files)


def test_a_relative_name_is_the_same_file(soundreel: Soundreel, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(video.parent)
    assert_refused(soundreel("generate", video, *QUICK, "-o", "a.mp4"), "which is the sound itself")
    assert_refused(soundreel("a.mp4", *QUICK, "--save_file", video), "which is the sound itself")


@linux_only
def test_an_open_file_is_the_same_file(video: Path) -> None:
    """`soundreel /dev/stdin -o a.mp4 < a.mp4`."""
    before = video.read_bytes()
    for name in ("/dev/stdin", "/proc/self/fd/0"):
        with video.open("rb") as file:
            done = finish(start("generate", name, *QUICK, "-o", video, stdin=file))
        assert_refused(done, "which is the sound itself")
    assert video.read_bytes() == before


INPUTS = [
    "--drive",
    "--ref-image",
    "--pose-video",
    "--recipe",
    "--workflow",
    "--interpolate-weights",
    "--models",
    "--lora",
    "--ca-file",
]


@pytest.mark.parametrize("option", INPUTS)
@pytest.mark.parametrize("spell", [by_itself, by_a_hard_link])
def test_no_other_input_is_ever_replaced(
    soundreel: Soundreel, video: Path, option: str, spell: Callable[[Path], Path]
) -> None:
    before, output = video.read_bytes(), spell(video)
    done = soundreel("generate", soundreel.tune, *QUICK, option, video, "-o", output)
    assert_refused(done, f"--output is {str(output)!r}, which is the {option} itself")
    assert video.read_bytes() == before


APART = {"storyboard"}  # read before a request is made of it


def test_these_are_all_inputs() -> None:
    """Whoever adds a field that is read adds it here."""
    paths = {field.flag for field in fields_of(Request) if field.option.is_path and field.name not in APART}
    assert paths - {"--output", "--output-dir"} == {"--audio", *INPUTS} - {"--lora"}
    named = {"audio": "a", "loras": ("nowhere", __file__, f"{__file__}:0.5")}
    assert list(files_read(Request(**named))) == [
        ("the sound", "a"),
        ("the --lora", __file__),
        ("the --lora", __file__),
    ]


def test_a_file_in_a_models_folder_is_an_input(soundreel: Soundreel, tmp_path: Path) -> None:
    (tmp_path / "models" / "vae").mkdir(parents=True)
    weights = tmp_path / "models" / "vae" / "vae.safetensors"
    weights.write_text("precious")
    (tmp_path / "a.mp4").hardlink_to(weights)
    done = soundreel("generate", soundreel.tune, *QUICK, "--models", tmp_path / "models", "-o", tmp_path / "a.mp4")
    assert_refused(done, "which is the --models itself")


def test_a_lora_with_a_strength_is_an_input(soundreel: Soundreel, video: Path) -> None:
    done = soundreel("generate", soundreel.tune, *QUICK, "--lora", f"{video}:0.5", "-o", video)
    assert_refused(done, "which is the --lora itself")


def test_what_there_is_so_far_replaces_no_input(soundreel: Soundreel, video: Path) -> None:
    sound = video.rename(video.with_name("b.partial.mp4"))
    before = sound.read_bytes()
    done = soundreel("generate", sound, *QUICK, "-o", video.with_name("b.mp4"))
    assert_refused(done, "what there is of it so far goes to 'b.partial.mp4', which is the sound itself")
    assert sound.read_bytes() == before


def test_what_there_is_so_far_replaces_no_file_of_others(
    soundreel: Soundreel, video: Path, tune: Path, tmp_path: Path
) -> None:
    other = tmp_path / "b.partial.mp4"
    interpolated = soundreel("interpolate", write_video(tmp_path / "s.mp4", tone(1, 16_000), 16_000), "-o", other)
    assert interpolated.code == 0, interpolated.err
    before = other.read_bytes()
    render = Render(tmp_path, audio=tune, output=tmp_path / "b.mp4")
    render.break_off(clip=3)
    assert other.read_bytes() == before
    render()
    assert other.read_bytes() == before


@pytest.mark.parametrize("field", ["audio", "pose_video"])
def test_an_input_that_changes_meanwhile_makes_no_video(tmp_path: Path, tune: Path, video: Path, field: str) -> None:
    """Its pictures would follow one sound, and another would be heard."""
    changing = Path(shutil.copy({"audio": tune, "pose_video": video}[field], tmp_path / f"changing{tune.suffix}"))
    whole = changing.read_bytes()
    render = Render(tmp_path / "out", **{"audio": tune, field: changing})

    def listen(progress: Progress) -> None:
        if progress.stage is Stage.RENDER and progress.clip == 2:
            changing.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    with pytest.raises(InputError, match=f"{field} changed while the video was rendered") as stop:
        generate(render.request, listen)
    assert "5 of 5 clips are kept" in "; ".join(stop.value.__notes__)
    assert not (tmp_path / "out" / "a.mp4").exists()
    changing.write_bytes(whole)
    render()
    assert render.drawn == set()


def test_no_output_has_the_name_of_what_is_unfinished(soundreel: Soundreel, tmp_path: Path) -> None:
    done = soundreel("generate", soundreel.tune, *QUICK, "-o", tmp_path / "a.partial.mp4")
    assert_refused(done, "what ends in .partial.mp4 is not finished yet")


@pytest.mark.parametrize(("field", "what"), [("pose_video", "link"), ("recipe", "rename")])
def test_an_input_that_gets_the_name_meanwhile_is_not_replaced(
    tmp_path: Path, tune: Path, video: Path, field: str, what: str
) -> None:
    output, before = tmp_path / "b.mp4", video.read_bytes()
    render = Render(tmp_path, **{"audio": tune, "output": output, field: video})

    def listen(progress: Progress) -> None:
        if progress.stage is Stage.RENDER and progress.clip == CLIPS and not output.exists():
            video.rename(output)
            if what == "link":
                video.hardlink_to(output)

    with pytest.raises(InputError, match=f"b.mp4', which is the --{field.replace('_', '-')} itself") as stop:
        generate(render.request, listen)
    assert "5 of 5 clips are kept" in "; ".join(stop.value.__notes__)
    assert output.read_bytes() == before


@pytest.mark.parametrize("spell", SPELLINGS)
def test_interpolate_never_replaces_the_video(soundreel: Soundreel, video: Path, spell: Callable[[Path], Path]) -> None:
    output = spell(video)
    before, files = video.read_bytes(), files_below(video.parent)
    assert_refused(soundreel("interpolate", video, "-o", output), "which is the video itself")
    assert_refused(soundreel("interpolate", output, "-o", video), "which is the video itself")
    assert (video.read_bytes(), files_below(video.parent)) == (before, files)


def test_interpolate_never_replaces_its_weights(soundreel: Soundreel, video: Path) -> None:
    weights = Path(shutil.copy(video, video.with_name("w.mp4")))
    done = soundreel("interpolate", video, "--method", "rife", "--weights", weights, "-o", weights)
    assert_refused(done, "which is the --weights itself")


@pytest.mark.parametrize("command", [["redo"], ["reprint"]])
@pytest.mark.parametrize("spell", [by_itself, by_a_link])
def test_redo_and_reprint_never_replace_the_video(
    soundreel: Soundreel, rendered: Path, tmp_path: Path, command: list[str], spell: Callable[[Path], Path]
) -> None:
    shutil.copytree(rendered.parent, tmp_path / "kept")
    video = tmp_path / "kept" / "a.mp4"
    before, output = video.read_bytes(), spell(video)
    number = ["2"] if command == ["redo"] else []
    assert_refused(soundreel(*command, video, *number, "-o", output), "which is the video itself")
    assert video.read_bytes() == before


def test_an_exported_graph_replaces_no_input(soundreel: Soundreel, tmp_path: Path, tune: Path) -> None:
    sound = Path(shutil.copy(tune, tmp_path / "song.flac"))
    before = sound.read_bytes()
    done = soundreel("generate", sound, "--export-workflow", sound, "--url", "http://localhost:9")
    assert_refused(done, "--export-workflow is", "which is the sound itself")
    assert_refused(soundreel("generate", sound, "--export-workflow", tmp_path), "which is a folder: name a file")
    assert sound.read_bytes() == before


# two at once


@contextmanager
def stopped_in_a_clip(tune: Path, *words: str | os.PathLike[str]) -> Iterator["subprocess.Popen[str]"]:
    """A render that stands still in its second clip; it goes on when the block is left."""
    process = start("generate", tune, *WORDS, *words, "--progress", "json")
    assert any(event.get("clip") == 2 for event in events_of(process))
    process.send_signal(signal.SIGSTOP)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("words", [["--seed", "9"], ["--crf", "30", "--prompt", "red", "--work-dir", "elsewhere"]])
def test_a_second_render_to_one_output_is_refused_with_the_pid_of_the_first(
    soundreel: Soundreel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    with stopped_in_a_clip(soundreel.tune, "-o", tmp_path / "a.mp4") as first:
        for output in ("a.mp4", tmp_path / "link" / "a.mp4"):
            done = soundreel("generate", soundreel.tune, *WORDS, *words, "-o", output)
            assert_refused(done, f"process {first.pid} is rendering {str(output)!r}", "choose another --output")
        assert soundreel("generate", soundreel.tune, *QUICK, "-o", "b.mp4", "-q").code == 0
    assert finish(first).code == 0
    assert probe_video(tmp_path / "a.mp4").frames == 35
    assert files_below(tmp_path) == ["a.mp4", "b.mp4", "link"]


def test_an_output_of_a_dead_process_is_free(soundreel: Soundreel, tmp_path: Path) -> None:
    with stopped_in_a_clip(soundreel.tune, "-o", tmp_path / "a.mp4") as first:
        first.kill()
    finish(first)
    assert soundreel("generate", soundreel.tune, *WORDS, "-o", tmp_path / "a.mp4", "-q").code == 0
    assert files_below(tmp_path) == ["a.mp4"]


def test_no_other_command_shares_an_output_with_it(soundreel: Soundreel, tmp_path: Path, rendered: Path) -> None:
    commands = (["interpolate", rendered], ["join", rendered, rendered])
    with stopped_in_a_clip(soundreel.tune, "-o", tmp_path / "a.mp4") as first:
        refused = [soundreel(*words, "-o", tmp_path / "a.mp4", "-q") for words in commands]
    for done in refused:
        assert_refused(done, f"process {first.pid} is rendering '{tmp_path}/a.mp4'")
    assert finish(first).code == 0
    for words, frames in zip(commands, (70, 70), strict=True):
        assert soundreel(*words, "-o", tmp_path / "a.mp4", "-q").code == 0
        assert probe_video(tmp_path / "a.mp4").frames == frames
    assert files_below(tmp_path) == ["a.mp4"]


def test_a_start_is_not_refused_because_somebody_asks(
    soundreel: Soundreel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`soundreel jobs` has a lock for some microseconds to see whether anybody has it."""
    render = Render(tmp_path, audio=soundreel.tune)
    render.break_off(clip=4)
    with asking_until_another_tried(render.work, monkeypatch):
        done = soundreel("generate", soundreel.tune, *WORDS, "-o", tmp_path / "a.mp4", "-q")
    assert done.code == 0, done.err


def test_where_there_are_no_locks_nobody_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, *, blocking: bool) -> bool:
        raise OSError("No locks available")

    monkeypatch.setattr(locks, "lock_descriptor", refuse)
    with claimed(tmp_path / "a.mp4"), claimed(tmp_path / "a.mp4"):
        pass
    assert files_below(tmp_path) == []


# names


LONG = "x" * 300


@pytest.mark.parametrize("words", [["--settings", LONG], ["--settings", "ä" * 130], ["-o", f"{LONG}.mp4"]])
def test_a_name_that_is_too_long_is_refused_before_anything_is_rendered(
    soundreel: Soundreel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(soundreel("generate", soundreel.tune, *QUICK, *words), "bytes: expected at most")
    assert files_below(tmp_path) == []


def test_a_tag_may_be_as_long_as_is_said(soundreel: Soundreel, tmp_path: Path) -> None:
    words = ["generate", soundreel.tune, *QUICK, "--output-dir", tmp_path, "--settings"]
    most = int(soundreel(*words, LONG).err.partition("expected at most ")[2].split(",")[0])
    assert soundreel(*words, "x" * (most + 1)).code == 2
    done = soundreel(*words, "x" * most, "-q")
    assert done.code == 0, done.err
    assert "x" * most in done.path.name


@pytest.mark.parametrize("name", ["x" * 251 + ".mp4", "ä" * 125 + ".mp4"])
def test_the_longest_name_works_and_so_does_what_there_is_so_far(tmp_path: Path, tune: Path, name: str) -> None:
    render = Render(tmp_path, audio=tune, output=tmp_path / name)
    render.break_off(clip=4)
    (so_far,) = tmp_path.glob("*.partial.mp4")
    assert probe_video(so_far).frames == 5
    render()
    assert files_below(tmp_path) == [name]


def test_a_longer_video_name_has_its_stem_cut(soundreel: Soundreel, video: Path) -> None:
    source = video.rename(video.with_name("x" * 251 + ".mp4"))
    for words, ending in ((["interpolate", source], "x_32fps.mp4"), (["join", source, source], "x_joined.mp4")):
        done = soundreel(*words, "-q")
        assert done.code == 0, done.err
        assert done.path.name.endswith(ending)
        assert len(done.path.name) <= 255


@pytest.mark.parametrize(
    ("stem", "ending", "name"), [("abc", ".mp4", "abc.mp4"), ("abcdef", ".mp4", "abcd.mp4"), ("äöü", ".mp4", "äö.mp4")]
)
def test_a_stem_is_cut_between_letters(stem: str, ending: str, name: str) -> None:
    assert fitting(stem, ending, 8) == name


def test_how_long_a_name_may_be(tmp_path: Path) -> None:
    longest = longest_name(tmp_path / "not" / "there")
    (tmp_path / ("x" * longest)).touch()
    with pytest.raises(OSError, match="too long"):
        (tmp_path / ("x" * (longest + 1))).touch()


# places


def test_a_work_folder_is_not_where_the_video_goes(soundreel: Soundreel, tmp_path: Path) -> None:
    """What there is so far would lie in it, and resuming would find a folder of others."""
    for output in (["-o", tmp_path / "w" / "a.mp4"], ["--output-dir", tmp_path / "w"]):
        for _ in range(2):
            done = soundreel("generate", soundreel.tune, *QUICK, "--work-dir", tmp_path / "w", *output)
            assert_refused(done, f"'{tmp_path}/w' is where the video goes: name another --work-dir")
            (tmp_path / "w").mkdir(exist_ok=True)


def test_an_output_is_no_clip_of_a_kept_render(soundreel: Soundreel, rendered: Path) -> None:
    (work,) = (rendered.parent / ".soundreel").iterdir()
    clip = next(iter(work.glob("clip_00001_*.mp4")))
    before = clip.read_bytes()
    makers = (["generate", soundreel.tune, *QUICK], ["redo", rendered, "2"], ["reprint", work])
    for words in (*makers, ["interpolate", rendered], ["join", rendered, rendered]):
        assert_refused(soundreel(*words, "-o", clip), "in a work folder of soundreel")
    assert clip.read_bytes() == before


@pytest.mark.parametrize("name", ["finished.mp4", "partial.mp4", "engine/a.mp4", "clip_00001.mp4"])
def test_files_that_are_named_as_ours_make_no_work_folder(
    soundreel: Soundreel, video: Path, tmp_path: Path, name: str
) -> None:
    sound = tmp_path / "w" / name
    sound.parent.mkdir(parents=True)
    before = video.rename(sound).read_bytes()
    done = soundreel("generate", sound, *QUICK, "--work-dir", tmp_path / "w", "-o", tmp_path / "b.mp4")
    assert_refused(done, "is no work folder of soundreel")
    assert sound.read_bytes() == before


def test_an_input_in_the_work_folder_is_refused(soundreel: Soundreel, tmp_path: Path, rendered: Path) -> None:
    """It would go with the render."""
    (work,) = (rendered.parent / ".soundreel").iterdir()
    shutil.copytree(work, tmp_path / "w")
    clip = next(iter((tmp_path / "w").glob("clip_00001_*.mp4")))
    (tmp_path / "link.mp4").symlink_to(clip)
    for picture in (clip, tmp_path / "link.mp4"):
        words = ["--pose-video", picture, "--work-dir", tmp_path / "w", "-o", tmp_path / "b.mp4"]
        done = soundreel("generate", soundreel.tune, *QUICK, *words)
        assert_refused(done, f"the --pose-video, {str(picture)!r}, lies in the work folder '{tmp_path}/w'")
