"""RIFE 4.14: "Real-Time Intermediate Flow Estimation for Video Frame Interpolation" (Huang et al., ECCV 2022), in the
form that Practical-RIFE trains.

Four blocks, from coarse to fine, refine two flows (from the time asked for to either picture) and a mask that blends
the two warped pictures.

Axes: B batch, C channels, H rows, W columns. Pictures are RGB, 0 to 1. Flows [B, 4, H, W] are in pixels: to the right
and down into picture 0, then into picture 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundreel.models.warp import warp

SLOPE = 0.2
"""Negative slope of all leaky ReLUs."""

BLOCK_STRIDE = 4
"""Stride of a block's first two layers together."""


@dataclass(frozen=True, kw_only=True)
class RifeSizes:
    """Widths of the network, read off the shapes of its weights."""

    encoder: int  # hidden channels of the encoder
    features: int  # channels of what it gives
    blocks: tuple[int, ...]  # channels of each block, coarsest first
    depth: int  # residual layers of a block
    outputs: int  # channels that a block gives at full size: 4 of flow, 1 of mask, others unused


class Rife(nn.Module):
    """Interpolates between two pictures."""

    def __init__(self, sizes: RifeSizes) -> None:
        super().__init__()
        self.encode = Encoder(sizes.encoder, sizes.features)
        first = 2 * (3 + sizes.features) + 1  # pictures, features, time
        later = first + 1 + 4  # mask, flows
        self.blocks = nn.ModuleList(
            FlowBlock(later if index else first, width, sizes.depth, sizes.outputs)
            for index, width in enumerate(sizes.blocks)
        )

    @property
    def multiple(self) -> int:
        """What height and width must be multiples of: the coarsest block downsamples by this factor."""
        return int(BLOCK_STRIDE * 2 ** (len(self.blocks) - 1))

    def forward(self, x0: Tensor, x1: Tensor, time: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] and times [B, 1], 0 to 1 → pictures [B, 3, H, W]."""
        seen = torch.cat([x0, x1]).clamp(0, 1)
        seen0, seen1 = torch.cat([seen, self.encode(seen)], dim=1).chunk(2)
        clock = time[:, :, None, None].to(x0.dtype).expand(-1, 1, *x0.shape[2:])
        moved0, moved1 = seen0, seen1
        flow, mask = self._step(0, _inputs(seen0, seen1, clock), None)
        for index in range(1, len(self.blocks)):
            moved0, moved1 = warp(seen0, flow[:, :2]), warp(seen1, flow[:, 2:])
            change, mask = self._step(index, torch.cat([_inputs(moved0, moved1, clock), mask], dim=1), flow)
            flow = flow + change
        picture0, picture1 = warp(seen0[:, :3], flow[:, :2]), warp(seen1[:, :3], flow[:, 2:])
        return torch.lerp(picture1, picture0, mask.sigmoid())

    def _step(self, index: int, seen: Tensor, flow: Tensor | None) -> tuple[Tensor, Tensor]:
        """One block's change of the flows [B, 4, H, W] and its mask [B, 1, H, W]."""
        shrink = 2 ** (len(self.blocks) - 1 - index)
        small = _scaled(seen, 1 / shrink)
        if flow is not None:
            small = torch.cat([small, _scaled(flow, 1 / shrink) / shrink], dim=1)
        found = _scaled(self.blocks[index](small), shrink)
        return found[:, :4] * shrink, found[:, 4:5]


class Encoder(nn.Module):
    """Features of a picture at full resolution."""

    def __init__(self, hidden: int, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, hidden, 3, 2, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(hidden, hidden, 3, 1, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(hidden, hidden, 3, 1, 1),
            nn.LeakyReLU(SLOPE),
            nn.ConvTranspose2d(hidden, features, 4, 2, 1),
        )

    def forward(self, picture: Tensor) -> Tensor:
        """[B, 3, H, W] → [B, C, H, W]."""
        features: Tensor = self.layers(picture)
        return features


class FlowBlock(nn.Module):
    """Estimates flows and mask at the size of its input."""

    def __init__(self, channels: int, width: int, depth: int, outputs: int) -> None:
        super().__init__()
        self.shrink = nn.Sequential(
            nn.Conv2d(channels, width // 2, 3, 2, 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width // 2, width, 3, 2, 1),
            nn.LeakyReLU(SLOPE),
        )
        self.residuals = nn.Sequential(*(Residual(width) for _ in range(depth)))
        self.enlarge = nn.Sequential(nn.ConvTranspose2d(width, 4 * outputs, 4, 2, 1), nn.PixelShuffle(2))

    def forward(self, seen: Tensor) -> Tensor:
        """[B, C, H, W] → [B, outputs, H, W]."""
        found: Tensor = self.enlarge(self.residuals(self.shrink(seen)))
        return found


class Residual(nn.Module):
    """Residual convolution with a learned scale per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 1, 1)
        self.share = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → the same."""
        return functional.leaky_relu(self.conv(x) * self.share + x, SLOPE)


def _inputs(seen0: Tensor, seen1: Tensor, clock: Tensor) -> Tensor:
    """Pictures, features and time concatenated in the order that the weights expect."""
    return torch.cat([seen0[:, :3], seen1[:, :3], seen0[:, 3:], seen1[:, 3:], clock], dim=1)


def _scaled(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1 else functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
