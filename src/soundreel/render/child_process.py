"""Processes of our own beside this one: started anew, never forked, told what to do by a pipe, and ended with it.

What goes through the pipes are pickled objects. The other end is another Python of ours, and nobody else has the pipe.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, BinaryIO, Final

from soundreel.errors import Cancelled
from soundreel.types import CancelFlag

STOP_SECONDS: Final = 10.0
"""That a process is given to end by itself: a pass of the model cannot be broken off."""

STOPS: Final = (signal.SIGINT, signal.SIGTERM)

PROGRAM: Final = "import sys; sys.path[:] = {path!r}; from {module} import main; main()"
"""Modules are looked for where this process looks, and not in whatever folder is the current one."""


class ChildProcess:
    """A process that runs `main` of a module, as the one that started it sees it.

    Args:
        is_apart: in a session of its own, so that Ctrl-C in a terminal is not heard there, and in the root folder.
    """

    def __init__(self, module: str, *, is_apart: bool = False) -> None:
        program = [sys.executable, "-c", PROGRAM.format(path=sys.path, module=module)]
        self._process = subprocess.Popen(  # noqa: S603 - our own
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=is_apart,
            cwd=Path(sys.executable).anchor if is_apart else None,
        )
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code; None: it runs."""
        return self._process.poll()

    def say(self, what: object) -> bool:
        """Tell it something; False: it is gone."""
        assert self._process.stdin is not None
        try:
            with self._lock:
                pickle.dump(what, self._process.stdin)
                self._process.stdin.flush()
        except (OSError, ValueError):  # ValueError: the pipe is closed already
            return False
        return True

    def hear(self) -> object:
        """The next thing that it says; `EOFError` when nothing comes any more, or half a word."""
        assert self._process.stdout is not None
        try:
            return pickle.load(self._process.stdout)  # noqa: S301 - from a process of our own
        except Exception as error:
            self._process.stdout.close()
            raise EOFError from error

    def dismiss(self) -> None:
        """Ask it to end."""
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):
            self._process.stdin.close()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for its end, and see to it after so many seconds; returns its exit code."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self.dismiss()
        return code

    def close(self) -> None:
        """Let go of what it may still have said, once it has ended."""
        assert self._process.stdout is not None
        self._process.stdout.close()


def how_it_ended(code: int) -> str:
    """What is said of an exit code."""
    if code >= 0:
        return f"ended with status {code}"
    why = " (the system does so where memory runs out)" if -code == signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-code).name}{why}"


class Pipe:
    """To the first process and from it, in the child itself. Whatever else is printed there goes to standard error."""

    def __init__(self) -> None:
        self._orders: BinaryIO = os.fdopen(os.dup(0), "rb")
        self._words: BinaryIO = os.fdopen(os.dup(1), "wb")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def hear(self) -> Any:
        """The next order; `EOFError` when the first process is gone, or wants no more."""
        try:
            return pickle.load(self._orders)  # noqa: S301 - from the process that started this one
        except (OSError, pickle.UnpicklingError) as error:
            raise EOFError from error

    def say(self, what: object) -> None:
        """Tell the first process."""
        data = pickle.dumps(what)
        with self._lock, suppress(OSError):  # it is gone: the orders end, too
            self._words.write(data)
            self._words.flush()


def run(serve: Callable[[Pipe, CancelFlag], int]) -> None:
    """The whole life of a child: `serve` until it is done, stopped by a signal, or the first process is gone.

    `serve` returns the exit code. A signal, from whomever, sets its flag, and is a `KeyboardInterrupt` once.
    """
    code, stop = Cancelled.exit_code, CancelFlag()
    with suppress(KeyboardInterrupt, Cancelled, EOFError):
        _stop_on_signals(stop)
        code = serve(Pipe(), stop)
    os._exit(code)  # whatever threads and devices still wait for


def end_soon() -> None:
    """Stop this child as a signal would, and see to it that it ends whatever its threads and devices wait for."""
    timer = threading.Timer(STOP_SECONDS, os._exit, [Cancelled.exit_code])
    timer.daemon = True
    timer.start()
    os.kill(os.getpid(), signal.SIGTERM)


def _stop_on_signals(stop: CancelFlag) -> None:
    """Ctrl-C comes to all processes of a terminal; signals that came while this one started have been held back."""

    def hear(number: int, frame: FrameType | None) -> None:
        del number, frame
        is_first = not stop.is_set
        stop.set()
        if is_first:
            raise KeyboardInterrupt

    def lose(lost: "sys.UnraisableHookArgs") -> None:
        """The one `KeyboardInterrupt` may land where an object is taken down and be raised nowhere: the flag is set."""
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(lost)

    def print_others(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """PyAV prints it where it is raised in a file's method."""
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)

    sys.unraisablehook, sys.excepthook = lose, print_others
    for number in STOPS:
        signal.signal(number, hear)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
