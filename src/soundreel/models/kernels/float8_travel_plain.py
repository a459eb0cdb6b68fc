"""The functions of `float8_travel` in plain PyTorch, with the same arguments: what the kernels are held to."""

import torch
from torch import Tensor
from torch.nn import functional

from soundreel.models.kernels import reference
from soundreel.models.kernels.float8_rows import FLOAT8
from soundreel.models.kernels.float8_shares import Means


def statistics(x: Tensor) -> Tensor:
    wide = x.float()
    return torch.stack([wide.sum(1), wide.amin(1), wide.amax(1)], dim=2)


def round_queries(x: Tensor, out: Tensor, scale: Tensor) -> None:
    rows = reference.quantize(x)
    out.copy_(rows.values.view(torch.uint8))
    scale.copy_(rows.scale[..., 0])


def round_rows(x: Tensor, mean: Tensor, scale: Tensor, out: Tensor) -> None:
    out.copy_(((x.float() - mean) / scale).to(FLOAT8).view(torch.uint8))


def lay_out(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    return key.transpose(0, 1).contiguous(), value.transpose(0, 1).contiguous()


def attend_rows(
    query: Tensor, scale: Tensor, laid_out: tuple[Tensor, Tensor], keys: int, means: Means, dtype: torch.dtype
) -> Tensor:
    key, value = (x.contiguous().view(FLOAT8).float()[:, :keys] for x in laid_out)
    queries = query.contiguous().view(FLOAT8).float() * scale[..., None]
    attended = functional.scaled_dot_product_attention(
        queries.transpose(0, 1)[None],
        (key * means.key_scale[:, None])[None],
        (value * means.value_scale[:, None] + means.value[:, None])[None],
    )
    return attended[0].transpose(0, 1).to(dtype)
