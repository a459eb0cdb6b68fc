"""The VAE's convolutions as Triton kernels: matrix products whose rows are read where they lie, tap by tap.

A convolution multiplies [positions, taps·C] by [taps·C, N]. One program makes a patch of positions of one frame and
some channels; it never writes the left matrix down, but reads for each tap the patch that the tap sees, zeros where
that lies outside the picture. Sums are float32. How a layer is cut is a function of its shape, its type and the kind of
GPU, and the order of its sums one of the layer alone: neither depends on anything measured while a program runs, nor on
how many frames come at once. What the functions compute stands in `convolution_plain`.

A picture that is enlarged before its convolution is not made: of the 3×3 taps over repeated pixels those that see the
same pixel add up, which leaves 2×2 taps over the small picture, other ones for each of the four places a pixel goes to.

`convolution_hopper` has a second kernel, for GPUs whose matrix units read shared memory.

Legend: features are [1, C, t, H, W], channels beside each other in memory; N channels that are made.
"""

from importlib import import_module
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from soundreel.models.kernels.ahead import compiled_ahead, starting

__all__ = ["compiled_ahead", "convolve", "double", "enlarge", "halve"]

HOPPER = "soundreel.models.kernels.convolution_hopper"

HOPPER_KIND = 9, 0

ANY_KIND = 8, 0
"""Stands for GPUs without a kernel of their own, and for those whose own does not work here."""

without_own_kernel: set[tuple[tuple[int, int], torch.dtype]] = set()
"""Kinds of GPU, and types, whose own kernel was found wanting: Triton is too old for it, or it is wrong."""

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
        patches = triton.cdiv(height, patch[0]) * triton.cdiv(width, patch[1])
        return int(triton.cdiv(self.out.shape[1], sum(tiling.channels)) * self.phases * self.out.shape[2] * patches)


@triton.jit
def _read_weights(rows_ptr, first, last, at, LENGTH: tl.constexpr, MADE: tl.constexpr, DEPTH: tl.constexpr):
    """[MADE, DEPTH] of the weights' rows from `first` on."""
    row = first + tl.arange(0, MADE)
    place = row[:, None] * LENGTH + at + tl.arange(0, DEPTH)[None, :]
    return tl.load(rows_ptr + place, mask=(row < last)[:, None], other=0.0)


@triton.jit
def _store(
    total,
    first,
    made,
    bias_ptr,
    residual_ptr,
    out_ptr,
    place,
    there,
    BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    MADE: tl.constexpr,
):
    channel = first + tl.arange(0, MADE)
    inside = there[:, None] & (channel < made)[None, :]
    at = place[:, None] + channel[None, :]
    if BIAS:
        total += tl.load(bias_ptr + channel, mask=channel < made, other=0.0).to(tl.float32)[None, :]
    if RESIDUAL:
        total += tl.load(residual_ptr + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + at, total.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["frames", "height", "width", "pad_top", "pad_left", "in_height", "in_width"])
def _convolve(
    x_ptr,
    rows_ptr,
    bias_ptr,
    residual_ptr,
    out_ptr,
    made,
    frames,
    height,
    width,
    pad_top,
    pad_left,
    in_height,
    in_width,
    in_frame,
    in_row,
    in_place,
    out_frame,
    out_row,
    out_place,
    BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    CHANNELS: tl.constexpr,
    TIMES: tl.constexpr,
    TAP_ROWS: tl.constexpr,
    TAP_COLUMNS: tl.constexpr,
    TIME_STRIDE: tl.constexpr,
    STRIDE: tl.constexpr,
    PHASES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    MADE: tl.constexpr,
    MORE: tl.constexpr,
    DEPTH: tl.constexpr,
    STAGES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Programs that read the same features run together: first all channels, then all frames of a patch."""
    number = tl.program_id(0)
    blocks = tl.cdiv(made, MADE + MORE)
    first = number % blocks * (MADE + MORE)
    number = number // blocks
    phase = number % PHASES
    number = number // PHASES
    frame = number % frames
    number = number // frames
    patches = tl.cdiv(width, COLUMNS)
    row, column = number // patches * ROWS, number % patches * COLUMNS
    if PHASES == 4:
        pad_top, pad_left = 1 - phase // 2, 1 - phase % 2
        out_ptr += phase // 2 * (out_row // 2) + phase % 2 * (out_place // 2)

    TAPS: tl.constexpr = TIMES * TAP_ROWS * TAP_COLUMNS
    STEPS: tl.constexpr = CHANNELS // DEPTH
    weight_row, last_row = phase * made + first, (phase + 1) * made
    position = tl.arange(0, ROWS * COLUMNS)
    y, z = row + position // COLUMNS, column + position % COLUMNS
    x_ptr += (frame * TIME_STRIDE).to(tl.int64) * in_frame
    seen = ((y * STRIDE - pad_top) * in_row + (z * STRIDE - pad_left) * in_place)[:, None] + tl.arange(0, DEPTH)[
        None, :
    ]
    total = tl.zeros([ROWS * COLUMNS, MADE], tl.float32)
    if MORE:
        total_more = tl.zeros([ROWS * COLUMNS, MORE], tl.float32)
    for step in tl.range(0, TAPS * STEPS, num_stages=STAGES):
        tap, channel = step // STEPS, step % STEPS * DEPTH
        tap_column, tap_row = tap % TAP_COLUMNS, tap // TAP_COLUMNS % TAP_ROWS
        time = tap // (TAP_COLUMNS * TAP_ROWS)
        above, left = y * STRIDE + tap_row - pad_top, z * STRIDE + tap_column - pad_left
        there = (above >= 0) & (above < in_height) & (left >= 0) & (left < in_width)
        tap_ptr = x_ptr + time * in_frame.to(tl.int64) + (tap_row * in_row + tap_column * in_place + channel)
        patch = tl.load(tap_ptr + seen, mask=there[:, None], other=0.0)
        at = tap * CHANNELS + channel
        block = _read_weights(rows_ptr, weight_row, last_row, at, TAPS * CHANNELS, MADE, DEPTH)
        total = tl.dot(patch, block.T, total, input_precision=PRECISION)
        if MORE:
            block_more = _read_weights(rows_ptr, weight_row + MADE, last_row, at, TAPS * CHANNELS, MORE, DEPTH)
            total_more = tl.dot(patch, block_more.T, total_more, input_precision=PRECISION)

    there = (y < height) & (z < width)
    place = y * out_row + z * out_place
    out_ptr += frame.to(tl.int64) * out_frame
    residual_ptr += frame.to(tl.int64) * out_frame
    _store(total, first, made, bias_ptr, residual_ptr, out_ptr, place, there, BIAS, RESIDUAL, MADE)
    if MORE:
        _store(total_more, first + MADE, made, bias_ptr, residual_ptr, out_ptr, place, there, BIAS, RESIDUAL, MORE)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, residual: Tensor | None = None, time_stride: int = 1
) -> Tensor:
    """See `convolution_plain.convolve`."""
    x, weight = _filled(x), _filled(weight)
    frames = (x.shape[2] - weight.shape[2]) // time_stride + 1
    out = _empty(x, weight.shape[0], frames, x.shape[3], x.shape[4])
    if residual is not None and residual.stride()[1:] != out.stride()[1:]:
        residual = residual.contiguous(memory_format=torch.channels_last_3d)
    launch(Geometry(x, _rows(weight), bias, residual, out, _taps(weight), time_stride=time_stride))
    return out


def double(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """See `convolution_plain.double`."""
    half = weight.shape[0] // 2
    out = _empty(x, half, 2 * (x.shape[2] - weight.shape[2] + 1), x.shape[3], x.shape[4])
    for k in range(2):
        part = slice(k * half, (k + 1) * half)
        made = out[:, :, k::2]
        launch(Geometry(x, _rows(weight[part]), None if bias is None else bias[part], None, made, _taps(weight)))
    return out


def halve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """See `convolution_plain.halve`."""
    out = _empty(x, weight.shape[0], x.shape[2], (x.shape[3] - 2) // 2 + 1, (x.shape[4] - 2) // 2 + 1)
    launch(Geometry(x, _rows(weight[:, :, None]), bias, None, out, (1, 3, 3), stride=2))
    return out


def enlarge(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """See `convolution_plain.enlarge`."""
    out = _empty(x, weight.shape[0], x.shape[2], 2 * x.shape[3], 2 * x.shape[4])
    launch(Geometry(x, phase_weights(weight), bias, None, out, (1, 2, 2), phases=4))
    return out


def phase_weights(weight: Tensor) -> Tensor:
    """[N, C, 3, 3] over repeated pixels as [4·N, 2·2·C] over pixels: for results at even and odd rows and columns."""
    taps = weight.permute(0, 2, 3, 1).float()  # [N, 3, 3, C]
    paired = _paired(_paired(taps, 1), 3)  # [N, 2, 2, 2, 2, C]: row phase, row tap, column phase, column tap
    return paired.permute(1, 3, 0, 2, 4, 5).flatten(0, 2).flatten(1).to(weight.dtype)


def _paired(taps: Tensor, dim: int) -> Tensor:
    """Three taps as two, at even and at odd places: the pixel before and this one, this one and the pixel after."""
    one, two, three = taps.unbind(dim)
    pairs = [torch.stack([one, two + three], dim), torch.stack([one + two, three], dim)]
    return torch.stack(pairs, dim)


def launch(given: Geometry, tiling: Tiling | None = None) -> None:
    """Compute `given.out`, cut as the tables below say if not told how."""
    tiling = tiling or choose_tiling(given.layer, kind_of(given.x.device, given.x.dtype))
    if tiling.hopper and any(side % given.stride for side in given.x.shape[3:]):
        tiling = other_tiling(given.layer)  # Hopper's kernel sees rows and columns in pairs; the VAE's are even
    patch = choose_patch(tiling.positions, *given.places)
    if tiling.hopper:
        import_module(HOPPER).launch(given, tiling, patch)
        return
    out = given.out
    starting(_convolve, given.programs(tiling, patch))(
        given.x,
        given.rows,
        out if given.bias is None else given.bias,
        out if given.residual is None else given.residual,
        out,
        out.shape[1],
        out.shape[2],
        *given.places,
        *given.padding,
        *given.x.shape[3:],
        *given.x.stride()[2:],
        *given.out_steps,
        BIAS=given.bias is not None,
        RESIDUAL=given.residual is not None,
        CHANNELS=given.x.shape[1],
        TIMES=given.taps[0],
        TAP_ROWS=given.taps[1],
        TAP_COLUMNS=given.taps[2],
        TIME_STRIDE=given.time_stride,
        STRIDE=given.stride,
        PHASES=given.phases,
        ROWS=patch[0],
        COLUMNS=patch[1],
        MADE=tiling.channels[0],
        MORE=tiling.channels[1],
        DEPTH=tiling.depth,
        STAGES=tiling.stages,
        PRECISION=tiling.precision,
        num_warps=tiling.warps,
    )


def choose_patch(positions: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a patch: those that leave the fewest positions outside; of equals the nearest to a square."""
    sides = [(positions // columns, columns) for columns in COLUMNS]

    def cost(side: tuple[int, int]) -> tuple[int, int]:
        return int(triton.cdiv(height, side[0]) * triton.cdiv(width, side[1])), sum(side)

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


def kind_of(device: torch.device, dtype: torch.dtype) -> tuple[int, int]:
    """The compute capability of an NVIDIA GPU whose own kernel works, else that of an old one."""
    if device.type != "cuda" or torch.version.hip is not None:
        return ANY_KIND
    kind = torch.cuda.get_device_capability(device)
    return ANY_KIND if (kind, dtype) in without_own_kernel else kind


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
