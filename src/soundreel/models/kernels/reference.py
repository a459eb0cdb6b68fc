"""The row operations in plain PyTorch: used on CPUs, and the reference for the fused kernels.

Legend: B batch, L tokens, D = H·d width, H heads, d head width, N runs of tokens. The residual stream is float32.
"""

import torch
from torch import Tensor
from torch.nn import functional

from soundreel.models.conditioning import KeyValue
from soundreel.models.kernels.float8_rows import FLOAT8, FLOAT8_MAX, SMALLEST_SCALE, Affine, Float8Rows, Gate
from soundreel.models.rope import Rotary, rotate


def norm(x: Tensor, affine: Affine, eps: float, dtype: torch.dtype, *, float8: bool = False) -> Tensor | Float8Rows:
    """Layer norm over D of x [B, L, D], then `affine`: in `dtype`, or with `float8` as float8 rows."""
    normed = functional.layer_norm(x.float(), x.shape[-1:], eps=eps)
    changed = torch.cat(
        [
            torch.addcmul(affine.shift[:, k, None], normed[:, span], affine.scale[:, k, None])
            for k, span in _runs(affine.scale.shape[1], affine.run, x.shape[1])
        ],
        dim=1,
    )
    return quantize(changed) if float8 else changed.to(dtype)


def add(x: Tensor, update: Tensor, gate: Gate | None = None) -> Tensor:
    """x + gate·update in float32 [B, L, D]; an `update` with fewer tokens changes the first ones."""
    length = update.shape[1]
    if gate is None:
        changed = [x[:, :length] + update.float()]
    else:
        changed = [
            torch.addcmul(x[:, span], update[:, span].float(), gate.factor[:, k, None])
            for k, span in _runs(gate.factor.shape[1], gate.run, length)
        ]
    return torch.cat([*changed, x[:, length:]], dim=1)


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
    """`add`, and the `norm` of its result."""
    changed = add(x, update, gate)
    return changed, norm(changed, affine, eps, dtype, float8=float8)


def rms_norm(x: Tensor, weight: Tensor, eps: float, rotary: Rotary | None, head_width: int) -> Tensor:
    """RMS norm over D times `weight`, split into heads and rotated if `rotary` is given: [B, L, D] → [B, L, H, d]."""
    heads = torch.unflatten(functional.rms_norm(x, x.shape[-1:], weight, eps), -1, (-1, head_width))
    return heads if rotary is None else rotate(heads, rotary)


def gelu(x: Tensor, *, float8: bool = False) -> Tensor | Float8Rows:
    """GELU (tanh approximation) of [B, L, D]; with `float8` as float8 rows."""
    activated = functional.gelu(x, approximate="tanh")
    return quantize(activated) if float8 else activated


def quantize(x: Tensor) -> Float8Rows:
    """Float8 rows of […, D]: each row is scaled to the largest value that float8 holds."""
    wide = x.float()
    scale = wide.abs().amax(dim=-1, keepdim=True).clamp(min=SMALLEST_SCALE) / FLOAT8_MAX
    return Float8Rows((wide / scale).to(FLOAT8), scale)


def attend_few(
    x: Tensor, weight: Tensor, eps: float, context: KeyValue, *, float8: bool = False
) -> Tensor | Float8Rows:
    """Attention of `rms_norm` of x [B, L, D] to few keys [N, M, H, d], whose bias is added to the scores → [B, L, D].

    The tokens are N equal runs, each with keys of its own. Float8 rows all have one scale: no output is larger than the
    largest value.
    """
    runs, _, heads, head = context.key.shape
    query = rms_norm(x, weight, eps, None, head).reshape(runs, -1, heads, head)
    mask = None if context.bias is None else context.bias[:, None, None, :].to(query.dtype)
    q, k, v = (tensor.transpose(1, 2) for tensor in (query, context.key, context.value))
    attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(x.shape)
    if not float8:
        return attended
    scale = torch.linalg.vector_norm(context.value.float(), float("inf")).clamp(min=SMALLEST_SCALE) / FLOAT8_MAX
    values = (attended.float() / scale).clamp(-FLOAT8_MAX, FLOAT8_MAX).to(FLOAT8)
    return Float8Rows(values, scale.expand(*x.shape[:2], 1).contiguous())


def norm_silu(x: Tensor, gamma: Tensor, out: Tensor) -> None:
    """silu(x / ‖x‖ · √C · gamma) over the channels of [1, C, T, H, W], into `out` of that shape."""
    normed = functional.normalize(x, dim=1) * x.shape[1] ** 0.5 * gamma
    out.copy_(functional.silu(normed, inplace=True))


def _runs(count: int, run: int, length: int) -> list[tuple[int, slice]]:
    """Index and tokens of each run; the last run takes all tokens that are left."""
    starts = [k * run for k in range(count) if k * run < length]
    return [(k, slice(start, stop)) for k, (start, stop) in enumerate(zip(starts, [*starts[1:], length], strict=True))]
