"""The record of a prompt on disk, with which a later process continues it."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from uuid import uuid4

from soundreel.disk.durable import write_json
from soundreel.disk.plain_json import read_json

FILE_NAME: Final = "comfyui.json"


@dataclass(frozen=True, kw_only=True)
class PromptRecord:
    """A prompt on a server. It is written before the prompt is queued, so that no crash loses the prompt."""

    url: str  # without a password
    prompt_id: str
    client_id: str
    graph_hash: str  # `Prompt.hash`
    uploads: dict[str, str] = field(default_factory=dict)  # our names of the input files → the server's
    queued_again: bool = False  # it replaces a prompt that the server lost
    found: bool = False  # an earlier process queued it
    is_fetched: bool = False  # all pictures are downloaded
    is_given_up: bool = False  # the server was asked to stop it, and did not answer: it may do so late

    @classmethod
    def new(cls, url: str, graph_hash: str) -> Self:
        """The record of a new prompt, with new ids."""
        return cls(url=url, prompt_id=str(uuid4()), client_id=uuid4().hex, graph_hash=graph_hash)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The record in `folder`; None where there is none, or it cannot be read."""
        try:
            return cls(**read_json(folder / FILE_NAME))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Write the record into `folder` atomically. Raises `MediaError` where it cannot be written."""
        write_json(folder / FILE_NAME, dataclasses.asdict(self))

    @staticmethod
    def forget(folder: Path) -> None:
        """Remove the record from `folder`, if there is one."""
        (folder / FILE_NAME).unlink(missing_ok=True)
