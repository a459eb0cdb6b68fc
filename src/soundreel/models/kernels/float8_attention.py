"""Attention with float8 products: softmax(q·kᵀ/√d)·v as a Triton kernel for GPUs with float8 matrix units.

Before they are rounded, keys lose their mean over the tokens (it adds the same to all scores of a query, which softmax
does not see) and values theirs (softmax weights sum to 1, so it is added back to the output). Queries are scaled row
by row, keys by blocks of tokens, values by channel. Weights are rounded after softmax, times 256: float8 has no finer
numbers below 1 than that makes use of. Sums are formed in float32.
Source of the smoothing: SageAttention 2 (arXiv 2411.10958).

Legend: B batch, L queries, M keys, M' = M rounded up to whole blocks, H heads, d head width.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from soundreel.models.kernels.rows import FLOAT8, FLOAT8_MAX

LOG2_E = 1.4426950408889634
SPREAD_LOG2 = 8.0
"""Softmax weights are multiplied by 2⁸ before they are rounded."""

SMALLEST_SCALE = 1e-12
PACK_TOKENS = 128


class Tuning(NamedTuple):
    """Block sizes of a GPU."""

    queries: int
    keys: int
    warps: int
    stages: int


HOPPER = Tuning(queries=128, keys=128, warps=8, stages=3)


class Packed(NamedTuple):
    """Keys and values in float8."""

    key: Tensor  # [B, H, M', d]
    key_scale: Tensor  # float32 [B, H, M' / block]
    value: Tensor  # [B, H, d, M']
    value_scale: Tensor  # float32 [B, H, d]
    value_mean: Tensor  # float32 [B, H, d]


@triton.jit
def _attend(
    q_ptr,
    k_ptr,
    k_scale_ptr,
    v_ptr,
    v_scale_ptr,
    v_mean_ptr,
    out_ptr,
    queries,
    keys,
    padded,
    heads,
    softmax_scale,
    MAX: tl.constexpr,
    SPREAD: tl.constexpr,
    HEAD: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    STAGES: tl.constexpr,
    IMPRECISE: tl.constexpr,
):
    batch_head = tl.program_id(1).to(tl.int64)
    batch, head = batch_head // heads, batch_head % heads
    token = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    channel = tl.arange(0, HEAD)
    place = ((batch * queries + token[:, None]) * heads + head) * HEAD + channel[None, :]
    asked = token[:, None] < queries
    wide = tl.load(q_ptr + place, mask=asked, other=0.0).to(tl.float32)
    q_scale = tl.maximum(tl.max(tl.abs(wide), 1), 1e-12) / MAX
    query = (wide / q_scale[:, None]).to(tl.float8e4nv)
    q_scale *= softmax_scale

    column = tl.arange(0, KEYS)
    k_ptrs = k_ptr + batch_head * padded * HEAD + column[None, :] * HEAD + channel[:, None]
    v_ptrs = v_ptr + batch_head * padded * HEAD + column[:, None] + channel[None, :] * padded
    k_scale_ptr += batch_head * (padded // KEYS)
    largest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    summed = tl.zeros([QUERIES, HEAD], tl.float32)
    whole = keys // KEYS
    for block in tl.range(0, whole, num_stages=STAGES):
        key = tl.load(k_ptrs + block * KEYS * HEAD)
        scores = tl.dot(query, key)
        scale = q_scale * tl.load(k_scale_ptr + block)
        higher = tl.maximum(largest, tl.max(scores, 1) * scale - SPREAD)
        weights = tl.math.exp2(scores * scale[:, None] - higher[:, None])
        shrink = tl.math.exp2(largest - higher)
        total = total * shrink + tl.sum(weights, 1)
        value = tl.load(v_ptrs + block * KEYS)
        if IMPRECISE:
            summed = tl.dot(weights.to(tl.float8e4nv), value, summed * shrink[:, None])
        else:
            summed = summed * shrink[:, None] + tl.dot(weights.to(tl.float8e4nv), value)
        largest = higher
    if whole * KEYS < keys:
        scores = tl.dot(query, tl.load(k_ptrs + whole * KEYS * HEAD))
        scale = q_scale * tl.load(k_scale_ptr + whole)
        scores = tl.where((whole * KEYS + column < keys)[None, :], scores * scale[:, None], float("-inf"))
        higher = tl.maximum(largest, tl.max(scores, 1) - SPREAD)
        weights = tl.math.exp2(scores - higher[:, None])
        shrink = tl.math.exp2(largest - higher)
        total = total * shrink + tl.sum(weights, 1)
        value = tl.load(v_ptrs + whole * KEYS)
        summed = summed * shrink[:, None] + tl.dot(weights.to(tl.float8e4nv), value)
    scale = tl.load(v_scale_ptr + batch_head * HEAD + channel)
    mean = tl.load(v_mean_ptr + batch_head * HEAD + channel)
    out = summed / total[:, None] * scale[None, :] + mean[None, :]
    tl.store(out_ptr + place, out.to(out_ptr.dtype.element_ty), mask=asked)


@triton.jit
def _statistics(k_ptr, v_ptr, out_ptr, keys, heads, part, HEAD: tl.constexpr, TOKENS: tl.constexpr):
    """Sum of k, and sum, least and largest of v, by channel, over the tokens of one part."""
    number, batch_head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    batch, head = batch_head // heads, batch_head % heads
    channel = tl.arange(0, HEAD)
    k_sum, v_sum = tl.zeros([HEAD], tl.float32), tl.zeros([HEAD], tl.float32)
    least, most = tl.full([HEAD], float("inf"), tl.float32), tl.full([HEAD], float("-inf"), tl.float32)
    for offset in range(0, part, TOKENS):
        start = number * part + offset
        token = start + tl.arange(0, TOKENS)
        there = (token < keys)[:, None]
        place = ((batch * keys + token[:, None]) * heads + head) * HEAD + channel[None, :]
        k_sum += tl.sum(tl.load(k_ptr + place, mask=there, other=0.0).to(tl.float32), 0)
        v = tl.load(v_ptr + place, mask=there, other=0.0).to(tl.float32)
        v_sum += tl.sum(v, 0)
        least = tl.minimum(least, tl.min(tl.where(there, v, float("inf")), 0))
        most = tl.maximum(most, tl.max(tl.where(there, v, float("-inf")), 0))
    out = out_ptr + (batch_head * tl.num_programs(0) + number) * 4 * HEAD + channel
    tl.store(out, k_sum)
    tl.store(out + HEAD, v_sum)
    tl.store(out + 2 * HEAD, least)
    tl.store(out + 3 * HEAD, most)


@triton.jit
def _pack(
    k_ptr,
    v_ptr,
    k_mean_ptr,
    v_mean_ptr,
    v_scale_ptr,
    k_out_ptr,
    k_scale_ptr,
    v_out_ptr,
    keys,
    padded,
    heads,
    MAX: tl.constexpr,
    HEAD: tl.constexpr,
    KEYS: tl.constexpr,
):
    """One block of keys and values, smoothed and rounded; the values transposed."""
    block, batch_head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    batch, head = batch_head // heads, batch_head % heads
    channel = tl.arange(0, HEAD)
    token = block * KEYS + tl.arange(0, KEYS)
    there = (token < keys)[:, None]
    place = ((batch * keys + token[:, None]) * heads + head) * HEAD + channel[None, :]
    k = tl.load(k_ptr + place, mask=there, other=0.0).to(tl.float32)
    k = tl.where(there, k - tl.load(k_mean_ptr + batch_head * HEAD + channel)[None, :], 0.0)
    k_scale = tl.maximum(tl.max(tl.max(tl.abs(k), 1), 0), 1e-12) / MAX
    tl.store(k_scale_ptr + batch_head * (padded // KEYS) + block, k_scale)
    out = k_out_ptr + (batch_head * padded + token[:, None]) * HEAD + channel[None, :]
    tl.store(out, (k / k_scale).to(tl.float8e4nv))
    v = tl.load(v_ptr + place, mask=there, other=0.0).to(tl.float32)
    v_mean = tl.load(v_mean_ptr + batch_head * HEAD + channel)[None, :]
    v_scale = tl.load(v_scale_ptr + batch_head * HEAD + channel)[None, :]
    v = tl.where(there, (v - v_mean) / v_scale, 0.0)
    out = v_out_ptr + (batch_head * HEAD + channel[:, None]) * padded + token[None, :]
    tl.store(out, tl.trans(v.to(tl.float8e4nv)))


def pack(key: Tensor, value: Tensor, block: int) -> Packed:
    """Keys and values [B, M, H, d] in float8; `block` keys share a scale."""
    batch, keys, heads, head = key.shape
    key, value = key.contiguous(), value.contiguous()
    parts = min(32, triton.cdiv(keys, PACK_TOKENS))
    found = key.new_empty(batch * heads, parts, 4, head, dtype=torch.float32)
    part = triton.cdiv(triton.cdiv(keys, parts), 64) * 64
    _statistics[(parts, batch * heads)](key, value, found, keys, heads, part, HEAD=head, TOKENS=64)
    k_sum, v_sum, least, most = found.unbind(2)
    k_mean, v_mean = k_sum.sum(1) / keys, v_sum.sum(1) / keys
    reach = torch.maximum(most.amax(1) - v_mean, v_mean - least.amin(1))
    v_scale = reach.clamp(min=SMALLEST_SCALE) / FLOAT8_MAX
    padded = triton.cdiv(keys, block) * block
    packed = Packed(
        key=key.new_empty(batch, heads, padded, head, dtype=FLOAT8),
        key_scale=key.new_empty(batch, heads, padded // block, dtype=torch.float32),
        value=key.new_empty(batch, heads, head, padded, dtype=FLOAT8),
        value_scale=v_scale,
        value_mean=v_mean,
    )
    _pack[(padded // block, batch * heads)](
        key, value, k_mean, v_mean, v_scale, packed.key, packed.key_scale, packed.value, keys, padded, heads,
        MAX=FLOAT8_MAX, HEAD=head, KEYS=block,
    )  # fmt: skip
    return packed


def attend(query: Tensor, key: Tensor, value: Tensor, tuning: Tuning = HOPPER, **options: Any) -> Tensor:
    """[B, L, H, d], [B, M, H, d], [B, M, H, d] → [B, L, H, d], d a power of 2."""
    return attend_packed(query, pack(key, value, tuning.keys), key.shape[1], tuning, **options)


def attend_packed(
    query: Tensor, packed: Packed, keys: int, tuning: Tuning = HOPPER, *, imprecise: bool = False
) -> Tensor:
    """The same with packed keys and values, `keys` of them real."""
    batch, queries, heads, head = query.shape
    query = query.contiguous()
    out = torch.empty_like(query)
    _attend[(triton.cdiv(queries, tuning.queries), batch * heads)](
        query, packed.key, packed.key_scale, packed.value, packed.value_scale, packed.value_mean, out,
        queries, keys, packed.key.shape[2], heads, LOG2_E * head**-0.5,
        MAX=FLOAT8_MAX, SPREAD=SPREAD_LOG2, HEAD=head, QUERIES=tuning.queries, KEYS=tuning.keys,
        STAGES=tuning.stages, IMPRECISE=imprecise, num_warps=tuning.warps,
    )  # fmt: skip
    return out
