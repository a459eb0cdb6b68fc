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

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from soundreel.models.kernels.float8_rows import FLOAT8, FLOAT8_MAX, SMALLEST_SCALE

LOG2_E = 1.4426950408889634
SPREAD_LOG2 = 8.0
"""Softmax weights are multiplied by 2⁸ before they are rounded."""

BLOCK = 128
"""Tokens that are packed at once, and keys of a step."""

QUERIES, WARPS, STAGES = 64, 4, 2
"""Measured best on an H200 of 60 combinations; see benchmarks/notes.md."""

STATISTICS_PARTS = 32


class Packed(NamedTuple):
    """Queries, keys and values in float8."""

    query: Tensor  # [B, H, L', d]
    query_scale: Tensor  # float32 [B, H, L'], with log₂(e)/√d in it
    key: Tensor  # [B, H, M', d]
    key_scale: Tensor  # float32 [B, H]
    value: Tensor  # [B, H, d, M'], tokens in the order of `order`
    value_scale: Tensor  # float32 [B, H, d]
    value_mean: Tensor  # float32 [B, H, d]


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


@triton.jit
def order(place):
    """The token stored at a place of the packed values: 16a + 8j + 2t + e at place 16a + 4t + 2j + e."""
    return place // 16 * 16 + place % 4 // 2 * 8 + place % 16 // 4 * 2 + place % 2


@triton.jit
def _attend(
    q_desc,
    q_scale_ptr,
    k_desc,
    k_scale_ptr,
    v_desc,
    v_scale_ptr,
    v_mean_ptr,
    out_ptr,
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
):
    batch_head = tl.program_id(1)
    batch, head = batch_head // heads, batch_head % heads
    first = tl.program_id(0) * QUERIES
    token = first + tl.arange(0, QUERIES)
    channel = tl.arange(0, HEAD)
    scale = tl.load(q_scale_ptr + batch_head * padded_queries + token) * tl.load(k_scale_ptr + batch_head)
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
    place = ((batch * queries + token[:, None]).to(tl.int64) * heads + head) * HEAD + channel[None, :]
    tl.store(out_ptr + place, out.to(out_ptr.dtype.element_ty), mask=token[:, None] < queries)


@triton.jit
def _statistics(x_ptr, out_ptr, tokens, heads, part, HEAD: tl.constexpr, TOKENS: tl.constexpr):
    """Sum, minimum and maximum of x [B, M, H, d] per channel, over one part of the tokens."""
    number, batch_head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    batch, head = batch_head // heads, batch_head % heads
    channel = tl.arange(0, HEAD)
    total = tl.zeros([HEAD], tl.float32)
    least, most = tl.full([HEAD], float("inf"), tl.float32), tl.full([HEAD], float("-inf"), tl.float32)
    for offset in range(0, part, TOKENS):
        token = number * part + offset + tl.arange(0, TOKENS)
        there = (token < tokens)[:, None]
        place = ((batch * tokens + token[:, None]) * heads + head) * HEAD + channel[None, :]
        x = tl.load(x_ptr + place, mask=there, other=0.0).to(tl.float32)
        total += tl.sum(x, 0)
        least = tl.minimum(least, tl.min(tl.where(there, x, float("inf")), 0))
        most = tl.maximum(most, tl.max(tl.where(there, x, float("-inf")), 0))
    out = out_ptr + (batch_head * tl.num_programs(0) + number) * 3 * HEAD + channel
    tl.store(out, total)
    tl.store(out + HEAD, least)
    tl.store(out + 2 * HEAD, most)


@triton.jit
def _pack_query(
    q_ptr,
    out_ptr,
    scale_ptr,
    tokens,
    padded,
    heads,
    factor,
    MAX: tl.constexpr,
    HEAD: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Round one block of queries, each row scaled to float8's range; padding rows are zeros."""
    block, batch_head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    batch, head = batch_head // heads, batch_head % heads
    token, channel = block * TOKENS + tl.arange(0, TOKENS), tl.arange(0, HEAD)
    place = ((batch * tokens + token[:, None]) * heads + head) * HEAD + channel[None, :]
    q = tl.load(q_ptr + place, mask=(token < tokens)[:, None], other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(q), 1), 1e-12) / MAX
    row = batch_head * padded + token
    tl.store(out_ptr + row[:, None] * HEAD + channel[None, :], (q / scale[:, None]).to(tl.float8e4nv))
    tl.store(scale_ptr + row, scale * factor)


@triton.jit
def _pack_key_value(
    k_ptr,
    v_ptr,
    k_mean_ptr,
    k_scale_ptr,
    v_mean_ptr,
    v_scale_ptr,
    k_out_ptr,
    v_out_ptr,
    tokens,
    padded,
    heads,
    HEAD: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Round one block of keys and values after subtracting their means, values transposed; padding tokens are zeros."""
    block, batch_head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    batch, head = batch_head // heads, batch_head % heads
    channel, place = tl.arange(0, HEAD), block * TOKENS + tl.arange(0, TOKENS)
    token = place
    source = ((batch * tokens + token[:, None]) * heads + head) * HEAD + channel[None, :]
    there = (token < tokens)[:, None]
    k = tl.load(k_ptr + source, mask=there, other=0.0).to(tl.float32)
    k = (k - tl.load(k_mean_ptr + batch_head * HEAD + channel)[None, :]) / tl.load(k_scale_ptr + batch_head)
    target = k_out_ptr + (batch_head * padded + place[:, None]) * HEAD + channel[None, :]
    tl.store(target, tl.where(there, k, 0.0).to(tl.float8e4nv))

    token = order(place)
    source = ((batch * tokens + token[:, None]) * heads + head) * HEAD + channel[None, :]
    there = (token < tokens)[:, None]
    v = tl.load(v_ptr + source, mask=there, other=0.0).to(tl.float32)
    v_mean = tl.load(v_mean_ptr + batch_head * HEAD + channel)[None, :]
    v = (v - v_mean) / tl.load(v_scale_ptr + batch_head * HEAD + channel)[None, :]
    target = v_out_ptr + (batch_head * HEAD + channel[:, None]) * padded + place[None, :]
    tl.store(target, tl.trans(tl.where(there, v, 0.0).to(tl.float8e4nv)))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """[B, L, H, d], [B, M, H, d], [B, M, H, d] → [B, L, H, d], d a power of 2 from 32."""
    return attend_packed(pack(query, key, value), query.shape[1], key.shape[1], query.dtype)


def pack(query: Tensor, key: Tensor, value: Tensor) -> Packed:
    """Queries [B, L, H, d], keys and values [B, M, H, d], in float8."""
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    key_mean, key_reach = _mean_and_reach(key)
    value_mean, value_reach = _mean_and_reach(value)
    key_scale = key_reach.amax(-1).clamp(min=SMALLEST_SCALE) / FLOAT8_MAX
    value_scale = value_reach.clamp(min=SMALLEST_SCALE) / FLOAT8_MAX
    batch, keys, heads, width = key.shape
    queries, padded_keys = padded(query.shape[1]), padded(keys)
    packed = Packed(
        query=query.new_empty(batch, heads, queries, width, dtype=FLOAT8),
        query_scale=query.new_empty(batch, heads, queries, dtype=torch.float32),
        key=key.new_empty(batch, heads, padded_keys, width, dtype=FLOAT8),
        key_scale=key_scale,
        value=key.new_empty(batch, heads, width, padded_keys, dtype=FLOAT8),
        value_scale=value_scale,
        value_mean=value_mean,
    )
    _pack_query[(queries // BLOCK, batch * heads)](
        query, packed.query, packed.query_scale, query.shape[1], queries, heads, LOG2_E * width**-0.5,
        MAX=FLOAT8_MAX, HEAD=width, TOKENS=BLOCK,
    )  # fmt: skip
    _pack_key_value[(padded_keys // BLOCK, batch * heads)](
        key, value, key_mean, key_scale, value_mean, value_scale, packed.key, packed.value, keys, padded_keys, heads,
        HEAD=width, TOKENS=BLOCK,
    )  # fmt: skip
    return packed


def attend_packed(packed: Packed, queries: int, keys: int, dtype: torch.dtype) -> Tensor:
    """The output [B, L, H, d] for the first `queries`, in `dtype`; keys after the first `keys` are padding."""
    batch, heads, _, width = packed.query.shape
    out = packed.query.new_empty(batch, queries, heads, width, dtype=dtype)
    padded_queries, padded_keys = packed.query.shape[2], packed.key.shape[2]
    _attend[(triton.cdiv(queries, QUERIES), batch * heads)](
        TensorDescriptor.from_tensor(packed.query.view(-1, width), [QUERIES, width]), packed.query_scale,
        TensorDescriptor.from_tensor(packed.key.view(-1, width), [BLOCK, width]), packed.key_scale,
        TensorDescriptor.from_tensor(packed.value.view(-1, padded_keys), [width, BLOCK]),
        packed.value_scale, packed.value_mean, out, queries, padded_queries, keys, padded_keys, heads,
        SPREAD=SPREAD_LOG2, HEAD=width, QUERIES=QUERIES, KEYS=BLOCK, STAGES=STAGES, num_warps=WARPS,
    )  # fmt: skip
    return out


def _mean_and_reach(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the tokens of [B, M, H, d] and the largest absolute difference from it: float32 [B, H, d] each."""
    total, least, most = statistics(x).unbind(2)
    mean = total / x.shape[1]
    return mean, torch.maximum(most - mean, mean - least)


def statistics(x: Tensor) -> Tensor:
    """Sum, minimum and maximum over the tokens of [B, M, H, d]: float32 [B, H, 3, d]."""
    x = x.contiguous()
    batch, tokens, heads, width = x.shape
    parts = min(STATISTICS_PARTS, triton.cdiv(tokens, BLOCK))
    part = triton.cdiv(triton.cdiv(tokens, parts), 64) * 64
    found = x.new_empty(batch, heads, parts, 3, width, dtype=torch.float32)
    _statistics[(parts, batch * heads)](x, found, tokens, heads, part, HEAD=width, TOKENS=64)
    total, least, most = found.unbind(3)
    return torch.stack([total.sum(2), least.amin(2), most.amax(2)], dim=2)


def padded(tokens: int) -> int:
    """Whole blocks."""
    return int(triton.cdiv(tokens, BLOCK) * BLOCK)
