"""The frames of a video with their times, each as large as one wants to look at it.

Most of the time that decoding takes goes into converting whole frames to RGB; who looks at small pictures needs none of
that.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from soundreel.media.video import decoding, upright, video_stream
from soundreel.types import Check, go_on, heard
from soundreel.units import MODEL_FPS, StrPath

LUMA_FIRST: Final = frozenset({"yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p", "nv12", "gray"})
"""Formats whose first plane is luma in 8 bits."""

FULL_RANGE: Final = frozenset({"yuvj420p", "yuvj422p", "yuvj444p", "gray"})
"""Those of them in which it goes from 0 to 255; else black is 16 and white 235."""

EXPANDED: Final = np.clip(np.round((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)
"""Luma in limited range → in full range."""


class Thumbnail:
    """A frame that can be looked at in any size."""

    def __init__(self, frame: av.VideoFrame, seconds: float, reformatter: VideoReformatter) -> None:
        self.seconds = seconds
        """From what a player plays first, picture or sound, as `soundreel.media.audio` counts."""
        self._frame, self._reformatter = frame, reformatter

    def picture(self, long_side: int) -> NDArray[np.uint8]:
        """Upright RGB, uint8 [H, W, 3], its longer side `long_side` pixels, or the frame's own if that is shorter."""
        return self._reformatted(long_side, "rgb24")

    def grey(self, long_side: int) -> NDArray[np.uint8]:
        """As `picture`, its luma alone, uint8 [H, W]: many times as quick."""
        plane = self._frame.planes[0]
        if self._frame.format.name not in LUMA_FIRST or plane.line_size <= 0:  # some decoders begin with the last row
            return self._reformatted(long_side, "gray")
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
        small = _shrunk(rows[: self._frame.height, : self._frame.width], self._size(long_side))
        is_full = self._frame.format.name in FULL_RANGE or self._frame.color_range == ColorRange.JPEG
        return upright(small if is_full else EXPANDED[small], self._frame)

    def _reformatted(self, long_side: int, form: str) -> NDArray[np.uint8]:
        width, height = self._size(long_side)
        small = self._reformatter.reformat(
            self._frame,
            width=width,
            height=height,
            format=form,
            interpolation=Interpolation.BILINEAR,  # over all pixels of the frame that fall into one
        )
        return upright(small.to_ndarray(), self._frame)

    def _size(self, long_side: int) -> tuple[int, int]:
        """Width and height of a picture that is not turned yet."""
        width, height = self._frame.width, self._frame.height
        scale = min(1.0, long_side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))


def _shrunk(plane: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A plane [H, W] at a width and height: halved as often as that goes, which is quick, then resampled."""
    while min(plane.shape[1] // size[0], plane.shape[0] // size[1]) >= 2:
        half = plane.shape[1] // 2, plane.shape[0] // 2
        plane = np.asarray(cv2.resize(plane[: 2 * half[1], : 2 * half[0]], half, interpolation=cv2.INTER_AREA))
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def read_thumbnails(path: StrPath, check: Check = go_on) -> Iterator[Thumbnail]:
    """Decode a video frame by frame, in presentation order; memory holds one frame. `check` may raise to stop.

    Raises:
        InputError: there is no such file, or it may not be read.
        MediaError: not a video, or damaged.
    """
    with decoding(path) as (container, stream):
        begin, rate = _begin(container), stream.average_rate or Fraction(MODEL_FPS)
        reformatter = VideoReformatter()
        for index, frame in enumerate(heard(container.decode(stream), check)):
            time = frame.time
            yield Thumbnail(frame, float(index / rate if time is None else time - begin), reformatter)


def _begin(container: InputContainer) -> float:
    """Timestamp in seconds of what a player plays first."""
    streams = [video_stream(container), *container.streams.audio[:1]]
    starts = (s.start_time * s.time_base for s in streams if s.start_time is not None and s.time_base)
    return float(min(starts, default=Fraction(0)))
