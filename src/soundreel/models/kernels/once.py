"""What is found out once in a process, by whichever thread asks first."""

import threading
from collections.abc import Callable, Hashable
from concurrent import futures
from functools import wraps
from typing import Any, Final, TypeVar

import torch

from soundreel.disk.durable import uninterrupted

T = TypeVar("T")

TURN_SECONDS: Final = 0.1
"""Between two looks for a signal while another thread finds out."""


def once(function: Callable[..., T]) -> Callable[..., T]:
    """As `functools.cache`, but threads that ask meanwhile wait for the first instead of finding it out as well.

    What raises is asked again the next time. `cache_clear` forgets all. A GPU without a number is the current one.
    """
    guard = threading.Lock()
    asking: dict[tuple[Hashable, ...], futures.Future[None]] = {}
    found: dict[tuple[Hashable, ...], T] = {}

    @wraps(function)
    def asked(*given: Hashable) -> T:
        arguments = tuple(map(_numbered, given))
        while arguments not in found:
            own: futures.Future[None] = futures.Future()
            turn = None
            try:
                with uninterrupted(), guard:
                    turn = asking.setdefault(arguments, own)
                if turn is own:
                    found[arguments] = function(*arguments)
                else:
                    _wait(turn)
            finally:
                if turn is own:
                    with uninterrupted(), guard:
                        del asking[arguments]
                        own.set_result(None)
        return found[arguments]

    made: Any = asked
    made.cache_clear = found.clear
    return asked


def _wait(turn: "futures.Future[None]") -> None:
    while not turn.done():
        with uninterrupted():
            futures.wait([turn], TURN_SECONDS)


def _numbered(argument: Hashable) -> Hashable:
    has_no_number = isinstance(argument, torch.device) and argument.type == "cuda" and argument.index is None
    return (
        torch.device("cuda", torch.cuda.current_device()) if has_no_number and torch.cuda.is_available() else argument
    )
