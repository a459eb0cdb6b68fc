"""Ctrl-C and SIGTERM: the first one stops a command, which then tidies up; what comes meanwhile does not break that.

A `KeyboardInterrupt` can be lost. It is raised nowhere where C has called Python, as PyAV calls a file's `seek` (and
prints it), or where an object is taken down: then it is raised once more a moment later, and not printed. Other C code
makes another error of it, as a library may while it is imported: therefore what fails after a signal was stopped by it.
"""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Final

from soundreel.errors import Cancelled
from soundreel.units import PATIENCE

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

STOPS: Final = (signal.SIGINT, signal.SIGTERM)

AGAIN_SECONDS: Final = 0.005
"""After which a lost `KeyboardInterrupt` is raised once more."""


class _Stop:
    """What has come so far of the signals that stop this process."""

    def __init__(self) -> None:
        self.number = 0  # of the signal that came last; 0: none has
        self._count = 0
        self._is_lost = self._is_losing = self._is_repeated = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """A signal has come, or is repeated because it was lost."""
        self.number = number
        is_repeated, self._is_repeated = self._is_repeated, False
        if self._is_lost and not self._is_losing:
            self._is_lost = False
            signal.default_int_handler(number, frame)
        if self._is_lost or is_repeated:
            return
        self._count += 1
        if self._count > PATIENCE:
            os._exit(Cancelled.exit_code)
        if self._count == 1:
            signal.default_int_handler(number, frame)

    def lose(self, lost: "UnraisableHookArgs") -> None:
        """An exception could be raised nowhere: what is to stop the process comes again."""
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(lost)
            return
        self._is_lost = self._is_losing = True
        threading.Thread(target=self._repeat, daemon=True).start()
        self._is_losing = False

    def give_up(self) -> None:
        """Nothing comes again from now on."""
        self._is_lost = False

    def _repeat(self) -> None:
        """Until it is raised where it can be."""
        while True:
            time.sleep(AGAIN_SECONDS)
            if not self._is_lost:
                return
            self._is_repeated = True
            _send(signal.Signals(self.number or signal.SIGINT))


def _send(number: signal.Signals) -> None:
    """Send a signal to the main thread, so that it waits for nothing any more where the system lets it."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(number)


_stop = _Stop()
"""Signals go to a process, and so does this."""


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """The first SIGINT or SIGTERM in the block is a `KeyboardInterrupt`, the second nothing, the third the end.

    A process that ignores SIGINT, as those do that a script has begun in the background, goes on ignoring it.
    """
    global _stop  # noqa: PLW0603 - as signal handlers are
    _stop = _Stop()
    hooks = sys.unraisablehook, sys.excepthook
    heard = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _stop.hear) for number in heard}
    sys.unraisablehook = _stop.lose
    try:
        yield
    finally:
        _stop.give_up()
        sys.unraisablehook, sys.excepthook = hooks
        _stop = _Stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def tell_no_interrupt(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an exception, as `sys.excepthook` does, unless it is a `KeyboardInterrupt`: that has been heard."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


def is_stopped() -> bool:
    """Whether a signal has come: what fails from then on has failed because of it."""
    return _stop.number != 0


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
