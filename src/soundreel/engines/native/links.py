"""What several GPUs speak over, and how fast that is: by kind, for plans and for `doctor`."""

import ctypes
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

import torch
from torch import distributed

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


NO_PEERS: Final = (
    "the GPUs have no access to each other's memory: what they exchange goes through the host's, so that tokens apart "
    "gain little; guidance and shots apart do not need it"
)


@once
def links_between(devices: Sequence[torch.device]) -> Links:
    """The slowest kind that lies between two of them."""
    if devices[0].type != "cuda":
        return CORES
    if not all(torch.cuda.can_device_access_peer(one, other) for one, other in permutations(devices, 2)):
        return HOST
    return NVLINK if all(map(_has_nvlink, devices)) else PEERS


def describe_gpus() -> str | None:
    """What GPUs there are, over what they speak and what `--gpus all` would divide; None where there is but one."""
    devices = tuple(torch.device("cuda", number) for number in range(torch.cuda.device_count()))
    if len(devices) < 2:
        return None
    counts = Counter(torch.cuda.get_device_name(device) for device in devices)
    found = ", ".join(f"{count} × {name}" for name, count in counts.items())
    found = f"{found} over {links_between(devices).says}"
    if len(counts) > 1:
        return f"{found}; --gpus all divides shots alone, for they are of several kinds"
    if not (distributed.is_available() and distributed.is_nccl_available()):
        return f"{found}; --gpus all divides shots alone, for this PyTorch has no NCCL"
    rest = "guidance" if len(devices) == 2 else "guidance, then tokens" if len(devices) % 2 == 0 else "tokens"
    return f"{found}; --gpus all divides shots where there are cuts enough, else {rest}"


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
