"""Rotary position embedding of the S2V tokens by (time, row, column).

Legend: L tokens, P = d/2 pairs of consecutive elements of a head of width d, B batch, H heads.
Positions count latent frames in time and patches in space. Motion has negative times, the reference image time 30.
Source: `rope_precompute` of Wan-Video/Wan2.2 (Apache-2.0).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BASE = 10000.0
"""Angle of pair k at position p: p · BASE^(−2k / width of its axis)."""

REFERENCE_TIME = 30
"""Time position of the reference image, independent of the clip's length."""

Positions = NDArray[np.int64]


class Rotary(NamedTuple):
    """cos and sin of each token's angles, float32 [L, P]."""

    cos: Tensor
    sin: Tensor

    def first(self, count: int | None) -> "Rotary":
        """The table of the first `count` tokens; all for None."""
        return Rotary(self.cos[:count], self.sin[:count])


def noise_positions(frames: int, rows: int, columns: int) -> Positions:
    """[frames·rows·columns, 3] positions (time, row, column) of the clip's own tokens."""
    return _grid(np.arange(frames), np.arange(rows), np.arange(columns))


def reference_positions(rows: int, columns: int) -> Positions:
    """[rows·columns, 3] positions of the reference image's tokens."""
    return _grid(np.array([REFERENCE_TIME]), np.arange(rows), np.arange(columns))


def past_positions(*, age: int, span: int, rows: int, columns: int, counts: tuple[int, int, int]) -> Positions:
    """Positions of packed tokens of `span` latent frames before the clip, the oldest at time −`age`.

    `counts` (in time, rows, columns) are spread over the span and the grid of `rows` × `columns`.
    """
    times = -_spread(age, age - span + 1, counts[0])
    return _grid(times, _spread(0, rows - 1, counts[1]), _spread(0, columns - 1, counts[2]))


def rotary_table(positions: Sequence[Positions], head_width: int, device: torch.device) -> Rotary:
    """cos and sin of the angles of all tokens (concatenated), computed in float64 and stored as float32."""
    stacked = np.concatenate([np.zeros((0, 3), np.int64), *positions])
    angles = np.concatenate(
        [
            np.outer(stacked[:, axis], BASE ** (-2.0 * np.arange(width // 2) / width))
            for axis, width in enumerate(axis_widths(head_width))
        ],
        axis=1,
    )
    cos, sin = (torch.from_numpy(values).to(torch.float32) for values in (np.cos(angles), np.sin(angles)))
    return Rotary(cos.to(device), sin.to(device))


def axis_widths(head_width: int) -> tuple[int, int, int]:
    """Elements of a head that are rotated by time, row and column: 44, 42, 42 of 128."""
    space = 2 * (head_width // 6)
    return head_width - 2 * space, space, space


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate pairs of consecutive elements of `x` [B, L, H, d] by their token's angles; computed in float32."""
    even, odd = torch.unflatten(x.float(), -1, (-1, 2)).unbind(-1)
    cos, sin = rotary.cos.unsqueeze(1), rotary.sin.unsqueeze(1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(x.dtype)


def _spread(first: int, last: int, count: int) -> Positions:
    """`count` positions from `first` to `last`, truncated to whole numbers as in the reference."""
    return np.linspace(first, last, count).astype(np.int64)


def _grid(times: Positions, rows: Positions, columns: Positions) -> Positions:
    return np.stack(np.meshgrid(times, rows, columns, indexing="ij"), axis=-1).reshape(-1, 3)
