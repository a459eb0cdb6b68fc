"""One pass over the pictures of a video: a few numbers for each frame, whatever its size; nothing else is kept.

Letters: F frames, H rows, W columns.
"""

from array import array
from dataclasses import dataclass
from typing import Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from soundreel.media.cuts import is_cut
from soundreel.media.thumbnails import Thumbnail, read_thumbnails
from soundreel.types import Check
from soundreel.units import MODEL_FPS, StrPath

Values = NDArray[np.float64]
Picture = NDArray[np.uint8]

LONG_SIDE: Final = 160
"""Pixels of the pictures that movement and colours are measured in."""

COLOUR_SECONDS: Final = 0.25
"""From one look at colours to the next."""

SHARPNESS_SECONDS, SHARPNESS_SIDE = 0.5, 480
"""From one look at sharpness to the next, and pixels of the picture that it needs."""

CUT_LEVELS, CUT_TIMES = 5.0, 1.8
"""A cut changes the picture by more levels (of 255) than that, and by so many times the change before: only there it is
looked for."""

COLUMNS: Final = 12
"""Numbers for each frame; colours are three of them."""

SMALLEST_SIDE: Final = 16
"""Pixels that optical flow needs; smaller pictures have no movement."""

SHORTEST_FRAME: Final = 1 / 1000
"""Seconds; times are compared to within it."""

FLAT_LEVELS: Final = 1.0
"""A picture of less contrast has no details that could be sharp."""


BLOCK: Final = 8
"""Pixels: a mouth that moves in a still picture fills some blocks of so many."""


class MouthWatch(Protocol):
    """Says of each frame, in order, how far a mouth is open."""

    def opening(self, frame: Thumbnail) -> float:
        """In multiples of the face's size; not a number where there is no face."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """A video in a few numbers for each frame."""

    seconds: Values  # [F] when it is shown
    speed: Values  # [F] mean movement since the frame before, in picture sides per second; NaN across a cut, and first
    change: Values  # [F] where it changes most: mean difference of a block's pixels to the frame before, 0..255
    brightness: Values  # [F] mean, 0..255
    brightest: Values  # [F] brightest pixel of the small picture, 0..255
    is_cut: NDArray[np.bool_]  # [F] it begins a shot
    colour: Values  # [F, 3] mean in CIE L*a*b*; NaN where it was not looked at
    contrast: Values  # [F] standard deviation of the brightness
    sharpness: Values  # [F] of details, in multiples of the contrast; NaN where it was not looked at
    opening: Values  # [F] of a mouth, in multiples of the face's size; NaN without a face

    @property
    def stop(self) -> float:
        """When the last frame ends."""
        usual = float(np.median(np.diff(self.seconds))) if len(self.seconds) > 1 else 1 / MODEL_FPS
        return float(self.seconds[-1]) + max(usual, SHORTEST_FRAME)


def look(video: StrPath, check: Check, *, cuts: Values | None = None, mouth: MouthWatch | None = None) -> Seen:
    """Look at every frame.

    Args:
        check: called before each frame; may raise to stop.
        cuts: when shots begin, in seconds; None: cuts are looked for.
        mouth: watches a mouth; None: nobody does.
    """
    eye = _Eye(cuts, mouth)
    rows = array("d")
    for frame in read_thumbnails(video, check):
        rows.extend(eye.look_at(frame))
    columns = np.array(rows).reshape(-1, COLUMNS).T
    seconds, speed, change, brightness, brightest, cut, contrast, sharpness, opening, *colour = columns
    return Seen(
        seconds=seconds,
        speed=speed,
        change=change,
        brightness=brightness,
        brightest=brightest,
        is_cut=cut > 0,
        contrast=contrast,
        sharpness=sharpness,
        opening=opening,
        colour=np.stack(colour, axis=1),
    )


class _Eye:
    """Looks at one frame after another."""

    def __init__(self, cuts: Values | None, mouth: MouthWatch | None) -> None:
        self._cuts = cuts
        self._shot = 1  # number of the one in hand
        self._mouth = mouth
        self._flow: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._last: tuple[Thumbnail, Picture] | None = None  # and its grey picture
        self._last_mean = np.inf  # no cut comes after a single frame
        self._next_colour = self._next_sharpness = -np.inf

    def look_at(self, frame: Thumbnail) -> tuple[float, ...]:
        """The frame's row of `Seen`: its columns in their order, colours at last."""
        grey = frame.grey(LONG_SIDE)
        speed, change, cut = self._since_last(frame, grey)
        mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(grey))
        self._last = frame, grey
        opening = np.nan if self._mouth is None else self._mouth.opening(frame)
        beside = (frame.seconds, speed, change, mean, float(grey.max()), float(cut), deviation)
        return (*beside, self._sharpness(frame, cut), opening, *self._colour(frame, cut))

    def _since_last(self, frame: Thumbnail, grey: Picture) -> tuple[float, float, bool]:
        """Speed of the movement, change of the picture, and whether a shot begins."""
        if self._last is None or self._last[1].shape != grey.shape:  # another size in the middle of the file
            return np.nan, 0.0, True
        last, last_grey = self._last
        difference = cv2.absdiff(grey, last_grey)
        mean, change = float(cv2.mean(difference)[0]), _most_of_a_block(difference)
        is_cut_here = self._begins_shot(frame, last, mean)
        self._last_mean = mean
        if is_cut_here:
            return np.nan, change, True
        if min(grey.shape) < SMALLEST_SIDE:
            return 0.0, change, False
        flow = self._flow.calc(last_grey, grey, None)
        moved = float(cv2.magnitude(flow[..., 0], flow[..., 1]).mean()) / max(grey.shape)
        return moved / max(frame.seconds - last.seconds, SHORTEST_FRAME), change, False

    def _begins_shot(self, frame: Thumbnail, last: Thumbnail, mean: float) -> bool:
        if self._cuts is not None:
            begun = np.searchsorted(self._cuts, frame.seconds + SHORTEST_FRAME)
            is_new, self._shot = begun > self._shot, max(self._shot, int(begun))
            return bool(is_new)
        is_sudden = mean > max(CUT_LEVELS, CUT_TIMES * self._last_mean)
        return is_sudden and is_cut(last.picture(LONG_SIDE), frame.picture(LONG_SIDE))

    def _colour(self, frame: Thumbnail, cut: bool) -> list[float]:
        if frame.seconds < self._next_colour and not cut:
            return [np.nan] * 3
        self._next_colour = frame.seconds + COLOUR_SECONDS
        lab = cv2.cvtColor(frame.picture(LONG_SIDE).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        mean: list[float] = np.asarray(lab).mean(axis=(0, 1)).tolist()
        return mean

    def _sharpness(self, frame: Thumbnail, cut: bool) -> float:
        if frame.seconds < self._next_sharpness and not cut:
            return np.nan
        self._next_sharpness = frame.seconds + SHARPNESS_SECONDS
        grey = frame.grey(SHARPNESS_SIDE).astype(np.float32)
        contrast = float(grey.std())
        return float(cv2.Laplacian(grey, cv2.CV_32F).std()) / contrast if contrast > FLAT_LEVELS else np.nan


def _most_of_a_block(difference: Any) -> float:
    """Mean of the block of `BLOCK` pixels squared in which a picture [H, W] is greatest."""
    height, width = difference.shape
    size = (max(1, width // BLOCK), max(1, height // BLOCK))
    return float(cv2.resize(difference, size, interpolation=cv2.INTER_AREA).max())
