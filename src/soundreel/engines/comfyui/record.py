"""What must outlive this process: which prompt on which server renders the plan, and what was uploaded for it."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from uuid import uuid4

from soundreel.disk.durable import write_json

FILE_NAME: Final = "comfyui.json"


@dataclass(frozen=True, kw_only=True)
class PromptRecord:
    """The prompt of a render. Written before it is queued, so that a crash at any moment loses nothing."""

    url: str  # without a password
    prompt_id: str
    client_id: str
    graph_hash: str  # of the graph less its file prefix: the same work
    uploads: dict[str, str] = field(default_factory=dict)  # names of ours → names on the server
    queued_again: bool = False  # after the server lost it
    found: bool = False  # by a later process than the one that queued it
    is_fetched: bool = False  # all pictures are in the folder beside it

    @classmethod
    def new(cls, url: str, graph_hash: str) -> Self:
        """A record of a prompt that is about to be queued."""
        return cls(url=url, prompt_id=str(uuid4()), client_id=uuid4().hex, graph_hash=graph_hash)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The record in `folder`; None if there is none that can be read."""
        try:
            return cls(**json.loads((folder / FILE_NAME).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Put the record into `folder`, whole or not at all; `MediaError` if that cannot be."""
        write_json(folder / FILE_NAME, dataclasses.asdict(self))

    @staticmethod
    def forget(folder: Path) -> None:
        """Remove the record: the prompt is finished with."""
        (folder / FILE_NAME).unlink(missing_ok=True)
