"""Encoder and decoder of the Wan 2.1 VAE with several latent frames at a time.

diffusers processes one latent frame at a time. Here a piece of several goes through at once: each causal convolution
keeps the last two frames of its input for the next piece, so that results do not depend on how a video is cut: with our
own convolutions not by a bit, for attention, a library's, sees one frame at a time. Where only the last frames of a
decoded video are wanted, each stage computes only the frames that influence them.

Where memory is short, the stages larger than the latents go through bands of rows, one band's whole video after the
other's: each stage computes only the rows that reach into the band (`models.vae_areas`), so that bands meet without a
seam. The middle block attends to whole pictures, which are small there. A window of the pictures is made in the same
way.

Pixels are float32 in host memory, and are on the device a piece at a time.

Legend: T frames, F = 1 + ⌊(T − 1)/4⌋ latent frames, C channels, t frames of a piece. Features are [1, C, t, H, W].
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from soundreel.models.vae_areas import SCALE, Span, Window, decoder_areas, encoder_areas, even_spans, whole
from soundreel.models.vae_network import WanVae
from soundreel.models.vae_stages import (
    DecoderBase,
    DecoderStages,
    EncoderStages,
    EncoderTop,
    Starts,
    channels_last,
    encoder_reaches,
)
from soundreel.types import Check, go_on, heard

LATENT_STEP = 2
"""Latent frames processed at once: more are no faster on an H200, one is 4 % slower."""


OnPiece: TypeAlias = Callable[[int, int], object]
"""Called after each piece with how many are done and of how many; may raise to stop."""


OnFrames: TypeAlias = Callable[[int], object]
"""Called when so many of the decoded frames are where they belong, the first ones."""


def _say_nothing(_done: int, _total: int) -> None:
    """Nobody listens."""


def decode(  # noqa: PLR0913 - what is decoded, how it is cut, who hears of it, and where it goes
    network: WanVae,
    latents: Tensor,
    keep: int | None = None,
    step: int = LATENT_STEP,
    bands: int = 1,
    *,
    check: Check = go_on,
    on_piece: OnPiece = _say_nothing,
    on_frames: OnFrames | None = None,
    pictures: Tensor | None = None,
    only_pictures: bool = False,
    window: Window | None = None,
    pixels: Tensor | None = None,
) -> Tensor:
    """Pixels [3, T', H, W] of latents [c, F, h, w]: the last `keep` frames, or all 1 + 4(F − 1).

    Args:
        step: latent frames at once.
        bands: of rows, one after the other; at most h.
        check: called before each piece; may raise to stop.
        on_piece: hears how far it is.
        on_frames: hears of each piece that is there, unless there are several bands: then no frame is, until all are.
        pictures: gets the same frames as uint8 [T', H, W, 3], made of them on the device.
        only_pictures: nothing else is wanted; there are no frames in what is returned.
        window: of the latents, that part of the pictures is made; None: all.
        pixels: what is returned, wherever it is; None: host memory of its own.
    """
    latent_frames, height, width = latents.shape[1:]
    kept = kept_frames(latent_frames, keep)
    frames = 1 + 4 * (latent_frames - 1)
    starts = Starts.of(frames, kept)
    given = whole(height, width)
    if window is None:
        base, window = DecoderBase(network), given
    else:
        given = decoder_areas(height, width, window)[0].computed
        base = DecoderBase(network, given)
    count, columns = window.shape
    spans = list(_pieces(starts.latent, latent_frames, step))
    pieces: Iterable[Tensor] = (base(latents[None, :, first:end]) for first, end in heard(spans, check))
    bands = min(bands, count)
    if bands > 1:
        pieces = list(pieces)
    if pixels is None or only_pictures:
        pixels = torch.empty(3, 0 if only_pictures else kept, SCALE * count, SCALE * columns)
    done = _counted(on_piece, bands * len(spans))
    for band in even_spans(count, bands):
        stages = DecoderStages(network, starts, decoder_areas(height, width, window.band(band)), given)
        lines = slice(SCALE * band[0], SCALE * band[1])
        target = DecodedRows(
            frames - kept,
            None if only_pictures else pixels[:, :, lines],
            None if pictures is None else pictures[:, lines],
            on_frames if bands == 1 else None,
        )
        for (first, _), piece in heard(zip(spans, pieces, strict=True), check):
            target.put(*stages(piece, first))
            done()
        target.finish()
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
    """Where the decoded pieces of a band or a window go.

    From a GPU a piece comes through page-locked memory while the next one is computed; `finish` waits for the last.
    """

    first: int  # frame, of all that are decoded
    pixels: Tensor | None  # [3, T', H, W]
    pictures: Tensor | None  # uint8 [T', H, W, 3]
    on_frames: OnFrames | None = None
    _under_way: "deque[_Arrival]" = field(default_factory=deque)
    _sent: list[int] = field(default_factory=list)  # frames up to the piece that is under way; [] when it is there

    def put(self, piece: Tensor | None, at: int) -> None:
        """Take what is wanted of a piece [1, 3, t, H, W] that begins at frame `at`, clamped."""
        if self.pixels is None and self.pictures is None:
            return
        skipped = 0 if piece is None else max(0, self.first - at)
        if piece is None or skipped >= piece.shape[2]:
            return
        self.finish()
        frames = slice(at + skipped - self.first, at + piece.shape[2] - self.first)
        values = piece[0, :, skipped:].float().clamp_(-1, 1)
        if self.pixels is not None:
            self._send(values, self.pixels[:, frames])
        if self.pictures is not None:
            self._send(quantize(values).movedim(0, -1), self.pictures[frames])
        self._sent.append(frames.stop)
        if not self._under_way:
            self.finish()

    def finish(self) -> None:
        """All pieces are where they belong when this returns."""
        while self._under_way:
            arrival = self._under_way.popleft()
            arrival.is_there.synchronize()
            arrival.place.copy_(arrival.staged)
        while self._sent:
            count = self._sent.pop()
            if self.on_frames is not None:
                self.on_frames(count)

    def _send(self, values: Tensor, place: Tensor) -> None:
        if values.device.type != "cuda":
            place.copy_(values)
            return
        staged = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        staged.copy_(values.contiguous(), non_blocking=True)
        new_event: Any = torch.cuda.Event
        is_there = new_event()
        is_there.record()
        self._under_way.append(_Arrival(staged, place, is_there))


class _Arrival(NamedTuple):
    """What is on its way from a GPU."""

    staged: Tensor
    place: Tensor
    is_there: Any  # CUDA event


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

    def piece(frames: slice, window: Window) -> Tensor:
        lines, columns = window.slices()
        return pixels[None, :, frames, lines, columns].to(weight.device, weight.dtype)

    _, frames, height, width = pixels.shape
    every = whole(height // SCALE, width // SCALE)
    features = encoded_window(
        network, piece, (frames, height, width), every, step, bands, check=check, on_piece=on_piece
    )
    return means(network, features)


TakePiece: TypeAlias = Callable[[slice, Window], Tensor]
"""Pixels [1, 3, t, H, W] of these frames and this window, where the network is."""


def encoded_window(
    network: WanVae,
    take: TakePiece,
    shape: tuple[int, int, int],
    window: Window,
    step: int = LATENT_STEP,
    bands: int = 1,
    *,
    check: Check = go_on,
    on_piece: OnPiece = _say_nothing,
) -> Iterator[Tensor]:
    """Features of a window of the latents, of a video of `shape` [T, H, W]: [1, C, t, rows, columns] of each piece.

    `means` makes latents of those of whole pictures. `take` is asked for the pieces in order, for each band anew.
    """
    frames, height, width = shape
    spans = piece_spans(latent_frames(frames), step)
    bands = min(bands, window.shape[0])
    done = _counted(on_piece, bands * len(spans))

    def stages(part: Window) -> Iterator[Tensor]:
        areas = encoder_areas(height, width, part, encoder_reaches(network))
        encoder = EncoderStages(network, areas)
        for first, end in heard(spans, check):
            yield encoder(take(slice(max(0, 4 * first - 3), 4 * end - 3), areas[0].computed), first)
            done()

    if bands == 1:
        yield from stages(window)
        return
    cut = [window.band(band) for band in even_spans(window.shape[0], bands)]
    for parts in zip(*[list(stages(band)) for band in cut], strict=True):
        yield joined_rows(parts)


def joined_rows(parts: Sequence[Tensor]) -> Tensor:
    """Features of bands of rows, one below the other."""
    return channels_last(torch.cat(list(parts), dim=3))


def means(network: WanVae, features: Iterable[Tensor]) -> Tensor:
    """The distribution's mean [c, F, h, w] from features of whole pictures, piece by piece."""
    top = EncoderTop(network)
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
