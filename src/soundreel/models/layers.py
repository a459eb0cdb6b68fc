"""Small layers of the S2V transformer: embeddings of timestep and text, causal convolution, feed-forward.

Legend: B batch, L tokens, D model width.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundreel.models.kernels.dispatch import operations
from soundreel.models.kernels.float8_rows import Float8Rows, some_tokens, takes_float8
from soundreel.models.residual import NormedResidual

SINUSOID_BASE = 10000.0


class Float32Linear(nn.Linear):
    """A linear layer computed in float32; weights stored in fewer bits are widened for the product."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that nn.Linear gives it
        """[…, in] → float32 […, out]."""
        bias = None if self.bias is None else self.bias.float()
        return functional.linear(input.float(), self.weight.float(), bias)


class Float32LayerNorm(nn.LayerNorm):
    """A layer norm computed in float32."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that nn.LayerNorm gives it
        """[…, D] → […, D] in the input's type."""
        return super().forward(input.float()).to(input.dtype)


class CausalConv1d(nn.Conv1d):
    """Causal convolution over time, computed in float32; the first sample is repeated to pad the left."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that nn.Conv1d gives it
        """[B, in, T] → float32 [B, out, ⌊(T − 1)/stride⌋ + 1]."""
        padded = functional.pad(input.float(), (self.kernel_size[0] - 1, 0), mode="replicate")
        bias = None if self.bias is None else self.bias.float()
        return functional.conv1d(padded, self.weight.float(), bias, self.stride)


class TimestepMLP(nn.Module):
    """Two float32 linear layers over the sinusoid of a timestep."""

    def __init__(self, sinusoid_width: int, width: int) -> None:
        super().__init__()
        self.linear_1 = Float32Linear(sinusoid_width, width)
        self.linear_2 = Float32Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, sinusoid_width] → [B, D]."""
        embedded: Tensor = self.linear_2(functional.silu(self.linear_1(x)))
        return embedded


class TextMLP(nn.Module):
    """Projects the text encoder's rows to the model's width."""

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(text_width, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, M, text_width] → [B, M, D]."""
        embedded: Tensor = self.linear_2(functional.gelu(self.linear_1(x), approximate="tanh"))
        return embedded


class TimeTextEmbedding(nn.Module):
    """Timesteps and text rows, embedded; named and shaped as in diffusers' Wan."""

    def __init__(self, *, width: int, sinusoid_width: int, text_width: int) -> None:
        super().__init__()
        self.sinusoid_width = sinusoid_width
        self.time_embedder = TimestepMLP(sinusoid_width, width)
        self.time_proj = Float32Linear(width, 6 * width)
        self.text_embedder = TextMLP(text_width, width)

    def time(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Timesteps [B], 0…1000 → float32 [B, D] for the head and [B, 6, D] for the blocks."""
        embedding = self.time_embedder(sinusoid(t, self.sinusoid_width))
        return embedding, torch.unflatten(self.time_proj(functional.silu(embedding)), -1, (6, -1))


def sinusoid(t: Tensor, width: int) -> Tensor:
    """[B] → float32 [B, width]: cosines, then sines, of t·10000^(−k/(width/2)).

    Angles reach 1000 radians, so they are formed in float64 where the device has it.
    """
    exact = torch.float32 if t.device.type == "mps" else torch.float64
    exponents = torch.arange(width // 2, device=t.device, dtype=exact) / (width // 2)
    angles = torch.outer(t.to(exact), SINUSOID_BASE**-exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()


class UpProjection(nn.Module):
    """Holds the first of the feed-forward layers, under the name that diffusers gives it."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, inner)


class FusedFeedForward(nn.Module):
    """Feed-forward layers with GELU (tanh), fused with the product before or the rounding after it.

    Named as diffusers names them.

    Args:
        width: D.
        inner: width of the layer between.
    """

    tokens_at_once: int | None = None
    """Tokens that the inner layer is computed for at a time, where memory is short; None: all."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([UpProjection(width, inner), nn.Identity(), nn.Linear(inner, width)])

    def forward(self, given: Tensor | Float8Rows | NormedResidual) -> Tensor:
        """[B, L, D] → [B, L, D]."""
        x = given.read_by(self._up) if isinstance(given, NormedResidual) else given
        length, step = x.shape[1], self.tokens_at_once
        if step is None or step >= length:
            return self._through(x)
        result: Tensor | None = None
        for begin in range(0, length, step):
            piece = self._through(some_tokens(x, slice(begin, begin + step)))
            result = piece.new_empty(piece.shape[0], length, piece.shape[2]) if result is None else result
            result[:, begin : begin + step] = piece
        assert result is not None
        return result

    @property
    def _up(self) -> nn.Linear:
        return cast(UpProjection, self.net[0]).proj

    def _through(self, x: Tensor | Float8Rows) -> Tensor:
        up, down = self._up, self.net[2]
        if isinstance(x, Tensor) and _takes_gelu(up, x) and not takes_float8(down):
            flat = torch._addmm_activation(up.bias, x.flatten(0, 1), up.weight.t(), use_gelu=True)
            activated: Tensor | Float8Rows = flat.view(*x.shape[:2], -1)
        else:
            inner: Tensor = up(x)
            activated = operations(inner).gelu(inner, float8=takes_float8(down))
        result: Tensor = down(activated)
        return result


def _takes_gelu(layer: nn.Module, x: Tensor) -> bool:
    """Whether the product can apply GELU in float32 before it is rounded, as cuBLASLt's can."""
    return type(layer) is nn.Linear and layer.bias is not None and x.is_cuda and x.dtype is torch.bfloat16
