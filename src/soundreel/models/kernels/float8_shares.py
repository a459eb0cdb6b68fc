"""What those who share the tokens of float8 attention agree on: means and scales, from the statistics of each.

Legend: H heads, d head width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from soundreel.models.kernels.float8_rows import FLOAT8_MAX, SMALLEST_SCALE


@dataclass(frozen=True)
class Means:
    """Of keys and values: what is subtracted, and what the rest is divided by; float32 [H, d] each."""

    key: Tensor
    key_scale: Tensor  # the same in all channels of a head
    value: Tensor
    value_scale: Tensor

    @staticmethod
    def of(statistics: Sequence[Tensor], tokens: int) -> "Means":
        """From what each has of `tokens` keys and values: their sum, minimum and maximum, float32 [2, H, 3, d]."""
        found = torch.stack(list(statistics))
        mean = found[..., 0, :].sum(0) / tokens
        reach = torch.maximum(found[..., 2, :].amax(0) - mean, mean - found[..., 1, :].amin(0))
        reach[0] = reach[0].amax(-1, keepdim=True)
        scale = reach.clamp(min=SMALLEST_SCALE) / FLOAT8_MAX
        return Means(mean[0], scale[0], mean[1], scale[1])

    @property
    def value_bound(self) -> Tensor:
        """Float32 [H]: no value of a head is larger."""
        return (self.value.abs() + FLOAT8_MAX * self.value_scale).amax(-1)

    def of_heads(self, heads: slice) -> "Means":
        """Of some heads."""
        return Means(self.key[heads], self.key_scale[heads], self.value[heads], self.value_scale[heads])
