"""Attention to the few keys of text and sound, with the RMS norm of its queries, as Triton kernels for `fused`.

Queries are read twice, written never: once for the length of each row, once by the attention, which writes its output
as float8 rows where the layer after it takes those. Legend: B batch, L tokens, N runs of tokens that have keys of their
own (latent frames, with sound), M keys, H heads, d head width.
"""

from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from soundreel.models.conditioning import KeyValue
from soundreel.models.kernels.float8_rows import FLOAT8, FLOAT8_MAX, SMALLEST_SCALE, Float8Rows

LOG2_E: Final = 1.4426950408889634

TOKENS: Final = 64
"""Of a program."""

FEW_KEYS, MORE_KEYS = 16, 64
"""Keys of a step: of sound, as few as matrix units take, or of text."""


@triton.jit
def _inverse_lengths(x_ptr, out_ptr, eps, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """1/√(mean of the squares of a row + eps)."""
    row, column = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * WIDTH + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    tl.store(out_ptr + row, tl.rsqrt(tl.sum(x * x, 0) / WIDTH + eps))


@triton.jit(do_not_specialize=["tokens", "keys"])
def _attend_few(
    x_ptr,
    length_ptr,
    weight_ptr,
    k_ptr,
    v_ptr,
    bias_ptr,
    largest_ptr,
    out_ptr,
    scale_ptr,
    tokens,
    keys,
    factor,
    BIAS: tl.constexpr,
    QUANTIZE: tl.constexpr,
    MAX: tl.constexpr,
    SMALLEST: tl.constexpr,
    LOG2_E: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """`TOKENS` tokens of a run, one head. `factor` is log₂(e)/√d."""
    head, run = tl.program_id(0), tl.program_id(2).to(tl.int64)
    token, channel = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS), tl.arange(0, HEAD_BLOCK)
    there, wide = token < tokens, channel < HEAD
    row = run * tokens + token
    place = row[:, None] * (HEADS * HEAD) + head * HEAD + channel[None, :]
    inside = there[:, None] & wide[None, :]
    query = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    query *= tl.load(length_ptr + row, mask=there, other=0.0)[:, None]
    query *= tl.load(weight_ptr + head * HEAD + channel, mask=wide, other=0.0).to(tl.float32)[None, :]
    query = query.to(k_ptr.dtype.element_ty)
    highest = tl.full([TOKENS], float("-inf"), tl.float32)
    total = tl.zeros([TOKENS], tl.float32)
    summed = tl.zeros([TOKENS, HEAD_BLOCK], tl.float32)
    for first in range(0, keys, KEYS):
        number = first + tl.arange(0, KEYS)
        known = number < keys
        source = ((run * keys + number[:, None]) * HEADS + head) * HEAD + channel[None, :]
        k = tl.load(k_ptr + source, mask=known[:, None] & wide[None, :], other=0.0)
        scores = tl.dot(query, tl.trans(k)) * factor
        if BIAS:
            scores += tl.load(bias_ptr + run * keys + number, mask=known, other=0.0)[None, :] * LOG2_E
        scores = tl.where(known[None, :], scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.math.exp2(scores - higher[:, None])
        shrink = tl.math.exp2(highest - higher)
        v = tl.load(v_ptr + source, mask=known[:, None] & wide[None, :], other=0.0)
        total = total * shrink + tl.sum(weights, 1)
        summed = summed * shrink[:, None] + tl.dot(weights.to(v.dtype), v)
        highest = higher
    out = summed / total[:, None]
    if QUANTIZE:
        largest = tl.maximum(tl.load(largest_ptr).to(tl.float32), SMALLEST)
        out = tl.maximum(tl.minimum(out * (MAX / largest), MAX), -MAX)
        if head == 0:
            tl.store(scale_ptr + row, tl.zeros([TOKENS], tl.float32) + largest / MAX, mask=there)
    tl.store(out_ptr + place, out.to(out_ptr.dtype.element_ty), mask=inside)


def attend_few(
    x: Tensor, weight: Tensor, eps: float, context: KeyValue, *, float8: bool = False
) -> Tensor | Float8Rows:
    """As in `reference`."""
    batch, length, width = x.shape
    runs, keys, heads, head = context.key.shape
    x, tokens = x.contiguous(), batch * length // runs
    lengths = x.new_empty(batch * length, dtype=torch.float32)
    _inverse_lengths[(batch * length,)](x, lengths, eps, WIDTH=width, BLOCK=triton.next_power_of_2(width), num_warps=4)
    out = torch.empty_like(x, dtype=FLOAT8 if float8 else x.dtype)
    scale = lengths.new_empty(batch, length, 1) if float8 else lengths
    largest = torch.linalg.vector_norm(context.value, float("inf")) if float8 else lengths
    _attend_few[(heads, triton.cdiv(tokens, TOKENS), runs)](
        x, lengths, weight, context.key.contiguous(), context.value.contiguous(),
        lengths if context.bias is None else context.bias.contiguous(), largest, out, scale, tokens, keys,
        LOG2_E * head**-0.5, BIAS=context.bias is not None, QUANTIZE=float8, MAX=FLOAT8_MAX, SMALLEST=SMALLEST_SCALE,
        LOG2_E=LOG2_E, HEADS=heads, HEAD=head, HEAD_BLOCK=max(16, triton.next_power_of_2(head)), TOKENS=TOKENS,
        KEYS=FEW_KEYS if keys <= FEW_KEYS else MORE_KEYS, num_warps=4, num_stages=1,
    )  # fmt: skip
    return Float8Rows(out, scale) if float8 else out
