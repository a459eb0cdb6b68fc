"""Arguments and results of the row operations: what follows a norm or scales an update, and float8 rows.

Legend: B batch, L tokens, D width, N runs of tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor

FLOAT8 = torch.float8_e4m3fn
FLOAT8_MAX = 448.0
"""Largest finite float8_e4m3fn."""


class Affine(NamedTuple):
    """y = x·scale + shift, another one for each run of tokens: token t takes number min(t // run, N − 1)."""

    scale: Tensor  # float32 [B or 1, N, D]
    shift: Tensor
    run: int

    @staticmethod
    def everywhere(scale: Tensor, shift: Tensor) -> "Affine":
        """The same for all tokens, from vectors [D]."""
        return Affine(scale.float()[None, None], shift.float()[None, None], 1)


class Gate(NamedTuple):
    """x·factor, by runs as in `Affine`."""

    factor: Tensor  # float32 [B or 1, N, D]
    run: int


class Float8Rows(NamedTuple):
    """A matrix in float8, each row with its own scale: what W8A8 products take."""

    values: Tensor  # float8 [B, L, D]
    scale: Tensor  # float32 [B, L, 1]

    @property
    def shape(self) -> torch.Size:
        """Of the matrix."""
        return self.values.shape

    def widened(self) -> Tensor:
        """float32 [B, L, D]."""
        return self.values.float() * self.scale
