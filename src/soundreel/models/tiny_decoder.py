"""A tiny decoder of latents for previews, in the layout of TAEHV (madebyollin/taehv, `taew2_1`).

A latent frame becomes four frames of 8 times its height and width. Layers work on single frames; only memory blocks
also see the frame before. Legend: T latent frames, C channels, h × w latent size.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

CLAMP = 3.0
"""c in c·tanh(x/c), which limits outliers among the latents."""

BLOCKS = 3
"""Memory blocks of each stage."""

DROPPED = 3
"""Frames dropped from the start: the first latent frame stands for one frame only, but is decoded to four."""


class Clamp(nn.Module):
    """Limits values smoothly to ±`CLAMP`."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / CLAMP) * CLAMP


class MemoryBlock(nn.Module):
    """A residual block that also sees the frame before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[T, C, H, W] → the same; zeros take the place of the frame before the first."""
        before = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
        return torch.relu(self.conv(torch.cat([x, before], dim=1)) + x)


class GrowTime(nn.Module):
    """Temporal upsampling: each frame becomes `times` frames."""

    def __init__(self, width: int, times: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, times * width, 1, bias=False)
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        """[T, C, H, W] → [times·T, C, H, W]."""
        made: Tensor = self.conv(x)
        return torch.unflatten(made, 1, (self.times, -1)).flatten(0, 1)


class TinyDecoder(nn.Module):
    """Latents → frames. Layers have the indices of the published file.

    Args:
        channels: of the latents.
        widths: channels of the four stages, coarsest first.
        times: temporal upsampling of the first three stages.
    """

    def __init__(
        self, *, channels: int = 16, widths: Sequence[int] = (256, 128, 64, 64), times: Sequence[int] = (1, 2, 2)
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [Clamp(), nn.Conv2d(channels, widths[0], 3, padding=1), nn.ReLU()]
        for (width, following), count in zip(pairwise(widths), times, strict=True):
            layers += [MemoryBlock(width) for _ in range(BLOCKS)]
            layers += [nn.Upsample(scale_factor=2), GrowTime(width, count)]
            layers += [nn.Conv2d(width, following, 3, padding=1, bias=False)]
        layers += [nn.ReLU(), nn.Conv2d(widths[-1], 3, 3, padding=1)]
        self.decoder = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        """Normalized latents [C, T, h, w] → frames [1 + 4(T − 1), 3, 8h, 8w], 0 to 1."""
        made: Tensor = self.decoder(latents.transpose(0, 1))
        return made[DROPPED:].clamp(0, 1)
