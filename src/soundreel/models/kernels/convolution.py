"""The VAE's convolutions as Triton kernels: matrix products whose rows are read where they lie, tap by tap.

A convolution multiplies [positions, taps·C] by [taps·C, N]. One program makes a patch of positions of one frame and
some channels; it never writes the left matrix down, but reads for each tap the patch that the tap sees, zeros where
that lies outside the picture. Sums are float32. How a layer is cut is a function of its shape, its type and the kind of
GPU, and the order of its sums one of the layer alone: neither depends on anything measured while a program runs, nor on
how many frames come at once (`convolution_layers`). What the functions compute stands in `convolution_plain`.

A picture that is enlarged before its convolution is not made: of the 3×3 taps over repeated pixels those that see the
same pixel add up, which leaves 2×2 taps over the small picture, other ones for each of the four places a pixel goes to.

`convolution_hopper` has a second kernel, for GPUs whose matrix units read shared memory.

Legend: features are [1, C, t, H, W], channels beside each other in memory; N channels that are made.
"""

from importlib import import_module
from typing import Final

import torch
import triton
import triton.language as tl

from soundreel.models.kernels.ahead import starting
from soundreel.models.kernels.convolution_layers import (
    ANY_KIND,
    HOPPER_KIND,
    Convolutions,
    Geometry,
    Tiling,
    choose_patch,
    choose_tiling,
)

__all__ = ["ANY_KIND", "HOPPER_KIND", "convolve", "double", "enlarge", "halve", "kind_of", "launch"]

HOPPER = "soundreel.models.kernels.convolution_hopper"

without_own_kernel: set[tuple[tuple[int, int], torch.dtype]] = set()
"""Kinds of GPU, and types, whose own kernel was found wanting: Triton is too old for it, or it is wrong."""


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


def launch(given: Geometry, tiling: Tiling | None = None) -> None:
    """Compute `given.out`, cut as `convolution_layers` says if not told how."""
    tiling = given.fitting(tiling or choose_tiling(given.layer, kind_of(given.x.device, given.x.dtype)))
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


def kind_of(device: torch.device, dtype: torch.dtype) -> tuple[int, int]:
    """The compute capability of an NVIDIA GPU whose own kernel works, else that of an old one."""
    if device.type != "cuda" or torch.version.hip is not None:
        return ANY_KIND
    kind = torch.cuda.get_device_capability(device)
    return ANY_KIND if (kind, dtype) in without_own_kernel else kind


_launched: Final = Convolutions(launch)

convolve, double = _launched.convolve, _launched.double
halve, enlarge = _launched.halve, _launched.enlarge
