"""The residual stream of a transformer block and its layer norms, which are computed when a layer reads them.

A block adds the update of one layer to the stream and norms the sum for the next layer, which may be the next block's.
Both are one kernel, run when that next layer asks for its input: only the layer knows in which form it takes it.

Legend: B batch, L tokens, D model width.
"""

import torch
from torch import Tensor, nn

from soundreel.models.kernels.dispatch import operations
from soundreel.models.kernels.float8_rows import Affine, Float8Rows, Gate, some_tokens, takes_float8


class Residual:
    """A residual stream, float32 [B, L, D], to which one update may still have to be added.

    Args:
        x: the stream.
        dtype: of the normed input that layers get where they do not take float8 rows.
        update, gate: what is to be added, see `add`.
    """

    def __init__(self, x: Tensor, dtype: torch.dtype, update: Tensor | None = None, gate: Gate | None = None) -> None:
        self._x, self._dtype, self._update, self._gate = x, dtype, update, gate

    def first(self, tokens: int | None) -> "Residual":
        """The stream of the first tokens alone; for None the stream itself."""
        return self if tokens is None else Residual(self.sum()[:, :tokens], self._dtype)

    def add(self, update: Tensor, gate: Gate | None = None) -> "Residual":
        """The stream plus gate·update; `update` is [B, L, D] or has fewer tokens and changes the first ones."""
        return Residual(self.sum(), self._dtype, update, gate)

    def sum(self) -> Tensor:
        """float32 [B, L, D], the update added."""
        if self._update is not None:
            self._x, self._update = operations(self._x).add(self._x, self._update, self._gate), None
        return self._x

    def normed(self, affine: Affine, eps: float, *, float8: bool) -> Tensor | Float8Rows:
        """Layer norm of the sum, then `affine`: [B, L, D] in `dtype` or as float8 rows."""
        operate = operations(self._x)
        if self._update is None:
            rows: Tensor | Float8Rows = operate.norm(self._x, affine, eps, self._dtype, float8=float8)
        else:
            self._x, rows = operate.add_norm(self._x, self._update, self._gate, affine, eps, self._dtype, float8=float8)
            self._update = None
        return rows


class NormedResidual:
    """The input of a layer: the layer norm of a residual stream, not computed yet.

    With `tokens` it is that of the first so many.
    """

    def __init__(self, stream: Residual, affine: Affine, eps: float, tokens: int | None = None) -> None:
        self._stream, self._affine, self._eps, self._tokens = stream, affine, eps, tokens

    def read_by(self, *layers: nn.Module) -> Tensor | Float8Rows:
        """Compute it, [B, L, D], for linear layers: as float8 rows if all of them multiply those."""
        rows = self._stream.normed(self._affine, self._eps, float8=takes_float8(*layers))
        return rows if self._tokens is None else some_tokens(rows, slice(self._tokens))


class ResidualNorm(nn.Module):
    """Layer norm of the residual stream over D, computed in float32.

    Args:
        width: D.
        eps: added to the variance.
        affine: whether it has a weight and a bias of its own; else `forward` is given what follows the norm.
    """

    def __init__(self, width: int, eps: float, *, affine: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None

    def forward(self, x: Residual, affine: Affine | None = None) -> NormedResidual:
        """(x − mean)/√(variance + eps)·scale + shift, to be read by the next layer."""
        if affine is None:
            assert self.weight is not None
            assert self.bias is not None
            affine = Affine.everywhere(self.weight, self.bias)
        return NormedResidual(x, affine, self.eps)
