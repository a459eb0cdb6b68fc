"""Queries, keys and values in float8, as `float8_attention` reads them: two ways, from tensors that are normed and
rotated already, or from projections that are normed, rotated and rounded at once.

Legend: B batch, L queries, M keys, H heads, d head width; L', M' rounded up to whole blocks.
"""

from typing import Final, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from soundreel.models.kernels.few_keys import LOG2_E
from soundreel.models.kernels.float8_rows import FLOAT8, FLOAT8_MAX, SMALLEST_SCALE
from soundreel.models.kernels.fused import normed_heads, rms_norm
from soundreel.models.kernels.projected import Projected
from soundreel.models.rope import Rotary

BLOCK: Final = 128
"""Tokens that are packed at once, and keys of a step."""

STATISTICS_PARTS: Final = 32
"""At most; a power of 2."""

COUNTS: Final = ["tokens", "heads"]
"""Kernels are compiled once for all counts of them, so that what was proven on a few is what runs, on any number of
GPUs: Triton would compile again where one is a multiple of 16, or 1."""

SAMPLED: Final = 16
"""Of so many projected keys one counts for their mean: any vector may be subtracted from all keys."""

MARGIN: Final = 1.125
"""By how much outputs may exceed the largest value, since softmax weights are rounded and their sum is not."""


class Packed(NamedTuple):
    """Queries, keys and values in float8."""

    query: Tensor  # [B, H, L', d]
    query_scale: Tensor  # float32 [B, L', H], with log₂(e)/√d in it
    key: Tensor  # [B, H, M', d]
    key_scale: Tensor  # float32 [B, H]
    value: Tensor  # [B, H, d, M'], tokens in the order of `order`
    value_scale: Tensor  # float32 [B, H, d]
    value_mean: Tensor  # float32 [B, H, d]
    value_bound: Tensor  # float32 [B, H], no value of a head is larger


class Summary(NamedTuple):
    """Of [B, M, H, d] over its tokens."""

    mean: Tensor  # float32 [B, H, d]
    scale: Tensor  # float32 [B, H, d], or [B, H] for a whole head: what differences from the mean are divided by
    bound: Tensor  # float32 [B, H], the largest absolute value of a head, or more


@triton.jit
def order(place):
    """The token stored at a place of the packed values: 16a + 8j + 2t + e at place 16a + 4t + 2j + e."""
    return place // 16 * 16 + place % 4 // 2 * 8 + place % 16 // 4 * 2 + place % 2


@triton.jit(do_not_specialize=COUNTS)
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


@triton.jit(do_not_specialize=["tokens", "parts"])
def _summarize(
    found_ptr,
    mean_ptr,
    scale_ptr,
    bound_ptr,
    tokens,
    parts,
    PER_HEAD: tl.constexpr,
    MAX: tl.constexpr,
    SMALLEST: tl.constexpr,
    PARTS: tl.constexpr,
    HEAD: tl.constexpr,
):
    """The parts of `_statistics` together, of one head."""
    batch_head = tl.program_id(0)
    part, channel = tl.arange(0, PARTS)[:, None], tl.arange(0, HEAD)
    found = found_ptr + (batch_head * parts + part) * 3 * HEAD + channel[None, :]
    there = part < parts
    mean = tl.sum(tl.load(found, mask=there, other=0.0), 0) / tokens
    least = tl.min(tl.load(found + HEAD, mask=there, other=float("inf")), 0)
    most = tl.max(tl.load(found + 2 * HEAD, mask=there, other=float("-inf")), 0)
    reach = tl.maximum(most - mean, mean - least)
    place = batch_head * HEAD + channel
    tl.store(mean_ptr + place, mean)
    if PER_HEAD:
        tl.store(scale_ptr + batch_head, tl.maximum(tl.max(reach, 0), SMALLEST) / MAX)
    else:
        tl.store(scale_ptr + place, tl.maximum(reach, SMALLEST) / MAX)
    tl.store(bound_ptr + batch_head, tl.max(tl.maximum(most, -least), 0))


@triton.jit(do_not_specialize=COUNTS)
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
    tl.store(scale_ptr + (batch * padded + token) * heads + head, scale * factor)


@triton.jit(do_not_specialize=COUNTS)
def _pack_key(k_ptr, mean_ptr, scale_ptr, out_ptr, tokens, padded, heads, HEAD: tl.constexpr, TOKENS: tl.constexpr):
    """Round one block of keys after subtracting their mean; padding tokens are zeros."""
    block, batch_head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    batch, head = batch_head // heads, batch_head % heads
    channel, token = tl.arange(0, HEAD), block * TOKENS + tl.arange(0, TOKENS)
    source = ((batch * tokens + token[:, None]) * heads + head) * HEAD + channel[None, :]
    there = (token < tokens)[:, None]
    k = tl.load(k_ptr + source, mask=there, other=0.0).to(tl.float32)
    k = (k - tl.load(mean_ptr + batch_head * HEAD + channel)[None, :]) / tl.load(scale_ptr + batch_head)
    target = out_ptr + (batch_head * padded + token[:, None]) * HEAD + channel[None, :]
    tl.store(target, tl.where(there, k, 0.0).to(tl.float8e4nv))


@triton.jit(do_not_specialize=COUNTS)
def _pack_value(v_ptr, mean_ptr, scale_ptr, out_ptr, tokens, padded, heads, HEAD: tl.constexpr, TOKENS: tl.constexpr):
    """Round one block of values after subtracting their mean, transposed; padding tokens are zeros."""
    block, batch_head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    batch, head = batch_head // heads, batch_head % heads
    channel, place = tl.arange(0, HEAD), block * TOKENS + tl.arange(0, TOKENS)
    token = order(place)
    source = ((batch * tokens + token[:, None]) * heads + head) * HEAD + channel[None, :]
    there = (token < tokens)[:, None]
    v = tl.load(v_ptr + source, mask=there, other=0.0).to(tl.float32)
    mean = tl.load(mean_ptr + batch_head * HEAD + channel)[None, :]
    v = (v - mean) / tl.load(scale_ptr + batch_head * HEAD + channel)[None, :]
    target = out_ptr + (batch_head * HEAD + channel[:, None]) * padded + place[None, :]
    tl.store(target, tl.trans(tl.where(there, v, 0.0).to(tl.float8e4nv)))


@triton.jit(do_not_specialize=["length"])
def _norm_pack(
    x_ptr,
    weight_ptr,
    cos_ptr,
    sin_ptr,
    mean_ptr,
    out_ptr,
    scale_ptr,
    length,
    padded,
    eps,
    factor,
    KEY: tl.constexpr,
    MAX: tl.constexpr,
    SMALLEST: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    HEADS_BLOCK: tl.constexpr,
):
    """Norm and rotate one token and round it: as a query with a scale per head, or as a key with the head's.

    A normed row is at most √(H·d) long, which bounds every key, and with its mean twice that.
    """
    row = tl.program_id(0).to(tl.int64)
    batch, token = row // length, row % length
    x = normed_heads(x_ptr, weight_ptr, cos_ptr, sin_ptr, row, token, eps, True, HEADS, HEAD, HEADS_BLOCK, HEAD)
    head, channel = tl.arange(0, HEADS_BLOCK)[:, None], tl.arange(0, HEAD)[None, :]
    inside = head < HEADS
    if KEY:
        weight = tl.load(weight_ptr + head * HEAD + channel, mask=inside, other=0.0).to(tl.float32)
        longest = tl.max(tl.abs(weight), 1)[:, None] * (HEADS * HEAD) ** 0.5
        scale = tl.maximum(2 * longest, SMALLEST) / MAX
        x -= tl.load(mean_ptr + (batch * HEADS + head) * HEAD + channel, mask=inside, other=0.0)
        tl.store(scale_ptr + batch * HEADS + head, scale, mask=inside & (token == 0))
    else:
        scale = tl.maximum(tl.max(tl.abs(x), 1)[:, None], SMALLEST) / MAX
        tl.store(scale_ptr + (batch * padded + token) * HEADS + head, scale * factor, mask=inside)
    place = ((batch * HEADS + head) * padded + token) * HEAD + channel
    tl.store(out_ptr + place, (x * (1 / scale)).to(tl.float8e4nv), mask=inside)


def pack(query: Tensor, key: Tensor, value: Tensor) -> Packed:
    """Queries [B, L, H, d], keys and values [B, M, H, d], in float8."""
    query, key = query.contiguous(), key.contiguous()
    batch, keys, heads, width = key.shape
    queries, padded = padded_length(query.shape[1]), padded_length(keys)
    known = summarize(key, per_head=True)
    packed = _with_value(value, query.new_empty(batch, heads, queries, width, dtype=FLOAT8), known.scale)
    _pack_query[(queries // BLOCK, batch * heads)](
        query, packed.query, packed.query_scale, query.shape[1], queries, heads, LOG2_E * width**-0.5,
        MAX=FLOAT8_MAX, HEAD=width, TOKENS=BLOCK,
    )  # fmt: skip
    _pack_key[(padded // BLOCK, batch * heads)](
        key, known.mean, known.scale, packed.key, keys, padded, heads, HEAD=width, TOKENS=BLOCK, num_warps=8
    )
    return packed


def pack_projected(query: Projected, key: Projected, value: Tensor) -> Packed:
    """The same of queries and keys before their norm."""
    batch, _, heads, width = value.shape
    queries = padded_length(query.x.shape[1])
    packed = _with_value(
        value,
        value.new_empty(batch, heads, queries, width, dtype=FLOAT8),
        value.new_empty(batch, heads, dtype=torch.float32),
    )
    mean = sampled_mean(key, width)
    _launch_norm_pack(query, mean, packed.query, packed.query_scale, is_key=False)
    _launch_norm_pack(key, mean, packed.key, packed.key_scale, is_key=True)
    return packed


def _with_value(value: Tensor, query: Tensor, key_scale: Tensor) -> Packed:
    """The values packed, and room for all else."""
    value = value.contiguous()
    batch, keys, heads, width = value.shape
    padded, known = padded_length(keys), summarize(value, per_head=False)
    packed = Packed(
        query=query,
        query_scale=query.new_empty(batch, query.shape[2], heads, dtype=torch.float32),
        key=query.new_empty(batch, heads, padded, width),
        key_scale=key_scale,
        value=query.new_empty(batch, heads, width, padded),
        value_scale=known.scale,
        value_mean=known.mean,
        value_bound=known.bound,
    )
    _pack_value[(padded // BLOCK, batch * heads)](
        value, known.mean, known.scale, packed.value, keys, padded, heads, HEAD=width, TOKENS=BLOCK, num_warps=8
    )
    return packed


def summarize(x: Tensor, *, per_head: bool) -> Summary:
    """Of x [B, M, H, d]; with `per_head` all channels of a head have one scale."""
    found = _found(x)
    batch, heads, parts, _, width = found.shape
    mean, bound = found.new_empty(batch, heads, width), found.new_empty(batch, heads)
    scale = torch.empty_like(bound if per_head else mean)
    _summarize[(batch * heads,)](
        found, mean, scale, bound, x.shape[1], parts, PER_HEAD=per_head, MAX=FLOAT8_MAX, SMALLEST=SMALLEST_SCALE,
        PARTS=STATISTICS_PARTS, HEAD=width,
    )  # fmt: skip
    return Summary(mean, scale, bound)


def statistics(x: Tensor) -> Tensor:
    """Sum, minimum and maximum over the tokens of [B, M, H, d]: float32 [B, H, 3, d]."""
    total, least, most = _found(x).unbind(3)
    return torch.stack([total.sum(2), least.amin(2), most.amax(2)], dim=2)


def _found(x: Tensor) -> Tensor:
    """The same of each part of the tokens: float32 [B, H, parts, 3, d]."""
    x = x.contiguous()
    batch, tokens, heads, width = x.shape
    parts = min(STATISTICS_PARTS, triton.cdiv(tokens, BLOCK))
    part = triton.cdiv(triton.cdiv(tokens, parts), 64) * 64
    found = x.new_empty(batch, heads, parts, 3, width, dtype=torch.float32)
    _statistics[(parts, batch * heads)](x, found, tokens, heads, part, HEAD=width, TOKENS=64)
    return found


def sampled_mean(key: Projected, head_width: int) -> Tensor:
    """Float32 [B, H, d]: the mean of every `SAMPLED`-th key, normed and rotated."""
    some = slice(None, None, SAMPLED)
    rotary = Rotary(key.rotary.cos[some], key.rotary.sin[some])
    return rms_norm(key.x[:, some], key.weight, key.eps, rotary, head_width).mean(1, dtype=torch.float32)


def _launch_norm_pack(given: Projected, mean: Tensor, out: Tensor, scale: Tensor, *, is_key: bool) -> None:
    batch, heads, padded, width = out.shape
    x, length = given.x.contiguous(), given.x.shape[1]
    _norm_pack[(batch * length,)](
        x, given.weight, given.rotary.cos.contiguous(), given.rotary.sin.contiguous(), mean, out, scale, length,
        padded, given.eps, LOG2_E * width**-0.5, KEY=is_key, MAX=FLOAT8_MAX, SMALLEST=SMALLEST_SCALE,
        HEADS=heads, HEAD=width, HEADS_BLOCK=triton.next_power_of_2(heads), num_warps=4,
    )  # fmt: skip


def padded_length(tokens: int) -> int:
    """Rounded up to whole blocks."""
    return int(triton.cdiv(tokens, BLOCK) * BLOCK)
