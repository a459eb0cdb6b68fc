"""A coarse grid over the picture: smooth fields are computed on its cells and upsampled to the picture's pixels.

Axes: h, w cells down and across (margin included), H, W pixels down and across, C channels.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
"""Values on the grid, [h, w] or [h, w, C]."""

Picture = NDArray[np.uint8]
"""Pixels, RGB, [H, W, 3], or one channel, [H, W]."""

MARGIN_CELLS = 1
"""Cells outside the picture on every side, so that upsampling never extrapolates inside it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Square cells over a picture of `width` × `height` pixels, with a margin around it."""

    width: int
    height: int
    cell: int  # side of a cell in pixels

    @classmethod
    def with_cells(cls, width: int, height: int, *, at_most: int, smallest: int) -> "Grid":
        """The finest grid of about `at_most` cells whose cells have at least `smallest` pixels a side."""
        cell = math.ceil(math.sqrt(width * height / at_most))
        return cls(width=width, height=height, cell=max(cell, smallest))

    @property
    def unit(self) -> float:
        """Pixels per unit of `x` and `y`: half the side of a square of the picture's area."""
        return math.sqrt(self.width * self.height) / 2

    @property
    def shape(self) -> tuple[int, int]:
        """Cells down and across, margin included."""
        return self.y.size, self.x.size

    @cached_property
    def x(self) -> Field:
        """Horizontal coordinates of the cells' centres in units from the picture's centre rightwards, [1, w]."""
        return self._from_centre(self.width)[np.newaxis, :]

    @cached_property
    def y(self) -> Field:
        """Vertical coordinates of the cells' centres in units from the picture's centre downwards, [h, 1]."""
        return self._from_centre(self.height)[:, np.newaxis]

    def distance(self, x: float, y: float) -> Field:
        """Distance of the cells' centres from (`x`, `y`) in units, [h, w]."""
        distance: Field = np.hypot(self.x - np.float32(x), self.y - np.float32(y))
        return distance

    def enlarge(self, field: NDArray[Any]) -> NDArray[Any]:
        """Upsample `field` (bicubic) to the picture's pixels, [H, W] or [H, W, C], in its own dtype."""
        down, across = self.shape
        whole = cv2.resize(field, (across * self.cell, down * self.cell), interpolation=cv2.INTER_CUBIC)
        skip = MARGIN_CELLS * self.cell
        return whole[skip : skip + self.height, skip : skip + self.width]

    def _from_centre(self, pixels: int) -> Field:
        count = math.ceil(pixels / self.cell) + 2 * MARGIN_CELLS
        centres = (np.arange(count) - MARGIN_CELLS + 0.5) * self.cell - 0.5
        return ((centres - (pixels - 1) / 2) / self.unit).astype(np.float32)


def sample(source: NDArray[Any], columns: Field, rows: Field, out: Picture | None = None) -> NDArray[Any]:
    """`source` sampled bilinearly at (`columns`, `rows`) in pixels; beyond its edges it is mirrored."""
    found: NDArray[Any] = cv2.remap(source, columns, rows, cv2.INTER_LINEAR, dst=out, borderMode=cv2.BORDER_REFLECT_101)
    return found


def smoothstep(low: float, high: float, values: Field) -> Field:
    """0 below `low`, 1 above `high`, the cubic 3t² − 2t³ between."""
    t: Field = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def to_bytes(field: Field) -> Picture:
    """Values as uint8, clipped to 0..255."""
    return np.clip(field, 0, 255).astype(np.uint8)
