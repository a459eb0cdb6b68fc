"""Frames of a video in small: the same pictures as in full, upright, at the times of a player."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from command import REPO
from media_files import tone, write_video
from soundreel.errors import Cancelled, InputError, MediaError
from soundreel.media.thumbnails import read_thumbnails
from soundreel.media.video import read_frames

LUMA = np.array([0.2126, 0.7152, 0.0722])


def cover_video(path: Path, *, pixels: str = "yuv420p", degrees: int = 0) -> Path:
    cover = np.asarray(Image.open(REPO / "examples" / "cover.png").convert("RGB").resize((320, 192)))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 320, 192, pixels
        if degrees:
            stream.set_display_rotation(degrees)
        for index in range(4):
            frame = av.VideoFrame.from_ndarray(cover).reformat(format=pixels)
            frame.pts, frame.time_base = index, Fraction(1, 16)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("degrees", [0, 90, 180])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "yuvj420p", "yuv420p10le"])
def test_they_are_the_frames_in_small(tmp_path: Path, pixels: str, degrees: int) -> None:
    path = cover_video(tmp_path / "a.mp4", pixels=pixels, degrees=degrees)
    whole = np.asarray(Image.fromarray(next(read_frames(path))).reduce(4), np.float64)
    thumbnail = next(read_thumbnails(path))
    picture, grey = thumbnail.picture(80), thumbnail.grey(80)
    assert (picture.shape, grey.shape) == (whole.shape, whole.shape[:2])
    assert np.abs(picture - whole).mean() < 5
    assert np.abs(grey - whole @ LUMA).mean() < 6


def test_none_is_larger_than_the_frame(tmp_path: Path) -> None:
    thumbnail = next(read_thumbnails(cover_video(tmp_path / "a.mp4")))
    assert thumbnail.picture(1000).shape == (192, 320, 3)
    assert thumbnail.grey(1000).shape == (192, 320)


@pytest.mark.parametrize(("picture_start", "sound_start"), [(0, 0), (0, 0.5), (0.25, 0)])
def test_time_begins_with_what_is_played_first(tmp_path: Path, picture_start: float, sound_start: float) -> None:
    path = write_video(
        tmp_path / "a.mkv", tone(1.0, 16_000), 16_000, sound_start=sound_start, picture_start=picture_start
    )
    seconds = [thumbnail.seconds for thumbnail in read_thumbnails(path)]
    assert seconds[0] == pytest.approx(picture_start, abs=0.03)
    assert np.diff(seconds) == pytest.approx(1 / 16, abs=0.002)


def test_what_is_no_video_and_who_stops(tmp_path: Path, tune: Path) -> None:
    with pytest.raises(MediaError):
        next(read_thumbnails(tune))
    with pytest.raises(InputError):
        next(read_thumbnails(tmp_path / "none.mp4"))

    def stop() -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        next(read_thumbnails(cover_video(tmp_path / "a.mp4"), stop))
