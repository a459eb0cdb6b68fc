"""A recipe comes with a video, and a video may come from anyone: where things are is the user's, not the recipe's."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from command import SMALL, Outcome, files_below, run_here
from draft_renders import frames_of
from media_files import tone, write_sound
from soundreel.disk.state import MOST_PATHS, recall_path, remember_path, state_folder
from soundreel.media.video import probe_video
from videos_of_others import recipe, video_with

pytestmark = pytest.mark.usefixtures("few_partial_videos")

Soundreel = Callable[..., Outcome]

SHORT = (*SMALL, "--frames", "4")


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str]) -> Soundreel:
    return lambda *words: run_here(capsys, *words)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, of a user who has rendered nothing yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def song(path: Path, hertz: float = 440) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_sound(path, tone(1.0, 16_000, hertz=hertz), 16_000)


def recipe_of(video: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(probe_video(video).metadata["soundreel"])
    return told


# servers, and what is sent to them


class Recorder:
    """A server that is no ComfyUI, and remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(dict(self.headers))
                self.send_error(404)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def stranger() -> Iterator[Recorder]:
    recorder = Recorder()
    with recorder.server as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield recorder
        server.shutdown()
        thread.join()


@pytest.fixture
def hostile(stranger: Recorder, place: Path) -> Path:
    song(Path("song.wav"))
    return video_with(recipe("comfyui", server={"urls": [stranger.url], "headers": ["X-From: recipe"]}))


HEADER = ("--header", "Authorization: Bearer hush")


def test_a_recipe_s_server_is_not_asked(
    soundreel: Soundreel, stranger: Recorder, hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Recorder()
    with own.server as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        done = soundreel("generate", "--recipe", hostile, *HEADER, "--url", own.url, "-o", "new.mp4")
        server.shutdown()
        thread.join()
    assert done.code == 5, done.err
    assert stranger.asked == []
    assert [asked["Authorization"] for asked in own.asked] == ["Bearer hush"]
    assert all("X-From" not in asked for asked in own.asked), "a recipe has no headers"


@pytest.mark.parametrize("command", ["generate", "plan"])
def test_without_a_server_of_one_s_own_it_is_the_usual_one(
    soundreel: Soundreel, stranger: Recorder, hostile: Path, command: str
) -> None:
    done = soundreel(command, "--recipe", hostile, *HEADER)
    assert (done.code, "http://localhost:8188" in done.err) == (5, True), done.err
    assert stranger.asked == []


def test_it_is_asked_when_that_is_wanted_and_shown_first(
    soundreel: Soundreel, stranger: Recorder, hostile: Path
) -> None:
    done = soundreel("generate", "--recipe", hostile, "--trust-recipe")
    first, *_ = done.err.splitlines()
    assert first == f"from the recipe: audio 'song.wav', url '{stranger.url}'"
    assert stranger.asked
    assert all("X-From" not in asked for asked in stranger.asked)


def test_a_header_goes_only_to_servers_on_the_command_line(
    soundreel: Soundreel, stranger: Recorder, hostile: Path
) -> None:
    done = soundreel("generate", "--recipe", hostile, "--trust-recipe", *HEADER)
    assert done.code == 2
    assert f"a --header goes only to servers that you name, and {stranger.url} is from the recipe" in done.err
    assert stranger.asked == []
    soundreel("generate", "--recipe", hostile, "--trust-recipe", *HEADER, "--url", stranger.url)
    assert [asked["Authorization"] for asked in stranger.asked] == ["Bearer hush"]


@pytest.mark.parametrize("words", [["--trust-recipe"], ["--inputs", "."]])
def test_how_a_recipe_is_read_without_one(soundreel: Soundreel, words: list[str]) -> None:
    done = soundreel("generate", song(Path("song.wav")), *SHORT, *words)
    assert (done.code, "say how a recipe is read" in done.err) == (2, True)


# paths in a recipe


def test_a_path_is_not_followed(soundreel: Soundreel, place: Path) -> None:
    private = song(place / "private" / "secret.wav")
    for said in (str(private), "../private/secret.wav", f"..\\private\\{private.name}"):
        done = soundreel("generate", "--recipe", video_with(recipe(audio=said)), "-o", "new.mp4")
        assert done.code == 2, done.err
        assert "no such sound: 'secret.wav'" in done.err
        assert len(done.err.splitlines()) == 1
    assert not Path("new.mp4").exists()


@pytest.mark.parametrize("said", ["..", ".", "/", "a/..", ""])
def test_what_is_no_name_names_nothing(soundreel: Soundreel, said: str) -> None:
    done = soundreel("generate", "--recipe", video_with(recipe(audio=said)))
    says = "no such sound: ''" if said else "audio is '': expected a path"
    assert (done.code, says in done.err) == (2, True), done.err


def test_a_link_beside_the_video_is_not_followed(soundreel: Soundreel, place: Path) -> None:
    Path("song.wav").symlink_to(song(place / "private" / "secret.wav"))
    done = soundreel("generate", "--recipe", video_with(recipe()), "-o", "new.mp4")
    assert (done.code, "no such sound: 'song.wav'" in done.err) == (2, True)


@pytest.mark.parametrize("digest", ["../key", "/etc/passwd", "", 5, None, ["a"], {}])
def test_a_digest_that_is_none_finds_nothing(soundreel: Soundreel, place: Path, digest: Any) -> None:
    remember_path("0" * 64, song(place / "mine.wav"))
    stated = recipe() | {"inputs": {"audio": digest}, "models": {"rife x": digest, "LoRA 1 × 1 x": digest}}
    done = soundreel("generate", "--recipe", video_with(stated))
    says = "no such sound: 'song.wav'" if isinstance(digest, str) else "is damaged: "
    assert (done.code, says in done.err) == (2, True)


def test_where_things_go_and_what_is_told_of_this_user_is_never_the_recipe_s(soundreel: Soundreel, place: Path) -> None:
    song(Path("song.wav"))
    (place / "mine.mp4").write_text("mine")
    output = {"path": str(place / "mine.mp4"), "dir": str(place / "theirs"), "recipe_paths": True, "preview": True}
    video = video_with(recipe(output={**output, "write_recipe": False, "settings": "../tag"}))
    done = soundreel("generate", "--recipe", video, "--trust-recipe")
    made = Path(done.out.strip())
    assert made.parent == Path("output/video")
    assert "_..-tag-draft_" in made.name
    assert (place / "mine.mp4").read_text() == "mine"
    assert not (place / "theirs").exists()
    assert str(place) not in probe_video(made).metadata["soundreel"]


def test_a_graph_beside_the_video_is_not_run(soundreel: Soundreel, stranger: Recorder) -> None:
    song(Path("song.wav"))
    Path("graph.json").write_text('{"1": {"class_type": "LoadAudio", "inputs": {}}}')
    video = video_with(recipe("comfyui", server={"workflow": "graph.json"}))
    done = soundreel("generate", "--recipe", video, "--url", stranger.url)
    assert (done.code, "no such workflow: 'graph.json'" in done.err) == (2, True)
    assert "--workflow" in done.err
    assert stranger.asked == []
    soundreel("generate", "--recipe", video, "--url", stranger.url, "--workflow", "graph.json")
    assert stranger.asked


ESCAPE = "\x1b]0;own\x07\x9b2J"
"""Words of a terminal: a new title, an empty screen."""


def test_nothing_that_it_says_steers_a_terminal(soundreel: Soundreel) -> None:
    song(Path("song.wav"))
    told = recipe(prompt=f"red{ESCAPE}", output={"settings": f"tag{ESCAPE}"})
    told |= {"versions": {f"av{ESCAPE}": ESCAPE}, "created": ESCAPE, "notes": [ESCAPE], "models": {ESCAPE: ESCAPE}}
    broken = recipe(audio=f"gone{ESCAPE}.wav", server={"urls": [f"http://a{ESCAPE}"]})
    for words, stated in (
        (["info"], told),
        (["generate", "--recipe"], told),
        (["generate", "--recipe"], broken),
        (["generate", "--trust-recipe", "--recipe"], broken),
        (["generate", "--recipe"], recipe(solver=ESCAPE)),
    ):
        done = soundreel(*words, video_with(stated))
        assert "\x1b" not in done.out + done.err
        assert "\x9b" not in done.out + done.err
        assert "\\x1b" in done.out + done.err, "it is shown, as it is written"


# a recipe tells names and digests


@pytest.fixture
def made(soundreel: Soundreel, place: Path) -> Path:
    """A video, rendered from files in a folder whose name nobody is to know."""
    home = place / "ann-home"
    song(home / "song.wav")
    Image.linear_gradient("L").save(home / "face.png")
    done = soundreel(
        "generate", home / "song.wav", *SHORT, "--ref-image", home / "face.png", "--models", home / "models",
        "--pose-video", home / "song.wav", "-o", home / "out" / "a.mp4", "--engine", "draft",
    )  # fmt: skip
    assert done.code == 0, done.err
    return home / "out" / "a.mp4"


def test_a_video_tells_no_folder(made: Path) -> None:
    assert b"ann-home" not in made.read_bytes()
    told = recipe_of(made)
    request = told["request"]
    assert (request["audio"], request["ref_image"]) == ("song.wav", "face.png")
    assert request["guide"]["pose_video"] == "song.wav"
    assert {"models", "path", "dir"}.isdisjoint({*request["compute"], *request["output"]})
    assert {len(digest) for digest in told["inputs"].values()} == {64}


def test_it_does_if_that_is_asked_for(soundreel: Soundreel, place: Path) -> None:
    done = soundreel("generate", song(place / "ann-home" / "song.wav"), *SHORT, "-o", "a.mp4", "--recipe-paths")
    assert done.code == 0, done.err
    assert recipe_of(Path("a.mp4"))["request"]["audio"] == str(place / "ann-home" / "song.wav")
    shutil.rmtree(state_folder())
    assert soundreel("generate", "--recipe", "a.mp4", "-o", "b.mp4").code == 2
    again = soundreel("generate", "--recipe", "a.mp4", "--trust-recipe", "-o", "b.mp4")
    assert f"from the recipe: audio '{place}/ann-home/song.wav'" in again.err
    assert again.code == 0
    quiet = soundreel("generate", "--recipe", "a.mp4", "--trust-recipe", "-o", "c.mp4", "--quiet")
    assert (quiet.code, quiet.err) == (0, "")


def test_a_video_without_a_recipe(soundreel: Soundreel) -> None:
    done = soundreel("generate", song(Path("song.wav")), *SHORT, "-o", "a.mp4", "--no-recipe")
    assert done.code == 0, done.err
    assert "soundreel" not in probe_video("a.mp4").metadata
    assert "engine draft" in probe_video("a.mp4").metadata["comment"]
    assert "recipe" in soundreel("info", "a.mp4").out
    assert "has no recipe in it" in soundreel("generate", "--recipe", "a.mp4").err
    assert not state_folder().exists() or not any((state_folder() / "inputs").glob("*"))


# and yet it renders again


def test_it_renders_again_where_it_was_made(soundreel: Soundreel, made: Path, place: Path) -> None:
    """The video was moved, the command is given somewhere else, and nothing is beside either."""
    made.rename(place / "moved.mp4")
    again = soundreel("generate", "--recipe", place / "moved.mp4", "-o", "b.mp4")
    assert again.code == 0, again.err
    assert "--models" not in again.err, "of a draft there is nothing to find there"
    assert "since the recipe was made" not in again.err
    assert frames_of(Path("b.mp4")) == frames_of(place / "moved.mp4")


def test_the_last_place_of_a_file_counts(soundreel: Soundreel, made: Path, place: Path) -> None:
    home = made.parent.parent
    (place / "new").mkdir()
    for name in ("song.wav", "face.png"):
        (home / name).rename(place / "new" / name)
    assert "no such sound: 'song.wav'" in soundreel("generate", "--recipe", made).err
    words = ["--ref-image", place / "new" / "face.png", "--pose-video", place / "new" / "song.wav"]
    soundreel("generate", place / "new" / "song.wav", *SHORT, *words, "-o", "other.mp4")
    assert soundreel("generate", "--recipe", made, "-o", "b.mp4").code == 0
    assert frames_of(Path("b.mp4")) == frames_of(made)


def test_a_file_that_was_changed_in_its_place_is_taken_and_that_is_said(soundreel: Soundreel, made: Path) -> None:
    song(made.parent.parent / "song.wav", hertz=220)
    again = soundreel("generate", "--recipe", made, "-o", "b.mp4")
    assert again.code == 0, again.err
    assert "note: since the recipe was made, input audio has another content" in again.err


@pytest.mark.parametrize("where", ["beside", "here", "--inputs", "--audio"])
def test_it_renders_again_where_its_files_are_given(soundreel: Soundreel, made: Path, place: Path, where: str) -> None:
    """On another machine, that is: nothing is known there."""
    shutil.rmtree(state_folder())
    home = made.parent.parent
    files = {"beside": place / "video", "here": Path(), "--inputs": place / "files", "--audio": place / "files"}[where]
    (place / "video").mkdir()
    files.mkdir(exist_ok=True)
    for path in (home / "song.wav", home / "face.png"):
        path.rename(files / path.name)
    made.rename(place / "video" / "a.mp4")
    words: list[str | os.PathLike[str]] = {"--inputs": ["--inputs", files]}.get(where, [])
    if where == "--audio":
        words = ["--audio", files / "song.wav", "--inputs", files]
    again = soundreel("generate", "--recipe", place / "video" / "a.mp4", *words, "-o", "b.mp4")
    assert again.code == 0, again.err
    assert "since the recipe was made" not in again.err
    assert frames_of(Path("b.mp4")) == frames_of(place / "video" / "a.mp4")


def test_of_several_files_of_a_name_the_recipe_s_own_is_taken(soundreel: Soundreel, made: Path, place: Path) -> None:
    shutil.rmtree(state_folder())
    song(made.parent / "song.wav", hertz=220)
    again = soundreel("generate", "--recipe", made, "--inputs", made.parent.parent, "-o", "b.mp4")
    assert "since the recipe was made" not in again.err
    assert frames_of(Path("b.mp4")) == frames_of(made)


def test_what_is_missing_is_asked_for(soundreel: Soundreel, made: Path) -> None:
    shutil.rmtree(state_folder())
    before = files_below(made.parent)
    done = soundreel("generate", "--recipe", made)
    assert done.code == 2
    assert "give it with --audio, or its folder with --inputs" in done.err
    done = soundreel("generate", made.parent.parent / "song.wav", "--recipe", made)
    assert (done.code, "no such picture: 'face.png'" in done.err, "--ref-image" in done.err) == (2, True, True)
    assert files_below(made.parent) == before


def test_two_sounds(soundreel: Soundreel) -> None:
    done = soundreel("generate", song(Path("a.wav")), "--audio", song(Path("b.wav")), *SHORT)
    assert (done.code, "there are two sounds" in done.err) == (2, True)
    assert soundreel("generate", "--audio", "b.wav", *SHORT, "-o", "b.mp4").code == 0


# what the user's own soundreel remembers


def test_a_folder_that_cannot_be_written_costs_nothing(soundreel: Soundreel, place: Path) -> None:
    (place / "state").write_text("a file, where a folder would have to be made")
    assert soundreel("generate", song(Path("song.wav")), *SHORT, "-o", "a.mp4").code == 0
    assert soundreel("generate", "--recipe", "a.mp4", "-o", "b.mp4").code == 0, "it is in this folder"


def test_it_is_nobody_else_s(soundreel: Soundreel) -> None:
    soundreel("generate", song(Path("song.wav")), *SHORT, "-o", "a.mp4")
    assert (state_folder() / "inputs").stat().st_mode & 0o077 == 0


def test_the_oldest_is_forgotten_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soundreel.disk.state.MOST_PATHS", 3)
    assert MOST_PATHS > 3
    for number in range(5):
        remember_path(f"{number}" * 64, song(place / f"{number}.wav"))
        os.utime(state_folder() / "inputs" / (f"{number}" * 64), (number, number))
    known = [recall_path(f"{number}" * 64) for number in range(5)]
    assert known == [None, None, *(place / f"{number}.wav" for number in (2, 3, 4))]
