"""What the native engine sees beside sound and words, and what it shows: sizes, pictures, poses, frames.

T frames, H rows, W columns, 3 = RGB. Pictures are uint8 [H, W, 3]; pixels, what the VAE takes and gives, are
float32 [3, T, H, W] from −1 (black) to 1 (white). "Reference" here is the official Wan 2.2 S2V code.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from soundreel.media.pose import PoseMatch, pick_pictures, pose_frame_indices
from soundreel.media.video import probe_video, read_frames
from soundreel.types import Check, go_on, heard
from soundreel.units import Frames, StrPath

NO_POSE: Final = -1.0
"""Pixel value, black, of pose frames that are not there."""


def fit_reference(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Scale the shorter side of `picture` [H, W, 3] to the video's shorter side, then crop or pad centred.

    The reference's preparation, antialiased bilinear by Pillow; returns uint8 [height, width, 3]. Where the
    scaled picture is short of the video there are black bars: `soundreel.media.image.cover` has none.
    """
    rows, columns = _shorter_side_to(min(height, width), picture.shape[0], picture.shape[1])
    scaled = picture
    if picture.shape[:2] != (rows, columns):
        scaled = np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling.BILINEAR))
    cropped = _centre_crop(torch.tensor(scaled).movedim(-1, 0), height, width)
    return cropped.movedim(0, -1).contiguous().numpy()


def fit_pose(picture: NDArray[np.uint8], width: int, height: int) -> Tensor:
    """A frame of a pose video, uint8 [H, W, 3] → pixels [3, height, width], prepared as the reference does.

    As `fit_reference`, but scaled as float tensor, so that values differ a little and bars are grey (0).
    """
    pixels = to_pixels(picture[None])
    size = _shorter_side_to(min(height, width), picture.shape[0], picture.shape[1])
    if picture.shape[:2] != size:
        pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
    return _centre_crop(pixels, height, width)[:, 0]


def to_pixels(frames: Frames) -> Tensor:
    """uint8 [T, H, W, 3] → float32 [3, T, H, W], 0 → −1 and 255 → 1."""
    return torch.tensor(frames).movedim(-1, 0).contiguous() / 255.0 * 2.0 - 1.0


def pose_windows(
    path: StrPath,
    windows: Sequence[tuple[int, int]],
    *,
    width: int,
    height: int,
    match: PoseMatch = PoseMatch.TIME,
    lead_in: int = 0,
    check: Check = go_on,
) -> Iterator[Tensor]:
    """The pose video as pixels for one clip after the other, each read when it is asked for.

    Args:
        path: the pose video.
        windows: first model frame and size of each clip (`Plan.first_sampled`); they may overlap and, after a cut,
            begin before the one before.
        width: of the video, in pixels.
        height: of the video, in pixels.
        match: which pose goes with which frame.
        lead_in: model frames before output frame 0; with `PoseMatch.TIME` they take the first pose.
        check: called before each frame that is read or fitted; may raise to stop.

    Yields:
        float32 [3, 1 + size, height, width] for each clip: its first pose twice, as the VAE wants it (encode, then
        drop the first latent frame).

    Raises:
        InputError: the path leads to no readable file.
        MediaError: not a video, or damaged.
    """
    end = max((start + size for start, size in windows), default=0)
    indices = pose_frame_indices(probe_video(path).fps, end, match=match, lead_in=lead_in)
    needed = list(accumulate((start for start, _ in reversed(windows)), min))[::-1]  # first frame from each clip on
    position = needed[0] if windows else 0
    hold = match is PoseMatch.TIME
    frames = pick_pictures(heard(read_frames(path, exact=hold), check), indices[position:], hold=hold)
    seen: deque[NDArray[np.uint8] | None] = deque()  # of the frames up to `position`, those that may come again
    for (start, size), oldest in zip(windows, needed, strict=True):
        while position < start + size:
            seen.append(next(frames))
            position += 1
        while len(seen) > position - oldest:
            seen.popleft()
        window = torch.full((3, 1 + size, height, width), NO_POSE)
        for k, frame in enumerate(heard(islice(seen, start - oldest, start - oldest + size), check), start=1):
            if frame is not None:
                window[:, k] = fit_pose(frame, width, height)
        window[:, 0] = window[:, 1]
        yield window


def _shorter_side_to(target: int, rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns with the shorter of them `target`, the longer one truncated."""
    longer = int(target * max(rows, columns) / min(rows, columns))
    return (target, longer) if rows <= columns else (longer, target)


def _centre_crop(pixels: Tensor, height: int, width: int) -> Tensor:
    """[…, H, W] → […, height, width]; zeros where there is nothing, and half pixels rounded to even."""
    rows, columns = (max(wanted - there, 0) for wanted, there in zip((height, width), pixels.shape[-2:], strict=True))
    padded = functional.pad(pixels, (columns // 2, (columns + 1) // 2, rows // 2, (rows + 1) // 2))
    top, left = round((padded.shape[-2] - height) / 2), round((padded.shape[-1] - width) / 2)
    return padded[..., top : top + height, left : left + width]
