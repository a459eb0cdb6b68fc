"""Detection of hard cuts between two consecutive frames.

The decision depends on these two frames alone. Both are reduced to `LONG_SIDE_PIXELS`, and each block of the second is
searched for in the first (block matching). Under motion, even quick motion, most blocks have a match; across a cut few
have one. Levels are 0 to 255.
"""

from itertools import product
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from soundreel.media.motion import Picture

LONG_SIDE_PIXELS: Final = 96
BLOCK_PIXELS: Final = 8
SEARCH_RANGE_PIXELS: Final = LONG_SIDE_PIXELS // 8
"""Largest displacement of a block in each direction."""

SAME_SHOT_LEVELS: Final = 5.0
"""Mean difference of the frames below which there is no cut, without a search."""

COLOUR_JUMP_LEVELS: Final = 48.0
"""Change of a colour channel's mean above which there is a cut, or a flash, which must not be blended either."""

MATCH_ERROR_LEVELS: Final = 14.0
"""Mean error of the best matches above which there is a cut. Measured on bikes.mp4: 16.7 to 40 at its cuts, 11.6 in its
quickest motion with every second frame left out."""

UNMATCHED_SHARE, UNMATCHED_ERROR_LEVELS = 0.85, 6.0
"""In frames of low contrast, which have small errors: there is a cut where more than this share of blocks has no match
and the mean error is above this. Measured shares: at least 0.95 at cuts, 0.65 in the quickest motion."""

_Grey = NDArray[np.float32]


def is_cut(before: Picture, after: Picture) -> bool:
    """Whether there is a cut between two frames, both uint8 [H, W, 3] of the same size."""
    small0, small1 = _shrunk(before), _shrunk(after)
    if float(np.abs(small1.mean((0, 1)) - small0.mean((0, 1))).max()) > COLOUR_JUMP_LEVELS:
        return True
    grey0, grey1 = small0.mean(2), small1.mean(2)
    grey0 += grey1.mean() - grey0.mean()  # a fade is no cut
    if float(np.abs(grey1 - grey0).mean()) < SAME_SHOT_LEVELS:
        return False
    missed, texture = _best_matches(grey0, grey1)
    lost = float(np.mean(missed > np.maximum(0.6 * texture, 4)))
    average = float(missed.mean())
    return average > MATCH_ERROR_LEVELS or (lost > UNMATCHED_SHARE and average > UNMATCHED_ERROR_LEVELS)


def _shrunk(picture: Picture) -> NDArray[np.float32]:
    height, width = picture.shape[:2]
    scale = LONG_SIDE_PIXELS / max(height, width)
    size = (max(BLOCK_PIXELS, round(width * scale)), max(BLOCK_PIXELS, round(height * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)


def _best_matches(before: _Grey, after: _Grey) -> tuple[_Grey, _Grey]:
    """For each block of `after`, [rows, columns]: mean absolute error of its best match in `before`, and its contrast.

    The contrast is the mean absolute deviation from the block's mean.
    """
    rows, columns = (side // BLOCK_PIXELS for side in after.shape)
    height, width = rows * BLOCK_PIXELS, columns * BLOCK_PIXELS
    blocks = after[:height, :width].reshape(rows, BLOCK_PIXELS, columns, BLOCK_PIXELS)
    texture = np.abs(blocks - blocks.mean((1, 3), keepdims=True)).mean((1, 3))
    wide = np.pad(before, SEARCH_RANGE_PIXELS, mode="edge")
    missed = np.full((rows, columns), np.inf, np.float32)
    for row, column in product(range(2 * SEARCH_RANGE_PIXELS + 1), repeat=2):
        moved = wide[row : row + height, column : column + width].reshape(blocks.shape)
        np.minimum(missed, np.abs(moved - blocks).mean((1, 3)), out=missed)
    return missed, texture
