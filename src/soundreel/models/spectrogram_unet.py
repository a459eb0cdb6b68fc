"""The U-Net of Spleeter: from the magnitudes of a mix to those of one of its sources.

Legend: B batch, c channels (2), T frames, F frequencies (both multiples of 64).
Sources: A. Jansson et al., ISMIR 2017; R. Hennequin et al., "Spleeter", JOSS 2020 (deezer/spleeter, MIT).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (16, 32, 64, 128, 256, 512)
"""Channels after each halving of both axes."""

SAME = (1, 2, 1, 2)
"""TensorFlow's padding of a 5×5 convolution with stride 2, left, right, top, bottom."""

LEAK = 0.2
NORM_EPSILON = 1e-3


class Shrink(nn.Module):
    """Half the size; `skip` goes to the layer of the same size on the way up."""

    def __init__(self, channels: int, width: int, *, is_last: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 5, stride=2)
        self.norm = None if is_last else nn.BatchNorm2d(width, eps=NORM_EPSILON)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, c, T, F] → skip and what the next layer takes, both [B, width, T / 2, F / 2]."""
        skip = self.conv(functional.pad(x, SAME))
        return skip, skip if self.norm is None else functional.leaky_relu(self.norm(skip), LEAK)


class Enlarge(nn.Module):
    """Twice the size."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, width, 5, stride=2)
        self.norm = nn.BatchNorm2d(width, eps=NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """[B, c, T, F] → [B, width, 2 T, 2 F]."""
        return self.norm(functional.relu(self.conv(x)[:, :, 1:-2, 1:-2]))  # type: ignore[no-any-return]


class SpectrogramUNet(nn.Module):
    """Estimates one source; in training only it drops activations, so that here nothing is drawn at random."""

    def __init__(self, channels: int = 2, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        last = len(widths) - 1
        self.down = nn.ModuleList(
            Shrink(before, width, is_last=k == last) for k, (before, width) in enumerate(pairwise((channels, *widths)))
        )
        ups = [*reversed(widths[:-1]), 1]  # widths on the way up; each layer but the first takes a skip as well
        takes = [widths[-1], *(2 * width for width in ups[:-1])]
        self.up = nn.ModuleList(Enlarge(before, width) for before, width in zip(takes, ups, strict=True))
        self.mask = nn.Conv2d(1, channels, 4, dilation=2, padding=3)

    def forward(self, mix: Tensor) -> Tensor:
        """Magnitudes of the mix [B, c, T, F] → those of the source, the same shape."""
        x, skips = mix, []
        for shrink in self.down:
            skip, x = shrink(x)
            skips.append(skip)
        x = self.up[0](skips.pop())
        for enlarge in self.up[1:]:
            x = enlarge(torch.cat([skips.pop(), x], dim=1))
        return torch.sigmoid(self.mask(x)) * mix
