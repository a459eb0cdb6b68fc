"""Looks into files of strangers, in a process that may take only so much memory and time, away from the server."""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from queue import SimpleQueue
from typing import Any, Final, NoReturn

from soundreel.errors import MediaError, SoundreelError
from soundreel.render.child_process import ChildProcess, Pipe, end_soon, how_it_ended, run
from soundreel.units import GIB

MEMORY_BYTES: Final = 4 * GIB
"""Of address space: what libraries take, the largest picture that is opened, and an hour of analysed sound."""

INSPECTION: Final = "soundreel.server.inspection"

CHECK_SECONDS: Final = 120.0
LISTEN_SECONDS: Final = 900.0
PLAN_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Question:
    """A function, and what it is asked."""

    module: str
    name: str
    arguments: tuple[Any, ...]
    is_limited: bool
    tells: bool  # it gets `tell`, which it calls with what is to be known before it has ended


@dataclass(frozen=True)
class Part:
    """What is told before the answer."""

    value: Any


@dataclass(frozen=True)
class Answer:
    """What it has returned, or raised."""

    value: Any = None
    error: Exception | None = None


class Helper:
    """A process that answers one question at a time; it is started when it is first asked, and anew when it has died.

    Args:
        is_limited: in memory; what imports PyTorch cannot be.
    """

    def __init__(self, *, is_limited: bool = True) -> None:
        self._is_limited = is_limited
        self._process: ChildProcess | None = None
        self._lock = threading.Lock()  # held while it answers
        self._starting = threading.Lock()
        self._is_closed = False

    def ask(
        self,
        name: str,
        *arguments: Any,
        seconds: float,
        module: str = INSPECTION,
        on_part: Callable[[Any], None] | None = None,
    ) -> Any:
        """What a function of a module returns; with `on_part` the function gets `tell`, by which it calls that.

        Raises:
            SoundreelError: what it raises; `MediaError` where it takes too much memory or time.
        """
        with self._lock:
            process = self._there()
            timer = threading.Timer(seconds, process.kill)
            timer.daemon = True
            timer.start()
            try:
                process.say(Question(module, name, arguments, self._is_limited, tells=on_part is not None))
                while isinstance(answer := process.hear(), Part):
                    assert on_part is not None
                    on_part(answer.value)
            except EOFError:
                self._process = None
                is_late = not timer.is_alive()
                code = process.wait()
                why = f"it takes longer than {seconds:g} s" if is_late else f"its reader {how_it_ended(code)}"
                raise MediaError(f"this file cannot be opened here: {why}") from None
            finally:
                timer.cancel()
        assert isinstance(answer, Answer)
        if answer.error is not None:
            raise answer.error
        return answer.value

    def get_ready(self) -> None:
        """Start the process and import what it needs, if there is none yet: the first question waits for less."""
        if self._process is None:
            with suppress(SoundreelError):
                self.ask("ready", seconds=CHECK_SECONDS)

    def _there(self) -> ChildProcess:
        with self._starting:
            if self._is_closed:
                raise MediaError("this file cannot be opened here: the server ends")
            if self._process is None or self._process.code is not None:
                self._process = ChildProcess("soundreel.server.helper", is_apart=True)
            return self._process

    def close(self) -> None:
        """End the process; none is started any more, whoever asks."""
        with self._starting:
            self._is_closed, process = True, self._process
        if process is not None:
            process.dismiss()
            process.wait(1.0)
            process.close()


def main() -> None:
    """The process."""
    run(lambda pipe, _: _serve(pipe))


def _serve(pipe: Pipe) -> NoReturn:
    """Answer until the server is gone, also in the middle of a question: nobody waits for its answer then."""
    questions: SimpleQueue[Question] = SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, questions), daemon=True).start()
    while True:
        question = questions.get()
        if question.is_limited:
            _limit_memory()
        pipe.say(_answer(question, pipe))


def _listen(pipe: Pipe, questions: SimpleQueue[Question]) -> None:
    with suppress(EOFError):
        while True:
            questions.put(pipe.hear())
    end_soon()


def _answer(question: Question, pipe: Pipe) -> Answer:
    function = getattr(import_module(question.module), question.name)
    tell = {"tell": lambda part: pipe.say(Part(part))} if question.tells else {}
    try:
        return Answer(value=function(*question.arguments, **tell))
    except SoundreelError as error:
        return Answer(error=error)
    except MemoryError:
        return Answer(error=MediaError("this file takes more memory than the server gives to one"))
    except Exception as error:  # noqa: BLE001 - libraries raise anything over damaged files
        return Answer(error=MediaError(f"this file cannot be opened ({type(error).__name__})"))


def _limit_memory() -> None:
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - there is none on Windows

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
