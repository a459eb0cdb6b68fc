"""Single frames of a video, found by seeking."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, Final

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from soundreel.errors import MediaError
from soundreel.media.video import as_rgb, decoding
from soundreel.types import Check, go_on
from soundreel.units import StrPath

FAR_SECONDS: Final = 6.0
"""A frame so far ahead is sought; a nearer one is reached by decoding on."""


def read_stills(
    path: StrPath, seconds: Iterable[float], *, height: int, check: Check = go_on
) -> Iterator[NDArray[np.uint8]]:
    """The frames of a video that are shown at these times (ascending), uint8 RGB [height, W, 3], in proportion.

    After the end the last one is given again. `check` is called before each frame that is decoded and may raise to
    stop.

    Raises:
        InputError: there is no such file, or it may not be read.
        MediaError: not a video, or damaged.
    """
    with decoding(path) as (container, stream):
        shown, to_rgb = _Shown(container, stream, check), VideoReformatter()
        for second in seconds:
            yield _small(as_rgb(shown.at(second), to_rgb, None), height)


class _Shown:
    """The frame that is shown at a time, for times that ascend."""

    def __init__(self, container: InputContainer, stream: VideoStream, check: Check) -> None:
        self._container, self._stream, self._check = container, stream, check
        self._frames = container.decode(stream)
        self._now: Any = None
        self._next: Any = next(self._frames, None)
        if self._next is None:
            raise MediaError(f"{container.name!r} has no pictures in it: expected a video")
        self._begin = _time(self._next)

    def at(self, second: float) -> av.VideoFrame:
        wanted = self._begin + Fraction(second)
        if wanted - _time(self._next or self._now) > FAR_SECONDS:
            self._seek(wanted)
        while self._next is not None and (self._now is None or _time(self._next) <= wanted):
            self._check()
            self._now, self._next = self._next, next(self._frames, None)
        frame: av.VideoFrame = self._now
        return frame

    def _seek(self, wanted: Fraction) -> None:
        assert self._stream.time_base is not None
        self._container.seek(int(wanted / self._stream.time_base), stream=self._stream)
        self._frames = self._container.decode(self._stream)
        self._next = next(self._frames, None)


def _time(frame: av.VideoFrame) -> Fraction:
    assert frame.pts is not None
    assert frame.time_base is not None
    return frame.pts * frame.time_base


def _small(frame: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    width = max(1, round(frame.shape[1] * height / frame.shape[0]))
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
