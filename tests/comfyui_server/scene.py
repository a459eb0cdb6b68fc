"""What tests set of a server and look at, and what its parts share: it outlives the server's end and new start."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfyui_server.faults import Faults
from comfyui_server.graphs import Graph


@dataclass
class Prompt:
    """A prompt that a client queued."""

    id: str
    number: int
    graph: Graph
    client_id: str | None
    extra: dict[str, Any]
    interrupted: bool = False
    asked_for: bool = False  # whether its client has looked into the queue since


@dataclass(kw_only=True, eq=False)
class Scene:
    """A server as tests see it.

    Attributes:
        info: its /object_info.
        models: node class and input → the files that it has.
        folder: its output folder.
        max_upload_bytes: of a request.
        listens: pictures show the numbers that they hear in a sound of `numbered`, not their own.
        trace: messages that a real server sent about a prompt, which are sent instead of those made here.
        prompts: all that were queued, in order.
        uploads: content of the input folder.
        requests: "METHOD path" of every request.
        queries: the query of each.
        faults: what goes wrong.
        holds: number of a step → what must be before it is taken.
        odd_messages: kind and data of messages that are sent before each step.
    """

    version: str
    info: dict[str, Any]
    models: dict[tuple[str, str], list[str]]
    folder: Path
    max_upload_bytes: int
    listens: bool
    trace: Sequence[dict[str, Any]]
    prompts: list[Prompt] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    holds: dict[int, Callable[[], bool]] = field(default_factory=dict)
    odd_messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def has_jobs(self) -> bool:
        """Whether the version has /api/jobs, and asks of ids to be UUIDs."""
        return not self.version.startswith("0.3.")
