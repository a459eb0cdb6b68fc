"""What a job is, as the queue keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from soundreel.disk.processes import start_of


class State(StrEnum):
    """Where a job stands. It ends once: in one of the last three."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a job has failed, or a request is refused."""

    code: str  # for programs: invalid_request, media_error, weights_error, engine_error, worker_crashed, cancelled …
    message: str  # for people
    field: str | None = None  # of the request that is wrong, as `sampling.steps`

    @property
    def data(self) -> dict[str, Any]:
        """As answers have it; `type` and `param` are OpenAI's names."""
        kind = "server_error" if self.code in _OF_THE_SERVER else "invalid_request_error"
        return {"code": self.code, "message": self.message, "field": self.field, "param": self.field, "type": kind}


_OF_THE_SERVER: Final = frozenset({"worker_crashed", "internal_error", "busy", "disk_full", "engine_error"})

CANCELLED: Final = Failure(code="cancelled", message="cancelled: retry goes on where it was stopped")


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A request that has passed the checks at the door."""

    engine: str  # native, comfyui or draft
    model: str  # the server's name of it
    weights: str  # what is loaded for it: jobs with the same are taken together
    fields: Mapping[str, Any]  # of `Request`, in groups; none that names a place
    files: Mapping[str, str]  # uploads by the fields that they are, as `ref_image`
    names: Mapping[str, Any] = field(default_factory=dict)  # the server's own: loras, workflow
    plan: Mapping[str, Any]  # `plan_summary`
    seconds: float  # of video
    priority: int = 0
    id: str = ""  # made when it is added, unless its folder is there already
    idempotency_key: str | None = None
    digest: str = ""  # of what was asked


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it is now."""

    seq: int  # rises with each job: its age, whatever clocks say
    id: str
    state: State
    priority: int
    engine: str
    model: str
    weights: str
    fields: Mapping[str, Any]
    files: Mapping[str, str]
    names: Mapping[str, Any]
    plan: Mapping[str, Any]
    seconds: float
    digest: str
    attempts: int  # how often it has been begun or gone on with
    crashes: int  # of workers in a row that had it
    is_cancelled: bool  # somebody asked for it; the worker is about to stop
    is_deleted: bool
    created_at: float
    started_at: float | None
    ended_at: float | None
    failure: Failure | None
    result: Mapping[str, Any] | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing happens with it any more."""
        return self.state in ENDED


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The process that has a job."""

    worker: str
    pid: int
    started: str | None  # tells it from a later process with the same number

    @classmethod
    def of(cls, worker: str, pid: int) -> "Lease":
        """For a process of this host."""
        return cls(worker=worker, pid=pid, started=start_of(pid))


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file that somebody has sent."""

    id: str
    name: str  # as it was called there
    kind: str  # sound, picture or video
    bytes: int
    facts: Mapping[str, Any]  # what was found in it
    created_at: float
