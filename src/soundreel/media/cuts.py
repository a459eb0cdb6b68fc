"""Where one shot ends and the next begins: told by two neighbouring pictures alone, so that it never depends on what
was looked at before.

Both pictures are made small; blocks of the second are looked for around their place in the first. Motion, however
quick, leaves most blocks findable; a cut leaves few. Levels are 0 to 255.
"""

from itertools import product
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from soundreel.media.motion import Picture

LONG_SIDE_PIXELS: Final = 96
BLOCK_PIXELS: Final = 8
REACH_PIXELS: Final = 12
"""An eighth of the long side, per picture."""

CALM_LEVELS: Final = 5.0
"""Pictures that differ less on average are of one shot, without a search."""

JUMP_LEVELS: Final = 48.0
"""The average of a colour changes by more only in a cut, or in a flash that is not to be blended either."""

LOST_LEVELS: Final = 14.0
"""A block's best match is worse on average only in a cut. Measured: cuts of bikes.mp4 16.7 to 40, its quickest
motion with every second picture left out 11.6."""

LOST_SHARE, LOST_SHARE_LEVELS = 0.85, 6.0
"""In dim or plain pictures it is told by how many blocks are lost: 0.95 and more in cuts, 0.65 in quickest motion."""

_Grey = NDArray[np.float32]


def is_cut(before: Picture, after: Picture) -> bool:
    """Whether `after` begins another shot than `before`; both uint8 [H, W, 3] of one size."""
    small0, small1 = _shrunk(before), _shrunk(after)
    if float(np.abs(small1.mean((0, 1)) - small0.mean((0, 1))).max()) > JUMP_LEVELS:
        return True
    grey0, grey1 = small0.mean(2), small1.mean(2)
    grey0 += grey1.mean() - grey0.mean()  # a fade moves nothing
    if float(np.abs(grey1 - grey0).mean()) < CALM_LEVELS:
        return False
    missed, texture = _best_matches(grey0, grey1)
    lost = float(np.mean(missed > np.maximum(0.6 * texture, 4)))
    average = float(missed.mean())
    return average > LOST_LEVELS or (lost > LOST_SHARE and average > LOST_SHARE_LEVELS)


def _shrunk(picture: Picture) -> NDArray[np.float32]:
    height, width = picture.shape[:2]
    scale = LONG_SIDE_PIXELS / max(height, width)
    size = (max(BLOCK_PIXELS, round(width * scale)), max(BLOCK_PIXELS, round(height * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)


def _best_matches(before: _Grey, after: _Grey) -> tuple[_Grey, _Grey]:
    """For each block of `after`: how far its best match in `before` is off, and how far its pixels are from plain."""
    rows, columns = (side // BLOCK_PIXELS for side in after.shape)
    height, width = rows * BLOCK_PIXELS, columns * BLOCK_PIXELS
    blocks = after[:height, :width].reshape(rows, BLOCK_PIXELS, columns, BLOCK_PIXELS)
    texture = np.abs(blocks - blocks.mean((1, 3), keepdims=True)).mean((1, 3))
    wide = np.pad(before, REACH_PIXELS, mode="edge")
    missed = np.full((rows, columns), np.inf, np.float32)
    for row, column in product(range(2 * REACH_PIXELS + 1), repeat=2):
        moved = wide[row : row + height, column : column + width].reshape(blocks.shape)
        np.minimum(missed, np.abs(moved - blocks).mean((1, 3)), out=missed)
    return missed, texture
