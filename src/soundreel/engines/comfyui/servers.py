"""Choice among several servers: the least busy of those that can render the request."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from soundreel.engines.comfyui.client import Client, UnreachableError
from soundreel.engines.comfyui.inventory import Inventory
from soundreel.engines.comfyui.prompt import Capabilities
from soundreel.errors import EngineError, SoundreelError, WeightsError
from soundreel.request import Request


@dataclass(frozen=True, kw_only=True)
class ReadyServer:
    """A server that has everything that a request needs."""

    client: Client
    inventory: Inventory
    capabilities: Capabilities


@contextmanager
def open_server(request: Request, preferred: str | None = None) -> Iterator[ReadyServer]:
    """The least busy server of `request` that can render it, or `preferred` (a URL without password) if that can.

    Raises:
        UnreachableError: none of the servers answers.
        EngineError: those that answer are no ComfyUI servers, or lack node classes.
        WeightsError: they lack model files.
    """
    with ExitStack() as connections:
        clients = [connections.enter_context(Client(url, request.server)) for url in request.server.urls]
        yield _first_able(_by_load(clients, preferred), request)


def _by_load(clients: list[Client], preferred: str | None) -> list[Client]:
    """The servers that answer: `preferred` first, then by the number of their prompts."""
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
        are_away = all(isinstance(error, UnreachableError) for error in failures)
        kind = UnreachableError if are_away else EngineError
        raise kind(f"none of {len(clients)} servers can render: {'; '.join(map(str, failures))}")
    shuffled = random.sample(list(waiting), len(waiting))  # so that renders that start together take different servers
    return sorted(shuffled, key=lambda client: (client.shown_url != preferred, waiting[client]))


def _first_able(clients: list[Client], request: Request) -> ReadyServer:
    failures: list[SoundreelError] = []
    for client in clients:
        inventory = Inventory(client)
        try:
            capabilities = Capabilities.query(client, inventory, request)
        except (EngineError, WeightsError) as error:
            failures.append(error)
        else:
            return ReadyServer(client=client, inventory=inventory, capabilities=capabilities)
    raise failures[0]
