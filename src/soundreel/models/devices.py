"""Which device a network computes on."""

import os
import platform
import re

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
        reason = _what_is_missing(name) or str(error).splitlines()[0]
        raise InputError(f"--device is {name!r}: expected auto, cpu, cuda, cuda:N or mps ({reason})") from error
    return device


def _what_is_missing(name: str) -> str:
    """Of the hardware that a device is; "" where it is there, or unknown."""
    if name == "mps":
        return "" if torch.backends.mps.is_available() else "PyTorch finds no Apple GPU"
    found, count = re.fullmatch(r"cuda(?::([0-9]+))?", name), torch.cuda.device_count()
    if found is None or int(found[1] or 0) < count:
        return ""
    return f"there {says_gpus(count)}{says_hidden()}" if count else f"PyTorch finds no NVIDIA GPU{says_hidden()}"


def says_gpus(count: int) -> str:
    """How many there are, and what they are called; after "there"."""
    return "is 1, number 0" if count == 1 else f"are {count}, numbers 0 to {count - 1}"


def says_hidden() -> str:
    """What keeps PyTorch from seeing more GPUs; "": nothing."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"


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
