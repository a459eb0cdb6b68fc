"""Which implementation of the row operations and of the convolutions a tensor gets, proven on its device first."""

import logging
import sys
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from soundreel.models.kernels import convolution_plain, reference
from soundreel.models.kernels.float8_rows import Affine, Float8Rows, Gate
from soundreel.models.rope import Rotary

FUSED = "soundreel.models.kernels.fused"
CONVOLUTION = "soundreel.models.kernels.convolution"

TOLERANCE = 0.02
"""Largest relative L2 error of a fused result in bfloat16; rounding alone gives 0.004."""

CHECKED_LAYERS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("convolve", (96, 96, 3, 3, 3)),
    ("convolve", (384, 192, 3, 3, 3)),
    ("double", (96, 96, 3, 1, 1)),
    ("halve", (96, 96, 3, 3)),
    ("enlarge", (96, 96, 3, 3)),
)
"""Convolutions and the shapes of their weights that must be right: of the VAE's narrowest, and one of its widest."""

log = logging.getLogger(__name__)


def operations(x: Tensor) -> ModuleType:
    """The module `fused` if x is on a GPU that runs it, else `reference`: both have the same functions."""
    return import_module(FUSED) if x.is_cuda and is_fused(x.device) else reference


@cache
def is_fused(device: torch.device) -> bool:
    """Whether the fused operations compile on a device and agree with the reference; logs a warning if not."""
    if find_spec("triton") is None:
        return False
    try:
        with torch.cuda.device(device):
            check(import_module(FUSED), device)
    except kernel_errors() as error:
        log.warning("fused kernels are off on %s: %s", device, str(error).splitlines()[0])
        return False
    return True


def convolutions(x: Tensor) -> ModuleType:
    """`convolution` where x is on a GPU that runs it, else `convolution_plain`: both have the same functions."""
    return import_module(CONVOLUTION) if x.is_cuda and is_convolved(x.device, x.dtype) else convolution_plain


@cache
def is_convolved(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the convolutions compile on a device and agree with PyTorch's; says so if not.

    A GPU whose own kernel fails gets the one for any GPU; if that fails too, PyTorch's.
    """
    if find_spec("triton") is None:
        return False
    if (error := _convolution_error(device, dtype)) is None:
        return True
    kernels: Any = sys.modules.get(CONVOLUTION)  # None: it could not even be imported
    if kernels is not None and (kind := kernels.kind_of(device, dtype)) == kernels.HOPPER_KIND:
        log.warning("the convolution kernel for Hopper is off on %s: %s", device, error)
        kernels.without_own_kernel.add((kind, dtype))
        error = _convolution_error(device, dtype)
    if error is not None:
        log.warning("convolution kernels are off on %s: %s", device, error)
    return error is None


def _convolution_error(device: torch.device, dtype: torch.dtype) -> str | None:
    """What is wrong with the convolution kernels on a device, if anything."""
    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            check_convolutions(import_module(CONVOLUTION), device, dtype)
    except kernel_errors() as error:
        return next(iter(str(error).splitlines()), type(error).__name__)
    return None


def kernel_errors() -> tuple[type[Exception], ...]:
    """Exceptions that compiling, running or checking a kernel may raise on a GPU that it does not suit."""
    triton_error: type[Exception] = import_module("triton.errors").TritonError
    return triton_error, RuntimeError, ValueError, TypeError, AttributeError, ImportError, OSError, ArithmeticError


def check(fused: ModuleType, device: torch.device) -> None:
    """Raise `ArithmeticError` unless all of `fused` agrees with `reference` on small random tensors."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).to(dtype)

    x, update, weight = draw(2, 7, 96), draw(2, 5, 96, dtype=torch.bfloat16), draw(96, dtype=torch.bfloat16)
    affine, gate = Affine(draw(2, 2, 96), draw(2, 2, 96), 3), Gate(draw(1, 2, 96), 4)
    rotary = Rotary(draw(5, 24), draw(5, 24))
    for name, arguments, options in (
        ("norm", (x, affine, 1e-6, torch.bfloat16), {}),
        ("add", (x, update, gate), {}),
        ("add_norm", (x, update, None, affine, 1e-6, torch.bfloat16), {}),
        ("rms_norm", (update, weight, 1e-6, rotary, 48), {}),
        ("gelu", (update,), {}),
        ("quantize", (update,), {}),
    ):
        ours, expected = (getattr(module, name)(*arguments, **options) for module in (fused, reference))
        for one, other in zip(_tensors(ours), _tensors(expected), strict=True):
            error = float((one - other).norm() / other.norm())
            if not error < TOLERANCE:
                raise ArithmeticError(f"{name} is off by {error:.2g}")


def _tensors(result: Tensor | Float8Rows | tuple[Tensor | Float8Rows, ...]) -> list[Tensor]:
    if isinstance(result, Float8Rows):
        return [result.widened()]
    if isinstance(result, Tensor):
        return [result.float()]
    return [tensor for part in result for tensor in _tensors(part)]


def check_convolutions(kernels: ModuleType, device: torch.device, dtype: torch.dtype) -> None:
    """Raise `ArithmeticError` unless all of `kernels` agrees with `convolution_plain` on layers of the VAE's widths."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).to(dtype)

    for name, shape in CHECKED_LAYERS:
        weight, bias = draw(*shape), draw(shape[0])
        x = draw(1, shape[1], 4, 10, 20).contiguous(memory_format=torch.channels_last_3d)
        options = {"residual": draw(1, shape[0], 2, 10, 20)} if name == "convolve" else {}
        made = getattr(kernels, name)(x, weight, bias, **options).float()
        wide = {key: value.float() for key, value in options.items()}
        expected = getattr(convolution_plain, name)(x.float(), weight.float(), bias.float(), **wide)
        error = float((made - expected).norm() / expected.norm())
        if not error < TOLERANCE:
            raise ArithmeticError(f"{name} is off by {error:.2g}")
