"""What a process that renders shots is told, and what it says: objects that go through pipes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soundreel.engines.base import Identity
from soundreel.request import Request


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a process is to do."""

    request: Request  # on this process's own devices
    folder: Path  # the work folder
    identity: Identity  # what was decided by the first process
    fingerprints: tuple[str, ...]  # of the clips
    only_print: bool  # from negatives that are all there
    printed_models: Mapping[str, str] | None
    stays: bool = False  # more jobs may follow
    noted: Mapping[str, Any] = field(default_factory=dict)  # what the recipe is to tell of each of its clips


@dataclass(frozen=True)
class Stored:
    """A clip is on the disk."""

    index: int


@dataclass(frozen=True)
class Failed:
    """An error that would come again in any process."""

    error: Exception


@dataclass(frozen=True)
class Done:
    """All shots are there."""

    held: Mapping[str, int]  # bytes that stay loaded, by device
