"""Single frames of a video are those that a player shows at their times."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from media_files import write_video
from soundreel.errors import Cancelled, InputError, MediaError
from soundreel.media.stills import read_stills
from soundreel.media.video import SegmentWriter

FRAMES = 480


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute; red and green of a frame tell its number."""
    path = tmp_path_factory.mktemp("stills") / "numbers.mp4"
    number = np.arange(FRAMES)
    colours = np.stack([number % 16 * 15 + 8, number // 16 * 8 + 8, np.full(FRAMES, 128)], axis=-1)
    with SegmentWriter(path, width=32, height=64, crf=4) as writer:
        writer.write(np.ascontiguousarray(np.broadcast_to(colours[:, None, None], (FRAMES, 64, 32, 3)), np.uint8))
    return path


def number_of(frame: NDArray[np.uint8]) -> int:
    red, green, _ = frame.mean(axis=(0, 1)).tolist()
    return round((red - 8) / 15) + 16 * round((green - 8) / 8)


@pytest.mark.parametrize("numbers", [range(0, FRAMES, 7), [0, 5, 5, 6, 300, 301, 479], [477], [0, 150, 460]])
def test_stills_are_the_frames_at_their_times(video: Path, numbers: list[int]) -> None:
    stills = list(read_stills(video, [(number + 0.5) / 16 for number in numbers], height=16))
    assert [number_of(still) for still in stills] == list(numbers)
    assert {still.shape for still in stills} == {(16, 8, 3)}


def test_after_the_end_the_last_frame_is_shown(video: Path) -> None:
    stills = list(read_stills(video, [29.0, 31.0, 60.0, 90.0], height=16))
    assert [number_of(still) for still in stills] == [464, 479, 479, 479]


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    late = write_video(tmp_path / "late.mp4", np.zeros((22_050, 1), np.float32), 22_050, picture_start=0.5)
    assert len(list(read_stills(late, [0.0, 0.4], height=12))) == 2


def test_what_is_no_video_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError, match=r"a\.mp4"):
        next(read_stills(tmp_path / "a.mp4", [0.0], height=16))
    with pytest.raises(InputError, match=r"b\.mp4"):
        next(read_stills(tmp_path / "b.mp4", [0.0], height=16))


def test_reading_can_be_stopped(video: Path) -> None:
    def stop() -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        list(read_stills(video, [3.0], height=16, check=stop))
