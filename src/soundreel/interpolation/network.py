"""Pictures between pictures by a network: in batches, in tiles where memory is short, on any device.

Axes: B batch, H rows, W columns; pictures on the device are [B, 3, H, W], 0 to 1.
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
from soundreel.media.motion import Check, Gap, Picture
from soundreel.models.devices import pick_device
from soundreel.weights.frame_networks import FILM, load_network

LARGEST_BATCH: Final = 8
"""Pictures at once; more keep a GPU no busier."""

OVERLAP_PIXELS: Final = 64
"""By which a tile reaches into its neighbours; motion across a seam may be as large. Seams are faded."""

SMALLEST_TILE_PIXELS: Final = 64
"""Beside the overlap; where this does not fit, nothing will."""

DEEPEST_HALVING: Final = 3
"""FILM was trained on the middle alone: halves, quarters and eighths are middles of middles, other times are direct."""

BYTES_PER_PIXEL: Final = {FILM: 6000, "rife": 1500}
"""About what a picture takes on its way through the published network, in float32; see benchmarks/notes.md."""

SHARE_OF_FREE_MEMORY: Final = 0.8

GIB: Final = 2**30

_HALF: Final = Fraction(1, 2)


def open_network(name: str, path: Path, *, device: str = "auto") -> "MidFrames":
    """The network `name` with the weights at `path`, float16 on a CUDA GPU, else float32."""
    place = pick_device(device)
    dtype = torch.float16 if place.type == "cuda" else torch.float32
    network = load_network(name, path, device=place, dtype=dtype)
    bytes_per_pixel = BYTES_PER_PIXEL[name] * dtype.itemsize // torch.float32.itemsize
    return MidFrames(
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
    """A picture to make: from which two, and where between them."""

    gap: int
    time: Fraction
    left: Fraction
    right: Fraction

    @property
    def share(self) -> float:
        return float((self.time - self.left) / (self.right - self.left))


class MidFrames:
    """A network as a method of `soundreel.interpolation.frames`.

    Args:
        network: picture 0, picture 1, times [B, 1] → pictures; with a `multiple` that their sides must have.
        by_halves: reach halves, quarters and eighths as middles of middles.
        batch: pictures at once, at most.
        pixels: how many pixels fit in memory at once; None: not known. Where that is wrong and memory runs out, batches
            are halved, then pictures are cut into ever more tiles.
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
    def __call__(self, gaps: Sequence[Gap], /, check: Check = lambda: None) -> list[list[Picture]]:
        """The pictures of each gap, one for each of its times; `check` is called before each batch."""
        known = [{Fraction(0): self._upload(gap.before), Fraction(1): self._upload(gap.after)} for gap in gaps]
        for steps in self._rounds(gaps):
            pairs = [(known[step.gap][step.left], known[step.gap][step.right]) for step in steps]
            for step, picture in zip(steps, self._make(pairs, [step.share for step in steps], check), strict=True):
                known[step.gap][step.time] = picture
        return [[_download(known[index][time]) for time in gap.times] for index, gap in enumerate(gaps)]

    def _rounds(self, gaps: Sequence[Gap]) -> list[list[_Step]]:
        """All steps, those together that do not build on each other."""
        rounds: dict[int, dict[tuple[int, Fraction], _Step]] = {}
        for index, gap in enumerate(gaps):
            for time in gap.times:
                for depth, step in self._way_to(index, time):
                    rounds.setdefault(depth, {})[index, step.time] = step
        return [list(rounds[depth].values()) for depth in sorted(rounds)]

    def _way_to(self, gap: int, time: Fraction) -> Iterator[tuple[int, _Step]]:
        """The steps to a time, each with how many must come before it."""
        if not self._by_halves or 2**DEEPEST_HALVING % time.denominator:
            yield 0, _Step(gap, time, Fraction(0), Fraction(1))
            return
        left, right = Fraction(0), Fraction(1)
        for depth in range(DEEPEST_HALVING):
            middle = (left + right) * _HALF
            yield depth, _Step(gap, middle, left, right)
            if middle == time:
                return
            left, right = (left, middle) if time < middle else (middle, right)

    def _upload(self, picture: Picture) -> Tensor:
        """uint8 [H, W, 3] → [1, 3, H, W] on the device."""
        pixels = torch.from_numpy(np.ascontiguousarray(picture)).to(self._device)
        return pixels.permute(2, 0, 1)[None].to(self._dtype) / 255

    def _make(self, pairs: Sequence[tuple[Tensor, Tensor]], shares: Sequence[float], check: Check) -> list[Tensor]:
        """The pictures between pairs [1, 3, H, W], with ever less memory if it runs out."""
        height, width = pairs[0][0].shape[2:]
        self._fit(height, width)
        while True:
            try:
                return self._attempt(pairs, shares, check)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            self._economize(height, width)  # out of the handler, whose traceback would keep the tensors

    def _attempt(self, pairs: Sequence[tuple[Tensor, Tensor]], shares: Sequence[float], check: Check) -> list[Tensor]:
        made: list[Tensor] = []
        for first in range(0, len(pairs), self.batch):
            check()
            chosen = pairs[first : first + self.batch]
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
        """The network on sides that it can halve often enough: black is added at the right and below, and cut off.

        So do the networks' own programs; with the edge repeated instead, pictures differ by up to 1 dB either way.
        """
        height, width = x0.shape[2:]
        pad = (0, -width % self._multiple, 0, -height % self._multiple)
        x0, x1 = (functional.pad(x, pad) for x in (x0, x1))
        made: Tensor = self._network(x0, x1, times)[:, :, :height, :width]
        return made

    def _fit(self, height: int, width: int) -> None:
        """Batch and tiles by what is known to fit."""
        if self._pixels is None:
            return
        while self.tiles * self._pixels < height * width and _can_split(height, width, self.tiles):
            self.tiles *= 2
        self.batch = max(1, min(self.batch, self.tiles * self._pixels // (height * width)))

    def _economize(self, height: int, width: int) -> None:
        """Take less memory from now on; `EngineError` where that is not possible."""
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


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU, which says it with a plain `RuntimeError`."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def tiles(height: int, width: int, count: int) -> list[tuple[slice, slice]]:
    """Rows and columns of `count` tiles that cover a picture and overlap; `count` is a power of two."""
    rows, columns = _grid(height, width, count)
    return [(vertical, across) for vertical in _parts(height, rows) for across in _parts(width, columns)]


def _grid(height: int, width: int, count: int) -> tuple[int, int]:
    """Rows and columns of tiles: the longer side of a tile is halved each time."""
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
    """A tile's share of each row or column: 1, falling to nothing over the overlap towards a neighbour."""
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
