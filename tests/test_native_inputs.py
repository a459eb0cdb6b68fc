"""Sizes, reference picture and pose video as the official pipeline prepares them, and frames back out."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from counting import Counting
from pictures import to_uint8
from soundreel.engines.native.inputs import (
    NO_POSE,
    fit_pose,
    fit_reference,
    pose_windows,
    to_pixels,
)
from soundreel.errors import Cancelled, InputError, MediaError
from soundreel.media.pose import PoseMatch, missing_pose_seconds, pose_frame_indices
from soundreel.media.video import SegmentWriter
from soundreel.request.video_size import size_for_area

GREY_STEP = 4
"""Frame k of a test video is grey of level 8 + 4·k: far enough apart to survive H.264 at crf 0."""

OVERLAPPING = [(0, 8), (5, 4), (9, 8), (10, 4), (8, 4)]
"""First model frames and sizes of clips of which some begin a shot: the last one after a clip of one frame."""


class TestSizeForArea:
    @pytest.mark.parametrize(
        ("height", "width", "area", "expected"),
        [
            (1104, 832, 1024 * 704, (960, 704)),
            (720, 1280, 480 * 832, (448, 832)),
            (480, 832, 480 * 832, (448, 832)),  # never 480×832 itself
            (720, 1280, 720 * 1280, (704, 1280)),
        ],
    )
    def test_published_examples(self, height: int, width: int, area: int, expected: tuple[int, int]) -> None:
        assert size_for_area(height, width, area) == expected

    @given(st.integers(64, 5000), st.integers(64, 5000), st.integers(64 * 64, 1280 * 720))
    def test_sides_are_multiples_of_64_within_the_area(self, height: int, width: int, area: int) -> None:
        try:
            rows, columns = size_for_area(height, width, area)
        except InputError:
            return
        assert rows % 64 == columns % 64 == 0
        assert 0 < rows * columns <= area
        assert rows < height + 64
        assert columns < width + 64

    @pytest.mark.parametrize(("height", "width", "area"), [(3, 20_000, 480 * 832), (500, 500, 100)])
    def test_hopeless_pictures_are_named(self, height: int, width: int, area: int) -> None:
        with pytest.raises(InputError, match=f"{width}×{height} picture fits no video of at most {area} pixels"):
            size_for_area(height, width, area)


class TestReferencePicture:
    def test_white_picture_gets_black_bars_where_it_is_short(self) -> None:
        # The official example: 832×1104 at 704×960 is scaled to 704×934, which leaves 26 rows.
        fitted = fit_reference(np.full((1104, 832, 3), 255, np.uint8), 704, 960)
        assert fitted.shape == (960, 704, 3)
        assert np.flatnonzero(fitted.max(axis=(1, 2)) == 0).tolist() == [*range(13), *range(947, 960)]

    def test_right_size_is_left_alone(self) -> None:
        picture = np.random.default_rng(1).integers(0, 256, (64, 128, 3), np.uint8)
        assert np.array_equal(fit_reference(picture, 128, 64), picture)

    def test_read_only_pictures_are_fine(self) -> None:
        picture = np.zeros((70, 50, 3), np.uint8)
        picture.flags.writeable = False
        assert fit_reference(picture, 64, 64).shape == (64, 64, 3)
        assert to_pixels(picture[None]).shape == (3, 1, 70, 50)

    @given(st.tuples(*[st.integers(1, 200)] * 4))
    def test_any_picture_takes_any_size(self, sizes: tuple[int, int, int, int]) -> None:
        rows, columns, height, width = sizes
        picture = np.full((rows, columns, 3), 200, np.uint8)
        assert fit_reference(picture, width, height).shape == (height, width, 3)
        assert fit_pose(picture, width, height).shape == (3, height, width)

    def test_pose_bars_are_grey(self) -> None:
        fitted = fit_pose(np.full((48, 64, 3), 255, np.uint8), 128, 64)
        assert fitted[:, :, 64].eq(1.0).all()
        assert fitted[:, :, 0].eq(0.0).all()


class TestPixels:
    def test_there_and_back(self) -> None:
        frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(4, 8, 8, 3)
        pixels = to_pixels(frames)
        assert pixels.shape == (3, 4, 8, 8)
        assert (pixels.min(), pixels.max()) == (-1.0, 1.0)
        assert np.abs(to_uint8(pixels).astype(int) - frames).max() <= 1  # truncation may cost one level

    def test_values_beyond_the_range_are_clamped(self) -> None:
        pixels = torch.tensor([-3.0, -1.0, 0.0, 0.999, 1.0, 7.0]).reshape(1, 1, 1, 6).expand(3, 1, 1, 6)
        assert to_uint8(pixels)[0, 0, :, 0].tolist() == [0, 0, 127, 254, 255, 255]
        assert to_uint8(pixels.bfloat16()).dtype == np.uint8

    def test_input_is_left_alone(self) -> None:
        pixels = torch.full((3, 1, 2, 2), 0.5)
        to_uint8(pixels)
        assert pixels.eq(0.5).all()


class TestPoseTiming:
    def test_follows_the_clock(self) -> None:
        assert pose_frame_indices(30, 9) == [0, 1, 3, 5, 7, 9, 11, 13, 15]
        assert pose_frame_indices(8, 6) == [0, 0, 1, 1, 2, 2]
        assert pose_frame_indices(16, 5) == [0, 1, 2, 3, 4]

    def test_lead_in_shows_the_first_pose(self) -> None:
        assert pose_frame_indices(16, 6, lead_in=3) == [0, 0, 0, 0, 1, 2]

    @given(st.sampled_from([8, 12.5, 23.976, 25, 29.97, 30, 50, 59.94, 60]), st.integers(1, 2000))
    def test_never_drifts(self, fps: float, count: int) -> None:
        shown = np.array(pose_frame_indices(fps, count)) / fps
        wanted = np.arange(count) / 16
        assert (shown <= wanted + 1e-9).all()
        assert (wanted - shown < 1 / fps + 1e-9).all()

    def test_reference_takes_every_nth(self) -> None:
        assert pose_frame_indices(30, 4, match=PoseMatch.REFERENCE, lead_in=3) == [0, 2, 4, 6]
        assert pose_frame_indices(24, 3, match=PoseMatch.REFERENCE) == [0, 2, 4]  # 1.5 rounds to even
        assert pose_frame_indices(40, 3, match=PoseMatch.REFERENCE) == [0, 2, 4]  # and so does 2.5


def write_pose(path: Path, frames: int, fps: int) -> Path:
    """A video whose frame k is flat grey of level 8 + 4·k."""
    with SegmentWriter(path, width=64, height=64, fps=fps, crf=0) as writer:
        for k in range(frames):
            writer.write(np.full((1, 64, 64, 3), 8 + GREY_STEP * k, np.uint8))
    return path


def frame_numbers(windows: Iterable[Tensor]) -> list[list[int | None]]:
    """Which frame of the video stands at each place of each window; None for black."""

    def number(pixels: Tensor) -> int | None:
        level = float(pixels.mean() + 1) / 2 * 255
        return None if pixels.eq(NO_POSE).all() else round((level - 8) / GREY_STEP)

    return [[number(window[:, k]) for k in range(window.shape[1])] for window in windows]


def end_to_end(*sizes: int) -> list[tuple[int, int]]:
    """First model frame and size of clips that follow each other."""
    return [(sum(sizes[:k]), size) for k, size in enumerate(sizes)]


class TestPoseWindows:
    def test_each_clip_gets_its_stretch_with_the_first_pose_twice(self, tmp_path: Path) -> None:
        pose = write_pose(tmp_path / "pose.mp4", frames=24, fps=16)
        windows = list(pose_windows(pose, end_to_end(8, 4, 8), width=64, height=64))
        assert [tuple(window.shape) for window in windows] == [(3, 9, 64, 64), (3, 5, 64, 64), (3, 9, 64, 64)]
        assert frame_numbers(windows) == [
            [0, 0, 1, 2, 3, 4, 5, 6, 7],
            [8, 8, 9, 10, 11],
            [12, 12, 13, 14, 15, 16, 17, 18, 19],
        ]

    def test_short_video_holds_its_last_frame(self, tmp_path: Path) -> None:
        pose = write_pose(tmp_path / "pose.mp4", frames=6, fps=16)
        assert frame_numbers(pose_windows(pose, end_to_end(4, 4, 4), width=64, height=64)) == [
            [0, 0, 1, 2, 3],
            [4, 4, 5, 5, 5],
            [5, 5, 5, 5, 5],
        ]

    def test_short_video_ends_black_in_reference_mode(self, tmp_path: Path) -> None:
        pose = write_pose(tmp_path / "pose.mp4", frames=11, fps=30)
        windows = pose_windows(pose, end_to_end(4, 4, 4), width=64, height=64, match=PoseMatch.REFERENCE)
        assert frame_numbers(windows) == [
            [0, 0, 2, 4, 6],
            [8, 8, 10, None, None],
            [None] * 5,
        ]

    def test_lead_in_keeps_pose_and_picture_together(self, tmp_path: Path) -> None:
        pose = write_pose(tmp_path / "pose.mp4", frames=12, fps=16)
        windows = pose_windows(pose, [(0, 8)], width=64, height=64, lead_in=3)
        assert frame_numbers(windows) == [[0, 0, 0, 0, 0, 1, 2, 3, 4]]

    @pytest.mark.parametrize("match", PoseMatch)
    def test_resumed_render_sees_the_same_windows(self, tmp_path: Path, match: PoseMatch) -> None:
        pose = write_pose(tmp_path / "pose.mp4", frames=14, fps=24)
        for places in (end_to_end(8, 4, 8), OVERLAPPING):
            whole = list(pose_windows(pose, places, width=32, height=48, match=match, lead_in=3))
            for first in range(len(places)):
                rest = list(pose_windows(pose, places[first:], width=32, height=48, match=match, lead_in=3))
                assert len(rest) == len(places) - first
                assert all(torch.equal(a, b) for a, b in zip(rest, whole[first:], strict=True))

    @pytest.mark.parametrize("asked", [1, 7, 16])
    def test_a_stop_is_heard_before_each_frame_that_is_read_or_fitted(self, tmp_path: Path, asked: int) -> None:
        pose, check = write_pose(tmp_path / "pose.mp4", frames=8, fps=16), Counting(stop_at=asked)
        with pytest.raises(Cancelled):
            list(pose_windows(pose, end_to_end(8, 4), width=64, height=64, check=check))
        assert check.calls == asked

    def test_after_a_cut_the_window_goes_back(self, tmp_path: Path) -> None:
        """Its lead-in, and the surplus of the clip before it, see poses that the other shot's pictures see, too."""
        pose = write_pose(tmp_path / "pose.mp4", frames=24, fps=16)
        assert frame_numbers(pose_windows(pose, OVERLAPPING, width=64, height=64, lead_in=3)) == [
            [0, 0, 0, 0, 0, 1, 2, 3, 4],
            [2, 2, 3, 4, 5],
            [6, 6, 7, 8, 9, 10, 11, 12, 13],
            [7, 7, 8, 9, 10],
            [5, 5, 6, 7, 8],
        ]

    def test_overlapping_windows_past_the_end_hold_and_end_black(self, tmp_path: Path) -> None:
        pose = write_pose(tmp_path / "pose.mp4", frames=7, fps=16)
        held, black = (
            frame_numbers(pose_windows(pose, [(0, 8), (5, 4), (6, 4)], width=64, height=64, match=match))
            for match in (PoseMatch.TIME, PoseMatch.REFERENCE)
        )
        assert held == [[0, 0, 1, 2, 3, 4, 5, 6, 6], [5, 5, 6, 6, 6], [6, 6, 6, 6, 6]]
        assert black == [[0, 0, 1, 2, 3, 4, 5, 6, None], [5, 5, 6, None, None], [6, 6, None, None, None]]

    def test_shortfall_is_known_before_rendering(self, tmp_path: Path) -> None:
        pose = write_pose(tmp_path / "pose.mp4", frames=16, fps=16)
        assert missing_pose_seconds(pose, 16, match=PoseMatch.TIME, lead_in=0) == 0.0
        assert missing_pose_seconds(pose, 24, match=PoseMatch.TIME, lead_in=0) == 0.5
        assert missing_pose_seconds(pose, 24, match=PoseMatch.TIME, lead_in=3) == 5 / 16

    def test_missing_video_is_an_input_error(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"none\.mp4"):
            next(pose_windows(tmp_path / "none.mp4", [(0, 8)], width=64, height=64))

    def test_text_is_not_a_video(self, tmp_path: Path) -> None:
        (tmp_path / "pose.mp4").write_text("not a video\n" * 50)
        with pytest.raises(MediaError, match=r"pose\.mp4"):
            next(pose_windows(tmp_path / "pose.mp4", [(0, 8)], width=64, height=64))

    def test_real_pose_video(self, media: Path) -> None:
        window = next(pose_windows(media / "pose.mp4", [(0, 8)], width=832, height=480))
        assert window.shape == (3, 9, 480, 832)
        assert window.min() >= -1.0 - 1e-5
        assert window.max() > 0.5  # a bright skeleton on black
