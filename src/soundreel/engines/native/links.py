"""What several GPUs speak over, and how fast that is: by kind, for plans and for `doctor`."""

import ctypes
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

import torch

from soundreel.models.kernels.once import once

NVML: Final = "libnvidia-ml.so.1"
MOST_LINKS: Final = 18
"""NVLinks of a GPU, more than any has that is known."""


@dataclass(frozen=True)
class Links:
    """What lies between GPUs."""

    says: str
    speed: float
    """Bytes per second that each of them sends while all do, its copies before and after not counted."""


NVLINK: Final = Links("NVLink", 230e9)
"""Measured on 2 × H200 with 18 of them: 197 GB/s with the copies before and after."""

PEERS: Final = Links("PCIe", 20e9)
"""What a card with 16 lanes of PCIe 4 attains; not measured here."""

HOST: Final = Links("host memory, without peer access", 9e9)
"""Twice over PCIe; not measured here."""

CORES: Final = Links("host memory", 20e9)
"""Of processes on a CPU."""


@once
def links_between(devices: Sequence[torch.device]) -> Links:
    """The slowest kind that lies between two of them."""
    if devices[0].type != "cuda":
        return CORES
    if not all(torch.cuda.can_device_access_peer(one, other) for one, other in permutations(devices, 2)):
        return HOST
    return NVLINK if all(map(_has_nvlink, devices)) else PEERS


def _has_nvlink(device: torch.device) -> bool:
    """Whether one is up; False where the driver does not say."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(NVML)
        return _asked(library, _bus_address(device))
    return False


def _bus_address(device: torch.device) -> str:
    """As NVML knows a GPU, whatever CUDA_VISIBLE_DEVICES calls it."""
    found: Any = torch.cuda.get_device_properties(device)
    return f"{found.pci_domain_id:08x}:{found.pci_bus_id:02x}:{found.pci_device_id:02x}.0"


def _asked(library: Any, address: str) -> bool:
    handle = ctypes.c_void_p()
    if library.nvmlInit_v2():
        return False
    try:
        if library.nvmlDeviceGetHandleByPciBusId_v2(address.encode(), ctypes.byref(handle)):
            return False
        return any(_is_up(library, handle, number) for number in range(MOST_LINKS))
    finally:
        library.nvmlShutdown()


def _is_up(library: Any, handle: ctypes.c_void_p, number: int) -> bool:
    state = ctypes.c_uint()
    return library.nvmlDeviceGetNvLinkState(handle, number, ctypes.byref(state)) == 0 and state.value == 1
