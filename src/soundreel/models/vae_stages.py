"""The stages of the Wan 2.1 VAE, each of which takes a video piece by piece; `vae` puts them together.

Legend: T frames, F = 1 + ⌊(T − 1)/4⌋ latent frames, C channels, t frames of a piece. Features are [1, C, t, H, W].
A look-back is the number of earlier frames that influence a frame: 2 for each convolution of 3 frames that follows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from soundreel.models.kernels.dispatch import convolutions, operations
from soundreel.models.vae_areas import MIDDLE_REACH, Area, Window
from soundreel.models.vae_network import CausalConv3d, Resample, ResidualBlock, RmsNorm, WanVae

FULL_LOOK_BACK = 14
"""Look-back of the full-size stage: 3 blocks of 2 convolutions, and the output convolution."""

STAGE_LOOK_BACK = 12
"""Look-back of a stage of 3 blocks."""

DOUBLING_LOOK_BACK = 2
"""Look-back of the convolution that doubles the frames."""

LATENT_LOOK_BACK = 22
"""Look-back of the first stage: input convolution, 2 middle blocks, 3 blocks."""


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


class _Pieces:
    """Causal layers that process a video piece by piece."""

    def __init__(self) -> None:
        self._before: dict[nn.Module, Tensor] = {}

    def convolve(
        self, conv: CausalConv3d, x: Tensor, norm: RmsNorm | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """A causal convolution of x, or of silu(norm(x)), that sees the piece before; plus `residual`."""
        return _convolved(conv, self._joined(conv, x, norm), residual)

    def _joined(self, conv: CausalConv3d, x: Tensor, norm: RmsNorm | None = None) -> Tensor:
        """The frames that a convolution looks back at, and x or silu(norm(x))."""
        context = conv.kernel_size[0] - 1
        if not context and norm is None:
            return x
        shape = (*x.shape[:2], context + x.shape[2], *x.shape[3:])
        joined = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_layout(x))
        joined[:, :, :context] = self._before.pop(conv, 0)
        if norm is None:
            joined[:, :, context:] = x
        else:
            operations(x).norm_silu(x, norm.gamma, joined[:, :, context:])
        if context:
            self._before[conv] = joined[:, :, -context:].clone(memory_format=torch.preserve_format)
        return joined

    def residual(self, block: ResidualBlock, x: Tensor) -> Tensor:
        """A residual block: two convolutions and the shortcut. Each feature leaves when it has been read."""
        inner = self.convolve(block.conv1, x, block.norm1)
        joined = self._joined(block.conv2, inner, block.norm2)
        del inner
        if not isinstance(block.conv_shortcut, nn.Identity):
            x = self.convolve(block.conv_shortcut, x)
        return _convolved(block.conv2, joined, x)

    def middle(self, block: Any, x: Tensor, window: Window | None = None) -> Tensor:
        """The middle block: a residual block, attention, and another one.

        Args:
            x: of whole pictures, to which all pixels attend.
            window: what is made of them; None: all.
        """
        before, after = block.resnets
        (attention,) = block.attentions
        x = self.residual(before, x)
        if window is None:
            return self.residual(after, _attend(attention, x))
        attending = window.widened(MIDDLE_REACH, (x.shape[3], x.shape[4]))
        return _cut(self.residual(after, _attend(attention, x, attending)), attending, window)


class DecoderBase(_Pieces):
    """From latents to the middle block: pictures as large as the latents.

    Args:
        window: of the features that are made; None: all.
    """

    def __init__(self, network: WanVae, window: Window | None = None) -> None:
        super().__init__()
        self._network, self._decoder, self._window = network, network.decoder, window

    def __call__(self, latents: Tensor) -> Tensor:
        """Features of a piece [1, c, t, h, w]."""
        x = self.convolve(self._network.post_quant_conv, channels_last(latents))
        return self.middle(self._decoder.mid_block, self.convolve(self._decoder.conv_in, x), self._window)


class DecoderStages(_Pieces):
    """From the middle block's features to pixels, of one window.

    Args:
        given: the window whose features it is given.
    """

    def __init__(self, network: WanVae, starts: Starts, areas: Sequence[Area], given: Window) -> None:
        super().__init__()
        self._decoder, self._starts, self._areas, self._given = network.decoder, starts, areas, given

    def __call__(self, x: Tensor, first: int) -> tuple[Tensor | None, int]:
        """Pixels of a piece that begins at latent frame `first`, if any are wanted, and the index of the first one."""
        starts, decoder, at = self._starts, self._decoder, first
        blocks: list[Any] = list(decoder.up_blocks)
        *growing, full = blocks
        *growing_areas, full_area = self._areas
        x = _cut(x, self._given, growing_areas[0].computed)
        begins = starts.half_rate, starts.half_size, starts.full
        for block, area, start in zip(growing, growing_areas, begins, strict=True):
            upsampler = block.upsamplers[0]
            for resnet in block.resnets:
                x = self.residual(resnet, x)
            if upsampler.mode == "upsample3d":
                x, at = self._double(upsampler, x, at)
            x, at = _from(x, at, start)
            if x.shape[2] == 0:
                return None, at
            x = _enlarge(upsampler, _cut(x, area.computed, area.kept))
            x = _cut(x, area.kept.scaled(2), area.made)
        for resnet in full.resnets:
            x = self.residual(resnet, x)
        x = self.convolve(decoder.conv_out, x, decoder.norm_out)
        return _cut(x, full_area.computed, full_area.kept), at

    def _double(self, resample: Resample, x: Tensor, at: int) -> tuple[Tensor, int]:
        """Double the frames, except the video's first one; also returns the index of the first frame."""
        if at == 0:
            return x, 0
        conv, joined = resample.time_conv, self._joined(resample.time_conv, x)
        return convolutions(x).double(joined, conv.weight, conv.bias), 2 * at - 1


class EncoderStages(_Pieces):
    """From pixels to features as large as the latents, of one window."""

    def __init__(self, network: WanVae, areas: Sequence[Area]) -> None:
        super().__init__()
        self._network, self._areas = network, areas

    def __call__(self, pixels: Tensor, first: int) -> Tensor:
        """Features of a piece that begins at latent frame `first`: of the pixels that the first stage begins with."""
        x = self.convolve(self._network.encoder.conv_in, channels_last(pixels))
        stages, _ = _encoder_parts(self._network)
        for (*blocks, resample), area in zip(stages, self._areas, strict=True):
            for block in blocks:
                x = self.residual(block, x)
            x = _reduce(resample, _cut(x, area.computed, area.kept))
            x = self._halve(resample, _cut(x, area.kept.halved(), area.made), first)
        return x

    def _halve(self, resample: Resample, x: Tensor, first: int) -> Tensor:
        """Halve the frames, except the video's first one."""
        if resample.mode != "downsample3d":
            return x
        conv = resample.time_conv
        joined = x if first == 0 else channels_last(torch.cat([self._before[conv], x], dim=2))
        self._before[conv] = x[:, :, -1:].clone(memory_format=torch.preserve_format)
        if first == 0:
            return x
        made: Tensor = convolutions(joined).convolve(joined, conv.weight, conv.bias, time_stride=conv.stride[0])
        return made


class EncoderTop(_Pieces):
    """From features as large as the latents to the distribution's mean: whole pictures."""

    def __init__(self, network: WanVae) -> None:
        super().__init__()
        self._network = network

    def __call__(self, x: Tensor) -> Tensor:
        """The mean for a piece."""
        encoder = self._network.encoder
        for block in _encoder_parts(self._network)[1]:
            x = self.residual(block, x)
        x = self.convolve(encoder.conv_out, self.middle(encoder.mid_block, x), encoder.norm_out)
        return self.convolve(self._network.quant_conv, x).chunk(2, dim=1)[0]


def _encoder_parts(network: WanVae) -> tuple[list[list[Any]], list[Any]]:
    """The encoder's stages, each with what halves its pictures at the end, and the blocks after them."""
    stages, blocks = list[list[Any]](), list[Any]()
    for block in network.encoder.down_blocks:
        blocks.append(block)
        if hasattr(block, "resample"):
            stages.append(blocks)
            blocks = []
    return stages, blocks


def encoded_channels(network: WanVae) -> int:
    """Of the encoder's features, where they are as large as the latents."""
    first: Any = _encoder_parts(network)[1][0]
    return int(first.conv1.in_channels)


def encoder_reaches(network: WanVae) -> list[int]:
    """Convolutions of 3×3 pixels in each stage before it halves the picture; in the first one the input's, too."""
    return [2 * (len(stage) - 1) + (k == 0) for k, stage in enumerate(_encoder_parts(network)[0])]


def _convolved(conv: CausalConv3d, joined: Tensor, residual: Tensor | None = None) -> Tensor:
    made: Tensor = convolutions(joined).convolve(joined, conv.weight, conv.bias, residual=residual)
    return made


def _cut(x: Tensor, given: Window, window: Window) -> Tensor:
    """The features of a window, of those of another one that it lies in."""
    if window == given:
        return x
    rows, columns = window.within(given)
    return channels_last(x[:, :, :, rows, columns])


def _from(x: Tensor, at: int, start: int) -> tuple[Tensor, int]:
    """Drop the frames before `start` from those that begin at `at`; also returns the new first index."""
    skipped = min(max(0, start - at), x.shape[2])
    return x[:, :, skipped:], at + skipped


def _enlarge(resample: Resample, x: Tensor) -> Tensor:
    """Each pixel four times, and a convolution; diffusers repeats them in float32, which changes nothing."""
    convolution = resample.resample[1]
    made: Tensor = convolutions(x).enlarge(x, convolution.weight, convolution.bias)
    return made


def _reduce(resample: Resample, x: Tensor) -> Tensor:
    """A convolution at every second row and column, with zeros at the end."""
    convolution = resample.resample[1]
    made: Tensor = convolutions(x).halve(x, convolution.weight, convolution.bias)
    return made


def _attend(attention: nn.Module, x: Tensor, *window: Window) -> Tensor:
    """Within each frame, one after the other: what a library makes of a frame may depend on how many come with it."""
    return channels_last(torch.cat([attention(frame, *window) for frame in torch.split(x, 1, dim=2)], dim=2))


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last_3d if x.is_cuda or x.is_meta else torch.contiguous_format


def channels_last(x: Tensor) -> Tensor:
    """Channels-last memory on a GPU, which its convolutions need, and on the meta device; contiguous on a CPU."""
    return x.contiguous(memory_format=_layout(x))
