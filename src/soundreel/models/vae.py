"""Encoder and decoder of the Wan 2.1 VAE with several latent frames at a time, on diffusers' `AutoencoderKLWan`.

diffusers processes one latent frame at a time. Here a piece of several goes through at once: each causal convolution
keeps the last two frames of its input for the next piece, so that results do not depend on how a video is cut. Where
only the last frames of a decoded video are wanted, each stage computes only the frames that influence them.

Legend: T frames, F = 1 + ⌊(T − 1)/4⌋ latent frames, C channels, t frames of a piece. Features are [1, C, t, H, W].
A look-back is the number of earlier frames that influence a frame: 2 for each convolution of 3 frames that follows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    AutoencoderKLWan,
    WanCausalConv3d,
    WanResample,
    WanResidualBlock,
    WanRMS_norm,
)
from torch import Tensor, nn

from soundreel.models.kernels.dispatch import convolutions, operations

FULL_LOOK_BACK = 14
"""Look-back of the full-size stage: 3 blocks of 2 convolutions, and the output convolution."""

STAGE_LOOK_BACK = 12
"""Look-back of a stage of 3 blocks."""

DOUBLING_LOOK_BACK = 2
"""Look-back of the convolution that doubles the frames."""

LATENT_LOOK_BACK = 22
"""Look-back of the first stage: input convolution, 2 middle blocks, 3 blocks."""

LATENT_STEP = 2
"""Latent frames processed at once: more are no faster on an H200, one is 4 % slower."""


@dataclass(frozen=True)
class Starts:
    """The first frame that each stage of the decoder computes, in frames of that stage."""

    latent: int
    half_rate: int
    half_size: int
    full: int

    @staticmethod
    def of(frames: int, keep: int) -> "Starts":
        """Where only the last `keep` of `frames` decoded frames are wanted."""
        full = max(0, frames - keep - FULL_LOOK_BACK)
        half_size = max(0, full - STAGE_LOOK_BACK)
        half_rate = max(0, _source(half_size) - DOUBLING_LOOK_BACK - STAGE_LOOK_BACK)
        return Starts(
            latent=max(0, _source(half_rate) - DOUBLING_LOOK_BACK - LATENT_LOOK_BACK),
            half_rate=half_rate,
            half_size=half_size,
            full=full,
        )


def _source(frame: int) -> int:
    """Index of the frame before temporal doubling: 0 → 0, 1 and 2 → 1."""
    return (frame + 1) // 2


def decode(network: AutoencoderKLWan, latents: Tensor, keep: int | None = None, step: int = LATENT_STEP) -> Tensor:
    """Pixels [3, T', H, W] of latents [c, F, h, w]: the last `keep` frames, or all 1 + 4(F − 1)."""
    frames = 1 + 4 * (latents.shape[1] - 1)
    kept = frames if keep is None else min(keep, frames)
    decoder = _Decoder(network, Starts.of(frames, kept))
    pieces = [piece for first, last in _pieces(decoder.starts.latent, latents.shape[1], step)
              if (piece := decoder(latents[None, :, first:last], first)) is not None]  # fmt: skip
    return torch.cat(pieces, dim=2)[0, :, -kept:].clamp(-1, 1)


def encode(network: AutoencoderKLWan, pixels: Tensor, step: int = LATENT_STEP) -> Tensor:
    """The distribution's mean [c, F, h, w] of pixels [3, T, H, W]; frames beyond 1 + 4(F − 1) are ignored."""
    encoder = _Encoder(network)
    latent_frames = 1 + (pixels.shape[1] - 1) // 4
    pieces = [
        encoder(pixels[None, :, max(0, 4 * first - 3) : 4 * last - 3], first)
        for first, last in _pieces(0, latent_frames, step)
    ]
    return torch.cat(pieces, dim=2)[0]


def _pieces(first: int, count: int, step: int) -> Iterator[tuple[int, int]]:
    """Spans (first, end) of latent frames for each piece; the video's first latent frame is a piece of its own."""
    if first == 0:
        yield 0, 1
    for start in range(max(first, 1), count, step):
        yield start, min(start + step, count)


class _Pieces:
    """Causal layers that process a video piece by piece."""

    def __init__(self) -> None:
        self._before: dict[nn.Module, Tensor] = {}

    def convolve(
        self, conv: WanCausalConv3d, x: Tensor, norm: WanRMS_norm | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """A causal convolution of x, or of silu(norm(x)), that sees the piece before; plus `residual`."""
        joined = self._joined(conv, x, norm)
        made: Tensor = convolutions(joined).convolve(joined, conv.weight, conv.bias, residual=residual)
        return made

    def _joined(self, conv: WanCausalConv3d, x: Tensor, norm: WanRMS_norm | None = None) -> Tensor:
        """The frames that a convolution looks back at, and x or silu(norm(x))."""
        context = conv.kernel_size[0] - 1
        if not context and norm is None:
            return x
        shape = (*x.shape[:2], context + x.shape[2], *x.shape[3:])
        joined = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_layout(x))
        joined[:, :, :context] = self._before.get(conv, 0)
        if norm is None:
            joined[:, :, context:] = x
        else:
            operations(x).norm_silu(x, norm.gamma, joined[:, :, context:])
        if context:
            self._before[conv] = joined[:, :, -context:].clone(memory_format=torch.preserve_format)
        return joined

    def residual(self, block: WanResidualBlock, x: Tensor) -> Tensor:
        """A residual block: two convolutions and the shortcut."""
        inner = self.convolve(block.conv1, x, block.norm1)
        shortcut = x if isinstance(block.conv_shortcut, nn.Identity) else self.convolve(block.conv_shortcut, x)
        return self.convolve(block.conv2, inner, block.norm2, shortcut)

    def middle(self, block: Any, x: Tensor) -> Tensor:
        """The middle block: residual blocks with attention between them."""
        first, *others = block.resnets
        x = self.residual(first, x)
        for attention, resnet in zip(block.attentions, others, strict=True):
            x = self.residual(resnet, x if attention is None else _attend(attention, x))
        return x


class _Decoder(_Pieces):
    def __init__(self, network: AutoencoderKLWan, starts: Starts) -> None:
        super().__init__()
        self._network, self._decoder, self.starts = network, network.decoder, starts

    def __call__(self, latents: Tensor, first: int) -> Tensor | None:
        """Pixels of a piece that begins at latent frame `first`; None if none of them is wanted."""
        starts, decoder = self.starts, self._decoder
        latent_rate, half_rate, half_size, full = decoder.up_blocks
        x = self.convolve(self._network.post_quant_conv, _channels_last(latents))
        x = self.middle(decoder.mid_block, self.convolve(decoder.conv_in, x))
        at = first
        for block, start in ((latent_rate, starts.half_rate), (half_rate, starts.half_size)):
            x = self._blocks(block, x)
            x, at = self._double(block.upsamplers[0], x, at)
            x, at = _from(x, at, start)
            if x.shape[2] == 0:
                return None
            x = _enlarge(block.upsamplers[0], x)
        x, at = _from(self._blocks(half_size, x), at, starts.full)
        if x.shape[2] == 0:
            return None
        x = self._blocks(full, _enlarge(half_size.upsamplers[0], x))
        return self.convolve(decoder.conv_out, x, decoder.norm_out)

    def _blocks(self, block: Any, x: Tensor) -> Tensor:
        for resnet in block.resnets:
            x = self.residual(resnet, x)
        return x

    def _double(self, resample: WanResample, x: Tensor, at: int) -> tuple[Tensor, int]:
        """Double the frames, except the video's first one; also returns the index of the first frame."""
        if at == 0:
            return x, 0
        conv, joined = resample.time_conv, self._joined(resample.time_conv, x)
        return convolutions(x).double(joined, conv.weight, conv.bias), 2 * at - 1


class _Encoder(_Pieces):
    def __init__(self, network: AutoencoderKLWan) -> None:
        super().__init__()
        self._network, self._encoder = network, network.encoder

    def __call__(self, pixels: Tensor, first: int) -> Tensor:
        """The distribution's mean for a piece that begins at latent frame `first`."""
        encoder = self._encoder
        x = self.convolve(encoder.conv_in, _channels_last(pixels))
        for block in encoder.down_blocks:
            if isinstance(block, WanResidualBlock):
                x = self.residual(block, x)
            elif isinstance(block, WanResample):
                x = self._halve(block, _reduce(block, x), first)
            else:
                x = _attend(block, x)
        x = self.convolve(encoder.conv_out, self.middle(encoder.mid_block, x), encoder.norm_out)
        moments = self.convolve(self._network.quant_conv, x)
        return moments.chunk(2, dim=1)[0]

    def _halve(self, resample: WanResample, x: Tensor, first: int) -> Tensor:
        """Halve the frames, except the video's first one."""
        if resample.mode != "downsample3d":
            return x
        conv = resample.time_conv
        joined = x if first == 0 else _channels_last(torch.cat([self._before[conv], x], dim=2))
        self._before[conv] = x[:, :, -1:].clone(memory_format=torch.preserve_format)
        if first == 0:
            return x
        made: Tensor = convolutions(joined).convolve(joined, conv.weight, conv.bias, time_stride=conv.stride[0])
        return made


def _from(x: Tensor, at: int, start: int) -> tuple[Tensor, int]:
    """Drop the frames before `start` from those that begin at `at`; also returns the new first index."""
    skipped = min(max(0, start - at), x.shape[2])
    return x[:, :, skipped:], at + skipped


def _enlarge(resample: WanResample, x: Tensor) -> Tensor:
    """Each pixel four times, and a convolution; diffusers repeats them in float32, which changes nothing."""
    convolution = resample.resample[1]
    made: Tensor = convolutions(x).enlarge(x, convolution.weight, convolution.bias)
    return made


def _reduce(resample: WanResample, x: Tensor) -> Tensor:
    """A convolution at every second row and column, with zeros at the end."""
    convolution = resample.resample[1]
    made: Tensor = convolutions(x).halve(x, convolution.weight, convolution.bias)
    return made


def _attend(attention: nn.Module, x: Tensor) -> Tensor:
    attended: Tensor = attention(x)
    return _channels_last(attended)


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last_3d if x.is_cuda else torch.contiguous_format


def _channels_last(x: Tensor) -> Tensor:
    """Channels-last memory on a GPU, which its convolutions need; contiguous on a CPU."""
    return x.contiguous(memory_format=_layout(x))
