"""What kernels must compute on a device before they are used there: what plain PyTorch does, on realistic values."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from soundreel.models.kernels import convolution_plain, float8_travel_plain, reference
from soundreel.models.kernels.float8_rows import Affine, Float8Rows, Gate
from soundreel.models.kernels.float8_shares import Means
from soundreel.models.kernels.realistic import Realistic
from soundreel.models.rope import Rotary

TOLERANCE = 0.02
"""Largest relative L2 error in bfloat16, of a convolution or of any row; rounding alone gives 0.004."""

TRAVEL_TOLERANCE = 0.08
"""Relative L2 error of attention in float8, whose weights only the kernel rounds, to where they are not rounded."""

EPS = 1e-6

CHECKED_LAYERS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("convolve", (96, 96, 3, 3, 3)),
    ("convolve", (384, 192, 3, 3, 3)),
    ("double", (96, 96, 3, 1, 1)),
    ("halve", (96, 96, 3, 3)),
    ("enlarge", (96, 96, 3, 3)),
)
"""Convolutions and the shapes of their weights that must be right: of the VAE's narrowest, and one of its widest."""

CHECKED_CHANNELS = 96, 384
"""Of the VAE's narrowest and widest norms."""

QUERIES, KEYS, HEADS = 200, 333, 2
"""Of the attention that is checked: no whole blocks of any kernel."""


class Widths(NamedTuple):
    """Of the rows that are checked."""

    model: int = 5120
    heads: int = 40
    inner: int = 13824  # of the feed-forward layers


FULL_SIZE = Widths()
"""Of the 14B model: its kernels are compiled once, here or in the first step."""

Case = tuple[str, tuple[Any, ...], dict[str, Any]]


def check_rows(fused: ModuleType, device: torch.device, widths: Widths = FULL_SIZE) -> None:
    """Raise `ArithmeticError` unless every row operation of `fused`, in every form, agrees with `reference`."""
    for name, arguments, options in (*_rows(Realistic(device), widths), *_plain_rows(Realistic(device), widths)):
        ours = getattr(fused, name)(*arguments, **options)
        expected = getattr(reference, name)(*map(_wide, arguments), **options)
        told = f"{name} in float8" if options else name
        _compare(told, [(one, other, -1) for one, other in zip(_tensors(ours), _tensors(expected), strict=True)])
    for dtype in (torch.float32, torch.bfloat16):
        for channels in CHECKED_CHANNELS:
            _check_norm_silu(fused, Realistic(device), channels, dtype)


def _rows(draw: Realistic, widths: Widths) -> Iterator[Case]:
    """Every operation as the transformer uses it, plain and in float8."""
    width, half = widths.model, torch.bfloat16
    x, update = draw.activations(2, 7, width), draw.activations(2, 5, width, half)
    inner, weight = draw.activations(2, 5, widths.inner, half), draw.normal(width, dtype=half)
    affine, gate = Affine(draw.normal(2, 2, width), draw.normal(2, 2, width), 3), Gate(draw.normal(1, 2, width), 4)
    head = width // widths.heads
    rotary = Rotary(draw.normal(5, head // 2), draw.normal(5, head // 2))
    for float8 in ({}, {"float8": True}):
        yield "norm", (x, affine, EPS, half), float8
        yield "add_norm", (x, update, None, affine, EPS, half), float8
        yield "add_norm", (x, update, gate, affine, EPS, half), float8
        yield "gelu", (inner,), float8
    yield "add", (x, update, gate), {}
    yield "rms_norm", (update, weight, EPS, rotary, head), {}
    yield "rms_norm", (update, weight, EPS, None, head), {}
    yield "quantize", (update,), {}
    yield "quantize", (inner,), {}


def _plain_rows(draw: Realistic, widths: Widths) -> Iterator[Case]:
    """What the large values of `_rows` would hide: whether the update and its gate are added at all."""
    x, update = draw.normal(2, 7, widths.model), draw.normal(2, 5, widths.model, dtype=torch.bfloat16)
    affine = Affine(draw.normal(1, 2, widths.model), draw.normal(1, 2, widths.model), 3)
    gate = Gate(draw.normal(2, 2, widths.model), 4)
    yield "add", (x, update, None), {}
    yield "add", (x, update, gate), {}
    yield "add_norm", (x, update, gate, affine, EPS, torch.bfloat16), {}


def _check_norm_silu(fused: ModuleType, draw: Realistic, channels: int, dtype: torch.dtype) -> None:
    """As the VAE uses it: into what follows the frames that a convolution looks back at."""
    x, gamma = draw.features(channels, 3, 5, 7, dtype), draw.normal(channels, 1, 1, 1, dtype=dtype)
    joined = torch.zeros(1, 5, 5, 7, channels, dtype=dtype, device=x.device).permute(0, 4, 1, 2, 3)
    expected = torch.zeros_like(joined, dtype=torch.float32)
    fused.norm_silu(x, gamma, joined[:, :, 2:])
    reference.norm_silu(x.float(), gamma.float(), expected[:, :, 2:])
    _compare("norm_silu", [(joined.float(), expected, 1)])


def check_attention(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    device: torch.device,
    dtype: torch.dtype,
    head_width: int,
    tolerance: float,
) -> None:
    """Raise `ArithmeticError` if the error of `attend` is above `tolerance`.

    The error is relative to how far results are from the mean of the values, each channel in units of its spread:
    values have means, which any weights would reproduce.
    """
    query, key, value = Realistic(device).attention(QUERIES, KEYS, HEADS, head_width, dtype)
    made = attend(query, key, value).float()
    q, k, v = (x.float().transpose(1, 2) for x in (query, key, value))
    expected = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    spread, mean = torch.std_mean(value.float(), dim=1, keepdim=True)
    error = float(((made - expected) / spread).norm() / ((expected - mean) / spread).norm())
    _refuse("attention", error, tolerance)


def check_travel(kernels: ModuleType, device: torch.device, dtype: torch.dtype, head_width: int) -> None:
    """Raise `ArithmeticError` unless each step of `kernels` makes of rows what `float8_travel_plain` makes of them."""
    query, key, value = Realistic(device).attention(QUERIES, KEYS, HEADS, head_width, dtype)
    plain = float8_travel_plain
    statistics = torch.cat([kernels.statistics(key), kernels.statistics(value)])
    expected = torch.cat([plain.statistics(key), plain.statistics(value)])
    _compare("the statistics", [(statistics, expected, -1)])
    means = Means.of([statistics], KEYS)
    made = [_travelled(steps, query[0], key[0], value[0], means) for steps in (kernels, plain)]
    _refuse("the travelled attention", float((made[0] - made[1]).norm() / made[1].norm()), TRAVEL_TOLERANCE)


def _travelled(steps: ModuleType, query: Tensor, key: Tensor, value: Tensor, means: Means) -> Tensor:
    """Attention to rows that were rounded apart, in two parts of the heads as in one."""
    rows, scale = torch.empty_like(query, dtype=torch.uint8), query.new_empty(query.shape[:2], dtype=torch.float32)
    steps.round_queries(query, rows, scale)
    keys, values = torch.empty_like(key, dtype=torch.uint8), torch.empty_like(value, dtype=torch.uint8)
    steps.round_rows(key, means.key, means.key_scale, keys)
    steps.round_rows(value, means.value, means.value_scale, values)
    laid_out = steps.lay_out(keys, values)
    parts = []
    for heads in (slice(0, 1), slice(1, query.shape[1])):
        there = laid_out[0][heads], laid_out[1][heads]
        own = rows[:, heads].contiguous(), scale[:, heads].contiguous()
        parts.append(steps.attend_rows(*own, there, key.shape[0], means.of_heads(heads), torch.float32))
    return torch.cat(parts, dim=1)


def check_convolutions(kernels: ModuleType, device: torch.device, dtype: torch.dtype) -> None:
    """Raise `ArithmeticError` unless all of `kernels` agrees with `convolution_plain` on layers of the VAE's widths."""
    draw = Realistic(device)
    for name, shape in CHECKED_LAYERS:
        weight, bias = draw.normal(*shape, dtype=dtype), draw.normal(shape[0], dtype=dtype)
        x = draw.normal(1, shape[1], 4, 10, 20, dtype=dtype).contiguous(memory_format=torch.channels_last_3d)
        options = {"residual": draw.normal(1, shape[0], 2, 10, 20, dtype=dtype)} if name == "convolve" else {}
        made = getattr(kernels, name)(x, weight, bias, **options).float()
        wide = {key: value.float() for key, value in options.items()}
        expected = getattr(convolution_plain, name)(x.float(), weight.float(), bias.float(), **wide)
        _refuse(name, float((made - expected).norm() / expected.norm()), TOLERANCE)


def _compare(name: str, pairs: list[tuple[Tensor, Tensor, int]]) -> None:
    """Raise `ArithmeticError` if a row of ours is off; each pair has the axis of its rows."""
    for ours, expected, axis in pairs:
        length = expected.norm(dim=axis)
        _refuse(name, float(((ours - expected).norm(dim=axis) / length.clamp(min=1e-30)).max()), TOLERANCE)


def _refuse(name: str, error: float, tolerance: float) -> None:
    if not error < tolerance:  # neither NaN is
        raise ArithmeticError(f"{name} is off by {error:.2g}")


def _wide(argument: Any) -> Any:
    """A tensor in float32; anything else as it is."""
    return argument.float() if isinstance(argument, Tensor) else argument


def _tensors(result: Tensor | Float8Rows | tuple[Tensor | Float8Rows, ...]) -> list[Tensor]:
    if isinstance(result, Float8Rows):
        return [result.widened()]
    if isinstance(result, Tensor):
        return [result.float()]
    return [tensor for part in result for tensor in _tensors(part)]
