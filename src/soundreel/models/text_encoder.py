"""UMT5's encoder (T5 with position biases in every block), named and shaped as transformers' `UMT5EncoderModel`.

It makes the same bits. That class is not used because importing it takes seconds, with much that no render needs.

Legend: n tokens, D width, H heads, d head width. One text at a time, without padding.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-6
"""Of the norms."""

FAR_TOKENS = 128
"""From this distance on all tokens are equally far."""


class UMT5Encoder(nn.Module):
    """Token ids → one row per token.

    Args:
        vocab_size: ids that there are.
        d_model: D.
        num_heads: H.
        d_kv: d.
        d_ff: inner width of the feed-forward layers.
        num_layers: number of blocks.
        relative_attention_num_buckets: distances that are told apart.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        d_model: int,
        num_heads: int,
        d_kv: int,
        d_ff: int,
        num_layers: int,
        relative_attention_num_buckets: int = 32,
    ) -> None:
        super().__init__()
        self.shared = nn.Embedding(vocab_size, d_model)
        buckets = relative_attention_num_buckets
        self.encoder = _Blocks(
            [
                _Block(_Attention(d_model, num_heads, d_kv, buckets), _FeedForward(d_model, d_ff), d_model)
                for _ in range(num_layers)
            ],
            d_model,
        )

    def forward(self, ids: Tensor) -> Tensor:
        """[1, n] → [1, n, D] in the weights' type."""
        rows: Tensor = self.encoder(self.shared(ids))
        return rows


class _Blocks(nn.Module):
    """The blocks, and the norm after them: [1, n, D] → the same shape."""

    def __init__(self, blocks: "list[_Block]", width: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(blocks)
        self.final_layer_norm = _RmsNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        rows: Tensor = self.final_layer_norm(x)
        return rows


class _RmsNorm(nn.Module):
    """Formed in float32, rounded before it is scaled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        square = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
        normed: Tensor = self.weight * (x * torch.rsqrt(square + EPS)).to(self.weight.dtype)
        return normed


class _Attention(nn.Module):
    """Self-attention whose scores are not scaled, but biased by how far keys are from queries."""

    def __init__(self, width: int, heads: int, head_width: int, buckets: int) -> None:
        super().__init__()
        self._heads, self._buckets = heads, buckets
        self.q = nn.Linear(width, heads * head_width, bias=False)
        self.k = nn.Linear(width, heads * head_width, bias=False)
        self.v = nn.Linear(width, heads * head_width, bias=False)
        self.o = nn.Linear(heads * head_width, width, bias=False)
        self.relative_attention_bias = nn.Embedding(buckets, heads)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).view(1, x.shape[1], self._heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        bias = self.relative_attention_bias(distance_buckets(x.shape[1], self._buckets, x.device))
        bias = bias.permute(2, 0, 1).unsqueeze(0).contiguous()  # [1, H, n, n]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
        made: Tensor = self.o(mixed.transpose(1, 2).reshape(1, x.shape[1], -1))
        return made


class _FeedForward(nn.Module):
    """Gated by GELU, in its form with tanh written out, as T5 has it."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(width, inner, bias=False)
        self.wi_1 = nn.Linear(width, inner, bias=False)
        self.wo = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.wo(_gelu(self.wi_0(x)) * self.wi_1(x))
        return made


class _Block(nn.Module):
    """Attention and feed-forward layers, each of the normed stream and added to it."""

    def __init__(self, attention: _Attention, feed_forward: _FeedForward, width: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList([nn.Module(), nn.Module()])
        self.layer[0].SelfAttention, self.layer[0].layer_norm = attention, _RmsNorm(width)
        self.layer[1].DenseReluDense, self.layer[1].layer_norm = feed_forward, _RmsNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        for layer, name in zip(self.layer, ("SelfAttention", "DenseReluDense"), strict=True):
            x = x + layer.get_submodule(name)(layer.get_submodule("layer_norm")(x))
        return x


def _gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


def distance_buckets(length: int, buckets: int, device: torch.device) -> Tensor:
    """[n, n]: for query and key the number of their distance, in the upper half of `buckets` where the key comes later.

    A quarter of them are for one distance each, and the next quarter for ever wider ranges of distances.
    """
    place = torch.arange(length, device=device)
    distance = place[None, :] - place[:, None]
    half, exact = buckets // 2, buckets // 4
    far = distance.abs()
    share = torch.log(far.float() / exact) / math.log(FAR_TOKENS / exact)
    wide = (exact + (share * (half - exact)).to(torch.long)).clamp(max=half - 1)
    return (distance > 0).to(torch.long) * half + torch.where(far < exact, far, wide)
