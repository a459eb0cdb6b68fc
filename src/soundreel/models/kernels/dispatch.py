"""Which implementation of the row operations and of the convolutions a tensor gets, proven on its device first."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

import torch
from torch import Tensor

from soundreel.models.kernels import convolution_plain, float8_travel_plain, reference
from soundreel.models.kernels.checks import check_convolutions, check_rows, check_travel
from soundreel.models.kernels.compile_cache import ensure_room
from soundreel.models.kernels.once import once

FUSED = "soundreel.models.kernels.fused"
CONVOLUTION = "soundreel.models.kernels.convolution"
FLOAT8_TRAVEL = "soundreel.models.kernels.float8_travel"

log = logging.getLogger(__name__)

_in_place_of_kernels: Final[ContextVar[Any]] = ContextVar("in_place_of_kernels", default=None)


@contextmanager
def on_meta(stand_in: Any) -> Iterator[None]:
    """Within, tensors on the meta device get the functions of `stand_in`, for row operations as for convolutions."""
    before = _in_place_of_kernels.set(stand_in)
    try:
        yield
    finally:
        _in_place_of_kernels.reset(before)


def operations(x: Tensor) -> Any:
    """The module `fused` if x is on a GPU that runs it, else `reference`: both have the same functions."""
    if x.is_meta and (stand_in := _in_place_of_kernels.get()) is not None:
        return stand_in
    return import_module(FUSED) if x.is_cuda and is_fused(x.device) else reference


@once
def is_fused(device: torch.device) -> bool:
    """Whether the fused operations compile on a device and pass `check_rows`; logs a warning if not."""
    if find_spec("triton") is None:
        return False
    ensure_room()
    try:
        with torch.cuda.device(device):
            check_rows(import_module(FUSED), device)
    except kernel_errors() as error:
        log.warning("fused kernels are off on %s: %s", device, first_line(error))
        return False
    return True


def convolutions(x: Tensor) -> Any:
    """`convolution` where x is on a GPU that runs it, else `convolution_plain`: both have the same functions."""
    if x.is_meta and (stand_in := _in_place_of_kernels.get()) is not None:
        return stand_in
    return import_module(CONVOLUTION) if x.is_cuda and is_convolved(x.device, x.dtype) else convolution_plain


@once
def is_convolved(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the convolutions compile on a device and pass `check_convolutions`; logs a warning if not.

    A GPU whose own kernel fails gets the one for any GPU; if that fails too, PyTorch's.
    """
    if find_spec("triton") is None:
        return False
    ensure_room()
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
        return first_line(error)
    return None


def float8_travel(x: Tensor) -> ModuleType | None:
    """`float8_travel` where x is on a GPU that runs it, on a CPU `float8_travel_plain`.

    None: rows cannot be rounded before they travel.
    """
    if not x.is_cuda:
        return float8_travel_plain
    return import_module(FLOAT8_TRAVEL) if is_travelling(x.device, x.dtype, x.shape[-1]) else None


@once
def is_travelling(device: torch.device, dtype: torch.dtype, head_width: int) -> bool:
    """Whether the kernels of `float8_travel` compile on a device and pass `check_travel`; logs a warning if not."""
    ensure_room()
    try:
        with torch.cuda.device(device):
            check_travel(import_module(FLOAT8_TRAVEL), device, dtype, head_width)
    except kernel_errors() as error:
        log.warning("float8 rows do not travel on %s: %s", device, first_line(error))
        return False
    return True


def kernel_errors() -> tuple[type[Exception], ...]:
    """Exceptions that compiling, running or checking a kernel may raise on a GPU that it does not suit."""
    triton_error: type[Exception] = import_module("triton.errors").TritonError
    return triton_error, RuntimeError, ValueError, TypeError, AttributeError, ImportError, OSError, ArithmeticError


def first_line(error: Exception) -> str:
    """What an error says, in one line; its name if it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
