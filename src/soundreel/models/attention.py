"""Attention of the S2V transformer: `attend` computes it with the kernel chosen for the device, the modules around it
project tokens to queries, keys and values, normalize these and rotate them by position.

Legend: B batch, L queries, M keys, D = H·d model width, H heads, d head width, F latent frames.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from soundreel.errors import InputError
from soundreel.models.conditioning import KeyValue
from soundreel.models.kernels.checks import check_attention, check_projected_attention
from soundreel.models.kernels.compile_cache import ensure_room
from soundreel.models.kernels.dispatch import first_line, kernel_errors, operations
from soundreel.models.kernels.float8_rows import Float8Rows, some_tokens, takes_float8
from soundreel.models.kernels.once import once
from soundreel.models.kernels.projected import Projected
from soundreel.models.residual import NormedResidual
from soundreel.models.rope import Rotary


class Kernel(StrEnum):
    """Implementations of attention."""

    SDPA = "sdpa"  # whatever PyTorch takes
    CUDNN = "cudnn"
    FLASH = "flash"  # PyTorch's own FlashAttention 2
    SAGE = "sage"  # the package sageattention: scores in 8 bits
    FP8 = "fp8"  # ours: scores and sums in float8


EXACT = (Kernel.CUDNN, Kernel.SDPA, Kernel.FLASH)
"""Kernels whose only error is rounding to the tensors' element type, the first one taken where none was measured."""

AS_FAST = 0.95
"""Of the fastest kernel's speed: one that attains it is as fast, and the first of those in `EXACT` is taken."""

LARGEST_ERROR: Mapping[Kernel, float] = {Kernel.CUDNN: 0.1, Kernel.FLASH: 0.1, Kernel.SAGE: 0.15, Kernel.FP8: 0.15}
"""By `check_attention`, of a kernel that is right: rounding to bfloat16 alone gives 0.03, to float8 0.08."""

AUTO = "auto"


def attend(query: Tensor, key: Tensor, value: Tensor, kernel: Kernel = Kernel.SDPA) -> Tensor:
    """softmax(q·kᵀ/√d)·v over all keys: [B, L, H, d], [B, M, H, d], [B, M, H, d] → [B, L, H, d]."""
    return _KERNELS[kernel](query, key, value)


def _sdpa(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)


def _backend(backend: SDPBackend, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    with sdpa_kernel(backend):
        return _sdpa(query, key, value)


def _sage(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    from sageattention import sageattn  # noqa: PLC0415 - a package of the user's

    attended: Tensor = sageattn(query, key, value, tensor_layout="NHD")
    return attended


def _float8(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    from soundreel.models.kernels.float8_attention import attend as attend_in_float8  # noqa: PLC0415 - needs Triton

    return attend_in_float8(query, key, value)


def attend_projected(query: Projected, key: Projected, value: Tensor, *, float8: bool) -> Tensor | Float8Rows:
    """`Kernel.FP8` from projections to what is projected again, [B, L, D]; with `float8` as float8 rows."""
    from soundreel.models.kernels import float8_attention  # noqa: PLC0415 - needs Triton

    return float8_attention.attend_projected(query, key, value, float8=float8)


_KERNELS: Mapping[Kernel, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    Kernel.SDPA: _sdpa,
    Kernel.CUDNN: partial(_backend, SDPBackend.CUDNN_ATTENTION),
    Kernel.FLASH: partial(_backend, SDPBackend.FLASH_ATTENTION),
    Kernel.SAGE: _sage,
    Kernel.FP8: _float8,
}


def choose_kernel(
    wanted: str, device: torch.device, dtype: torch.dtype, head_width: int, speeds: Mapping[Kernel, float] | None = None
) -> Kernel:
    """The kernel named `wanted`, or with "auto" the fastest exact one that runs on `device`.

    Args:
        speeds: what kernels were measured to attain; one that is not there is taken for the slowest.

    Raises:
        InputError: there is no such kernel, or it does not run here.
    """
    if wanted == AUTO:
        return _fastest(
            [kernel for kernel in EXACT if why_not(kernel, device, dtype, head_width) is None], speeds or {}
        )
    if wanted not in list(Kernel):
        raise InputError(f"there is no attention {wanted!r}: choose {AUTO}, {', '.join(Kernel)}")
    kernel = Kernel(wanted)
    reason = why_not(kernel, device, dtype, head_width)
    if reason is not None:
        raise InputError(f"--attention {kernel} does not run on {device}: {reason}")
    return kernel


def _fastest(kernels: Sequence[Kernel], speeds: Mapping[Kernel, float]) -> Kernel:
    """The first kernel that is as fast as the fastest."""
    enough = AS_FAST * max(speeds.get(kernel, 0.0) for kernel in kernels)
    return next(kernel for kernel in kernels if speeds.get(kernel, 0.0) >= enough)


@once
def why_not(kernel: Kernel, device: torch.device, dtype: torch.dtype, head_width: int) -> str | None:
    """Why a kernel is not used on a device, found by running it on a small input; None if it runs and is right."""
    if kernel is Kernel.SDPA:
        return None
    if device.type != "cuda":
        return "it needs an NVIDIA GPU"
    needed = {Kernel.SAGE: "sageattention", Kernel.FP8: "triton"}.get(kernel)
    if needed is not None and find_spec(needed) is None:
        return f"the package {needed} is missing"
    ensure_room()
    try:
        check_attention(partial(attend, kernel=kernel), device, dtype, head_width, LARGEST_ERROR[kernel])
        if kernel is Kernel.FP8:
            check_projected_attention(attend_projected, device, head_width)
    except kernel_errors() as error:
        return first_line(error)
    return None


class Attention(nn.Module):
    """Projections of a multi-head attention; queries and keys get an RMS norm over all heads together."""

    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.norm_q = nn.RMSNorm(width, eps=eps)
        self.norm_k = nn.RMSNorm(width, eps=eps)

    def query(self, x: Tensor | Float8Rows, rotary: Rotary | None = None) -> Tensor:
        """[B, L, D] → queries [B, L, H, d], rotated by `rotary` if it is given."""
        return self._heads(self.to_q(x), self.norm_q, rotary)

    def key(self, context: Tensor | Float8Rows, rotary: Rotary | None = None) -> Tensor:
        """[B, M, D] → keys [B, M, H, d], rotated by `rotary` if it is given."""
        return self._heads(self.to_k(context), self.norm_k, rotary)

    def value(self, context: Tensor | Float8Rows) -> Tensor:
        """[B, M, D] → values [B, M, H, d]."""
        return torch.unflatten(self.to_v(context), -1, (self.heads, -1))

    def key_value(self, context: Tensor) -> KeyValue:
        """[B, M, D] → keys and values [B, M, H, d]."""
        return KeyValue(self.key(context), self.value(context))

    def project(self, attended: Tensor | Float8Rows) -> Tensor:
        """The output projection, [B, L, D] → [B, L, D]."""
        projected: Tensor = self.to_out[0](attended)
        return projected

    def _heads(self, x: Tensor, norm: nn.RMSNorm, rotary: Rotary | None) -> Tensor:
        assert norm.eps is not None
        heads: Tensor = operations(x).rms_norm(x, norm.weight, norm.eps, rotary, x.shape[-1] // self.heads)
        return heads


class Exchange:
    """Lets the tokens at hand attend to all tokens, which are at hand on one device.

    `soundreel.models.parallel` has the one for several, between which tokens travel.
    """

    travels = False
    """Whether tokens come from elsewhere at all."""

    def attend(self, value: Tensor, key: Callable[[], Tensor], query: Callable[[], Tensor], kernel: Kernel) -> Tensor:
        """Attention of the tokens at hand to all tokens, [B, L, H, d].

        Args:
            value: of the tokens at hand, [B, M, H, d].
            key: computes their keys, [B, M, H, d]. Called first.
            query: computes the queries of the first L of them, [B, L, H, d].
            kernel: of `attend`.
        """
        keys = key()
        return attend(query(), keys, value, kernel)


class SelfAttention(Attention):
    """Self-attention with rotary positions."""

    kernel = Kernel.SDPA
    exchange = Exchange()

    def forward(self, normed: NormedResidual, rotary: Rotary, queries: int | None = None) -> Tensor:
        """[B, L, D] → [B, L, D]; with `queries` only the first so many tokens attend, to all tokens."""
        x = normed.read_by(self.to_q, self.to_k, self.to_v)
        if self.kernel is Kernel.FP8 and not self.exchange.travels:
            return self.project(self._in_float8(x, rotary, queries))
        attended = self.exchange.attend(
            self.value(x),
            lambda: self.key(x, rotary),
            lambda: self.query(some_tokens(x, slice(queries)), rotary.first(queries)),
            self.kernel,
        )
        return self.project(attended.flatten(-2))

    def _in_float8(self, x: Tensor | Float8Rows, rotary: Rotary, queries: int | None) -> Tensor | Float8Rows:
        """[B, L, D] → [B, L, D] in the form that `to_out` takes; norms and rotation are part of the kernel."""

        def projected(layer: nn.Module, norm: nn.RMSNorm, count: int | None) -> Projected:
            assert norm.eps is not None
            return Projected(layer(some_tokens(x, slice(count))), norm.weight, norm.eps, rotary.first(count))

        query, key = projected(self.to_q, self.norm_q, queries), projected(self.to_k, self.norm_k, None)
        return attend_projected(query, key, self.value(x), float8=takes_float8(*self.to_out))


class CrossAttention(Attention):
    """Attention to the keys and values of text or audio, which were computed before the first step."""

    def forward(self, normed: NormedResidual, context: KeyValue) -> Tensor:
        """[B, L, D] → [B, L, D]; with a context of F batch items the tokens are F equal runs, one for each item."""
        query = self.to_q(normed.read_by(self.to_q))
        assert self.norm_q.eps is not None
        attended: Tensor | Float8Rows = operations(query).attend_few(
            query, self.norm_q.weight, self.norm_q.eps, context, float8=takes_float8(*self.to_out)
        )
        return self.project(attended)
