"""The prompts of a running server: those that wait, the one that runs, and the history."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from comfyui_server.scene import Prompt


class Queue:
    """Queue and history. Whoever waits for something in them looks again with every change."""

    def __init__(self) -> None:
        self.pending: list[Prompt] = []
        self.running: Prompt | None = None
        self.history: dict[str, Any] = {}
        self._change = asyncio.Event()

    def __iter__(self) -> Iterator[Prompt]:
        """The prompt that runs, then those that wait."""
        if self.running:
            yield self.running
        yield from self.pending

    def __len__(self) -> int:
        return len(self.pending) + (self.running is not None)

    def changed(self) -> None:
        """Let all that wait look again."""
        self._change.set()
        self._change = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that changes with requests, connections, queue or history."""
        while not condition():
            await self._change.wait()

    def delete(self, prompt_ids: list[str]) -> None:
        """Take prompts out that wait."""
        self.pending = [prompt for prompt in self.pending if prompt.id not in prompt_ids]

    def interrupt(self, prompt_id: str | None) -> None:
        """Interrupt a prompt if it runs; None: whichever does."""
        if self.running and prompt_id in (None, self.running.id):
            self.running.interrupted = True


def row(prompt: Prompt) -> list[Any]:
    """A prompt as /queue and the history have it."""
    return [prompt.number, prompt.id, prompt.graph, {"client_id": prompt.client_id}, ["save"]]
