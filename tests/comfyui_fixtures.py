"""Fixtures of tests with a contract server: `pytest_plugins = ("comfyui_fixtures",)`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyui_renders import CAPTURES, NEVER, Serve, captured
from comfyui_server import ContractServer
from comfyui_server.nodes import object_info
from soundreel.engines.comfyui import downloads, patience, watch
from soundreel.request import Request, Server


@pytest.fixture
def no_patience_wasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions that come in hundredths of a second, and nothing that depends on when they are answered.

    While messages come nothing is asked, an outage is not given up, and a prompt is gone when it is missed twice.
    """
    for name, seconds in {
        "TICK_SECONDS": 0.05,
        "FINISHING_POLL_SECONDS": 0.02,
        "QUEUE_POLL_SECONDS": 0.02,
        "RUNNING_POLL_SECONDS": NEVER,
        "FALLBACK_POLL_SECONDS": 0.02,
        "ABSENT_SECONDS": 0.0,
        "OUTAGE_SECONDS": NEVER,
        "NO_MESSAGES_FACTOR": 1,
    }.items():
        monkeypatch.setattr(watch, name, seconds)
    for module, names in {
        patience: ("BRIEF_SECONDS", "FIRST_PAUSE_SECONDS", "LONGEST_PAUSE_SECONDS"),
        downloads: ("PAUSE_SECONDS",),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, 0.01)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers that end with the test."""
    running: list[ContractServer] = []

    def start(version: str = "0.33.0", **options: Any) -> ContractServer:
        info = captured(version) if CAPTURES.is_dir() else object_info(version)
        server = ContractServer(info, tmp_path / f"server{len(running)}", version=version, **options)
        running.append(server.__enter__())
        return server

    yield start
    for server in running:
        server.release()
        server.__exit__(None, None, None)


@pytest.fixture
def server(serve: Serve) -> ContractServer:
    """A server of the newer version."""
    return serve()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """The folder that outlives a crash."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def ask(tune: Path, server: ContractServer) -> Callable[..., Request]:
    """A small request to `server`; fields of `Server` go into it."""

    def make(**fields: Any) -> Request:
        options = {name: fields.pop(name) for name in list(fields) if name in Server.__dataclass_fields__}
        small = {"width": 64, "height": 64, "frames": 9, "steps": 2, "engine": "comfyui"}
        there = {"audio": tune, "server": Server(**{"urls": (server.url,), "timeout": NEVER} | options)}
        return Request(**there | small | fields)

    return make
