"""Small layers of the S2V transformer that run in float32 whatever the weights are stored in.

Legend: B batch, L tokens, D model width. `shift`, `scale` and `gate` are float32 [B, 2, D]: row 0 is for the
first `split` tokens (noise), row 1 for the others (reference and motion, which are clean).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

SINUSOID_BASE = 10000.0


class Float32Linear(nn.Linear):
    """A linear layer computed in float32; weights stored in fewer bits are widened for the product."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that nn.Linear gives it
        """[…, in] → float32 […, out]."""
        bias = None if self.bias is None else self.bias.float()
        return functional.linear(input.float(), self.weight.float(), bias)


class CausalConv1d(nn.Conv1d):
    """Convolution over time that sees the past only, computed in float32.

    On the left the first sample is repeated, so that the output starts at the first input.
    """

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
    """Text encoder rows to the model's width."""

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


def modulate(x: Tensor, shift: Tensor, scale: Tensor, split: int, dtype: torch.dtype) -> Tensor:
    """x·(1 + scale) + shift per segment; float32 [B, L, D] → `dtype` [B, L, D]."""
    segments = [
        torch.addcmul(shift[:, i, None], part, 1 + scale[:, i, None]).to(dtype)
        for i, part in enumerate(_segments(x, split))
    ]
    return torch.cat(segments, dim=1)


def gated_add(x: Tensor, update: Tensor, gate: Tensor, split: int) -> Tensor:
    """x + gate·update per segment, in float32."""
    segments = [
        torch.addcmul(part, change.float(), gate[:, i, None])
        for i, (part, change) in enumerate(zip(_segments(x, split), _segments(update, split), strict=True))
    ]
    return torch.cat(segments, dim=1)


def _segments(x: Tensor, split: int) -> tuple[Tensor, Tensor]:
    return x[:, :split], x[:, split:]
