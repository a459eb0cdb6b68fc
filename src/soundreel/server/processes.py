"""Processes of our own beside the server: started anew, never forked, told what to do by a pipe, and ended with it.

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
from typing import Any, BinaryIO, Final

from soundreel.errors import Cancelled

STOP_SECONDS: Final = 10.0
"""That a process is given to end by itself: a pass of the model cannot be broken off."""

STOPS: Final = (signal.SIGINT, signal.SIGTERM)

PROGRAM: Final = "import sys; sys.path[:] = {path!r}; from {module} import main; main()"
"""Modules are looked for where this process looks, and not in whatever folder is the current one."""


class Process:
    """A process that runs `main` of a module, as the one that started it sees it."""

    def __init__(self, module: str) -> None:
        program = [sys.executable, "-c", PROGRAM.format(path=sys.path, module=module)]
        self._process = subprocess.Popen(  # noqa: S603 - our own
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd=Path(sys.executable).anchor,
        )  # a session of its own: Ctrl-C in a terminal is the server's to hear
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
        except EOFError:
            raise
        except Exception as error:
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


def how_it_ended(code: int) -> str:
    """What is said of an exit code."""
    if code >= 0:
        return f"ended with status {code}"
    why = " (the system does so where memory runs out)" if -code == signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-code).name}{why}"


class Pipe:
    """To the server and from it, in the process itself. Whatever else is printed there goes to standard error."""

    def __init__(self) -> None:
        self._orders: BinaryIO = os.fdopen(os.dup(0), "rb")
        self._words: BinaryIO = os.fdopen(os.dup(1), "wb")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def hear(self) -> Any:
        """The next order; `EOFError` when the server is gone, or wants no more."""
        try:
            return pickle.load(self._orders)  # noqa: S301 - from the process that started this one
        except (OSError, pickle.UnpicklingError) as error:
            raise EOFError from error

    def say(self, what: object) -> None:
        """Tell the server."""
        data = pickle.dumps(what)
        with self._lock, suppress(OSError):  # it is gone: the orders end, too
            self._words.write(data)
            self._words.flush()


def end_soon() -> None:
    """Stop this process as a signal would, and see to it that it ends whatever its threads and devices wait for."""
    timer = threading.Timer(STOP_SECONDS, os._exit, [Cancelled.exit_code])
    timer.daemon = True
    timer.start()
    os.kill(os.getpid(), signal.SIGTERM)


def _end_where_stopped(lost: "sys.UnraisableHookArgs") -> None:
    """A stop that lands while an object is taken down is raised nowhere: the process ends at once."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        os._exit(Cancelled.exit_code)
    sys.__unraisablehook__(lost)


def run(serve: Callable[[Pipe], object]) -> None:
    """The whole life of a process: `serve` until it is done, stopped by a signal, or the server is gone."""
    code = Cancelled.exit_code
    sys.unraisablehook = _end_where_stopped
    with suppress(KeyboardInterrupt, EOFError):
        for number in STOPS:
            signal.signal(number, signal.default_int_handler)
        serve(Pipe())
        code = 0
    os._exit(code)  # whatever threads and devices still wait for
