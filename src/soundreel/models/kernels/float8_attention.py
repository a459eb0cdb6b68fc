"""Attention with float8 products: softmax(q·kᵀ/√d)·v as a Triton kernel for GPUs with float8 matrix units.

Before rounding, the mean over the tokens is subtracted from keys (softmax ignores what is added to all scores of a
query) and from values (softmax weights sum to 1, so it is added to the output); source: SageAttention 2, arXiv
2411.10958. Queries have a scale per row, keys per head (float8 has exponents, so scales per block of keys would gain
nothing), values per channel. Softmax weights are multiplied by 256 before rounding, to use float8's range. Sums over
blocks of keys are float32.

What makes it fast on Hopper: values are stored transposed, with their tokens in the order in which a thread holds the
weights of a row, so that weights become an operand without leaving their registers. Three programs share a
multiprocessor, one waiting for products while others compute weights: 168 registers each. A quarter of the powers of
two is computed by a parabola, because the special function unit is as busy as the matrix units.

Legend: B batch, L queries, M keys, H heads, d head width; L', M' rounded up to whole blocks.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from soundreel.models.kernels.float8_packing import BLOCK, MARGIN, Packed, pack, pack_projected
from soundreel.models.kernels.float8_rows import FLOAT8_MAX, SMALLEST_SCALE, Float8Rows
from soundreel.models.kernels.projected import Projected

SPREAD_LOG2 = 8.0
"""Softmax weights are multiplied by 2⁸ before they are rounded."""

QUERIES, WARPS, STAGES = 64, 4, 2
"""Measured best on an H200 of 60 combinations; see benchmarks/notes.md."""


@triton.jit
def _parabola(x):
    """2^x with a relative error of at most 0.2 %, below float8's rounding."""
    x = tl.maximum(x, -126.0)
    shifted = x + 12582912.0  # 1.5·2²³: the last bits are now x, rounded to a whole number
    fraction = x - (shifted - 12582912.0)
    power = (0.2402265 * fraction + 0.6951786) * fraction + 1.0
    exponent = shifted.to(tl.int32, bitcast=True) << 23
    return (power.to(tl.int32, bitcast=True) + exponent).to(tl.float32, bitcast=True)


@triton.jit
def _exp2(x, QUERIES: tl.constexpr, KEYS: tl.constexpr):
    """2^x, every fourth group of 8 columns by `_parabola`."""
    exact, others = tl.split(tl.permute(tl.reshape(x, (QUERIES, KEYS // 16, 2, 8)), (0, 1, 3, 2)))
    more, rough = tl.split(tl.permute(tl.reshape(others, (QUERIES, KEYS // 32, 2, 8)), (0, 1, 3, 2)))
    others = tl.permute(tl.join(tl.math.exp2(more), _parabola(rough)), (0, 1, 3, 2))
    both = tl.join(tl.math.exp2(exact), tl.reshape(others, (QUERIES, KEYS // 16, 8)))
    return tl.reshape(tl.permute(both, (0, 1, 3, 2)), (QUERIES, KEYS))


@triton.jit
def _operand(weights, QUERIES: tl.constexpr, KEYS: tl.constexpr):
    """Weights in float8, columns in the order of `order`, that of an operand in registers on Hopper and Ada."""
    small = tl.reshape(weights.to(tl.float8e4nv), (QUERIES, KEYS // 16, 2, 4, 2))
    return tl.reshape(tl.permute(small, (0, 1, 3, 2, 4)), (QUERIES, KEYS))


@triton.jit(do_not_specialize=["queries", "keys", "heads"])
def _attend(
    q_desc,
    q_scale_ptr,
    k_desc,
    k_scale_ptr,
    v_desc,
    v_scale_ptr,
    v_mean_ptr,
    v_bound_ptr,
    out_ptr,
    out_scale_ptr,
    queries,
    padded_queries,
    keys,
    padded_keys,
    heads,
    SPREAD: tl.constexpr,
    HEAD: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    STAGES: tl.constexpr,
    FLOAT8: tl.constexpr,
    LARGEST: tl.constexpr,
    SMALLEST: tl.constexpr,
    HEADS: tl.constexpr,
):
    batch_head = tl.program_id(1)
    batch, head = batch_head // heads, batch_head % heads
    first = tl.program_id(0) * QUERIES
    token = first + tl.arange(0, QUERIES)
    channel = tl.arange(0, HEAD)
    scale = tl.load(q_scale_ptr + (batch * padded_queries + token) * heads + head) * tl.load(k_scale_ptr + batch_head)
    query = q_desc.load([batch_head * padded_queries + first, 0])
    k_row, v_row = batch_head * padded_keys, batch_head * HEAD

    largest = tl.full([QUERIES], float("-inf"), tl.float32)
    totals = tl.zeros([QUERIES, 8], tl.float32)  # of every eighth column: whole rows would cross threads each time
    summed = tl.zeros([QUERIES, HEAD], tl.float32)
    whole = keys // KEYS
    for block in tl.range(0, whole, num_stages=STAGES):
        scores = tl.dot(query, k_desc.load([k_row + block * KEYS, 0]).T)
        higher = tl.maximum(largest, tl.max(scores, 1) * scale - SPREAD)
        weights = _exp2(scores * scale[:, None] - higher[:, None], QUERIES, KEYS)
        shrink = tl.math.exp2(largest - higher)
        totals = totals * shrink[:, None] + tl.sum(tl.reshape(weights, (QUERIES, KEYS // 8, 8)), 1)
        value = v_desc.load([v_row, block * KEYS])
        summed = summed * shrink[:, None] + tl.dot(_operand(weights, QUERIES, KEYS), value.T)
        largest = higher
    total = tl.sum(totals, 1)
    if whole * KEYS < keys:
        scores = tl.dot(query, k_desc.load([k_row + whole * KEYS, 0]).T)
        there = whole * KEYS + tl.arange(0, KEYS) < keys
        scores = tl.where(there[None, :], scores, float("-inf"))
        higher = tl.maximum(largest, tl.max(scores, 1) * scale - SPREAD)
        weights = tl.math.exp2(scores * scale[:, None] - higher[:, None])
        shrink = tl.math.exp2(largest - higher)
        total = total * shrink + tl.sum(weights, 1)
        value = v_desc.load([v_row, whole * KEYS])
        summed = summed * shrink[:, None] + tl.dot(_operand(weights, QUERIES, KEYS), value.T)

    v_scale = tl.load(v_scale_ptr + batch_head * HEAD + channel)
    mean = tl.load(v_mean_ptr + batch_head * HEAD + channel)
    out = summed / total[:, None] * v_scale[None, :] + mean[None, :]
    if FLOAT8:
        every = tl.arange(0, HEADS)
        bound = tl.max(tl.load(v_bound_ptr + batch * heads + every, mask=every < heads, other=0.0), 0)
        out_scale = tl.maximum(bound, SMALLEST) / LARGEST
        out = out / out_scale
        if head == 0:
            rows = tl.zeros([QUERIES], tl.float32) + out_scale
            tl.store(out_scale_ptr + batch * queries + token, rows, mask=token < queries)
    place = ((batch * queries + token[:, None]).to(tl.int64) * heads + head) * HEAD + channel[None, :]
    tl.store(out_ptr + place, out.to(out_ptr.dtype.element_ty), mask=token[:, None] < queries)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """[B, L, H, d], [B, M, H, d], [B, M, H, d] → [B, L, H, d], d a power of 2 from 32."""
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    attend_packed(pack(query, key, value), out, key.shape[1])
    return out


def attend_projected(query: Projected, key: Projected, value: Tensor, *, float8: bool) -> Tensor | Float8Rows:
    """Queries and keys [B, L, H·d] and [B, M, H·d] before their norm, values [B, M, H, d] → [B, L, H·d].

    With `float8` as float8 rows, which all have one scale: no output is larger than the largest value.
    """
    packed = pack_projected(query, key, value)
    batch, keys, heads, width = value.shape
    shape = (batch, query.x.shape[1], heads, width)
    if not float8:
        out = query.x.new_empty(shape)
        attend_packed(packed, out, keys)
        return out.flatten(-2)
    out, scale = packed.query.new_empty(shape), packed.query_scale.new_empty(batch, shape[1], 1)
    attend_packed(packed, out, keys, scale)
    return Float8Rows(out.flatten(-2), scale)


def attend_packed(packed: Packed, out: Tensor, keys: int, out_scale: Tensor | None = None) -> None:
    """Write the output [B, L, H, d]; keys after `keys` are padding. With `out_scale` [B, L, 1] in float8."""
    batch, queries, heads, width = out.shape
    padded_queries, padded_keys = packed.query.shape[2], packed.key.shape[2]
    _attend[(triton.cdiv(queries, QUERIES), batch * heads)](
        TensorDescriptor.from_tensor(packed.query.view(-1, width), [QUERIES, width]), packed.query_scale,
        TensorDescriptor.from_tensor(packed.key.view(-1, width), [BLOCK, width]), packed.key_scale,
        TensorDescriptor.from_tensor(packed.value.view(-1, padded_keys), [width, BLOCK]),
        packed.value_scale, packed.value_mean, packed.value_bound, out, packed.value_scale if out_scale is None else
        out_scale, queries, padded_queries, keys, padded_keys, heads,
        SPREAD=SPREAD_LOG2, HEAD=width, QUERIES=QUERIES, KEYS=BLOCK, STAGES=STAGES, FLOAT8=out_scale is not None,
        LARGEST=FLOAT8_MAX / MARGIN, SMALLEST=SMALLEST_SCALE,
        HEADS=1 if out_scale is None else triton.next_power_of_2(heads), num_warps=WARPS,
    )  # fmt: skip
