"""A server put together from its settings, and run until a signal."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp

from soundreel.disk.durable import make_folder
from soundreel.disk.locks import locked
from soundreel.errors import InputError, SoundreelError
from soundreel.server.answers import Errors
from soundreel.server.api import Api
from soundreel.server.database import Database
from soundreel.server.errors import PathHider
from soundreel.server.live import Hub
from soundreel.server.page import page_routes
from soundreel.server.queue import Queue
from soundreel.server.security import Guard
from soundreel.server.settings import Settings
from soundreel.server.studio import Studio
from soundreel.server.supervisor import Supervisor
from soundreel.server.upload_table import UploadTable
from soundreel.server.uploads import Uploads

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

KEEP_ALIVE_SECONDS: Final = 30


@dataclass(frozen=True, kw_only=True)
class Server:
    """All parts of a running server."""

    settings: Settings
    queue: Queue
    hub: Hub
    supervisor: Supervisor
    app: ASGIApp


@contextmanager
def opened(settings: Settings) -> Iterator[Server]:
    """A server whose data folder is this process's own; its workers begin when the app does.

    Raises:
        InputError: another server has the data folder, or others could reach this one without a token.
    """
    check_reach(settings)
    make_folder(settings.data, error=InputError, cure="name another --data")
    settings.data.chmod(0o700)
    with locked(
        settings.data, what=f"what is asked of the server of {str(settings.data)!r}", cure="name another --data"
    ):
        database = Database(settings.database)
        queue = Queue(database)
        hide = PathHider(_places(settings))
        hub = Hub()
        uploads = Uploads(settings, UploadTable(database), hide)
        supervisor = Supervisor(settings, queue, uploads, hub, hide)
        api = Api(settings, queue, uploads, supervisor, hub, hide)
        studio = Studio(settings, queue, uploads, hide)
        try:
            app = _app(
                settings, [*api.routes(), *studio.routes(), *page_routes(api.get_ready)], supervisor, hub, Errors(hide)
            )
            yield Server(settings=settings, queue=queue, hub=hub, supervisor=supervisor, app=app)
        finally:
            supervisor.stop()
            api.close()
            studio.close()
            uploads.close()
            database.close()


def check_reach(settings: Settings) -> None:
    """Raise `InputError` where others than this machine could reach a server that asks for no token."""
    if settings.host not in LOOPBACK and settings.token is None:
        raise InputError(
            f"--host {settings.host} lets others reach this server: give it a --token-file that they must know, or "
            "leave --host out",
            field="token",
        )


def _places(settings: Settings) -> list[Path]:
    catalogue = settings.catalogue
    files = [*catalogue.loras.values(), *catalogue.workflows.values()]
    folders = [model.folder for model in catalogue.models if model.folder is not None]
    return [settings.data, *folders, *files, *(file.parent for file in files), Path.home(), Path.cwd()]


def _app(settings: Settings, doors: list[Route], supervisor: Supervisor, hub: Hub, errors: Errors) -> ASGIApp:
    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        hub.open(asyncio.get_running_loop())
        supervisor.start()
        try:
            yield
        finally:
            hub.close()

    return Starlette(
        routes=doors,
        middleware=[Middleware(Guard, token=settings.token, hosts=(settings.host, *settings.allowed_hosts))],
        exception_handlers={
            SoundreelError: errors.refused,
            HTTPException: errors.of_http,
            Exception: errors.unexpected,
        },
        lifespan=life,
    )


class _Uvicorn(uvicorn.Server):
    """Tells when it listens, and lets streams end before it waits for them."""

    def __init__(self, config: uvicorn.Config, hub: Hub, on_ready: Callable[[str], object]) -> None:
        super().__init__(config)
        self._hub, self._on_ready = hub, on_ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A signal ends the server, and nothing more: that is how it is ended."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready(_address(self.config, sockets))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._hub.close()
        await super().shutdown(sockets)


def serve(settings: Settings, on_ready: Callable[[str], object]) -> None:
    """Run a server until SIGINT or SIGTERM; `on_ready` hears its address once it listens.

    Raises:
        InputError: as `opened`, or the port is taken.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    with opened(settings) as server, _listening(settings) as listener:
        config = uvicorn.Config(
            server.app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=5,
            lifespan="on",
        )
        _Uvicorn(config, server.hub, on_ready).run(sockets=[listener])


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # with its protocol said asyncio sets TCP_NODELAY: else every second packet of an answer waits for 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise InputError(
                f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}): choose another --port",
                field="port",
            ) from error
        listener.set_inheritable(False)
        yield listener
    finally:
        listener.close()


def _address(config: uvicorn.Config, sockets: list[socket.socket] | None) -> str:
    del config
    assert sockets
    host, port, *_ = sockets[0].getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
