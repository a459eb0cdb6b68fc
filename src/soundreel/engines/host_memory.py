"""How much memory this machine has, or the container that this process runs in, where one is limited."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MEMINFO = Path("/proc/meminfo")
"""Linux's memory statistics, in KiB."""

OWN_CGROUPS = Path("/proc/self/cgroup")
"""The control groups that this process is in: lines `number:controllers:path`."""

CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class _Version:
    """How a version of Linux's control groups names things."""

    root: str  # below `CGROUP_ROOT`
    limit: str
    used: str
    cache: str  # in memory.stat: file cache that is given back when memory is short


_V1: Final = _Version("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2: Final = _Version("", "memory.max", "memory.current", "inactive_file")


@dataclass(frozen=True)
class _Limit:
    """Bytes that a control group may take, and how many of them are left."""

    total: int
    left: int


def total_memory() -> int | None:
    """Bytes that this machine or its container has; None where the system does not tell."""
    return _smallest([_meminfo("MemTotal") or _physical(), *(limit.total for limit in _limits())])


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping; None where the system does not tell."""
    return _smallest([_meminfo("MemAvailable") or _physical(), *(limit.left for limit in _limits())])


def _smallest(sizes: list[int | None]) -> int | None:
    """None where not even the machine's own size, the first one, is known."""
    return None if sizes[0] is None else min(size for size in sizes if size is not None)


def _meminfo(name: str) -> int | None:
    if not MEMINFO.exists():
        return None
    lines = (line.split() for line in MEMINFO.read_text().splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == f"{name}:"), None)


def _physical() -> int | None:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _limits() -> Iterator[_Limit]:
    """Of the control groups that this process is in and of those above them, as far as they are limited."""
    with suppress(OSError):  # a system without control groups
        for line in OWN_CGROUPS.read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                yield from _limits_above(path, _V2)
            elif "memory" in controllers.split(","):
                yield from _limits_above(path, _V1)


def _limits_above(path: str, version: _Version) -> Iterator[_Limit]:
    """A container may see its own group as the root, under whatever path the host knows it by."""
    root = CGROUP_ROOT / version.root
    group = root / path.lstrip("/")
    for folder in (group, *group.parents):
        if folder.is_relative_to(root) and (found := _limit(folder, version)) is not None:
            yield found


def _limit(group: Path, version: _Version) -> _Limit | None:
    try:
        limit = int((group / version.limit).read_text())
        used = int((group / version.used).read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # there is no such group here, or it has no limit ("max")
        return None
    return _Limit(limit, max(limit - used + int(statistics.get(version.cache, 0)), 0))
