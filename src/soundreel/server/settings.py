"""How a server is set up: what it may take, and what it offers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from soundreel.errors import InputError
from soundreel.units import GIB


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the server takes on. Whoever asks for more is told to come back later, or that it will never be."""

    jobs: int = 10_000  # that wait
    upload_bytes: int = 2 * GIB  # of one file
    stored_bytes: int = 100 * GIB  # of all uploads
    seconds: float = 3600.0  # of one video
    waiting_seconds: float = 100 * 3600.0  # of all videos that wait
    free_bytes: int = 2 * GIB  # that stay free on the disk
    crashes: int = 2  # of workers with one job in a row, after which it fails


@dataclass(frozen=True, kw_only=True)
class Model:
    """Something that renders, by the name that requests know it by."""

    name: str
    engine: str
    folder: Path | None = None  # of native weights; None: found as the command finds them


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All that a request may name; the first model is the default."""

    models: tuple[Model, ...]
    loras: Mapping[str, Path] = field(default_factory=dict)
    workflows: Mapping[str, Path] = field(default_factory=dict)

    def model(self, name: str | None) -> Model:
        """The model of a name; None: the default.

        Raises:
            InputError: there is none.
        """
        if name is None:
            return self.models[0]
        for model in self.models:
            if model.name == name:
                return model
        raise InputError(f"there is no model {name!r} here: {_listed(m.name for m in self.models)}", field="model")

    def lora(self, text: str) -> str:
        """`NAME` or `NAME:STRENGTH` with the file in place of the name."""
        name, colon, strength = text.partition(":")
        if name not in self.loras:
            raise InputError(f"there is no LoRA {name!r} here: {_listed(self.loras)}", field="loras")
        return f"{self.loras[name]}{colon}{strength}"

    def workflow(self, name: str) -> Path:
        """The file of a workflow."""
        if name not in self.workflows:
            raise InputError(f"there is no workflow {name!r} here: {_listed(self.workflows)}", field="workflow")
        return self.workflows[name]


def _listed(names: object) -> str:
    found = ", ".join(sorted(names))  # type: ignore[call-overload]
    return f"there are {found}" if found else "there are none"


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """A worker that the server has: a process with devices of its own, or one that talks to a ComfyUI server."""

    name: str
    engine: str
    devices: tuple[str, ...] = ()  # as --device and --gpus name them; (): the engine's choice
    memory: str = "auto"
    url: str | None = None  # of a ComfyUI server


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that `soundreel serve` was told."""

    data: Path
    catalogue: Catalogue
    workers: tuple[WorkerSpec, ...]
    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    limits: Limits = Limits()
    keep_seconds: float | None = None  # after its end a job is removed; None: never
    idle_seconds: float = 600.0  # after which a worker's networks are unloaded
    headers: tuple[str, ...] = ()  # for ComfyUI servers behind a proxy

    @property
    def database(self) -> Path:
        """Where the queue is."""
        return self.data / "queue.db"

    @property
    def uploads(self) -> Path:
        """Where files go that were sent."""
        return self.data / "uploads"

    def job_folder(self, job: str) -> Path:
        """Where all of a job is."""
        return self.data / "jobs" / job
