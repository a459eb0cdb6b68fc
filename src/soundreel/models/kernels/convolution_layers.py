"""The VAE's convolutions as kernels see them, and how they are cut into programs: arithmetic, without Triton.

`convolution` launches what is described here.

Legend as there: features are [1, C, t, H, W], channels beside each other in memory; N channels that are made.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

HOPPER_KIND = 9, 0

ANY_KIND = 8, 0
"""Stands for GPUs without a kernel of their own, and for those whose own does not work here."""

WIDE = 384
"""Channels of the VAE's widest layers."""

FEWEST_CHANNELS = 16
"""That a matrix product takes at once; fewer are filled up with zeros."""

COLUMNS = 8, 16, 32
"""Of a patch: the copy engine lays out 8 positions together, and wide patches share few rows."""


class Layer(NamedTuple):
    """What a tiling may depend on, beside the kind of GPU."""

    channels: int
    made: int
    taps: tuple[int, int, int]
    stride: int  # within pictures
    dtype: torch.dtype


class Tiling(NamedTuple):
    """How a layer is cut into programs."""

    positions: int  # that a program makes: a power of 2 from 64
    channels: tuple[int, int]  # that it makes, in two products: powers of 2 from 16; the second may be 0
    depth: int  # channels that are read at once
    warps: int
    stages: int  # reads in flight, at most
    hopper: bool = False
    programs: int = 1  # that share the memory of a multiprocessor, in Hopper's kernel
    precision: str = "tf32"  # of float32 products: tf32, tf32x3 or ieee; Hopper's kernel knows the first


class Specialization(NamedTuple):
    """All that a compiled kernel depends on: launches with the same one share it."""

    layer: Layer
    tiling: Tiling
    patch: tuple[int, int]  # rows and columns
    time_stride: int
    phases: int
    has_bias: bool
    has_residual: bool
    numbers: tuple[str, ...]  # what Triton tells its compiler of the numbers that it specializes on


class Geometry(NamedTuple):
    """A convolution as a kernel sees it."""

    x: Tensor
    rows: Tensor  # weights [N, taps·C]; [4·N, taps·C] for an enlarged picture
    bias: Tensor | None
    residual: Tensor | None
    out: Tensor
    taps: tuple[int, int, int]
    stride: int = 1  # within pictures: 1, or 2 with zeros at the end only
    time_stride: int = 1
    phases: int = 1  # 4: each pixel makes four

    @property
    def layer(self) -> Layer:
        """What the tiling is chosen by."""
        return Layer(self.x.shape[1], self.out.shape[1], self.taps, self.stride, self.x.dtype)

    @property
    def places(self) -> tuple[int, int]:
        """Rows and columns that the programs of one phase make."""
        height, width = self.out.shape[3:]
        return (height // 2, width // 2) if self.phases == 4 else (height, width)

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros above and left of a picture."""
        return (0, 0) if self.stride == 2 else (self.taps[1] // 2, self.taps[2] // 2)

    @property
    def out_steps(self) -> tuple[int, int, int]:
        """From frame to frame, row to row and column to column of the result, in elements."""
        scale = 2 if self.phases == 4 else 1
        return self.out.stride(2), scale * self.out.stride(3), scale * self.out.stride(4)

    def programs(self, tiling: Tiling, patch: tuple[int, int]) -> int:
        """How many are launched."""
        height, width = self.places
        patches = _ceil(height, patch[0]) * _ceil(width, patch[1])
        return int(_ceil(self.out.shape[1], sum(tiling.channels)) * self.phases * self.out.shape[2] * patches)

    def fitting(self, tiling: Tiling) -> Tiling:
        """The tiling, or another one where Hopper's kernel, which sees rows and columns in pairs, cannot have it."""
        is_odd = any(side % self.stride for side in self.x.shape[3:])  # the VAE's are even
        return other_tiling(self.layer) if tiling.hopper and is_odd else tiling

    def specialization(self, tiling: Tiling) -> Specialization:
        """What the launch of it, cut like that, is compiled for."""
        numbers = [self.out.shape[1], *self.out_steps]
        if not tiling.hopper:
            numbers += self.x.stride()[2:]
        return Specialization(
            layer=self.layer,
            tiling=tiling,
            patch=choose_patch(tiling.positions, *self.places),
            time_stride=self.time_stride,
            phases=self.phases,
            has_bias=self.bias is not None,
            has_residual=self.residual is not None,
            numbers=tuple(map(_told, numbers)),
        )


class Convolutions:
    """The functions of `convolution_plain`, each of which describes what it would launch.

    Args:
        launch: gets each of the convolutions, whose `out` it fills.
    """

    def __init__(self, launch: Callable[[Geometry], object]) -> None:
        self._launch = launch

    def convolve(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, *, residual: Tensor | None = None, time_stride: int = 1
    ) -> Tensor:
        """See `convolution_plain.convolve`."""
        x, weight = _filled(x), _filled(weight)
        frames = (x.shape[2] - weight.shape[2]) // time_stride + 1
        out = _empty(x, weight.shape[0], frames, x.shape[3], x.shape[4])
        if residual is not None and residual.stride()[1:] != out.stride()[1:]:
            residual = residual.contiguous(memory_format=torch.channels_last_3d)
        self._launch(Geometry(x, _rows(weight), bias, residual, out, _taps(weight), time_stride=time_stride))
        return out

    def double(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `convolution_plain.double`."""
        half = weight.shape[0] // 2
        out = _empty(x, half, 2 * (x.shape[2] - weight.shape[2] + 1), x.shape[3], x.shape[4])
        for k in range(2):
            part = slice(k * half, (k + 1) * half)
            made = out[:, :, k::2]
            self._launch(
                Geometry(x, _rows(weight[part]), None if bias is None else bias[part], None, made, _taps(weight))
            )
        return out

    def halve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `convolution_plain.halve`."""
        out = _empty(x, weight.shape[0], x.shape[2], (x.shape[3] - 2) // 2 + 1, (x.shape[4] - 2) // 2 + 1)
        self._launch(Geometry(x, _rows(weight[:, :, None]), bias, None, out, (1, 3, 3), stride=2))
        return out

    def enlarge(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `convolution_plain.enlarge`."""
        out = _empty(x, weight.shape[0], x.shape[2], 2 * x.shape[3], 2 * x.shape[4])
        self._launch(Geometry(x, phase_weights(weight), bias, None, out, (1, 2, 2), phases=4))
        return out


def phase_weights(weight: Tensor) -> Tensor:
    """[N, C, 3, 3] over repeated pixels as [4·N, 2·2·C] over pixels: for results at even and odd rows and columns."""
    if weight.is_meta:  # whose sums PyTorch would import a thousand modules for
        return weight.new_empty(4 * weight.shape[0], 4 * weight.shape[1])
    taps = weight.permute(0, 2, 3, 1).float()  # [N, 3, 3, C]
    paired = _paired(_paired(taps, 1), 3)  # [N, 2, 2, 2, 2, C]: row phase, row tap, column phase, column tap
    return paired.permute(1, 3, 0, 2, 4, 5).flatten(0, 2).flatten(1).to(weight.dtype)


def _paired(taps: Tensor, dim: int) -> Tensor:
    """Three taps as two, at even and at odd places: the pixel before and this one, this one and the pixel after."""
    one, two, three = taps.unbind(dim)
    pairs = [torch.stack([one, two + three], dim), torch.stack([one + two, three], dim)]
    return torch.stack(pairs, dim)


def choose_patch(positions: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a patch: those that leave the fewest positions outside; of equals the nearest to a square."""
    sides = [(positions // columns, columns) for columns in COLUMNS]

    def cost(side: tuple[int, int]) -> tuple[int, int]:
        return int(_ceil(height, side[0]) * _ceil(width, side[1])), sum(side)

    return min(sides, key=cost)


def choose_tiling(layer: Layer, kind: tuple[int, int]) -> Tiling:
    """Of a layer on a kind of GPU (its compute capability): never from what was timed on the user's machine.

    For Hopper it is what was fastest on an H100 in bf16 at 480×832 (benchmarks/notes.md): four warps, since two
    programs then share a multiprocessor and one reads while the other computes; 64 channels at once where 384 are
    made; and the kernel for any GPU where a tap or two, or few channels, leave little to fetch ahead.
    """
    if kind != HOPPER_KIND or _is_small(layer):
        return other_tiling(layer)
    if layer.taps == (3, 3, 3) and layer.made >= WIDE:
        return hopper_tiling(layer, depth=64, programs=1)
    return hopper_tiling(layer, warps=4)


def _is_small(layer: Layer) -> bool:
    """Whether Hopper's kernel gains nothing: it takes 0.08 ms longer to start."""
    few = layer.channels <= FEWEST_CHANNELS or (layer.channels >= WIDE and layer.made <= 32)
    return few or layer.taps[1:] == (1, 1) or (layer.stride == 2 and layer.channels >= WIDE)


def hopper_tiling(
    layer: Layer, positions: int = 128, most: int = 128, depth: int = 32, warps: int = 8, programs: int = 2
) -> Tiling:
    """For Hopper: at most so many channels made, and so many read, at once; 128 bytes of a row lie together."""
    depth = deepest(layer.channels, min(depth, 128 // layer.dtype.itemsize))
    return Tiling(positions, cut(layer.made, most), depth, warps, 6, hopper=True, programs=programs)


def other_tiling(layer: Layer, positions: int = 128, most: int = 128, depth: int = 32, stages: int = 3) -> Tiling:
    """For any GPU."""
    depth = depth * 2 // layer.dtype.itemsize
    return Tiling(positions, cut(layer.made, most), deepest(layer.channels, depth), 8, stages)


def cut(made: int, most: int) -> tuple[int, int]:
    """Channels made at once, as one or two powers of 2: those that leave the fewest unused, of equals the most."""
    pairs = [pair for pair in ((128, 64), (128, 0), (64, 32), (64, 0), (32, 0), (16, 0)) if sum(pair) <= most]
    return min(pairs, key=lambda pair: (-(-made // sum(pair)) * sum(pair), -sum(pair)))


def deepest(channels: int, most: int) -> int:
    """The largest power of 2 up to `most` that divides the channels."""
    return min(most, channels & -channels)


def _taps(weight: Tensor) -> tuple[int, int, int]:
    _, _, times, rows, columns = weight.shape
    return times, rows, columns


def _rows(weight: Tensor) -> Tensor:
    """[N, C, t, h, w] as [N, t·h·w·C]: no copy where channels lie beside each other."""
    return weight.permute(0, 2, 3, 4, 1).contiguous().flatten(1)


def _filled(x: Tensor) -> Tensor:
    """With zeros for the channels that a product takes in any case."""
    missing = FEWEST_CHANNELS - x.shape[1]
    if missing <= 0:
        return x
    shape = (x.shape[0], FEWEST_CHANNELS, *x.shape[2:])
    filled = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d).zero_()
    filled[:, : x.shape[1]] = x
    return filled


def _empty(x: Tensor, *shape: int) -> Tensor:
    return torch.empty((1, *shape), dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d)


def _told(number: int) -> str:
    """What Triton tells its compiler of a number."""
    return "1" if number == 1 else "a multiple of 16" if number % 16 == 0 else ""


def _ceil(total: int, each: int) -> int:
    return -(-total // each)
