"""The one interface that all engines share, and how one is chosen."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from soundreel.errors import InputError
from soundreel.types import Carry, Plan, RenderedClip, Report, Request


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a plan takes on this machine."""

    seconds: float
    memory_bytes: int


class Engine(Protocol):
    """Turns a plan into pictures, clip by clip."""

    name: str

    def check(self, request: Request) -> None:
        """Raise for everything that can fail before time is spent."""

    def estimate(self, plan: Plan) -> Estimate:
        """Measure or compute what `plan` takes here; a second at most, and nothing is written."""
        ...

    def render(self, plan: Plan, start: int, carry: Carry | None, report: Report) -> Iterator[RenderedClip]:
        """Yield the clips from index `start` on; `carry` is that of clip `start - 1`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An engine and, in a few words, why it was taken."""

    engine: Engine
    why: str


AUTO = "auto"

ENGINES = {"draft": "soundreel.engines.draft:DraftEngine"}
"""Engines by name, most wanted first; a module is imported only when its engine is opened."""


def open_engine(name: str) -> Choice:
    """Open engine `name`, or with "auto" the best that can run here. `InputError` for unknown names."""
    if name == AUTO:
        return Choice(engine=_load("draft"), why="the model engines are not part of this version")
    if name not in ENGINES:
        raise InputError(f"there is no engine {name!r} in this version: choose {AUTO} or {', '.join(ENGINES)}")
    return Choice(engine=_load(name), why="as asked")


def _load(name: str) -> Engine:
    module, _, attribute = ENGINES[name].partition(":")
    return cast(Engine, getattr(import_module(module), attribute)())
