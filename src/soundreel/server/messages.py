"""What the server and its workers tell each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soundreel.render.shot_jobs import Job
from soundreel.request import Request
from soundreel.server.jobs import Failure
from soundreel.types import Progress


@dataclass(frozen=True, kw_only=True)
class Work:
    """To a worker: render this."""

    job: str
    attempt: int  # of the job: what an earlier one says is not listened to
    request: Request
    folder: Path  # of the job
    redo: Mapping[str, Any] | None = None  # the shot, and its seed, that is drawn again of what is in the folder


@dataclass(frozen=True, kw_only=True)
class Help:
    """To a worker: take shots of a job that another worker has begun."""

    job: str
    share: Job


@dataclass(frozen=True, kw_only=True)
class Stop:
    """To a worker: stop that."""

    job: str


@dataclass(frozen=True, kw_only=True)
class Alive:
    """From a worker, every few seconds."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """From a worker, about its job."""

    job: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Begun(Word):
    """All checks are passed, and the first clip is begun."""

    facts: Mapping[str, Any]
    share: Job | None = None  # what another worker needs to take shots of it; None: there is one shot


@dataclass(frozen=True, kw_only=True)
class Going(Word):
    """It goes on."""

    progress: Progress
    stored: int = 0  # clips that are on the disk
    preview: int = 0  # number of the newest picture; 0: there is none
    partial: int = 0  # number of the newest partial video


@dataclass(frozen=True, kw_only=True)
class Made(Word):
    """The video is there, whole and verified."""

    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Failed(Word):
    """It cannot be made."""

    failure: Failure


@dataclass(frozen=True, kw_only=True)
class Stopped(Word):
    """It was stopped, as asked."""


@dataclass(frozen=True, kw_only=True)
class Helped:
    """From a worker that has helped: nothing is left to do, or it was told to stop, or cannot go on."""

    job: str
    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True)
class Gone:
    """From the listener: the process says nothing any more."""
