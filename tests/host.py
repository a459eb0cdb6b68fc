"""A machine of another size, as Linux would tell of it, and a GPU as far as plans ask for one."""

from importlib import import_module
from pathlib import Path

import pytest


def pretend_host(
    patch: pytest.MonkeyPatch, folder: Path, *, total: int, available: int | None = None, cgroups: str = ""
) -> tuple[Path, Path]:
    """Let this machine have so many bytes; returns the root of its control groups, and its statistics.

    Args:
        available: of them; None: nine tenths.
        cgroups: those that the process is in, as /proc/self/cgroup lists them; "": none.
    """
    root, statistics, own = folder / "cgroup", folder / "meminfo", folder / "own-cgroups"
    free = total * 9 // 10 if available is None else available
    statistics.write_text(f"MemTotal:       {total // 1024} kB\nMemAvailable:   {free // 1024} kB\n")
    own.write_text(cgroups)
    for name, place in (("CGROUP_ROOT", root), ("MEMINFO", statistics), ("OWN_CGROUPS", own)):
        patch.setattr(f"soundreel.engines.host_memory.{name}", place)
    return root, statistics


def pretend_gpu(patch: pytest.MonkeyPatch, free: int) -> None:
    """Let this machine have an H200 with so many bytes free: enough of one for plans to be made."""
    patch.setattr("soundreel.engines.native.prepared.pick_device", lambda name: import_module("torch").device("cuda"))
    patch.setattr("soundreel.engines.native.device.free_memory", lambda *_: free)
    patch.setattr("soundreel.engines.native.device.has_own_convolutions", lambda device, dtype: True)
    patch.setattr("torch.cuda.get_device_capability", lambda device=None: (9, 0))
    patch.setattr("torch.cuda.get_device_name", lambda device=None: "NVIDIA H200")
