"""Which of several servers renders: one that answers and can, and of those the least busy."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from soundreel.engines.comfyui.client import Client, UnreachableError
from soundreel.engines.comfyui.inventory import Inventory
from soundreel.engines.comfyui.prompt import Abilities
from soundreel.errors import EngineError, SoundreelError, WeightsError
from soundreel.request import Request


@dataclass(frozen=True, kw_only=True)
class ReadyServer:
    """A server that has all that a request needs."""

    client: Client
    inventory: Inventory
    abilities: Abilities


@contextmanager
def open_server(request: Request, preferred: str | None = None) -> Iterator[ReadyServer]:
    """The least busy server of `request` that can render it; `preferred` (a url without password) if it is among them.

    Raises:
        UnreachableError: none of them answers.
        EngineError: those that answer are no ComfyUI servers, or lack nodes.
        WeightsError: they lack model files.
    """
    with ExitStack() as connections:
        clients = [connections.enter_context(Client(url, request.server)) for url in request.server.urls]
        yield _first_able(_by_load(clients, preferred), request)


def _by_load(clients: list[Client], preferred: str | None) -> list[Client]:
    """Those that answer: `preferred`, then those with the fewest prompts."""
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
    shuffled = random.sample(list(waiting), len(waiting))  # renders that start together do not all take the first
    return sorted(shuffled, key=lambda client: (client.shown_url != preferred, waiting[client]))


def _first_able(clients: list[Client], request: Request) -> ReadyServer:
    failures: list[SoundreelError] = []
    for client in clients:
        inventory = Inventory(client)
        try:
            abilities = Abilities.survey(client, inventory, request)
        except (EngineError, WeightsError) as error:
            failures.append(error)
        else:
            return ReadyServer(client=client, inventory=inventory, abilities=abilities)
    raise failures[0]
