"""Files that came from someone else, at the command: what they name is not opened, and no server is asked.

Each is a file that FFmpeg follows to another one when it is left alone, under the name of a video.
"""

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from command import SMALL, Outcome, files_below, run_here
from draft_renders import WORDS, Render, Soundreel
from media_files import tone, write_sound
from soundreel.disk.digests import data_digest
from soundreel.media.formats import OPENED_FORMATS
from soundreel.media.video import SegmentWriter
from soundreel.render.work_folder import FOLDER_DIGITS

LOCAL = {
    "concat": "ffconcat version 1.0\nfile other.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\nother.mp4\n#EXT-X-ENDLIST\n",
}
"""Texts that name a file beside them."""

REMOTE = {
    "concat": "ffconcat version 1.0\nfile http://127.0.0.1:{port}/a.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 33\n",
    "svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1:{port}/a.png"/></svg>\n',
}
"""Texts that name a server."""

NAMES = {"concat": "holiday.mp4", "hls": "holiday.m3u8", "sdp": "holiday.sdp", "svg": "holiday.svg"}
"""A script is taken for one whatever it is called, the others only by their own endings."""

COMMANDS = {
    "info": lambda file: ["info", file],
    "interpolate": lambda file: ["interpolate", file, "-o", "new.mp4"],
    "recipe": lambda file: ["generate", "--recipe", file, "-o", "new.mp4"],
    "redo": lambda file: ["redo", file, "1"],
    "reprint": lambda file: ["reprint", file, "--crf", "30"],
    "sound": lambda file: ["generate", file, *SMALL, "-o", "new.mp4"],
    "plan": lambda file: ["plan", file, *SMALL],
    "picture": lambda file: ["generate", "song.wav", *SMALL, "--ref-image", file, "-o", "new.mp4"],
    "pose": lambda file: ["generate", "song.wav", *SMALL, "--pose-video", file, "--engine", "comfyui", "-o", "new.mp4"],
}
"""Every option and argument that takes a sound, a picture or a video."""


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    return lambda *words: run_here(capsys, *words)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a sound and a video that has a recipe of its own to be found."""
    monkeypatch.chdir(tmp_path)
    write_sound(Path("song.wav"), tone(1.0, 16_000), 16_000)
    with SegmentWriter("other.mp4", width=64, height=64) as writer:
        writer.write(np.zeros((20, 64, 64, 3), np.uint8))
    return tmp_path


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Listens on a port, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def refused(done: Outcome, name: str) -> None:
    assert done.code == 3, done.err
    assert len(done.err.splitlines()) == 1
    assert name in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


@pytest.mark.parametrize("kind", LOCAL)
@pytest.mark.parametrize("words", COMMANDS)
def test_a_file_that_names_another_file_is_not_followed(
    command: Callable[..., Outcome], folder: Path, words: str, kind: str
) -> None:
    Path(NAMES[kind]).write_text(LOCAL[kind])
    before = files_below(folder)
    refused(command(*COMMANDS[words](NAMES[kind])), NAMES[kind])
    assert files_below(folder) == before


@pytest.mark.parametrize("kind", REMOTE)
@pytest.mark.parametrize("words", ["info", "sound", "picture", "pose"])
def test_a_file_that_names_a_server_asks_none(
    command: Callable[..., Outcome], folder: Path, server: socket.socket, words: str, kind: str
) -> None:
    Path(NAMES[kind]).write_text(REMOTE[kind].format(port=server.getsockname()[1]))
    refused(command(*COMMANDS[words](NAMES[kind])), NAMES[kind])
    with pytest.raises(BlockingIOError):
        server.accept()


@pytest.mark.parametrize("words", ["info", "sound", "picture", "pose"])
def test_a_name_with_a_number_in_it_is_one_file(
    command: Callable[..., Outcome], folder: Path, cover: Path, words: str
) -> None:
    """FFmpeg takes `%03d` for the pictures 000, 001, …: here the file of that very name is a text."""
    shutil.copy(cover, "holiday000.png")
    shutil.copy(cover, "holiday001.png")
    Path("holiday%03d.png").write_text("no picture\n" * 99)
    refused(command(*COMMANDS[words]("holiday%03d.png")), "holiday%03d.png")


def test_why_it_is_refused_is_said(command: Callable[..., Outcome], folder: Path) -> None:
    Path("holiday.mp4").write_text(LOCAL["concat"])
    assert "playlists and scripts, which name other files, are not followed" in command("info", "holiday.mp4").err


def test_no_format_that_names_other_files_is_opened() -> None:
    followed = {"concat", "concatf", "hls", "dash", "imf", "sdp", "rtsp", "rtp", "sap", "image2", "image2pipe", "lavfi",
                "vobsub", "ffmetadata", "webm_dash_manifest", "svg_pipe", "swf", "tty", "txd"}  # fmt: skip
    assert not followed & set(OPENED_FORMATS)


# JSON


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_text("[" * 100_000), "nested too deeply"),
        (lambda path: path.write_text('{"a": ' * 100_000), "nested too deeply"),
        (os.mkfifo, "is a pipe or device"),
        (lambda path: path.symlink_to("/dev/zero"), "is a pipe or device"),
    ],
    ids=["lists", "tables", "pipe", "link to a device"],
)
def test_a_graph_that_is_none(
    command: Callable[..., Outcome], folder: Path, make: Callable[[Path], object], says: str
) -> None:
    make(Path("graph.json"))
    done = command("generate", "song.wav", *SMALL, "--engine", "comfyui", "--workflow", "graph.json")
    assert (done.code, says in done.err, len(done.err.splitlines())) == (2, True, 1), done.err


# a work folder that was handed over


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str], tune: Path) -> Soundreel:
    return Soundreel(capsys, tune)


@pytest.fixture(scope="module")
def kept(tune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a video, and beside it what is kept of its render."""
    folder = tmp_path_factory.mktemp("kept")
    Render(folder, audio=tune)(keep_work=True)
    return folder


@pytest.fixture
def handed_over(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work folder in which anything may be put; not far from it is a file that is none of its business."""
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("mine")
    (work,) = (tmp_path / ".soundreel").iterdir()
    return work


def link_engine(work: Path, to: Path) -> None:
    shutil.rmtree(work / "engine")
    (work / "engine").symlink_to(to)


LINKS: dict[str, Callable[[Path], object]] = {
    "lock": lambda work: [(work / "lock").unlink(), (work / "lock").symlink_to("../../mine.txt")],
    "finished.mp4": lambda work: (work / "finished.mp4").symlink_to("../../mine.txt"),
    "plan.json": lambda work: [(work / "plan.json").rename("plan"), (work / "plan.json").symlink_to("../../plan")],
    "engine": lambda work: link_engine(work, Path("../..")),
    "engine/x": lambda work: (work / "engine" / "x").symlink_to("../../../mine.txt"),
}


@pytest.mark.parametrize("name", LINKS)
def test_a_link_in_a_work_folder_leads_nowhere(soundreel: Soundreel, handed_over: Path, name: str) -> None:
    LINKS[name](handed_over)
    for words in (["resume", handed_over], ["generate", soundreel.tune, *WORDS, "-o", "a.mp4"]):
        done = soundreel(*words)
        assert done.code == 2, done.err
        assert f"it holds '{name}'" in done.err
        assert Path("mine.txt").read_text() == "mine"


def test_nor_does_one_where_the_video_is_put_together(soundreel: Soundreel, tmp_path: Path) -> None:
    """Beside the output, where the clips are kept elsewhere."""
    (tmp_path / "mine.txt").write_text("mine")
    words = ["-o", tmp_path / "out" / "a.mp4", "--work-dir", tmp_path / "work"]
    staging = tmp_path / "out" / ".soundreel" / data_digest(str(tmp_path / "work"))[:FOLDER_DIGITS]
    staging.mkdir(parents=True)
    (staging / "finished.mp4").symlink_to(tmp_path / "mine.txt")
    done = soundreel("generate", soundreel.tune, *WORDS, *words)
    assert (done.code, "it holds 'finished.mp4'" in done.err) == (2, True), done.err
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("name", LINKS)
def test_cleaning_a_work_folder_touches_nothing_that_it_links_to(
    soundreel: Soundreel, handed_over: Path, name: str
) -> None:
    LINKS[name](handed_over)
    done = soundreel("clean", ".", "--json")
    assert done.code == 0, done.err
    (told,) = json.loads(done.out)["folders"]
    assert told["removed"] == (name != "lock"), told
    assert Path("mine.txt").read_text() == "mine"
    assert Path("a.mp4").exists()


def test_a_plan_that_is_a_pipe_holds_nobody_up(soundreel: Soundreel, handed_over: Path) -> None:
    (handed_over / "plan.json").unlink()
    os.mkfifo(handed_over / "plan.json")
    for words in (["unfinished", "."], ["clean", "."], ["resume", handed_over]):
        assert soundreel(*words).code in {0, 2}
