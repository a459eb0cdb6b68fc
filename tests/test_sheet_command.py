"""`soundreel storyboard --sheet`: the picture of a song, of a storyboard, of a finished video."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draft_renders import Soundreel
from media_files import click_train, write_sound

SMALL = ("--size", "64x64", "--engine", "draft")


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Soundreel:
    monkeypatch.chdir(tmp_path)
    return Soundreel(capsys, write_sound(tmp_path / "song.wav", click_train(6, 22_050), 22_050))


def drawn(path: Path) -> tuple[int, int]:
    """Width and height of a sheet on which there is something."""
    with Image.open(path) as picture:
        assert np.asarray(picture.convert("RGB")).std() > 10
        return picture.size


def test_a_song_is_drawn_as_it_would_be_proposed(soundreel: Soundreel, tmp_path: Path) -> None:
    done = soundreel("storyboard", soundreel.tune, *SMALL, "--sheet", "sheet.png")
    assert (done.code, done.out) == (0, "sheet.png\n")
    assert drawn(tmp_path / "sheet.png")[0] == 1600
    assert not list(tmp_path.glob("*.toml"))
    both = soundreel("storyboard", soundreel.tune, *SMALL, "-o", "song.toml", "--sheet", "again.png")
    assert (both.code, both.out) == (0, "song.toml\nagain.png\n")
    again = soundreel("storyboard", "song.toml", "--sheet", "board.png")
    assert (again.code, again.out) == (0, "board.png\n")
    for other in ("again.png", "board.png"):
        assert (tmp_path / other).read_bytes() == (tmp_path / "sheet.png").read_bytes()


def test_a_finished_video_needs_nothing_but_itself(soundreel: Soundreel, tmp_path: Path) -> None:
    made = soundreel.draw(
        "generate", soundreel.tune, *SMALL, "--full", "--cut", "2", "-o", "video.mp4", "--no-keep-work"
    )
    soundreel.tune.unlink()
    done = soundreel("storyboard", made.path, "--sheet", "sheet.jpg")
    assert (done.code, done.out) == (0, "sheet.jpg\n")
    assert drawn(tmp_path / "sheet.jpg")[0] == 1600


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--sheet", "sheet.gif"), "--sheet is 'sheet.gif': expected a name that ends in .png or .jpg or .jpeg"),
        (("--sheet", "folder.png"), "--sheet is 'folder.png', which is a folder: name a file"),
        (
            ("--sheet", "cover.png", "--ref-image", "cover.png"),
            "--sheet is 'cover.png', which is the --ref-image itself",
        ),
    ],
)
def test_where_no_sheet_can_be_is_said(
    soundreel: Soundreel, tmp_path: Path, cover: Path, words: tuple[str, ...], says: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "cover.png").write_bytes(cover.read_bytes())
    done = soundreel("storyboard", soundreel.tune, *words)
    assert done.code == 2
    assert says in done.err
    assert (tmp_path / "cover.png").read_bytes() == cover.read_bytes()


def test_a_song_of_another_length_is_drawn_as_far_as_it_goes(soundreel: Soundreel, tmp_path: Path) -> None:
    words = ("--audio-start", "1", "--audio-duration", "2.5")
    assert soundreel("storyboard", soundreel.tune, *SMALL, *words, "--sheet", "part.png").code == 0
    assert drawn(tmp_path / "part.png")[0] == 1600
