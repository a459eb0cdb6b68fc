"""The engines that are open: one of each kind, whatever is rendered with it."""

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from soundreel.engines.base import Choice, Engine, load_engine, open_engine
from soundreel.request import EngineName, Request


class Engines:
    """Opens an engine when a request first needs it, and closes all of them when it is left.

    Args:
        keep: more renders follow, one after the other: engines may hold more than one needs.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self._keep = keep
        self._engines: dict[EngineName, Engine] = {}
        self._exits = ExitStack()

    def open(self, request: Request) -> Choice:
        """The engine for a request, as `open_engine` chooses it."""
        return open_engine(request, self._opened)

    def _opened(self, name: EngineName) -> Engine:
        engine = self._engines.get(name)
        if engine is None:
            engine = load_engine(name)
            engine.keeps = self._keep
            self._engines[name] = self._exits.enter_context(engine)
        return engine

    def held(self) -> Mapping[str, int]:
        """Bytes that stay loaded, by device."""
        found = Counter[str]()
        for engine in self._engines.values():
            found.update(engine.held())
        return dict(found)

    def let_go(self) -> None:
        """Close all that are open: whoever needs one opens it anew."""
        self._engines.clear()
        self._exits.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._engines.clear()
        self._exits.__exit__(kind, error, traceback)
