"""Choice among several servers: the least busy of those that can render the request."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from soundreel.engines.comfyui.client import Client
from soundreel.engines.comfyui.failures import NoServerError, UnreachableError
from soundreel.engines.comfyui.inventory import Inventory
from soundreel.engines.comfyui.patience import Patience
from soundreel.engines.comfyui.prompt import Capabilities
from soundreel.errors import EngineError, SoundreelError, WeightsError
from soundreel.request import Request


@dataclass(frozen=True, kw_only=True)
class ReadyServer:
    """A server that has everything that a request needs."""

    client: Client
    inventory: Inventory
    capabilities: Capabilities


Suits = Callable[[ReadyServer], None]
"""Raises `EngineError` or `WeightsError` where a server cannot render what it is wanted for."""


class _NoneReadyError(UnreachableError):
    """None of several servers is ready, and some do not answer."""

    def __init__(self, failures: Sequence[SoundreelError]) -> None:
        super().__init__(_summary(failures))
        self.failures = failures


class _NoneRunningError(_NoneReadyError, NoServerError):
    """None of several servers is ready, and those that do not answer have ended."""


def accept(_: ReadyServer) -> None:
    """Any server suits that has what the request needs."""


@contextmanager
def open_server(
    request: Request, suits: Suits = accept, *, patience: Patience | None = None, preferred: str | None = None
) -> Iterator[ReadyServer]:
    """The least busy server of `request` that can render it, or `preferred` if that can.

    Args:
        request: names the servers.
        suits: what else is asked of the server.
        patience: that of a render which is under way; None: this is the first look at the servers.
        preferred: URL, without password, of the server that has a prompt of ours; while it runs, but does not answer,
            no other is taken.

    Raises:
        UnreachableError: none of the servers answers.
        EngineError: those that answer are no ComfyUI servers, or lack node classes.
        WeightsError: they lack model files.
    """
    patient = Patience.brief() if patience is None else patience
    with ExitStack() as connections:
        clients = [
            connections.enter_context(Client(url, request.server, is_known=patience is not None))
            for url in request.server.urls
        ]
        first = [client for client in clients if client.shown_url == preferred]
        yield _choose_patiently(clients, first, request, suits, patient)


def _choose_patiently(
    clients: list[Client], first: list[Client], request: Request, suits: Suits, patience: Patience
) -> ReadyServer:
    if first and len(clients) > 1:
        with suppress(EngineError, WeightsError):
            return patience.for_running_servers().bear(lambda: _choose(first, request, suits))
    try:
        return patience.bear(lambda: _choose(clients, request, suits))
    except _NoneReadyError as error:
        lasting = [failure for failure in error.failures if not isinstance(failure, UnreachableError)]
        if not lasting:
            raise
        raise type(lasting[0])(str(error)) from error


def _choose(clients: list[Client], request: Request, suits: Suits) -> ReadyServer:
    versions: dict[Client, str] = {}
    waiting: dict[Client, int] = {}
    failures: list[SoundreelError] = []
    for client in clients:
        try:
            versions[client], waiting[client] = client.version(), client.queue_length()
        except EngineError as error:
            failures.append(error)
    shuffled = random.sample(list(waiting), len(waiting))  # so that renders that start together take different servers
    for client in sorted(shuffled, key=waiting.__getitem__):
        try:
            inventory = Inventory(client.shown_url, client.node_classes())
            capabilities = Capabilities.of(versions[client], inventory, request)
            server = ReadyServer(client=client, inventory=inventory, capabilities=capabilities)
            suits(server)
        except (EngineError, WeightsError) as error:
            failures.append(error)
        else:
            return server
    if len(failures) == 1:
        raise failures[0]
    away = [failure for failure in failures if isinstance(failure, UnreachableError)]
    if not away:
        raise type(failures[0])(_summary(failures))
    have_ended = all(isinstance(failure, NoServerError) for failure in away)
    raise (_NoneRunningError if have_ended else _NoneReadyError)(failures)


def _summary(failures: Sequence[SoundreelError]) -> str:
    return f"none of {len(failures)} servers can render: {'; '.join(map(str, failures))}"
