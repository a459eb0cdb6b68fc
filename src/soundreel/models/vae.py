"""Encoder and decoder of the Wan 2.1 VAE with several latent frames at a time.

diffusers processes one latent frame at a time. Here a piece of several goes through at once: each causal convolution
keeps the last two frames of its input for the next piece, so that results do not depend on how a video is cut: with our
own convolutions not by a bit, for attention, a library's, sees one frame at a time. Where only the last frames of a
decoded video are wanted, each stage computes only the frames that influence them.

Where memory is short, the stages larger than the latents go through bands of rows, one band's whole video after the
other's: each stage computes only the rows that reach into the band (`models.vae_bands`), so that bands meet without a
seam. The middle block attends to whole pictures, which are small there.

Pixels are float32 in host memory, and are on the device a piece at a time.

Legend: T frames, F = 1 + ⌊(T − 1)/4⌋ latent frames, C channels, t frames of a piece. Features are [1, C, t, H, W].
A look-back is the number of earlier frames that influence a frame: 2 for each convolution of 3 frames that follows.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from soundreel.models.kernels.dispatch import convolutions, operations
from soundreel.models.vae_bands import SCALE, Rows, Span, decoder_rows, encoder_rows, even_spans
from soundreel.models.vae_network import CausalConv3d, Resample, ResidualBlock, RmsNorm, WanVae
from soundreel.types import Check, go_on, heard

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


OnPiece: TypeAlias = Callable[[int, int], object]
"""Called after each piece with how many are done and of how many; may raise to stop."""


def _say_nothing(_done: int, _total: int) -> None:
    """Nobody listens."""


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


def decode(  # noqa: PLR0913 - what is decoded, in which pieces, and where it goes
    network: WanVae,
    latents: Tensor,
    keep: int | None = None,
    step: int = LATENT_STEP,
    bands: int = 1,
    *,
    check: Check = go_on,
    on_piece: OnPiece = _say_nothing,
    pictures: Tensor | None = None,
    rows: Span | None = None,
    pixels: Tensor | None = None,
) -> Tensor:
    """Pixels [3, T', H, W] of latents [c, F, h, w]: the last `keep` frames, or all 1 + 4(F − 1).

    Args:
        step: latent frames at once.
        bands: of rows, one after the other; at most h.
        check: called before each piece; may raise to stop.
        on_piece: hears how far it is.
        pictures: gets the same frames as uint8 [T', H, W, 3], made of them on the device.
        rows: the latents' rows whose pictures are made, H being theirs; None: all.
        pixels: what is returned, wherever it is; None: host memory of its own.
    """
    latent_frames, height, width = latents.shape[1:]
    kept = kept_frames(latent_frames, keep)
    frames = 1 + 4 * (latent_frames - 1)
    starts = Starts.of(frames, kept)
    top, end_row = (0, height) if rows is None else rows
    base = _DecoderBase(network)
    spans = list(_pieces(starts.latent, latent_frames, step))
    pieces: Iterable[Tensor] = (base(latents[None, :, first:end]) for first, end in heard(spans, check))
    bands = min(bands, end_row - top)
    if bands > 1:
        pieces = list(pieces)
    if pixels is None:
        pixels = torch.empty(3, kept, SCALE * (end_row - top), SCALE * width)
    done = _counted(on_piece, bands * len(spans))
    for band in even_spans(end_row - top, bands):
        stages = _DecoderStages(network, starts, decoder_rows(height, (top + band[0], top + band[1])))
        lines = slice(SCALE * band[0], SCALE * band[1])
        target = DecodedRows(frames - kept, pixels[:, :, lines], None if pictures is None else pictures[:, lines])
        for (first, _), piece in heard(zip(spans, pieces, strict=True), check):
            target.put(*stages(piece, first))
            done()
    return pixels


def kept_frames(latent_frames: int, keep: int | None) -> int:
    """T': frames that `decode` makes of F latent frames."""
    frames = 1 + 4 * (latent_frames - 1)
    return frames if keep is None else min(keep, frames)


def _counted(on_piece: OnPiece, total: int) -> Callable[[], None]:
    """What is to be called after each of `total` pieces."""
    numbers = count(1)

    def done() -> None:
        on_piece(next(numbers), total)

    return done


@dataclass(frozen=True)
class DecodedRows:
    """Where the decoded pieces of a band of rows go."""

    first: int  # frame, of all that are decoded
    pixels: Tensor  # [3, T', H, W]
    pictures: Tensor | None  # uint8 [T', H, W, 3]

    def put(self, piece: Tensor | None, at: int) -> None:
        """Take what is wanted of a piece [1, 3, t, H, W] that begins at frame `at`, clamped."""
        skipped = 0 if piece is None else max(0, self.first - at)
        if piece is None or skipped >= piece.shape[2]:
            return
        frames = slice(at + skipped - self.first, at + piece.shape[2] - self.first)
        values = piece[0, :, skipped:].float().clamp_(-1, 1)
        self.pixels[:, frames] = values.to(self.pixels.device)
        if self.pictures is not None:
            self.pictures[frames] = quantize(values).movedim(0, -1).to(self.pictures.device)


def quantize(pixels: Tensor) -> Tensor:
    """float32 from −1 to 1 → uint8 as the reference does it: truncated, not rounded. The input is used up."""
    return pixels.add_(1.0).div_(2.0).mul_(255.0).to(torch.uint8)


def encode(
    network: WanVae,
    pixels: Tensor,
    step: int = LATENT_STEP,
    bands: int = 1,
    check: Check = go_on,
    on_piece: OnPiece = _say_nothing,
) -> Tensor:
    """The distribution's mean [c, F, h, w] of pixels [3, T, H, W]; frames beyond 1 + 4(F − 1) are ignored.

    Args:
        pixels: of any type, on any device: pieces of them come to the network's.
        step: latent frames at once.
        bands: of rows, one after the other; at most h.
        check: called before each piece; may raise to stop.
        on_piece: hears how far it is.
    """
    weight = network.quant_conv.weight

    def piece(frames: slice, lines: slice) -> Tensor:
        return pixels[None, :, frames, lines].to(weight.device, weight.dtype)

    _, frames, height, _ = pixels.shape
    whole = 0, height // SCALE
    return means(
        network, encoded_rows(network, piece, frames, height, whole, step, bands, check=check, on_piece=on_piece)
    )


TakePiece: TypeAlias = Callable[[slice, slice], Tensor]
"""Pixels [1, 3, t, lines, W] of these frames and lines, where the network is."""


def encoded_rows(  # noqa: PLR0913 - what `encode` takes, and which rows
    network: WanVae,
    take: TakePiece,
    frames: int,
    height: int,
    rows: Span,
    step: int = LATENT_STEP,
    bands: int = 1,
    *,
    check: Check = go_on,
    on_piece: OnPiece = _say_nothing,
) -> Iterator[Tensor]:
    """Features of the latents' `rows` of a video of T frames of H lines: [1, C, t, rows, w] of each piece.

    `means` makes latents of those of all rows. `take` is asked for the pieces in order, for each band anew.
    """
    spans = piece_spans(latent_frames(frames), step)
    bands = min(bands, rows[1] - rows[0])
    done = _counted(on_piece, bands * len(spans))

    def stages(band: Span) -> Iterator[Tensor]:
        stage_rows = encoder_rows(height, band, encoder_reaches(network))
        encoder, lines = _EncoderStages(network, stage_rows), slice(*stage_rows[0].computed)
        for first, end in heard(spans, check):
            yield encoder(take(slice(max(0, 4 * first - 3), 4 * end - 3), lines), first)
            done()

    if bands == 1:
        yield from stages(rows)
        return
    cut = [(rows[0] + first, rows[0] + end) for first, end in even_spans(rows[1] - rows[0], bands)]
    for parts in zip(*[list(stages(band)) for band in cut], strict=True):
        yield joined_rows(parts)


def joined_rows(parts: Sequence[Tensor]) -> Tensor:
    """Features of bands of rows, one below the other."""
    return _channels_last(torch.cat(list(parts), dim=3))


def means(network: WanVae, features: Iterable[Tensor]) -> Tensor:
    """The distribution's mean [c, F, h, w] from features of whole pictures, piece by piece."""
    top = _EncoderTop(network)
    return torch.cat([top(piece) for piece in features], dim=2)[0]


def latent_frames(frames: int) -> int:
    """F, of T frames."""
    return 1 + (frames - 1) // 4


def piece_spans(count: int, step: int) -> list[Span]:
    """The latent frames of each piece of a video that is encoded."""
    return list(_pieces(0, count, step))


def _pieces(first: int, end: int, step: int) -> Iterator[tuple[int, int]]:
    """Spans (first, end) of latent frames for each piece; the video's first latent frame is a piece of its own."""
    if first == 0:
        yield 0, 1
    for start in range(max(first, 1), end, step):
        yield start, min(start + step, end)


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

    def middle(self, block: Any, x: Tensor) -> Tensor:
        """The middle block: residual blocks with attention between them."""
        first, *others = block.resnets
        x = self.residual(first, x)
        for attention, resnet in zip(block.attentions, others, strict=True):
            x = self.residual(resnet, x if attention is None else _attend(attention, x))
        return x


class _DecoderBase(_Pieces):
    """From latents to the middle block: whole pictures, as large as the latents."""

    def __init__(self, network: WanVae) -> None:
        super().__init__()
        self._network, self._decoder = network, network.decoder

    def __call__(self, latents: Tensor) -> Tensor:
        """Features of a piece [1, c, t, h, w]."""
        x = self.convolve(self._network.post_quant_conv, _channels_last(latents))
        return self.middle(self._decoder.mid_block, self.convolve(self._decoder.conv_in, x))


class _DecoderStages(_Pieces):
    """From the middle block's features to pixels, in one band of rows."""

    def __init__(self, network: WanVae, starts: Starts, rows: Sequence[Rows]) -> None:
        super().__init__()
        self._decoder, self._starts, self._rows = network.decoder, starts, rows

    def __call__(self, x: Tensor, first: int) -> tuple[Tensor | None, int]:
        """Pixels of a piece that begins at latent frame `first`, if any are wanted, and the index of the first one."""
        starts, decoder, at = self._starts, self._decoder, first
        blocks: list[Any] = list(decoder.up_blocks)
        *growing, full = blocks
        *growing_rows, full_rows = self._rows
        x = _cut(x, 0, growing_rows[0].computed)
        begins = starts.half_rate, starts.half_size, starts.full
        for block, rows, start in zip(growing, growing_rows, begins, strict=True):
            upsampler = block.upsamplers[0]
            for resnet in block.resnets:
                x = self.residual(resnet, x)
            if upsampler.mode == "upsample3d":
                x, at = self._double(upsampler, x, at)
            x, at = _from(x, at, start)
            if x.shape[2] == 0:
                return None, at
            x = _enlarge(upsampler, _cut(x, rows.computed[0], rows.kept))
            x = _cut(x, 2 * rows.kept[0], rows.made)
        for resnet in full.resnets:
            x = self.residual(resnet, x)
        x = self.convolve(decoder.conv_out, x, decoder.norm_out)
        return _cut(x, full_rows.computed[0], full_rows.kept), at

    def _double(self, resample: Resample, x: Tensor, at: int) -> tuple[Tensor, int]:
        """Double the frames, except the video's first one; also returns the index of the first frame."""
        if at == 0:
            return x, 0
        conv, joined = resample.time_conv, self._joined(resample.time_conv, x)
        return convolutions(x).double(joined, conv.weight, conv.bias), 2 * at - 1


class _EncoderStages(_Pieces):
    """From pixels to features as large as the latents, in one band of rows."""

    def __init__(self, network: WanVae, rows: Sequence[Rows]) -> None:
        super().__init__()
        self._network, self._rows = network, rows

    def __call__(self, pixels: Tensor, first: int) -> Tensor:
        """Features of a piece that begins at latent frame `first`: of the rows that the first stage begins with."""
        x = self.convolve(self._network.encoder.conv_in, _channels_last(pixels))
        stages, _ = _encoder_parts(self._network)
        for (*blocks, resample), rows in zip(stages, self._rows, strict=True):
            for block in blocks:
                x = self.residual(block, x)
            x = _reduce(resample, _cut(x, rows.computed[0], rows.kept))
            x = self._halve(resample, _cut(x, rows.kept[0] // 2, rows.made), first)
        return x

    def _halve(self, resample: Resample, x: Tensor, first: int) -> Tensor:
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


class _EncoderTop(_Pieces):
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


def encoder_reaches(network: WanVae) -> list[int]:
    """Convolutions of 3×3 pixels in each stage before it halves the picture; in the first one the input's, too."""
    return [2 * (len(stage) - 1) + (k == 0) for k, stage in enumerate(_encoder_parts(network)[0])]


def _convolved(conv: CausalConv3d, joined: Tensor, residual: Tensor | None = None) -> Tensor:
    made: Tensor = convolutions(joined).convolve(joined, conv.weight, conv.bias, residual=residual)
    return made


def _cut(x: Tensor, first: int, span: Span) -> Tensor:
    """The rows of a span, of features that begin at row `first`."""
    rows = slice(span[0] - first, span[1] - first)
    return x if rows == slice(0, x.shape[3]) else _channels_last(x[:, :, :, rows])


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


def _attend(attention: nn.Module, x: Tensor) -> Tensor:
    """Within each frame, one after the other: what a library makes of a frame may depend on how many come with it."""
    return _channels_last(torch.cat([attention(frame) for frame in torch.split(x, 1, dim=2)], dim=2))


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last_3d if x.is_cuda else torch.contiguous_format


def _channels_last(x: Tensor) -> Tensor:
    """Channels-last memory on a GPU, which its convolutions need; contiguous on a CPU."""
    return x.contiguous(memory_format=_layout(x))
