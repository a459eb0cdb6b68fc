"""Queries and keys as float8 attention takes them: before their norm, which it does itself.

Legend: B batch, L tokens, H heads, d head width.
"""

from typing import NamedTuple

from torch import Tensor

from soundreel.models.rope import Rotary


class Projected(NamedTuple):
    """Queries or keys before their norm."""

    x: Tensor  # [B, L, H·d]
    weight: Tensor  # of the RMS norm over H·d
    eps: float
    rotary: Rotary  # of these tokens
