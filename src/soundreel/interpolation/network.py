"""A frame interpolation network as a method of `soundreel.interpolation.frames`: batches, tiles, any device.

Axes: B batch, H rows, W columns; frames on the device are [B, 3, H, W], 0 to 1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from soundreel.errors import EngineError
from soundreel.media.motion import FramePair, Picture
from soundreel.models.devices import is_out_of_memory, pick_device
from soundreel.types import Check, go_on
from soundreel.units import GIB
from soundreel.weights.frame_networks import FILM, load_network

LARGEST_BATCH: Final = 8
"""Frames per batch; larger batches do not use a GPU better."""

OVERLAP_PIXELS: Final = 64
"""Overlap of neighbouring tiles on each side, and the largest motion across a seam; seams are blended."""

SMALLEST_TILE_PIXELS: Final = 64
"""Smallest side of a tile without its overlap; below, splitting saves no memory."""

DEEPEST_HALVING: Final = 3
"""FILM was trained for the time 1/2 alone: halves, quarters and eighths are made by repeated halving, other times
directly."""

BYTES_PER_PIXEL: Final = {FILM: 6000, "rife": 1500}
"""Approximate peak memory of the published networks per pixel of a frame, in float32; see benchmarks/notes.md."""

SHARE_OF_FREE_MEMORY: Final = 0.8
"""Part of the free GPU memory that a batch may take."""

_HALF: Final = Fraction(1, 2)


def open_network(name: str, path: Path, *, device: str = "auto") -> "FrameInterpolator":
    """Load the network `name`, film or rife, from the weights at `path`: in float16 on a CUDA GPU, else in float32."""
    place = pick_device(device)
    dtype = torch.float16 if place.type == "cuda" else torch.float32
    network = load_network(name, path, device=place, dtype=dtype)
    bytes_per_pixel = BYTES_PER_PIXEL[name] * dtype.itemsize // torch.float32.itemsize
    return FrameInterpolator(
        network,
        by_halves=name == FILM,
        batch=1 if place.type == "cpu" else LARGEST_BATCH,
        pixels=_pixels_that_fit(place, bytes_per_pixel),
    )


def _pixels_that_fit(device: torch.device, bytes_per_pixel: int) -> int | None:
    if device.type != "cuda":
        return None
    free = torch.cuda.mem_get_info(device)[0]
    return int(SHARE_OF_FREE_MEMORY * free / bytes_per_pixel)


@dataclass(frozen=True)
class _Step:
    """A frame to interpolate. Times are 0 at the pair's first frame and 1 at its second."""

    pair: int  # index
    time: Fraction
    left: Fraction  # time of the frame before that it is interpolated from
    right: Fraction  # and of the one after

    @property
    def share(self) -> float:
        """The network's time input: 0 at `left`, 1 at `right`."""
        return float((self.time - self.left) / (self.right - self.left))


class FrameInterpolator:
    """A frame interpolation network as a `Method`.

    Args:
        network: frames 0 and 1 [B, 3, H, W], times [B, 1] → frames [B, 3, H, W]; its attribute `multiple` is what H and
            W must be multiples of.
        by_halves: make the frames at halves, quarters and eighths by repeated halving.
        batch: largest number of frames per batch.
        pixels: number of pixels per batch that fit in memory; None: not known. Where memory runs out all the same,
            batches are halved, then frames are split into more and more tiles.
    """

    def __init__(
        self, network: torch.nn.Module, *, by_halves: bool, batch: int = LARGEST_BATCH, pixels: int | None = None
    ) -> None:
        self._network, self._by_halves, self._pixels = network, by_halves, pixels
        self._multiple = cast(int, network.multiple)
        parameter = next(network.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype
        self.batch = batch
        self.tiles = 1

    @torch.inference_mode()
    def __call__(self, pairs: Sequence[FramePair], /, check: Check = go_on) -> list[list[Picture]]:
        """The frames of each pair, one for each of its times; `check` is called before each batch."""
        known = [{Fraction(0): self._upload(pair.before), Fraction(1): self._upload(pair.after)} for pair in pairs]
        for steps in self._rounds(pairs):
            inputs = [(known[step.pair][step.left], known[step.pair][step.right]) for step in steps]
            for step, picture in zip(steps, self._make(inputs, [step.share for step in steps], check), strict=True):
                known[step.pair][step.time] = picture
        return [[_download(known[index][time]) for time in pair.times] for index, pair in enumerate(pairs)]

    def _rounds(self, pairs: Sequence[FramePair]) -> list[list[_Step]]:
        """All steps, grouped so that a group needs only the frames of earlier groups."""
        rounds: dict[int, dict[tuple[int, Fraction], _Step]] = {}
        for index, pair in enumerate(pairs):
            for time in pair.times:
                for depth, step in self._steps_to(index, time):
                    rounds.setdefault(depth, {})[index, step.time] = step
        return [list(rounds[depth].values()) for depth in sorted(rounds)]

    def _steps_to(self, pair: int, time: Fraction) -> Iterator[tuple[int, _Step]]:
        """The steps that lead to the frame at `time`, each with the number of steps before it."""
        if not self._by_halves or 2**DEEPEST_HALVING % time.denominator:
            yield 0, _Step(pair, time, Fraction(0), Fraction(1))
            return
        left, right = Fraction(0), Fraction(1)
        for depth in range(DEEPEST_HALVING):
            middle = (left + right) * _HALF
            yield depth, _Step(pair, middle, left, right)
            if middle == time:
                return
            left, right = (left, middle) if time < middle else (middle, right)

    def _upload(self, picture: Picture) -> Tensor:
        """uint8 [H, W, 3] → [1, 3, H, W] on the device."""
        pixels = torch.from_numpy(np.ascontiguousarray(picture)).to(self._device)
        return pixels.permute(2, 0, 1)[None].to(self._dtype) / 255

    def _make(self, inputs: Sequence[tuple[Tensor, Tensor]], shares: Sequence[float], check: Check) -> list[Tensor]:
        """The frames between pairs of frames [1, 3, H, W], retried with less memory where it runs out."""
        height, width = inputs[0][0].shape[2:]
        self._fit(height, width)
        while True:
            try:
                return self._attempt(inputs, shares, check)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            self._economize(height, width)  # outside the handler, whose traceback would keep the tensors alive

    def _attempt(self, inputs: Sequence[tuple[Tensor, Tensor]], shares: Sequence[float], check: Check) -> list[Tensor]:
        made: list[Tensor] = []
        for first in range(0, len(inputs), self.batch):
            check()
            chosen = inputs[first : first + self.batch]
            x0, x1 = (torch.cat(pictures) for pictures in zip(*chosen, strict=True))
            times = torch.tensor(shares[first : first + self.batch], device=self._device, dtype=self._dtype)[:, None]
            made += torch.split(self._tiled(x0, x1, times).clamp(0, 1), 1)
        return made

    def _tiled(self, x0: Tensor, x1: Tensor, times: Tensor) -> Tensor:
        height, width = x0.shape[2:]
        if self.tiles == 1:
            return self._padded(x0, x1, times)
        total = x0.new_zeros(x0.shape, dtype=torch.float32)
        weight = x0.new_zeros((height, width), dtype=torch.float32)
        for rows, columns in tiles(height, width, self.tiles):
            share = _fade(rows, height, x0)[:, None] * _fade(columns, width, x0)
            total[:, :, rows, columns] += share * self._padded(x0[:, :, rows, columns], x1[:, :, rows, columns], times)
            weight[rows, columns] += share
        return (total / weight).to(x0.dtype)

    def _padded(self, x0: Tensor, x1: Tensor, times: Tensor) -> Tensor:
        """Run the network on frames padded with black at the right and bottom to multiples of `multiple`, then cropped.

        The networks' own programs pad in the same way; padding with the edge instead changes PSNR by up to 1 dB, for
        better or worse.
        """
        height, width = x0.shape[2:]
        pad = (0, -width % self._multiple, 0, -height % self._multiple)
        x0, x1 = (functional.pad(x, pad) for x in (x0, x1))
        made: Tensor = self._network(x0, x1, times)[:, :, :height, :width]
        return made

    def _fit(self, height: int, width: int) -> None:
        """Choose batch and tiles by `pixels`."""
        if self._pixels is None:
            return
        while self.tiles * self._pixels < height * width and _can_split(height, width, self.tiles):
            self.tiles *= 2
        self.batch = max(1, min(self.batch, self.tiles * self._pixels // (height * width)))

    def _economize(self, height: int, width: int) -> None:
        """Halve the batch or double the tiles. Raises `EngineError` where neither is possible."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if self.batch > 1:
            self.batch //= 2
        elif _can_split(height, width, self.tiles):
            self.tiles *= 2
        else:
            raise EngineError(
                f"{self._device} has too little memory for frames of {width}×{height} pixels, even one at a time in "
                f"{self.tiles} tiles{_free(self._device)}: free some, or take --device cpu or --interpolate motion"
            )


def tiles(height: int, width: int, count: int) -> list[tuple[slice, slice]]:
    """Rows and columns of `count` overlapping tiles that cover a frame; `count` is a power of two."""
    rows, columns = _grid(height, width, count)
    return [(vertical, across) for vertical in _parts(height, rows) for across in _parts(width, columns)]


def _grid(height: int, width: int, count: int) -> tuple[int, int]:
    """Number of tiles down and across, by halving the longer side of the tiles again and again."""
    rows = columns = 1
    while rows * columns < count:
        if height / rows > width / columns:
            rows *= 2
        else:
            columns *= 2
    return rows, columns


def _parts(side: int, count: int) -> list[slice]:
    edges = [ceil(side * index / count) for index in range(count + 1)]
    overlap = OVERLAP_PIXELS if count > 1 else 0
    return [slice(max(0, start - overlap), min(side, stop + overlap)) for start, stop in pairwise(edges)]


def _can_split(height: int, width: int, count: int) -> bool:
    rows, columns = _grid(height, width, 2 * count)
    return min(height / rows if rows > 1 else height, width / columns if columns > 1 else width) >= SMALLEST_TILE_PIXELS


def _fade(part: slice, side: int, like: Tensor) -> Tensor:
    """Blend weights of a tile's rows or columns: 1, falling linearly to 0 over the overlap with a neighbour."""
    place = torch.arange(part.start, part.stop, device=like.device, dtype=torch.float32) + 0.5
    share = torch.ones_like(place)
    if part.start > 0:
        share = torch.minimum(share, (place - part.start) / (2 * OVERLAP_PIXELS))
    if part.stop < side:
        share = torch.minimum(share, (part.stop - place) / (2 * OVERLAP_PIXELS))
    return share


def _download(picture: Tensor) -> Picture:
    """[1, 3, H, W] on the device → uint8 [H, W, 3]."""
    levels = (picture[0].float() * 255).round().to(torch.uint8).permute(1, 2, 0)
    return cast("np.ndarray[Any, np.dtype[np.uint8]]", levels.cpu().contiguous().numpy())


def _free(device: torch.device) -> str:
    return f" ({torch.cuda.mem_get_info(device)[0] / GIB:.1f} GiB free)" if device.type == "cuda" else ""
