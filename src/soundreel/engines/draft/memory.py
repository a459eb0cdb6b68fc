"""How much memory a render may take on this machine."""

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
"""Linux's account of memory, in kB."""

CGROUP = Path("/sys/fs/cgroup")
"""Limits of the container that this process runs in."""


def available_memory() -> int | None:
    """Bytes that can be taken without swapping; None where the system does not say."""
    free = _machine_memory()
    room = _container_room()
    return min(room, free) if room is not None and free is not None else free


def _machine_memory() -> int | None:
    if MEMINFO.exists():
        lines = (line.split() for line in MEMINFO.read_text().splitlines())
        return next((int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:"), None)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _container_room() -> int | None:
    """What is left of a cgroup's limit; its file cache counts as free, for it gives way."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        statistics = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except OSError:
        return None  # no container, or a system without cgroups
    if limit == "max":
        return None
    return max(int(limit) - used + int(statistics.get("inactive_file", 0)), 0)
