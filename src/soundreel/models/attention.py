"""Attention: `attend` is the one door to the kernel; the modules around it project, normalise and rotate.

Legend: B batch, L queries, M keys, D = H·d model width, H heads, d head width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundreel.models.conditioning import KeyValue
from soundreel.models.rope import Rotary, rotate


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q·kᵀ/√d)·v over all keys: [B, L, H, d], [B, M, H, d], [B, M, H, d] → [B, L, H, d]."""
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)


class Attention(nn.Module):
    """Projections of one attention; queries and keys are RMS-normed over all heads together."""

    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.norm_q = nn.RMSNorm(width, eps=eps)
        self.norm_k = nn.RMSNorm(width, eps=eps)

    def query(self, x: Tensor) -> Tensor:
        """[B, L, D] → [B, L, H, d]."""
        return self._split(self.norm_q(self.to_q(x)))

    def key_value(self, context: Tensor) -> KeyValue:
        """[B, M, D] → keys and values [B, M, H, d]."""
        return KeyValue(self._split(self.norm_k(self.to_k(context))), self._split(self.to_v(context)))

    def output(self, query: Tensor, context: KeyValue) -> Tensor:
        """Attend with [B, L, H, d] and project → [B, L, D]."""
        projected: Tensor = self.to_out[0](attend(query, context.key, context.value).flatten(-2))
        return projected

    def _split(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, -1))


class SelfAttention(Attention):
    """All tokens attend to all, turned by their positions."""

    def forward(self, x: Tensor, rotary: Rotary, queries: int | None = None) -> Tensor:
        """[B, L, D] → [B, L, D]; with `queries` only the first so many tokens ask, of all tokens."""
        key, value = self.key_value(x)
        query = rotate(self.query(x[:, :queries]), rotary.first(queries))
        return self.output(query, KeyValue(rotate(key, rotary), value))


class CrossAttention(Attention):
    """Tokens attend to keys and values that were computed before the first step."""

    def forward(self, x: Tensor, context: KeyValue) -> Tensor:
        """[B, L, D] → [B, L, D]."""
        return self.output(self.query(x), context)
