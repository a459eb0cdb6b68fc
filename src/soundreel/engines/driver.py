"""Whether this machine has a GPU, asked of its driver: importing torch to learn that takes seconds."""

import ctypes
import os
import platform
from functools import cache
from pathlib import Path
from typing import Final

CUDA_LIBRARY: Final = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"

ROCM_DEVICE: Final = Path("/dev/kfd")
"""There where AMD's driver for computing is loaded."""


def find_gpu() -> str | None:
    """A GPU that PyTorch may compute on, in a few words; None where there is none.

    The driver's word: a build of PyTorch without that kind of GPU still has to be found out from PyTorch.
    """
    if _cuda_devices() > 0:
        return "a GPU"
    if ROCM_DEVICE.exists():
        return "a GPU"
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "Apple's GPU"
    return None


def count_cuda_gpus() -> int:
    """How many NVIDIA GPUs there are; 0 without a driver."""
    return _cuda_devices()


@cache
def _cuda_devices() -> int:
    """How many NVIDIA GPUs the driver shows; 0 without a driver."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        return 0
    try:
        driver = ctypes.CDLL(CUDA_LIBRARY)
    except OSError:
        return 0
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value
