"""The network of "FILM: Frame Interpolation for Large Motion" (Reda et al., ECCV 2022), section 3.

A feature extractor shared by all scales makes a feature pyramid of each picture; flow predictors find residual flows
between the two pictures from coarse to fine; pictures and features are warped to the time asked for and fused.

Axes: B batch, C channels, H rows, W columns; level 0 of a pyramid is the finest. Pictures are RGB, 0 to 1. A flow
[B, 2, H, W] is in pixels of its level, to the right and down.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundreel.models.warp import warp

PYRAMID_LEVELS = 7
"""Of the published network; no weight's shape tells it."""

SLOPE = 0.2
"""Negative slope of all leaky ReLUs."""


@dataclass(frozen=True, kw_only=True)
class FilmSizes:
    """Widths of the network, read off the shapes of its weights."""

    features: tuple[int, ...]  # channels of each scale that a feature pyramid is put together of, finest first
    flow_hidden: tuple[int, ...]  # of the flow predictors of the finest levels, finest first; last: of all others
    flow_convs: int  # 3×3 layers of a flow predictor
    fusion: tuple[int, ...]  # channels of each fused level but the coarsest, finest first
    pyramid_levels: int = PYRAMID_LEVELS

    @property
    def fused_levels(self) -> int:
        """Pyramid levels that are warped and fused; coarser ones serve the flow only."""
        return len(self.fusion) + 1

    def feature_channels(self, level: int) -> int:
        """Channels of the feature pyramid at a level: those of all scales that reach it."""
        return sum(self.features[: level + 1])

    def flow_predictor(self, level: int) -> int:
        """Index of a level's flow predictor: the finest levels have their own, all others share the last."""
        return min(level, len(self.flow_hidden) - 1)


class Film(nn.Module):
    """Interpolates between two pictures."""

    def __init__(self, sizes: FilmSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.extract = FeatureExtractor(sizes.features)
        self.predict_flow = nn.ModuleList(
            FlowPredictor(2 * sizes.feature_channels(level), hidden, sizes.flow_convs)
            for level, hidden in enumerate(sizes.flow_hidden)
        )
        self.fuse = Fusion(sizes)

    @property
    def multiple(self) -> int:
        """What height and width must be multiples of, so that every level halves evenly; others lose precision."""
        return int(2 ** (self.sizes.pyramid_levels - 1))

    def forward(self, x0: Tensor, x1: Tensor, time: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] and times [B, 1], 0 to 1 → pictures [B, 3, H, W], not clamped."""
        pictures = _pyramid(torch.cat([x0, x1]), self.sizes.pyramid_levels)
        features = self.extract(pictures)
        back, forth = self._flows(features)
        at = time[:, :, None, None].to(x0.dtype)
        aligned = []
        for level in range(self.sizes.fused_levels):
            seen0, seen1 = torch.cat([pictures[level], features[level]], dim=1).chunk(2)
            flow0, flow1 = back[level] * at, forth[level] * (1 - at)
            aligned.append(torch.cat([warp(seen0, flow0), warp(seen1, flow1), flow0, flow1], dim=1))
        fused: Tensor = self.fuse(aligned)
        return fused

    def _flows(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Flows from picture 1 to 0 and from 0 to 1, [B, 2, H, W] each, finest level first.

        `features` hold picture 0 and picture 1 one after the other in the batch, so that both directions are one batch.
        """
        others = [level.roll(level.shape[0] // 2, dims=0) for level in features]
        flow = features[-1].new_zeros(1)
        flows: list[Tensor] = []
        for level in range(len(features) - 1, -1, -1):
            here, there = features[level], others[level]
            if flows:
                flow = _resized(2 * flows[0], here)
                there = warp(there, flow)
            residual = self.predict_flow[self.sizes.flow_predictor(level)](torch.cat([here, there], dim=1))
            flows.insert(0, residual + flow)
        forth, back = zip(*(level.chunk(2) for level in flows), strict=True)
        return list(back), list(forth)


class FeatureExtractor(nn.Module):
    """Scale-agnostic features: a small feature pyramid of every level, concatenated where the sizes agree."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        inputs = (3, *widths[:-1])
        self.scales = nn.ModuleList(
            nn.Sequential(_conv(before, width, 3), nn.LeakyReLU(SLOPE), _conv(width, width, 3), nn.LeakyReLU(SLOPE))
            for before, width in zip(inputs, widths, strict=True)
        )

    def forward(self, pictures: list[Tensor]) -> list[Tensor]:
        """Pictures [B, 3, H, W] of each level → features [B, C, H, W] of each level."""
        scales: list[list[Tensor]] = []
        for level, picture in enumerate(pictures):
            features, found = picture, []
            for scale, convs in enumerate(self.scales[: len(pictures) - level]):
                features = convs(functional.avg_pool2d(features, 2) if scale else features)
                found.append(features)
            scales.append(found)
        return [
            torch.cat([scales[level - scale][scale] for scale in range(min(level + 1, len(self.scales)))], dim=1)
            for level in range(len(pictures))
        ]


class FlowPredictor(nn.Sequential):
    """Features of two pictures, one of them warped, [B, C, H, W] → residual flow [B, 2, H, W]."""

    def __init__(self, channels: int, hidden: int, convs: int) -> None:
        layers: list[nn.Module] = []
        for index in range(convs):
            layers += [_conv(hidden if index else channels, hidden, 3), nn.LeakyReLU(SLOPE)]
        layers += [_conv(hidden, hidden // 2, 1), nn.LeakyReLU(SLOPE), _conv(hidden // 2, 2, 1)]
        super().__init__(*layers)


class Fusion(nn.Module):
    """Decoder: warped pictures, features and flows of all levels → one picture, from coarse to fine."""

    def __init__(self, sizes: FilmSizes) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            FusionLevel(
                sizes.fusion[level + 1] if level + 1 < len(sizes.fusion) else _aligned_channels(sizes, level + 1),
                _aligned_channels(sizes, level),
                width,
            )
            for level, width in enumerate(sizes.fusion)
        )
        self.to_rgb = _conv(sizes.fusion[0], 3, 1)

    def forward(self, aligned: list[Tensor]) -> Tensor:
        """Warped inputs [B, C, H, W] of each level, finest first → picture [B, 3, H, W]."""
        fused = aligned[-1]
        for level in range(len(self.levels) - 1, -1, -1):
            fused = self.levels[level](fused, aligned[level])
        picture: Tensor = self.to_rgb(fused)
        return picture


class FusionLevel(nn.Module):
    """One level of the decoder: the coarser level's result, upsampled and concatenated with this level's input."""

    def __init__(self, coarser: int, aligned: int, width: int) -> None:
        super().__init__()
        self.enlarge = nn.Conv2d(coarser, width, 2)
        self.mix = nn.Sequential(
            _conv(width + aligned, width, 3), nn.LeakyReLU(SLOPE), _conv(width, width, 3), nn.LeakyReLU(SLOPE)
        )

    def forward(self, coarser: Tensor, aligned: Tensor) -> Tensor:
        larger = functional.interpolate(coarser, size=aligned.shape[2:], mode="nearest")
        enlarged = self.enlarge(functional.pad(larger, (0, 1, 0, 1)))
        mixed: Tensor = self.mix(torch.cat([aligned, enlarged], dim=1))
        return mixed


def _aligned_channels(sizes: FilmSizes, level: int) -> int:
    """Channels of a level's input: two pictures with their features, and two flows."""
    return 2 * (3 + sizes.feature_channels(level) + 2)


def _conv(inputs: int, outputs: int, size: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2)


def _pyramid(picture: Tensor, levels: int) -> list[Tensor]:
    pyramid = [picture]
    while len(pyramid) < levels:
        pyramid.append(functional.avg_pool2d(pyramid[-1], 2))
    return pyramid


def _resized(flow: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(flow, size=like.shape[2:], mode="bilinear", align_corners=False)
