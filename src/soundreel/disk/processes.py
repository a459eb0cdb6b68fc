"""Which process this is, and whether another one is still there."""

import os
import socket
from functools import cache
from pathlib import Path
from typing import Final

PROCESSES: Final = Path("/proc")
"""Where Linux tells of its processes."""

BOOT: Final = Path("/proc/sys/kernel/random/boot_id")

DEAD_STATES: Final = frozenset("ZXx")
"""Of a process that has ended and whose parent has not looked yet."""


@cache
def this_host() -> str:
    """A name for all processes that can see one another: of one machine, since it was started, in one container."""
    parts = [socket.gethostname()]
    if BOOT.exists():
        parts += [BOOT.read_text().strip(), str((PROCESSES / "self/ns/pid").readlink())]
    return " ".join(parts)


def start_of(pid: int) -> str | None:
    """When a process of this host was started, on a count of the system's own; None: there is none, or nobody knows.

    It tells a process from a later one that got the same number.
    """
    try:
        status = (PROCESSES / str(pid) / "stat").read_text()
    except OSError:
        return None
    _, _, after_name = status.rpartition(")")  # a name may hold anything
    state, *others = after_name.split()
    return None if state in DEAD_STATES else others[18]


def is_running(pid: int, started: str | None) -> bool | None:
    """Whether a process of this host still runs; None where the system does not tell."""
    if started is None or not (PROCESSES / "self/stat").exists():
        return None
    found = start_of(pid)
    if found is not None:
        return found == started
    return None if _is_hidden(pid) else False


def _is_hidden(pid: int) -> bool:
    """Whether there is a process, of another user, of which nothing is told."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False  # it has ended, and its parent has not looked yet
