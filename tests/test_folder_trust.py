"""A work folder that someone else began says which files are read and where they go: it is followed only if asked."""

import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from command import files_below
from draft_renders import CLIPS, Render, Soundreel, frames_of
from soundreel.disk.state import is_own, seal, state_folder
from videos_of_others import recipe, video_with

pytestmark = pytest.mark.usefixtures("few_partial_videos")


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str], tune: Path) -> Soundreel:
    return Soundreel(capsys, tune)


@pytest.fixture(scope="module")
def begun(tune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished video and, beside it, all clips of its render but the last two."""
    folder = tmp_path_factory.mktemp("begun")
    render = Render(folder, audio=tune)
    render(keep_work=True)
    for number in (CLIPS - 1, CLIPS):
        render.clip(number, ".json").unlink()
    return folder


@pytest.fixture(autouse=True)
def home(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder as someone who has not begun it gets it; the paths in it are rewritten, or they would lead away."""
    shutil.copytree(begun, tmp_path / "home")
    change_plan(tmp_path / "home", lambda plan: plan["request"]["output"].update(path=str(tmp_path / "home" / "a.mp4")))
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def change_plan(home: Path, change: Callable[[dict[str, Any]], object]) -> None:
    (path,) = home.glob(".soundreel/*/plan.json")
    plan = json.loads(path.read_text())
    change(plan)
    path.write_text(json.dumps(plan))


def sealed(plan: dict[str, Any]) -> None:
    """As if it had been written here."""
    plan["seal"] = seal(plan["request"])


COMMANDS = {
    "resume": ["resume", "."],
    "redo": ["redo", ".", "2"],
    "redo of a video": ["redo", "a.mp4", "2"],
    "reprint": ["reprint", ".", "--crf", "30"],
    "reprint of a video": ["reprint", "a.mp4", "--crf", "30"],
}


@pytest.mark.parametrize("words", COMMANDS)
def test_it_is_refused_and_what_it_names_is_said(soundreel: Soundreel, home: Path, tune: Path, words: str) -> None:
    before = files_below(home)
    done = soundreel(*COMMANDS[words])
    assert done.code == 2
    assert "was not begun by you on this machine" in done.err
    assert f"audio '{tune}', output '{home}/a.mp4'" in done.err
    assert "--trust-folder goes on with it" in done.err
    assert len(done.err.splitlines()) == 1
    assert files_below(home) == before


def test_it_is_followed_when_that_is_asked_for_and_shown_first(soundreel: Soundreel, home: Path, tune: Path) -> None:
    before = frames_of(home / "a.mp4")
    made = soundreel.draw("resume", ".", "--trust-folder")
    first, *_ = made.outcome.err.splitlines()
    assert first.startswith(f"from the folder: audio '{tune}', output '{home}/a.mp4'")
    assert (made.drawn, made.frames == before) == ({CLIPS - 1, CLIPS}, True)


@pytest.mark.parametrize("silence", [["--quiet"], ["--progress", "none"]])
def test_quiet_shows_nothing_of_it(soundreel: Soundreel, home: Path, silence: list[str]) -> None:
    done = soundreel("resume", ".", "--trust-folder", *silence)
    assert (done.code, done.err) == (0, "")


def test_from_then_on_it_is_the_user_s_own(soundreel: Soundreel, home: Path) -> None:
    assert soundreel("redo", ".", "1", "--trust-folder").code == 0
    assert soundreel("redo", ".", "2").code == 0


def test_the_command_itself_goes_on_whoever_began(soundreel: Soundreel) -> None:
    assert soundreel.generate("-o", "a.mp4").drawn == {CLIPS - 1, CLIPS}


def test_one_of_the_user_s_own_may_be_moved(soundreel: Soundreel, home: Path, tmp_path: Path) -> None:
    change_plan(home, sealed)
    home.rename(tmp_path / "moved")
    assert soundreel.draw("resume", tmp_path / "moved").drawn == {CLIPS - 1, CLIPS}


def test_nobody_can_change_it_unseen(soundreel: Soundreel, home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.mp4").write_text("mine")
    change_plan(home, sealed)
    change_plan(home, lambda plan: plan["request"]["output"].update(path=str(tmp_path / "mine.mp4")))
    assert soundreel("resume", ".").code == 2
    assert (tmp_path / "mine.mp4").read_text() == "mine"


@pytest.mark.parametrize("found", [None, "", "0" * 64, "é", 5, ["0" * 64]])
def test_what_is_no_seal_seals_nothing(soundreel: Soundreel, home: Path, found: Any) -> None:
    change_plan(home, lambda plan: plan.update(seal=found))
    assert soundreel("resume", ".").code == 2


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def test_nothing_is_sent_to_its_server(soundreel: Soundreel, home: Path, server: socket.socket) -> None:
    url = f"http://127.0.0.1:{server.getsockname()[1]}"
    change_plan(home, lambda plan: plan["request"].update(engine="comfyui"))
    change_plan(home, lambda plan: plan["request"]["server"].update(urls=[url]))
    done = soundreel("resume", ".")
    assert (done.code, f"url '{url}'" in done.err) == (2, True)
    with pytest.raises(BlockingIOError):
        server.accept()


def test_a_redo_that_was_begun_elsewhere_names_no_video(soundreel: Soundreel, home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.mp4").write_text("mine")
    seeds = [0, 9, 2, 3, 4]
    change_plan(home, sealed)
    change_plan(home, lambda plan: plan.update(redo={"clip": 2, "seeds": seeds, "output": str(tmp_path / "mine.mp4")}))
    made = soundreel.draw("redo", ".", "2")
    assert made.path == home / "a_take2.mp4"
    assert soundreel.seeds(made.path) == seeds, "what it is drawn with is still the same"
    assert (tmp_path / "mine.mp4").read_text() == "mine"


@pytest.mark.parametrize("fingerprint", ["../../elsewhere", "/" + "a" * 15, "", 5, None, "A" * 16])
def test_a_recipe_names_no_folder_elsewhere(soundreel: Soundreel, home: Path, fingerprint: Any) -> None:
    done = soundreel("redo", video_with(recipe() | {"fingerprint": fingerprint}), "1")
    says = "is damaged: fingerprint: expected text" if isinstance(fingerprint, int) else "names no work folder"
    assert (done.code, says in done.err) == (2, True), done.err


# the key


def test_where_no_key_can_be_kept_the_folder_has_to_be_trusted(
    soundreel: Soundreel, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    soundreel.generate("-o", "a.mp4", "--keep-work")
    assert soundreel("redo", ".", "2").code == 2
    assert soundreel("redo", ".", "2", "--trust-folder").code == 0


def test_who_begins_at_once_makes_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    barrier, seals = threading.Barrier(8), set()

    def begin() -> None:
        barrier.wait()
        seals.add(seal({"a": 1}))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seals) == 1
    assert is_own({"a": 1}, seals.pop())
    assert (state_folder() / "key").stat().st_mode & 0o077 == 0
    assert files_below(state_folder()) == ["key"]
