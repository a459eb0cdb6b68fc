"""Values like those in trained networks, which kernels are tried with: channels with means and spreads of their own, a
few of them far larger than the others, tokens of different size, and single huge values.

Normal numbers would not do: a scale that is too coarse or taken over the wrong axis shows where values differ in size.
Sources: outlier channels, arXiv 2208.07339; huge activations, arXiv 2402.17762; means of keys, arXiv 2410.02367.

Legend: B batch, L tokens (queries), M keys, D width, H heads, d head width, C channels.
"""

import torch
from torch import Tensor

OUTLIERS = 50
"""One channel of so many is an outlier."""

OUTLIER_SIZE = 30.0
HUGE = 1000.0

QUERY_SIZE = 1.5
"""Of queries: with keys of size 1 the scores differ by 1.5, and a query attends to some keys more than to others."""

KEY_MEAN, VALUE_MEAN = 6.0, 3.0
"""Size of the means of the channels, in standard deviations."""


class Realistic:
    """Draws tensors on a device, always the same ones in the same order."""

    def __init__(self, device: torch.device, seed: int = 0) -> None:
        self._device = device
        self._generator = torch.Generator(device).manual_seed(seed)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers, for what is multiplied or added."""
        return torch.randn(shape, generator=self._generator, device=self._device).to(dtype)

    def activations(self, batch: int, tokens: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """[B, L, D], with one huge value in the first token."""
        spread = torch.exp(0.5 * self.normal(1, 1, width))
        spread[..., ::OUTLIERS] *= OUTLIER_SIZE
        size = torch.exp(self.normal(batch, tokens, 1))
        x = (self.normal(batch, tokens, width) + 0.5 * self.normal(1, 1, width)) * spread * size
        x[:, 0, width // 2] = HUGE
        return x.to(dtype)

    def features(self, channels: int, frames: int, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """[1, C, T, H, W] of a VAE, channels beside each other in memory."""
        x = self.activations(1, frames * rows * columns, channels, dtype)
        return x.view(1, frames, rows, columns, channels).permute(0, 4, 1, 2, 3)

    def attention(
        self, queries: int, keys: int, heads: int, width: int, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [1, L, H, d], keys and values [1, M, H, d]."""

        def channels() -> Tensor:
            return self.normal(1, 1, heads, width)

        query = QUERY_SIZE * self.normal(1, queries, heads, width) * torch.exp(0.5 * channels())
        key = self.normal(1, keys, heads, width) + KEY_MEAN * channels()
        value = (self.normal(1, keys, heads, width) + VALUE_MEAN * channels()) * torch.exp(channels())
        return query.to(dtype), key.to(dtype), value.to(dtype)
