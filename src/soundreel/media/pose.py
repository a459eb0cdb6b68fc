"""Which frame of a pose video goes with which frame of the model.

Frames are uint8 [H, W, 3]. "Reference" is the official Wan 2.2 S2V code.
"""

import math
from collections.abc import Iterable, Iterator
from enum import StrEnum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from soundreel.media.video import probe_video
from soundreel.units import MODEL_FPS, StrPath


class PoseMatch(StrEnum):
    """Which frame of a pose video goes with which model frame."""

    TIME = "time"  # the one shown at the model frame's time; after the video's end its last frame
    REFERENCE = "reference"  # every n-th from the first, with n rounded, so that timing drifts; after the end black


def missing_pose_seconds(path: StrPath, frames: int, *, match: PoseMatch, lead_in: int) -> float:
    """Seconds by which the pose video is too short for `frames` model frames; 0 where it is long enough.

    Raises:
        InputError: there is no such file, or it may not be read.
        MediaError: not a video, or damaged.
    """
    video = probe_video(path)
    indices = pose_frame_indices(video.fps, frames, match=match, lead_in=lead_in)
    return sum(index >= video.frames for index in indices) / MODEL_FPS


def pose_frame_indices(
    fps: Fraction | float, count: int, *, match: PoseMatch = PoseMatch.TIME, lead_in: int = 0
) -> list[int]:
    """Indices of the pose video's frames for `count` model frames, as if the video had no end.

    Args:
        fps: frame rate of the pose video.
        lead_in: model frames before the first that is shown; they take the pose of that one.
    """
    if match is PoseMatch.REFERENCE:
        interval = max(1, round(fps / MODEL_FPS))
        return [k * interval for k in range(count)]
    return [math.floor(max(0, k - lead_in) * Fraction(fps) / MODEL_FPS) for k in range(count)]


def pick_pictures(
    frames: Iterator[NDArray[np.uint8]], indices: Iterable[int], *, hold: bool
) -> Iterator[NDArray[np.uint8] | None]:
    """The frame at each of the ascending `indices`; after the last frame that frame if `hold`, else None."""
    frame: NDArray[np.uint8] | None = None
    position = -1
    for index in indices:
        while position < index and (following := next(frames, None)) is not None:
            position, frame = position + 1, following
        yield frame if hold or position == index else None
