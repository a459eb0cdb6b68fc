"""The row operations as Triton kernels that read and write each row once: the functions of `reference`, same arguments.

One program processes one token.

Legend: B batch, L tokens, D = H·d width, H heads, d head width, N runs of tokens.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from soundreel.models.kernels.ahead import starting
from soundreel.models.kernels.few_keys import attend_few
from soundreel.models.kernels.float8_rows import FLOAT8, FLOAT8_MAX, SMALLEST_SCALE, Affine, Float8Rows, Gate
from soundreel.models.rope import Rotary

WARPS = 4
"""Of `_row`, twice as many for wide rows, and of `_rms_rotate`. Measured best; see benchmarks/notes.md."""

ROW_NUMBERS = [
    "length", "updated", "gate_batch", "gate_run", "gate_last", "affine_batch", "affine_run", "affine_last",
]  # fmt: skip
"""Arguments that `_row` is compiled for once, whatever they are, so that what was proven on a few rows is what runs on
many: Triton would compile again where one is a multiple of 16, or 1."""

__all__ = ["add", "add_norm", "attend_few", "gelu", "norm", "norm_silu", "quantize", "rms_norm"]

NORM_ELEMENTS = 4096
"""Elements that one program of `_norm_silu` processes, at least one place."""


@triton.jit(do_not_specialize=ROW_NUMBERS)
def _row(
    x_ptr,
    update_ptr,
    gate_ptr,
    scale_ptr,
    shift_ptr,
    sum_ptr,
    out_ptr,
    out_scale_ptr,
    length,
    updated,
    gate_batch,
    gate_run,
    gate_last,
    affine_batch,
    affine_run,
    affine_last,
    eps,
    UPDATE: tl.constexpr,
    GATE: tl.constexpr,
    NORM: tl.constexpr,
    GELU: tl.constexpr,
    QUANTIZE: tl.constexpr,
    MAX: tl.constexpr,
    SMALLEST: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Store x + gate·update; then store its layer norm with affine, or its GELU, plain or as a float8 row.

    The compiler knows the width, so that nothing is computed for places beyond it.
    """
    row = tl.program_id(0).to(tl.int64)
    batch = row // length
    token = row % length
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    x = tl.load(x_ptr + row * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    if UPDATE:
        changes = inside & (token < updated)
        place = (batch * updated + token) * WIDTH
        update = tl.load(update_ptr + place + column, mask=changes, other=0.0).to(tl.float32)
        if GATE:
            run = batch * gate_batch + tl.minimum(token // gate_run, gate_last)
            update *= tl.load(gate_ptr + run * WIDTH + column, mask=inside, other=0.0)
        x += update
        tl.store(sum_ptr + row * WIDTH + column, x, mask=inside)
    if NORM:
        mean = tl.sum(x, 0) / WIDTH
        centred = tl.where(inside, x - mean, 0.0)
        x = centred * tl.rsqrt(tl.sum(centred * centred, 0) / WIDTH + eps)
        run = batch * affine_batch + tl.minimum(token // affine_run, affine_last)
        scale = tl.load(scale_ptr + run * WIDTH + column, mask=inside, other=0.0)
        x = x * scale + tl.load(shift_ptr + run * WIDTH + column, mask=inside, other=0.0)
    if GELU:
        # 0.5·(1 + tanh(u)) = sigmoid(2u), u = √(2/π)·(x + 0.044715·x³)
        x = x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    if QUANTIZE:
        largest = tl.maximum(tl.max(tl.abs(x), 0), SMALLEST)
        x = x * (MAX / largest)
        tl.store(out_scale_ptr + row, largest / MAX)
    if NORM or GELU or QUANTIZE:
        tl.store(out_ptr + row * WIDTH + column, x.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def normed_heads(
    x_ptr,
    weight_ptr,
    cos_ptr,
    sin_ptr,
    row,
    token,
    eps,
    ROTATE: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    HEADS_BLOCK: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
):
    """One row of x after its RMS norm over all heads, rotated: float32 [HEADS_BLOCK, HEAD_BLOCK]."""
    head, place = tl.arange(0, HEADS_BLOCK)[:, None], tl.arange(0, HEAD_BLOCK)[None, :]
    column = head * HEAD + place
    inside = (head < HEADS) & (place < HEAD)
    x = tl.load(x_ptr + row * (HEADS * HEAD) + column, mask=inside, other=0.0).to(tl.float32)
    square = tl.sum(tl.sum(x * x, 1), 0) / (HEADS * HEAD)
    x = x * tl.rsqrt(square + eps) * tl.load(weight_ptr + column, mask=inside, other=0.0).to(tl.float32)
    if ROTATE:
        even, odd = tl.split(tl.reshape(x, (HEADS_BLOCK, HEAD_BLOCK // 2, 2)))
        pair = tl.arange(0, HEAD_BLOCK // 2)
        cos = tl.load(cos_ptr + token * (HEAD // 2) + pair, mask=pair < HEAD // 2, other=0.0)[None, :]
        sin = tl.load(sin_ptr + token * (HEAD // 2) + pair, mask=pair < HEAD // 2, other=0.0)[None, :]
        turned = tl.join(even * cos - odd * sin, even * sin + odd * cos)
        x = tl.reshape(turned, (HEADS_BLOCK, HEAD_BLOCK))
    return x


@triton.jit(do_not_specialize=["length"])
def _rms_rotate(
    x_ptr,
    weight_ptr,
    cos_ptr,
    sin_ptr,
    out_ptr,
    length,
    eps,
    ROTATE: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    HEADS_BLOCK: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    x = normed_heads(
        x_ptr, weight_ptr, cos_ptr, sin_ptr, row, row % length, eps, ROTATE, HEADS, HEAD, HEADS_BLOCK, HEAD_BLOCK
    )
    head, place = tl.arange(0, HEADS_BLOCK)[:, None], tl.arange(0, HEAD_BLOCK)[None, :]
    inside = (head < HEADS) & (place < HEAD)
    tl.store(out_ptr + (row * HEADS + head) * HEAD + place, x.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["places"])
def _norm_silu(x_ptr, gamma_ptr, out_ptr, places, channels, root, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """`ROWS` places of channels-last features."""
    place = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    inside = (place[:, None] < places) & (channel[None, :] < channels)
    at = place[:, None] * channels + channel[None, :]
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    length = tl.maximum(tl.sqrt(tl.sum(x * x, 1)), 1e-12)
    gamma = tl.load(gamma_ptr + channel, mask=channel < channels, other=0.0).to(tl.float32)
    x = x * (root / length)[:, None] * gamma[None, :]
    tl.store(out_ptr + at, (x * tl.sigmoid(x)).to(out_ptr.dtype.element_ty), mask=inside)


def norm(x: Tensor, affine: Affine, eps: float, dtype: torch.dtype, *, float8: bool = False) -> Tensor | Float8Rows:
    return _launch(x, affine=affine, eps=eps, dtype=dtype, float8=float8)[1]


def add(x: Tensor, update: Tensor, gate: Gate | None = None) -> Tensor:
    return _launch(x, update=update, gate=gate)[0]


def add_norm(
    x: Tensor,
    update: Tensor,
    gate: Gate | None,
    affine: Affine,
    eps: float,
    dtype: torch.dtype,
    *,
    float8: bool = False,
) -> tuple[Tensor, Tensor | Float8Rows]:
    return _launch(x, update=update, gate=gate, affine=affine, eps=eps, dtype=dtype, float8=float8)


def gelu(x: Tensor, *, float8: bool = False) -> Tensor | Float8Rows:
    return _launch(x, gelu=True, dtype=x.dtype, float8=float8)[1]


def quantize(x: Tensor) -> Float8Rows:
    made = _launch(x, float8=True)[1]
    assert isinstance(made, Float8Rows)
    return made


def rms_norm(x: Tensor, weight: Tensor, eps: float, rotary: Rotary | None, head_width: int) -> Tensor:
    batch, length, width = x.shape
    x, heads = x.contiguous(), width // head_width
    out = x.new_empty(batch, length, heads, head_width)
    cos, sin = (x, x) if rotary is None else (rotary.cos.contiguous(), rotary.sin.contiguous())
    _rms_rotate[(batch * length,)](
        x,
        weight,
        cos,
        sin,
        out,
        length,
        eps,
        ROTATE=rotary is not None,
        HEADS=heads,
        HEAD=head_width,
        HEADS_BLOCK=triton.next_power_of_2(heads),
        HEAD_BLOCK=triton.next_power_of_2(head_width),
        num_warps=WARPS,
    )
    return out


def norm_silu(x: Tensor, gamma: Tensor, out: Tensor) -> None:
    """As in `reference`; x and out are channels-last, one video."""
    x, channels = x.contiguous(memory_format=torch.channels_last_3d), x.shape[1]
    places = x.numel() // channels
    block = triton.next_power_of_2(channels)
    rows = max(1, NORM_ELEMENTS // block)
    programs = int(triton.cdiv(places, rows))
    starting(_norm_silu, programs)(
        x, gamma, out, places, channels, channels**0.5, ROWS=rows, CHANNELS=block, num_warps=4
    )


def _launch(
    x: Tensor,
    *,
    update: Tensor | None = None,
    gate: Gate | None = None,
    affine: Affine | None = None,
    gelu: bool = False,
    eps: float = 0.0,
    dtype: torch.dtype | None = None,
    float8: bool = False,
) -> tuple[Tensor, Tensor | Float8Rows]:
    """Launch `_row`: returns the sum x + gate·update (x without update), and its norm, GELU or rounded form, if any."""
    x = x.contiguous()
    batch, length, width = x.shape
    update = None if update is None else update.contiguous()
    total = x if update is None else torch.empty_like(x)
    makes = affine is not None or gelu or float8
    out = torch.empty_like(x, dtype=FLOAT8 if float8 else dtype) if makes else total
    out_scale = x.new_empty(batch, length, 1, dtype=torch.float32) if float8 else total
    factor = total if gate is None else gate.factor.contiguous()
    scale, shift = (total, total) if affine is None else (affine.scale.contiguous(), affine.shift.contiguous())
    _row[(batch * length,)](
        x,
        total if update is None else update,
        factor,
        scale,
        shift,
        total,
        out,
        out_scale,
        length,
        0 if update is None else update.shape[1],
        *((0, 1, 0) if gate is None else _runs(factor, gate.run)),
        *((0, 1, 0) if affine is None else _runs(scale, affine.run)),
        eps,
        UPDATE=update is not None,
        GATE=gate is not None,
        NORM=affine is not None,
        GELU=gelu,
        QUANTIZE=float8,
        MAX=FLOAT8_MAX,
        SMALLEST=SMALLEST_SCALE,
        WIDTH=width,
        BLOCK=triton.next_power_of_2(width),
        num_warps=WARPS * (1 if width <= 8192 else 2),
    )
    return total, Float8Rows(out, out_scale) if float8 else out


def _runs(values: Tensor, run: int) -> tuple[int, int, int]:
    """Runs between two batch items (0: all share them), tokens per run, index of the last run."""
    batch, count, _ = values.shape
    return count if batch > 1 else 0, run, count - 1
