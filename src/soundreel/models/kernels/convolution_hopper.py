"""The VAE's convolutions for Hopper GPUs, in Gluon, Triton's language one level below.

The same products as in `convolution`, but rows of features are fetched once for all taps above each other: in shared
memory the patch that the next row of taps sees begins one row further down. Fetches by the copy engine run some steps
ahead of the products, and the products of a step run while those of the next are prepared.

Legend as in `convolution`. A step is one frame, one column of taps and `DEPTH` channels.
"""

from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from soundreel.models.kernels.ahead import starting
from soundreel.models.kernels.convolution_layers import Geometry, Tiling

SHARED_MEMORY = 228 * 1024
"""Of a multiprocessor of Hopper, in bytes."""

REGISTERS = 65536
"""Of a multiprocessor, of which a thread has 255 at most."""

RESERVED = 2048
"""Of it for each program: 1 KiB that CUDA takes, and barriers."""


@gluon.jit
def _fetch(
    x,
    edge,
    weights,
    more_weights,
    patches,
    blocks,
    more_blocks,
    ready,
    step,
    wanted,
    frame,
    row,
    column,
    pad_top,
    pad_left,
    weight_row,
    CHANNELS: gl.constexpr,
    TAP_ROWS: gl.constexpr,
    TAP_COLUMNS: gl.constexpr,
    STRIDE: gl.constexpr,
    SHARED: gl.constexpr,
    ROWS: gl.constexpr,
    COLUMNS: gl.constexpr,
    MADE: gl.constexpr,
    MORE: gl.constexpr,
    DEPTH: gl.constexpr,
    STAGES: gl.constexpr,
):
    """Begin to fetch what a step multiplies."""
    STEPS: gl.constexpr = CHANNELS // DEPTH
    HELD: gl.constexpr = ROWS + SHARED - 1
    ITEM: gl.constexpr = x.dtype.primitive_bitwidth // 8
    SIZE: gl.constexpr = (HELD * COLUMNS + SHARED * (MADE + MORE)) * DEPTH * ITEM
    stage = step % STAGES
    tap, channel = step // STEPS, step % STEPS * DEPTH
    tap_column, rest = tap % TAP_COLUMNS, tap // TAP_COLUMNS
    tap_row, time = rest % (TAP_ROWS // SHARED), rest // (TAP_ROWS // SHARED)
    dy, dx = tap_row - pad_top, tap_column - pad_left
    ahead = ready.index(stage)
    mbarrier.expect(ahead, SIZE, pred=wanted)
    y, side_y, z, place = row + dy, 0, column + dx, channel
    if STRIDE == 2:
        y, side_y, z, place = row + dy // 2, dy % 2, column + dx // 2, dx % 2 * CHANNELS + channel
    patch = patches.index(stage * HELD)._reinterpret(x.dtype, [1, ROWS, 1, COLUMNS, DEPTH], x.layout)
    tma.async_copy_global_to_shared(x, [frame + time, y, side_y, z, place], ahead, patch, pred=wanted)
    if SHARED > 1:
        last = patches.index(stage * HELD + ROWS)._reinterpret(x.dtype, [1, SHARED - 1, 1, COLUMNS, DEPTH], edge.layout)
        tma.async_copy_global_to_shared(edge, [frame + time, y + ROWS, side_y, z, place], ahead, last, pred=wanted)
    for k in gl.static_range(SHARED):
        at = ((time * TAP_ROWS + tap_row + k) * TAP_COLUMNS + tap_column) * CHANNELS + channel
        tma.async_copy_global_to_shared(weights, [weight_row, at], ahead, blocks.index(stage * SHARED + k), pred=wanted)
        if MORE > 0:
            tma.async_copy_global_to_shared(
                more_weights, [weight_row + MADE, at], ahead, more_blocks.index(stage * SHARED + k), pred=wanted
            )


@gluon.jit
def _store(
    total,
    first,
    made,
    bias_ptr,
    residual_ptr,
    out_ptr,
    row,
    column,
    height,
    width,
    out_row,
    out_place,
    BIAS: gl.constexpr,
    RESIDUAL: gl.constexpr,
    ROWS: gl.constexpr,
    COLUMNS: gl.constexpr,
    MADE: gl.constexpr,
    WARPS: gl.constexpr,
):
    WIDE: gl.constexpr = 8 if MADE >= 32 else 4
    layout: gl.constexpr = gl.BlockedLayout([1, WIDE], [32 * WIDE // MADE, MADE // WIDE], [WARPS, 1], [1, 0])
    total = gl.convert_layout(total, layout)
    position = gl.arange(0, ROWS * COLUMNS, layout=gl.SliceLayout(1, layout))
    channel = first + gl.arange(0, MADE, layout=gl.SliceLayout(0, layout))
    y, z = row + position // COLUMNS, column + position % COLUMNS
    inside = ((y < height) & (z < width))[:, None] & (channel < made)[None, :]
    at = (y * out_row + z * out_place)[:, None] + channel[None, :]
    if BIAS:
        total += gl.load(bias_ptr + channel, mask=channel < made, other=0.0).to(gl.float32)[None, :]
    if RESIDUAL:
        total += gl.load(residual_ptr + at, mask=inside, other=0.0).to(gl.float32)
    gl.store(out_ptr + at, total.to(out_ptr.dtype.element_ty), mask=inside)


@gluon.jit(do_not_specialize=["frames", "height", "width", "pad_top", "pad_left"])
def _convolve(  # noqa: C901, PLR0912, PLR0915 - one kernel: what it has in flight stays in registers
    x,
    edge,
    weights,
    more_weights,
    bias_ptr,
    residual_ptr,
    out_ptr,
    made,
    frames,
    height,
    width,
    pad_top,
    pad_left,
    out_frame,
    out_row,
    out_place,
    BIAS: gl.constexpr,
    RESIDUAL: gl.constexpr,
    CHANNELS: gl.constexpr,
    TIMES: gl.constexpr,
    TAP_ROWS: gl.constexpr,
    TAP_COLUMNS: gl.constexpr,
    TIME_STRIDE: gl.constexpr,
    STRIDE: gl.constexpr,
    PHASES: gl.constexpr,
    SHARED: gl.constexpr,
    ROWS: gl.constexpr,
    COLUMNS: gl.constexpr,
    MADE: gl.constexpr,
    MORE: gl.constexpr,
    DEPTH: gl.constexpr,
    STAGES: gl.constexpr,
    PATCH_LAYOUT: gl.constexpr,
    WARPS: gl.constexpr,
):
    """Programs that read the same features run together: first all channels, then all frames of a patch."""
    number = gl.program_id(0)
    blocks_made = gl.cdiv(made, MADE + MORE)
    first = number % blocks_made * (MADE + MORE)
    number = number // blocks_made
    phase = number % PHASES
    number = number // PHASES
    frame = number % frames
    number = number // frames
    patches_wide = gl.cdiv(width, COLUMNS)
    row, column = number // patches_wide * ROWS, number % patches_wide * COLUMNS
    if PHASES == 4:
        pad_top, pad_left = 1 - phase // 2, 1 - phase % 2
        out_ptr += phase // 2 * (out_row // 2) + phase % 2 * (out_place // 2)
    weight_row = phase * made + first
    source = frame * TIME_STRIDE

    HELD: gl.constexpr = ROWS + SHARED - 1
    COUNT: gl.constexpr = TIMES * (TAP_ROWS // SHARED) * TAP_COLUMNS * (CHANNELS // DEPTH)
    PRODUCTS: gl.constexpr = SHARED * (2 if MORE > 0 else 1)
    POSITIONS: gl.constexpr = ROWS * COLUMNS
    patches = gl.allocate_shared_memory(x.dtype, [STAGES * HELD, COLUMNS, DEPTH], PATCH_LAYOUT)
    blocks = gl.allocate_shared_memory(x.dtype, [STAGES * SHARED, MADE, DEPTH], weights.layout)
    more_blocks = blocks
    layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, MADE, 256 // x.dtype.primitive_bitwidth])
    total = gl.zeros([POSITIONS, MADE], gl.float32, layout)
    if MORE > 0:
        more_blocks = gl.allocate_shared_memory(x.dtype, [STAGES * SHARED, MORE, DEPTH], more_weights.layout)
        more_layout: gl.constexpr = gl.NVMMADistributedLayout(
            [3, 0], [WARPS, 1], [16, MORE, 256 // x.dtype.primitive_bitwidth]
        )
        total_more = gl.zeros([POSITIONS, MORE], gl.float32, more_layout)
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for k in gl.static_range(STAGES):
        mbarrier.init(ready.index(k), count=1)
    for k in gl.static_range(STAGES - 1):
        _fetch(
            x, edge, weights, more_weights, patches, blocks, more_blocks, ready, k, k < COUNT,
            source, row, column, pad_top, pad_left, weight_row,
            CHANNELS, TAP_ROWS, TAP_COLUMNS, STRIDE, SHARED, ROWS, COLUMNS, MADE, MORE, DEPTH, STAGES,
        )  # fmt: skip
    for step in range(COUNT):
        stage = step % STAGES
        mbarrier.wait(ready.index(stage), step // STAGES & 1)
        for k in gl.static_range(SHARED):
            patch = patches.index(stage * HELD + k)._reinterpret(x.dtype, [POSITIONS, DEPTH], PATCH_LAYOUT)
            block = blocks.index(stage * SHARED + k).permute((1, 0))
            total = warpgroup_mma(patch, block, total, is_async=True)
            if MORE > 0:
                block_more = more_blocks.index(stage * SHARED + k).permute((1, 0))
                total_more = warpgroup_mma(patch, block_more, total_more, is_async=True)
        if MORE > 0:  # the products of the step before are done: its place is free
            total, total_more = warpgroup_mma_wait(PRODUCTS, deps=(total, total_more))
        else:
            total = warpgroup_mma_wait(PRODUCTS, deps=(total,))
        _fetch(
            x, edge, weights, more_weights, patches, blocks, more_blocks, ready,
            step + STAGES - 1, step + STAGES - 1 < COUNT,
            source, row, column, pad_top, pad_left, weight_row,
            CHANNELS, TAP_ROWS, TAP_COLUMNS, STRIDE, SHARED, ROWS, COLUMNS, MADE, MORE, DEPTH, STAGES,
        )  # fmt: skip

    out_ptr += frame.to(gl.int64) * out_frame
    residual_ptr += frame.to(gl.int64) * out_frame
    if MORE > 0:
        total, total_more = warpgroup_mma_wait(0, deps=(total, total_more))
    else:
        total = warpgroup_mma_wait(0, deps=(total,))
    for k in gl.static_range(STAGES):
        mbarrier.invalidate(ready.index(k))
    _store(
        total, first, made, bias_ptr, residual_ptr, out_ptr, row, column, height, width, out_row, out_place,
        BIAS, RESIDUAL, ROWS, COLUMNS, MADE, WARPS,
    )  # fmt: skip
    if MORE > 0:
        _store(
            total_more, first + MADE, made, bias_ptr, residual_ptr, out_ptr, row, column, height, width,
            out_row, out_place, BIAS, RESIDUAL, ROWS, COLUMNS, MORE, WARPS,
        )  # fmt: skip


def launch(given: Geometry, tiling: Tiling, patch: tuple[int, int]) -> None:
    """Compute `given.out`, cut by `tiling` and in patches of so many rows and columns."""
    out, stride = given.out, given.stride
    shared = given.taps[1] if stride == 1 else 1
    _, channels, frames, height, width = given.x.shape
    _, _, in_frame, in_row, in_place = given.x.stride()

    def features(rows: int) -> TensorDescriptor:
        """[t, H/s, s, W/s, s·C], so that a stride of s is a step of one."""
        return TensorDescriptor(
            given.x,
            [frames, height // stride, stride, width // stride, stride * channels],
            [in_frame, stride * in_row, in_row, stride * in_place, 1],
            [1, rows, 1, patch[1], tiling.depth],
            _layout(given.x, tiling.depth, 5),
        )

    held = ((patch[0] + shared - 1) * patch[1] + shared * sum(tiling.channels)) * tiling.depth * given.x.element_size()
    stages = max(2, min(tiling.stages, (SHARED_MEMORY // tiling.programs - RESERVED) // held))
    layout = _layout(given.x, tiling.depth, 2)
    weights, more = (
        TensorDescriptor.from_tensor(given.rows, [count or tiling.channels[0], tiling.depth], layout)
        for count in tiling.channels
    )
    starting(_convolve, given.programs(tiling, patch))(
        features(patch[0]),
        features(max(1, shared - 1)),
        weights,
        more,
        out if given.bias is None else given.bias,
        out if given.residual is None else given.residual,
        out,
        out.shape[1],
        out.shape[2],
        *given.places,
        *given.padding,
        *given.out_steps,
        BIAS=given.bias is not None,
        RESIDUAL=given.residual is not None,
        CHANNELS=channels,
        TIMES=given.taps[0],
        TAP_ROWS=given.taps[1],
        TAP_COLUMNS=given.taps[2],
        TIME_STRIDE=given.time_stride,
        STRIDE=stride,
        PHASES=given.phases,
        SHARED=shared,
        ROWS=patch[0],
        COLUMNS=patch[1],
        MADE=tiling.channels[0],
        MORE=tiling.channels[1],
        DEPTH=tiling.depth,
        STAGES=stages,
        PATCH_LAYOUT=layout,
        WARPS=tiling.warps,
        num_warps=tiling.warps,
        maxnreg=min(255, REGISTERS // (32 * tiling.warps * tiling.programs)),
    )


def _layout(x: Tensor, depth: int, rank: int) -> gl.NVMMASharedLayout:
    """Of [.., depth] in shared memory as matrix units read it."""
    return gl.NVMMASharedLayout(min(128, depth * x.element_size()), 8 * x.element_size(), rank)
