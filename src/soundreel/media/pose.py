"""Which picture of a pose video goes with which frame of the model.

Pictures are uint8 [H, W, 3]. "Reference" here is the official Wan 2.2 S2V code.
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

    TIME = "time"  # the one on screen at the model frame's time; after the end the last one is held
    REFERENCE = "reference"  # every n-th from the first, so that timing drifts; black after the end


def missing_pose_seconds(path: StrPath, frames: int, *, match: PoseMatch, lead_in: int) -> float:
    """Seconds at the end of `frames` model frames that the pose video is too short for; 0 where it is long enough.

    Raises:
        InputError: the path leads to no readable file.
        MediaError: not a video, or damaged.
    """
    video = probe_video(path)
    indices = pose_frame_indices(video.fps, frames, match=match, lead_in=lead_in)
    return sum(index >= video.frames for index in indices) / MODEL_FPS


def pose_frame_indices(
    fps: Fraction | float, count: int, *, match: PoseMatch = PoseMatch.TIME, lead_in: int = 0
) -> list[int]:
    """Frames of a pose video at `fps` that go with `count` model frames, without regard to its end."""
    if match is PoseMatch.REFERENCE:
        interval = max(1, round(fps / MODEL_FPS))
        return [k * interval for k in range(count)]
    return [math.floor(max(0, k - lead_in) * Fraction(fps) / MODEL_FPS) for k in range(count)]


def pick_pictures(
    frames: Iterator[NDArray[np.uint8]], indices: Iterable[int], *, hold: bool
) -> Iterator[NDArray[np.uint8] | None]:
    """The frame at each index, in order; after the end the last one if `hold`, else None."""
    frame: NDArray[np.uint8] | None = None
    position = -1
    for index in indices:
        while position < index and (following := next(frames, None)) is not None:
            position, frame = position + 1, following
        yield frame if hold or position == index else None
