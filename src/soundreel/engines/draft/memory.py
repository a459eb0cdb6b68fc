"""How much memory is available on this machine."""

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
"""Linux's memory statistics, in KiB."""

CGROUP = Path("/sys/fs/cgroup")
"""The cgroup (v2) of the container that this process runs in."""


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping; None where the system does not tell."""
    machine = _machine_memory()
    container = _container_memory()
    return min(container, machine) if container is not None and machine is not None else machine


def _machine_memory() -> int | None:
    if MEMINFO.exists():
        lines = (line.split() for line in MEMINFO.read_text().splitlines())
        return next((int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:"), None)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _container_memory() -> int | None:
    """Bytes left of the cgroup's limit, its file cache counted as free; None without a limit."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        statistics = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except OSError:
        return None  # no container, or a system without cgroups
    if limit == "max":
        return None
    return max(int(limit) - used + int(statistics.get("inactive_file", 0)), 0)
