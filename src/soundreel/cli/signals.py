"""Ctrl-C and SIGTERM: the first one stops a command, which then tidies up; what comes meanwhile does not break that."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from types import FrameType
from typing import Final

from soundreel.errors import Cancelled
from soundreel.units import PATIENCE

STOPS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """The first SIGINT or SIGTERM in the block is a `KeyboardInterrupt`, the second nothing, the third the end.

    A process that ignores SIGINT, as those do that a script has begun in the background, goes on ignoring it.
    """
    numbers = count(1)

    def stop(number: int, frame: FrameType | None) -> None:
        which = next(numbers)
        if which > PATIENCE:
            os._exit(Cancelled.exit_code)
        if which == 1:
            signal.default_int_handler(number, frame)

    heard = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Nothing is left to be stopped: a signal would only show where the interpreter is."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


def forget_interrupt() -> None:
    """Let the process end with its own exit code after a `KeyboardInterrupt` that was caught.

    At its end CPython kills a `python -m` by SIGINT if one has passed through `exec` of a string, as dataclasses use it
    when a library is imported. It forgets that when another string is executed.
    """
    exec("")  # noqa: S102
