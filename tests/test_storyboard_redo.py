"""Takes of a storyboard's shots: what is drawn again, what stays, and what is found again after an edit."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import Outcome, run_here
from soundreel.cli.video_report import describe_video
from soundreel.media.video import read_frames

pytestmark = pytest.mark.usefixtures("few_partial_videos")

BOARD = """\
song = "tune.flac"

[defaults]
engine = "draft"
width = 64
height = 64

[defaults.sampling]
infer_frames = 8

[defaults.window]
frames = 48

[[shot]]
name = "intro"

[[shot]]
name = "verse"
start = {second}
section = "verse-1"

[[shot]]
name = "verse-b"
start = 2.0
section = "verse-1"
cut = "{cut}"
{more}
"""


class Board:
    """A storyboard in a folder of its own, and commands on it."""

    def __init__(self, folder: Path, tune: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        (folder / "tune.flac").write_bytes(tune.read_bytes())
        self.path = folder / "song.toml"
        self.write()

    def write(self, *, second: float = 1.0, more: str = "", cut: str = "continue") -> None:
        """The storyboard, with another cut or with more in its last shot."""
        self.path.write_text(BOARD.format(second=second, more=more, cut=cut))

    def __call__(self, *words: Any) -> Outcome:
        done = run_here(self._capsys, *map(str, words))
        assert done.code == 0, done.err
        return done

    def render(self, *words: Any) -> Outcome:
        """Render it as song.mp4."""
        return self(self.path, "-o", self.folder / "song.mp4", *words)


@pytest.fixture
def board(tmp_path: Path, tune: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.chdir(tmp_path)
    return Board(tmp_path, tune, capsys)


def changed_frames(one: Path, other: Path) -> set[int]:
    pairs = zip(read_frames(one), read_frames(other), strict=True)
    return {k for k, (mine, theirs) in enumerate(pairs) if not np.array_equal(mine, theirs)}


def test_a_shot_is_drawn_again_into_a_new_video(board: Board) -> None:
    board.write(cut="hard")
    first = board.render()
    done = board("redo", first.path, "verse")
    assert done.path == board.folder / "song_take2.mp4"
    assert "song.mp4" in [path.name for path in board.folder.glob("*.mp4")]
    changed = changed_frames(first.path, done.path)
    assert changed
    assert changed <= set(range(16, 32)), "the clips of the shot, and no other"


def test_what_continues_a_shot_is_drawn_again_with_it(board: Board) -> None:
    first = board.render()
    changed = changed_frames(first.path, board("redo", first.path, "verse").path)
    assert set(range(32, 48)) <= changed <= set(range(16, 48))
    changed = changed_frames(first.path, board("redo", first.path, "verse-b").path)
    assert set() < changed <= set(range(32, 48))


def test_info_names_the_shots_of_a_video(board: Board) -> None:
    shown = dict(describe_video(board.render().path).rows)
    assert shown["shots"] == "3: intro, verse, verse-b"


def test_a_section_is_all_its_shots(board: Board) -> None:
    first = board.render()
    done = board("redo", first.path, "verse-1", "--seed", 77)
    changed = changed_frames(first.path, done.path)
    assert min(changed) >= 16
    assert max(changed) >= 32


def test_a_storyboard_means_its_newest_render_which_is_named_first(board: Board) -> None:
    board.write(cut="hard")
    first = board.render().path
    second = board("redo", board.path, "intro").path
    done = board("redo", board.path, "verse")
    assert f"of {board.path} this render is taken: {second}" in done.err
    assert done.path == board.folder / "song_take3.mp4"
    assert changed_frames(second, done.path) <= set(range(16, 32))
    of_first = board("redo", board.path, "verse-b", "--take", 1).path
    assert changed_frames(first, of_first) <= set(range(32, 48))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("redo", "song.toml", "chorus"),
            "there is no shot 'chorus': expected a clip's number, or one of intro,",
        ),
        (("redo", "song.toml", "99"), "clip is 99: expected 1 to 8"),
        (("redo", "song.toml", "verse", "--take", "3"), "--take is 3: expected 1 to 1, the kept renders of"),
        (("redo", "song.mp4", "verse", "--take", "1"), "--take chooses among the renders of a storyboard"),
        (("redo", "other.toml", "verse"), "no render of 'other.toml' is kept"),
    ],
)
def test_what_is_not_there_is_said(
    board: Board, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    board.render()
    done = run_here(capsys, *words)
    assert done.code == 2
    assert says in done.err


def test_an_edited_shot_alone_is_drawn_anew(board: Board) -> None:
    board.render()
    board.write(more='prompt = "blue"')
    done = board.render("-o", board.folder / "blue.mp4")
    assert "6 of 8 clips are there, going on with clip 7" in done.err


def test_a_moved_cut_costs_its_two_shots_though_clips_have_other_numbers(board: Board) -> None:
    board.write(cut="hard")
    first = board.render()
    board.write(second=0.2, cut="hard")
    done = board.render("-o", board.folder / "moved.mp4")
    assert "3 of 8 clips are there" in done.err
    assert changed_frames(first.path, done.path) <= set(range(32))


def test_jobs_tell_of_shots(board: Board) -> None:
    board.render()
    told = board("jobs", board.folder).out
    assert re.search(r"8/8 +3 +finished, kept +draft +song.toml", told)


def test_the_plan_has_a_row_for_each_shot(board: Board) -> None:
    told = board("plan", board.path).out
    assert re.search(r"^verse-b +verse-1 +0:02.00 +1.00 +continues +7–8 ", told, re.MULTILINE), told
