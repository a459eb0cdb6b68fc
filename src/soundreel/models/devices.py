"""Which device a network computes on."""

import os
import platform

import torch

from soundreel.errors import InputError

AUTO = "auto"

ALLOCATOR_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
"""Settings of PyTorch's GPU allocator, read when it is first used."""


def pick_device(name: str) -> torch.device:
    """The device for a `--device` option; with "auto" a CUDA GPU, else Apple's, else the CPU.

    Raises:
        InputError: the name is no device, or there is none of that kind.
    """
    _let_segments_expand()
    if name == AUTO:
        return torch.device(_best_kind())
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device is {name!r}: expected auto, cpu, cuda, cuda:N or mps ({reason})") from error
    return device


def _let_segments_expand() -> None:
    """Freed memory of any size is used again: a cap is no use where a tenth of it lies in pieces. Linux only."""
    if platform.system() == "Linux" and not any(name in os.environ for name in ALLOCATOR_VARIABLES):
        os.environ[ALLOCATOR_VARIABLES[0]] = "expandable_segments:True"


def _best_kind() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory could not be allocated, on a GPU or on the CPU, where PyTorch raises a plain `RuntimeError`."""
    return is_out_of_gpu_memory(error) or "DefaultCPUAllocator" in str(error)


def is_out_of_gpu_memory(error: RuntimeError) -> bool:
    """Whether a GPU's memory could not be allocated, by PyTorch or by the driver."""
    return isinstance(error, torch.OutOfMemoryError) or str(error).startswith("CUDA error: out of memory")
