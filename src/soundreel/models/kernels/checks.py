"""What kernels must compute on a device before they are used there: what plain PyTorch does, on realistic values."""

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from functools import partial
from itertools import product
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from soundreel.models.conditioning import KeyValue
from soundreel.models.kernels import convolution_plain, float8_travel_plain, reference
from soundreel.models.kernels.compile_cache import is_new
from soundreel.models.kernels.float8_rows import Affine, Float8Rows, Gate
from soundreel.models.kernels.float8_shares import Means
from soundreel.models.kernels.projected import Projected
from soundreel.models.kernels.realistic import Realistic
from soundreel.models.rope import Rotary

TOLERANCE = 0.02
"""Largest relative L2 error in bfloat16, of a convolution or of any row; rounding alone gives 0.004."""

TRAVEL_TOLERANCE = 0.08
"""Relative L2 error of attention in float8, whose weights only the kernel rounds, to where they are not rounded."""

EPS = 1e-6

COMPILED_AT_ONCE = 8
"""Kernels of a check, on a GPU."""

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

PROJECTED_TOLERANCE, FLOAT8_ROWS_TOLERANCE = 0.3, 0.06
"""Of float8 attention with the norm in it: rounding gives 0.15 with or without it, and that of its output 0.03. Of the
attention to few keys the other steps before the rounding make other values of some."""

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
    cases = (*_rows(Realistic(device), widths), *_plain_rows(Realistic(device), widths))
    _at_once(
        device,
        [
            *(partial(_check_case, fused, case) for case in cases),
            *(
                partial(_check_norm_silu, fused, Realistic(device), channels, dtype)
                for dtype, channels in product((torch.float32, torch.bfloat16), CHECKED_CHANNELS)
            ),
        ],
    )


def _at_once(device: torch.device, checks: Sequence[Callable[[], None]]) -> None:
    """Make all checks; where each compiles a kernel for a GPU, by another program, several at once.

    Raises what the first one that fails raises, when those under way have ended.
    """
    if device.type != "cuda" or not is_new():
        for check in checks:
            check()
        return

    def run(check: Callable[[], None]) -> None:
        with torch.cuda.device(device), torch.inference_mode():
            check()

    with futures.ThreadPoolExecutor(COMPILED_AT_ONCE, thread_name_prefix="prove") as pool:
        proofs = [pool.submit(run, check) for check in checks]
        try:
            for proof in proofs:
                proof.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _check_case(fused: ModuleType, case: Case) -> None:
    name, arguments, options = case
    ours = getattr(fused, name)(*arguments, **options)
    expected = getattr(reference, name)(*map(_wide, arguments), **options)
    told = f"{name} in float8" if options else name
    tolerance = FLOAT8_ROWS_TOLERANCE if options and name == "attend_few" else TOLERANCE
    pairs = [(one, other, -1) for one, other in zip(_tensors(ours), _tensors(expected), strict=True)]
    _compare(told, pairs, tolerance)


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
    for keys, float8 in product((5, 70), ({}, {"float8": True})):  # as of sound and of text
        known = KeyValue(*(draw.normal(2, keys, widths.heads, head, dtype=half) for _ in range(2)))
        known = known if keys == 5 else known._replace(bias=draw.normal(2, keys))
        yield "attend_few", (draw.normal(1, 6, width, dtype=half), weight, EPS, known), float8


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
    _compare_attention(attend, *Realistic(device).attention(QUERIES, KEYS, HEADS, head_width, dtype), tolerance)


def _compare_attention(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], query: Tensor, key: Tensor, value: Tensor, tolerance: float
) -> None:
    made = attend(query, key, value).float()
    q, k, v = (x.float().transpose(1, 2) for x in (query, key, value))
    expected = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    spread, mean = torch.std_mean(value.float(), dim=1, keepdim=True)
    error = float(((made - expected) / spread).norm() / ((expected - mean) / spread).norm())
    _refuse("attention", error, tolerance)


def check_projected_attention(attend: Callable[..., Any], device: torch.device, head_width: int) -> None:
    """Raise `ArithmeticError` if float8 attention that norms and rotates is far from plain attention, or its float8
    rows from its wide ones."""
    draw, half, heads = Realistic(device), torch.bfloat16, FULL_SIZE.heads
    query, key, value = draw.attention(QUERIES, KEYS, heads, head_width, half)
    given = []
    for x in (query, key):
        angles = draw.normal(x.shape[1], head_width // 2)
        weight = (1 + 0.5 * draw.normal(heads * head_width)).to(half)
        given.append(Projected(x.flatten(-2), weight, EPS, Rotary(angles.cos(), angles.sin())))
    normed = [reference.rms_norm(x.float(), weight.float(), EPS, rotary, head_width) for x, weight, _, rotary in given]
    made: list[Tensor] = []

    def attend_wide(_q: Tensor, _k: Tensor, v: Tensor) -> Tensor:
        made.append(attend(*given, v, float8=False))
        return made[0].view(v.shape[0], -1, *v.shape[2:])

    _compare_attention(attend_wide, normed[0].to(half), normed[1].to(half), value, PROJECTED_TOLERANCE)
    rows = attend(*given, value, float8=True).widened()
    _refuse("attention in float8 rows", float((rows - made[0]).norm() / made[0].float().norm()), FLOAT8_ROWS_TOLERANCE)


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
        parts.append(steps.attend_rows(*own, there, key.shape[0], means.of_heads(heads), query.dtype))
    return torch.cat(parts, dim=1).float()


def check_convolutions(kernels: ModuleType, device: torch.device, dtype: torch.dtype) -> None:
    """Raise `ArithmeticError` unless all of `kernels` agrees with `convolution_plain` on layers of the VAE's widths."""
    draw = Realistic(device)
    _at_once(device, [partial(_check_layer, kernels, *case) for case in list(_layers(draw, dtype))])


def _layers(
    draw: Realistic, dtype: torch.dtype
) -> Iterator[tuple[str, tuple[Tensor, Tensor, Tensor], dict[str, Tensor]]]:
    for name, shape in CHECKED_LAYERS:
        weight, bias = draw.normal(*shape, dtype=dtype), draw.normal(shape[0], dtype=dtype)
        x = draw.normal(1, shape[1], 4, 10, 20, dtype=dtype).contiguous(memory_format=torch.channels_last_3d)
        options = {"residual": draw.normal(1, shape[0], 2, 10, 20, dtype=dtype)} if name == "convolve" else {}
        yield name, (x, weight, bias), options


def _check_layer(
    kernels: ModuleType, name: str, given: tuple[Tensor, Tensor, Tensor], options: dict[str, Tensor]
) -> None:
    made = getattr(kernels, name)(*given, **options).float()
    wide = {key: value.float() for key, value in options.items()}
    expected = getattr(convolution_plain, name)(*(x.float() for x in given), **wide)
    _refuse(name, float((made - expected).norm() / expected.norm()), TOLERANCE)


def _compare(name: str, pairs: list[tuple[Tensor, Tensor, int]], tolerance: float = TOLERANCE) -> None:
    """Raise `ArithmeticError` if a row of ours is off; each pair has the axis of its rows."""
    for ours, expected, axis in pairs:
        length = expected.norm(dim=axis)
        _refuse(name, float(((ours - expected).norm(dim=axis) / length.clamp(min=1e-30)).max()), tolerance)


def _refuse(name: str, error: float, tolerance: float) -> None:
    if not error < tolerance:  # neither NaN is
        raise ArithmeticError(f"{name} is off by {error:.2g}")


def _wide(argument: Any) -> Any:
    """A tensor in float32, and all of keys and values; anything else as it is."""
    if isinstance(argument, KeyValue):
        return KeyValue(*map(_wide, argument))
    return argument.float() if isinstance(argument, Tensor) else argument


def _tensors(result: Tensor | Float8Rows | tuple[Tensor | Float8Rows, ...]) -> list[Tensor]:
    if isinstance(result, Float8Rows):
        return [result.widened()]
    if isinstance(result, Tensor):
        return [result.float()]
    return [tensor for part in result for tensor in _tensors(part)]
