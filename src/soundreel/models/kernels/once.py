"""What is found out once in a process, by whichever thread asks first."""

import threading
from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def once(function: Callable[..., T]) -> Callable[..., T]:
    """As `functools.cache`, but threads that ask meanwhile wait for the first instead of finding it out as well.

    What raises is asked again the next time. `cache_clear` forgets all. A GPU without a number is the current one.
    """
    guard = threading.Lock()
    asking: dict[tuple[Hashable, ...], threading.Lock] = {}
    found: dict[tuple[Hashable, ...], T] = {}

    @wraps(function)
    def asked(*given: Hashable) -> T:
        arguments = tuple(map(_numbered, given))
        if arguments in found:
            return found[arguments]
        with guard:
            turn = asking.setdefault(arguments, threading.Lock())
        with turn:
            if arguments not in found:
                found[arguments] = function(*arguments)
            return found[arguments]

    made: Any = asked
    made.cache_clear = found.clear
    return asked


def _numbered(argument: Hashable) -> Hashable:
    if isinstance(argument, torch.device) and argument.type == "cuda" and argument.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return argument
