"""Float8 attention whose rows are rounded before they travel between GPUs: each step of it as Triton kernels.

Who has some of the tokens rounds them, with means and scales that all agree on, and sends bytes; who attends lays them
out as `float8_attention` reads them. The result is that of rounding all of them at one place. Padding, which is copies
of tokens, may be in the means: softmax takes any mean of the keys, and any of the values comes back out.

Legend: L queries, M keys, H heads, d head width; L', M' rounded up to whole blocks.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from soundreel.models.kernels.few_keys import LOG2_E
from soundreel.models.kernels.float8_attention import attend_packed
from soundreel.models.kernels.float8_packing import BLOCK, COUNTS, Packed, order, padded_length, statistics
from soundreel.models.kernels.float8_rows import FLOAT8, FLOAT8_MAX, SMALLEST_SCALE
from soundreel.models.kernels.float8_shares import Means

__all__ = ["attend_rows", "lay_out", "round_queries", "round_rows", "statistics"]


@triton.jit(do_not_specialize=COUNTS)
def _round_queries(
    x_ptr,
    out_ptr,
    scale_ptr,
    tokens,
    x_row,
    heads,
    MAX: tl.constexpr,
    SMALLEST: tl.constexpr,
    HEAD: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """One block of rows of a head, each scaled to float8's range."""
    head = tl.program_id(1)
    token, channel = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS), tl.arange(0, HEAD)
    there = token < tokens
    x = tl.load(x_ptr + token[:, None] * x_row + head * HEAD + channel[None, :], mask=there[:, None], other=0.0)
    x = x.to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(x), 1), SMALLEST) / MAX
    row = token * heads + head
    rounded = (x / scale[:, None]).to(tl.float8e4nv)
    tl.store(out_ptr + row[:, None] * HEAD + channel[None, :], rounded, mask=there[:, None])
    tl.store(scale_ptr + row, scale, mask=there)


@triton.jit(do_not_specialize=COUNTS)
def _round_rows(x_ptr, mean_ptr, scale_ptr, out_ptr, tokens, x_row, heads, HEAD: tl.constexpr, TOKENS: tl.constexpr):
    """One block of rows of a head, less their mean, each channel in units of its scale."""
    head = tl.program_id(1)
    token, channel = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS), tl.arange(0, HEAD)
    there = (token < tokens)[:, None]
    x = tl.load(x_ptr + token[:, None] * x_row + head * HEAD + channel[None, :], mask=there, other=0.0)
    mean = tl.load(mean_ptr + head * HEAD + channel)[None, :]
    scale = tl.load(scale_ptr + head * HEAD + channel)[None, :]
    rounded = ((x.to(tl.float32) - mean) / scale).to(tl.float8e4nv)
    place = (token[:, None] * heads + head) * HEAD + channel[None, :]
    tl.store(out_ptr + place, rounded, mask=there)


@triton.jit(do_not_specialize=COUNTS)
def _lay_out_queries(
    x_ptr,
    scale_ptr,
    out_ptr,
    out_scale_ptr,
    tokens,
    padded_tokens,
    heads,
    factor,
    HEAD: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """One block of rows of a head, bytes; padding rows are zeros."""
    head = tl.program_id(1)
    token, channel = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS), tl.arange(0, HEAD)
    there = token < tokens
    row = token * heads + head
    x = tl.load(x_ptr + row[:, None] * HEAD + channel[None, :], mask=there[:, None], other=0)
    scale = tl.load(scale_ptr + row, mask=there, other=0.0)
    target = head.to(tl.int64) * padded_tokens + token
    tl.store(out_ptr + target[:, None] * HEAD + channel[None, :], x)
    tl.store(out_scale_ptr + row, scale * factor)


@triton.jit(do_not_specialize=COUNTS)
def _lay_out(
    k_ptr,
    v_ptr,
    k_out_ptr,
    v_out_ptr,
    tokens,
    padded_tokens,
    heads,
    HEAD: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """One block of keys and values of a head, bytes, values transposed; padding tokens are zeros."""
    head = tl.program_id(1).to(tl.int64)
    channel, place = tl.arange(0, HEAD), tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    source = (place[:, None].to(tl.int64) * heads + head) * HEAD + channel[None, :]
    k = tl.load(k_ptr + source, mask=(place < tokens)[:, None], other=0)
    tl.store(k_out_ptr + (head * padded_tokens + place[:, None]) * HEAD + channel[None, :], k)
    token = order(place)
    source = (token[:, None].to(tl.int64) * heads + head) * HEAD + channel[None, :]
    v = tl.load(v_ptr + source, mask=(token < tokens)[:, None], other=0)
    tl.store(v_out_ptr + (head * HEAD + channel[:, None]) * padded_tokens + place[None, :], tl.trans(v))


def round_queries(x: Tensor, out: Tensor, scale: Tensor) -> None:
    """Queries [L, H, d] into `out`, bytes of that shape, and the `scale` of each row, float32 [L, H]."""
    tokens, heads, width = x.shape
    _round_queries[(triton.cdiv(tokens, BLOCK), heads)](
        x, out.view(FLOAT8), scale, tokens, x.stride(0), heads, MAX=FLOAT8_MAX, SMALLEST=SMALLEST_SCALE, HEAD=width,
        TOKENS=BLOCK,
    )  # fmt: skip


def round_rows(x: Tensor, mean: Tensor, scale: Tensor, out: Tensor) -> None:
    """Keys or values [M, H, d], less `mean` and in units of `scale`, float32 [H, d] each, into `out`, bytes."""
    tokens, heads, width = x.shape
    _round_rows[(triton.cdiv(tokens, BLOCK), heads)](
        x, mean.contiguous(), scale.contiguous(), out.view(FLOAT8), tokens, x.stride(0), heads, HEAD=width, TOKENS=BLOCK
    )


def lay_out(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Rounded keys and values, bytes [M, H, d] each, as `attend_rows` wants them."""
    tokens, heads, width = key.shape
    whole = padded_length(tokens)
    keys, values = key.new_empty(heads, whole, width), key.new_empty(heads, width, whole)
    _lay_out[(whole // BLOCK, heads)](
        key.contiguous(), value.contiguous(), keys, values, tokens, whole, heads, HEAD=width, TOKENS=BLOCK
    )
    return keys, values


def attend_rows(
    query: Tensor, scale: Tensor, laid_out: tuple[Tensor, Tensor], keys: int, means: Means, dtype: torch.dtype
) -> Tensor:
    """The output [L, H, d] in `dtype`.

    Args:
        query, scale: of `round_queries`.
        laid_out: of `lay_out`, for the same heads; of `keys` tokens.
        means: of the same heads.
    """
    tokens, heads, width = query.shape
    whole = padded_length(tokens)
    queries = query.new_empty(heads, whole, width)
    scales = query.new_empty(whole, heads, dtype=torch.float32)
    _lay_out_queries[(whole // BLOCK, heads)](
        query, scale, queries, scales, tokens, whole, heads, LOG2_E * width**-0.5, HEAD=width, TOKENS=BLOCK
    )
    packed = Packed(
        query=queries[None].view(FLOAT8),
        query_scale=scales[None],
        key=laid_out[0][None].view(FLOAT8),
        key_scale=means.key_scale[None, :, 0].contiguous(),
        value=laid_out[1][None].view(FLOAT8),
        value_scale=means.value_scale[None].contiguous(),
        value_mean=means.value[None].contiguous(),
        value_bound=means.value_bound[None],
    )
    out = query.new_empty(1, tokens, heads, width, dtype=dtype)
    attend_packed(packed, out, keys)
    return out[0]
