"""The layers of the Wan 2.1 VAE, named and shaped as in diffusers' `AutoencoderKLWan`; `models.vae` computes with them.

diffusers' own class is not used because importing it takes seconds, with much that no render needs.
"""

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundreel.models.vae_areas import Window

RESIDUAL_BLOCKS = 2
"""In a stage of the encoder; a stage of the decoder has one more."""

LATENTS_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
"""Of each channel of the latents, over the videos that the model was trained on; published with it."""

LATENTS_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip
"""Likewise, the standard deviation."""


class WanVae(nn.Module):
    """Encoder and decoder.

    Args:
        base_dim, decoder_base_dim: channels at full size, of the encoder and of the decoder.
        z_dim: channels of the latents.
        dim_mult: channels of each stage, from full size on, as multiples of these.
        temperal_downsample: whether a stage of the encoder halves the frames, of all stages but the last; diffusers'
            spelling.
    """

    def __init__(
        self,
        *,
        base_dim: int = 96,
        decoder_base_dim: int | None = None,
        z_dim: int = 16,
        dim_mult: Sequence[int] = (1, 2, 4, 4),
        temperal_downsample: Sequence[bool] = (False, True, True),
    ) -> None:
        super().__init__()
        self.sizes: Hashable = base_dim, decoder_base_dim, z_dim, tuple(dim_mult), tuple(temperal_downsample)
        self.config: dict[str, Any] = {
            "z_dim": z_dim,
            "latents_mean": LATENTS_MEAN,
            "latents_std": LATENTS_STD,
            "scale_factor_spatial": 2 ** len(temperal_downsample),
        }
        widths = [base_dim * multiple for multiple in dim_mult]
        decoder_widths = [(decoder_base_dim or base_dim) * multiple for multiple in reversed(dim_mult)]
        self.encoder = _Encoder(widths, 2 * z_dim, temperal_downsample)
        self.quant_conv = CausalConv3d(2 * z_dim, 2 * z_dim, 1)
        self.post_quant_conv = CausalConv3d(z_dim, z_dim, 1)
        self.decoder = _Decoder(z_dim, decoder_widths, temperal_downsample[::-1])


class CausalConv3d(nn.Conv3d):
    """A convolution of a piece of video that is joined to the frames before it already."""


class RmsNorm(nn.Module):
    """Norm over the channels of pictures, or of videos."""

    def __init__(self, width: int, *, axes: int) -> None:
        super().__init__()
        self.scale = width**0.5
        self.gamma = nn.Parameter(torch.ones(width, *[1] * axes))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, …] → the same shape; lengths are formed in float32."""
        wide = x.float() if x.dtype in {torch.float16, torch.bfloat16} else x
        normed: Tensor = functional.normalize(wide, dim=1).to(x.dtype) * self.scale * self.gamma
        return normed


class ResidualBlock(nn.Module):
    """Two norms and convolutions, and the shortcut."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.norm1 = RmsNorm(inner, axes=3)
        self.conv1 = CausalConv3d(inner, outer, 3)
        self.norm2 = RmsNorm(outer, axes=3)
        self.conv2 = CausalConv3d(outer, outer, 3)
        self.conv_shortcut = CausalConv3d(inner, outer, 1) if inner != outer else nn.Identity()


class Resample(nn.Module):
    """Doubles or halves pictures, and in a mode that ends with 3d the frames.

    Args:
        mode: upsample2d, upsample3d, downsample2d or downsample3d.
    """

    def __init__(self, width: int, mode: str) -> None:
        super().__init__()
        self.mode = mode
        is_up = mode.startswith("upsample")
        convolution = nn.Conv2d(width, width // 2 if is_up else width, 3, stride=1 if is_up else 2)
        self.resample = nn.Sequential(nn.Identity(), convolution)
        if mode.endswith("3d"):
            stride = 1 if is_up else (2, 1, 1)
            self.time_conv = CausalConv3d(width, 2 * width if is_up else width, (3, 1, 1), stride=stride)


class AttentionBlock(nn.Module):
    """Self-attention with one head among the places of a picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = RmsNorm(width, axes=2)
        self.to_qkv = nn.Conv2d(width, 3 * width, 1)
        self.proj = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, window: Window | None = None) -> Tensor:
        """[1, C, t, H, W] → the same shape, or that of a window, whose places alone attend to all.

        What is projected has the shape of whole pictures either way: what a library makes of it may depend on that.
        """
        _, channels, frames, height, width = x.shape
        pictures = x.permute(0, 2, 1, 3, 4).reshape(frames, channels, height, width)
        made: Tensor = self.to_qkv(self.norm(pictures))
        places = made.reshape(frames, 1, 3 * channels, -1).permute(0, 1, 3, 2).contiguous()
        query, key, value = places.chunk(3, dim=-1)
        if window is None:
            mixed = functional.scaled_dot_product_attention(query, key, value)
            mixed = mixed.squeeze(1).permute(0, 2, 1).reshape(frames, channels, height, width)
        else:
            rows, columns = window.slices()
            asking = query.view(frames, 1, height, width, channels)[:, :, rows, columns].flatten(2, 3)
            attended = functional.scaled_dot_product_attention(asking, key, value)
            mixed = torch.zeros_like(pictures)
            mixed[:, :, rows, columns] = attended.squeeze(1).permute(0, 2, 1).view(frames, channels, *window.shape)
        projected: Tensor = self.proj(mixed)
        attended_to = projected.view(1, frames, channels, height, width).permute(0, 2, 1, 3, 4) + x
        return attended_to if window is None else attended_to[:, :, :, rows, columns]


class _Middle(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([AttentionBlock(width)])
        self.resnets = nn.ModuleList(ResidualBlock(width, width) for _ in range(2))


class _Encoder(nn.Module):
    def __init__(self, widths: Sequence[int], made: int, halves_frames: Sequence[bool]) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(3, widths[0], 3)
        self.down_blocks = nn.ModuleList()
        for stage, (inner, outer) in enumerate(pairwise([widths[0], *widths])):
            self.down_blocks.extend(ResidualBlock(outer if k else inner, outer) for k in range(RESIDUAL_BLOCKS))
            if stage < len(widths) - 1:
                self.down_blocks.append(Resample(outer, "downsample3d" if halves_frames[stage] else "downsample2d"))
        self.mid_block = _Middle(widths[-1])
        self.norm_out = RmsNorm(widths[-1], axes=3)
        self.conv_out = CausalConv3d(widths[-1], made, 3)


class _UpBlock(nn.Module):
    """A stage of the decoder."""

    def __init__(self, inner: int, outer: int, mode: str | None) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(outer if k else inner, outer) for k in range(RESIDUAL_BLOCKS + 1))
        self.upsamplers = None if mode is None else nn.ModuleList([Resample(outer, mode)])


class _Decoder(nn.Module):
    def __init__(self, given: int, widths: Sequence[int], doubles_frames: Sequence[bool]) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(given, widths[0], 3)
        self.mid_block = _Middle(widths[0])
        self.up_blocks = nn.ModuleList()
        for stage, outer in enumerate(widths):
            inner = widths[stage - 1] // 2 if stage else widths[0]  # what enlarges pictures halves their channels
            mode = None
            if stage < len(widths) - 1:
                mode = "upsample3d" if doubles_frames[stage] else "upsample2d"
            self.up_blocks.append(_UpBlock(inner, outer, mode))
        self.norm_out = RmsNorm(widths[-1], axes=3)
        self.conv_out = CausalConv3d(widths[-1], 3, 3)
