"""Which of several servers renders: one that answers, and of those the least busy."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from soundreel.engines.comfyui.client import Client
from soundreel.errors import EngineError
from soundreel.request import Server


@contextmanager
def open_server(server: Server, preferred: str | None = None) -> Iterator[Client]:
    """The least busy of the servers that answer; `preferred` (a url without password) if it is among them.

    Raises:
        EngineError: none of them answers as a ComfyUI server.
    """
    with ExitStack() as connections:
        clients = [connections.enter_context(Client(url, server)) for url in server.urls]
        yield _choose(clients, preferred)


def _choose(clients: list[Client], preferred: str | None) -> Client:
    waiting: dict[Client, int] = {}
    failures: list[EngineError] = []
    for client in clients:
        try:
            client.version()
            waiting[client] = client.queue_length()
        except EngineError as error:
            failures.append(error)
    if not waiting:
        if len(failures) == 1:
            raise failures[0]
        raise EngineError(f"none of {len(clients)} servers can render: {'; '.join(map(str, failures))}")
    known = [client for client in waiting if client.shown_url == preferred]
    least = min(waiting.values())
    idle = [client for client, length in waiting.items() if length == least]
    return known[0] if known else random.choice(idle)  # renders that start together do not all take the first
