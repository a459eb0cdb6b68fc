"""What a killed `interpolate` or `join` leaves beside its video: the next one takes it away, never a live one's."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import finish, run_here, start
from serving import wait_for
from soundreel.pipeline import generate
from soundreel.request import Request

HOLDS = """
import sys, time
from pathlib import Path
from soundreel.disk.destination import Destination
from soundreel.disk.outputs import Inputs
video = Path(sys.argv[1])
with Destination.of(None, first=video, inputs=Inputs(), endings=[".mp4"]).work_folder() as work:
    (work / "pictures.mp4").write_bytes(b"half a video")
    print(work, flush=True)
    time.sleep(3600)
"""


@pytest.fixture
def video(tmp_path: Path, tune: Path) -> Path:
    request = Request(audio=tune, output=tmp_path / "a.mp4", width=64, height=64, frames=32, engine="draft")
    return generate(request).path


@pytest.fixture
def live(video: Path) -> Iterator[Path]:
    """The temporary folder of a process that is at work beside the video."""
    with start(str(video), program=("-c", HOLDS)) as process:
        assert process.stdout is not None
        yield Path(process.stdout.readline().strip())
        process.kill()


def left_beside(video: Path) -> set[Path]:
    return set(video.parent.glob(".soundreel-*"))


def killed(video: Path) -> Path:
    """The folder that a killed process has left there."""
    with start(str(video), program=("-c", HOLDS)) as process:
        assert process.stdout is not None
        place = Path(process.stdout.readline().strip())
        process.kill()
    assert (place / "pictures.mp4").exists()
    return place


def test_a_killed_interpolation_is_taken_away_by_the_next(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start("interpolate", video, "--method", "motion", "--fps", "240")
    wait_for(lambda: any((place / "pictures.mp4").exists() for place in left_beside(video)))
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    assert left_beside(video)
    assert run_here(capsys, "interpolate", video, "--method", "motion").code == 0
    assert left_beside(video) == set()


@pytest.mark.parametrize("where", ["TemporaryDirectory.__init__", "TemporaryDirectory.cleanup"])
def test_ctrl_c_while_it_is_made_or_removed_leaves_nothing(video: Path, tmp_path: Path, where: str) -> None:
    program = (str(Path(__file__).with_name("moments.py")), str(tmp_path / "marks"), str(signal.SIGINT.value), where)
    done = finish(start("join", video, video, "-o", tmp_path / "b.mp4", program=program))
    is_there = where.endswith("cleanup")
    said = f"the video is there: {tmp_path / 'b.mp4'}" if is_there else "nothing was saved"
    assert (done.code, done.err.splitlines()[-1]) == (130, f"soundreel: cancelled, {said}")
    assert left_beside(video) == set()
    assert (tmp_path / "b.mp4").exists() == is_there


@pytest.mark.parametrize("words", [("join", "VIDEO", "VIDEO"), ("clean", "FOLDER")])
def test_what_is_dead_goes_and_what_is_alive_stays(
    video: Path, live: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    dead = killed(video)
    (empty := video.parent / ".soundreel-empty").mkdir()  # killed before it had anything in it
    (other := video.parent / ".soundreel-other").mkdir()
    (other / "mine.txt").touch()
    places = {"VIDEO": str(video), "FOLDER": str(video.parent)}
    assert run_here(capsys, *(places.get(word, word) for word in words)).code == 0
    assert left_beside(video) == {live, other}
    assert (live / "pictures.mp4").exists()
    assert not dead.exists()
    assert not empty.exists()
