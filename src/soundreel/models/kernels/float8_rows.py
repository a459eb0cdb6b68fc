"""Arguments and results of the row operations: what follows a norm or scales an update, and float8 rows.

Legend: B batch, L tokens, D width, N runs of tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

FLOAT8 = torch.float8_e4m3fn
FLOAT8_MAX = 448.0
"""Largest finite float8_e4m3fn."""

SMALLEST_SCALE = 1e-12
"""What a row is divided by at least (times `FLOAT8_MAX`), so that zeros stay zeros."""


class Affine(NamedTuple):
    """y = x·scale + shift with N pairs of scale and shift: token t takes pair min(t // run, N − 1)."""

    scale: Tensor  # float32 [B or 1, N, D]
    shift: Tensor
    run: int

    @staticmethod
    def everywhere(scale: Tensor, shift: Tensor) -> "Affine":
        """One pair for all tokens, from vectors [D]."""
        return Affine(scale.float()[None, None], shift.float()[None, None], 1)


class Gate(NamedTuple):
    """y = x·factor with N factors, chosen as in `Affine`."""

    factor: Tensor  # float32 [B or 1, N, D]
    run: int


class Float8Rows(NamedTuple):
    """A matrix in float8 with a scale for each row (value = float8 · scale), the input of W8A8 products."""

    values: Tensor  # float8 [B, L, D]
    scale: Tensor  # float32 [B, L, 1]

    @property
    def shape(self) -> torch.Size:
        return self.values.shape

    def widened(self) -> Tensor:
        """The values in float32, [B, L, D]."""
        return self.values.float() * self.scale


def takes_float8(*layers: nn.Module) -> bool:
    """Whether all these linear layers multiply float8 rows (W8A8)."""
    return all(getattr(layer, "takes_float8", False) for layer in layers)


def some_tokens(x: Tensor | Float8Rows, span: slice) -> Tensor | Float8Rows:
    """[B, L, D] → [B, those of the span, D]."""
    if isinstance(x, Float8Rows):
        return Float8Rows(x.values[:, span], x.scale[:, span])
    return x[:, span]
