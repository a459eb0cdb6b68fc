"""Processes that render shots, one job after the other: a session keeps them from one render to the next.

What they have loaded stays loaded, on their own devices. They end with the session, at once; one that has ended
meanwhile is replaced by a new one. A GPU takes a second or more to give the memory of a process back: those that are
not kept end while the video is finished.
"""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeAlias

from soundreel.engines.base import Elsewhere
from soundreel.render.child_process import STOP_SECONDS, STOPS, ChildProcess
from soundreel.render.shot_jobs import Done, Job


@dataclass(frozen=True)
class Ended:
    """A process has said its last."""


Messages: TypeAlias = "SimpleQueue[tuple[int, object]]"
"""What processes say, each with its number in the render."""


class ShotProcess:
    """One process, and who listens to it."""

    def __init__(self, devices: tuple[str, ...]) -> None:
        self.devices = devices
        self.held: Mapping[str, int] = {}  # bytes, since its last job
        with _signals_held_back():
            self._process = ChildProcess("soundreel.render.shot_process")
        self._is_done = threading.Event()  # with its job
        self._goes_to: tuple[int, Messages] = 0, SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """Its number on this host."""
        return self._process.pid

    @property
    def is_there(self) -> bool:
        """Whether it can do another job: it waits for one, or is about to."""
        return self._is_done.wait(STOP_SECONDS) and self._process.code is None and self._listener.is_alive()

    def begin(self, job: Job, number: int, messages: Messages) -> None:
        """Let it do a job, and what it says of it, with this number, come to `messages`."""
        self._is_done.clear()
        self._goes_to = number, messages
        if not self._process.say(job):  # its end may have been heard of before
            messages.put((number, Ended()))

    def dismiss(self) -> None:
        """Ask it to end."""
        self._process.dismiss()

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for its end, and see to it after so many seconds; returns its exit code."""
        code = self._process.wait(seconds)
        self._listener.join()
        return code

    def _listen(self) -> None:
        with suppress(EOFError):
            while True:
                message = self._process.hear()
                self._say(message)
                if isinstance(message, Done):
                    self.held = message.held
                    self._is_done.set()
        self._say(Ended())
        self._is_done.set()

    def _say(self, message: object) -> None:
        number, messages = self._goes_to
        messages.put((number, message))


class KeptProcesses:
    """Those that have nothing to do.

    Args:
        stay: more renders follow; else each process ends with its job.
    """

    def __init__(self, *, stay: bool = False) -> None:
        self.stay = stay
        self._idle: list[ShotProcess] = []
        self._leaving: threading.Thread | None = None

    def going_on(self, wanted: Iterable[tuple[str, ...]]) -> Elsewhere:
        """End those that have none of the `wanted` devices for them, and return what the others hold."""
        left, stay, go = Counter(wanted), list[ShotProcess](), list[ShotProcess]()
        for process in self._idle:
            is_wanted = left[process.devices] > 0 and process.is_there
            left[process.devices] -= is_wanted
            (stay if is_wanted else go).append(process)
        self._idle = stay
        end(go, at_once=True)
        held = Counter[str]()
        for process in self._idle:
            held.update(process.held)
        return Elsewhere(there=len(self._idle), held=dict(held))

    def take(self, devices: tuple[str, ...]) -> ShotProcess:
        """One for these devices: one that is there, or a new one."""
        self.wait()  # for the memory of others
        for process in self._idle:
            if process.devices == devices:
                self._idle.remove(process)
                if process.is_there:
                    return process
                end([process], at_once=True)
                return self.take(devices)
        return ShotProcess(devices)

    def put_back(self, processes: Sequence[ShotProcess], then: Callable[[], object]) -> None:
        """Keep those that find their render done, for which they may have to look, and let the others end.

        Args:
            then: called in a thread when they have ended.
        """
        done = [process for process in processes if self.stay and process.is_there]
        self._idle += done
        others = [process for process in processes if process not in done]

        def leave() -> None:
            end(others, at_once=True)
            then()

        self.wait()

        self._leaving = threading.Thread(target=leave, name="shot processes leave")
        self._leaving.start()

    def close(self) -> None:
        """End all of them, nothing is in their hands, and wait for those that are about to."""
        idle, self._idle = self._idle, []
        end(idle, at_once=True)
        self.wait()

    def wait(self) -> None:
        """For those that are about to end."""
        if self._leaving is not None:
            self._leaving.join()
            self._leaving = None


def end(processes: Iterable[ShotProcess], *, at_once: bool = False) -> None:
    """End processes: by themselves where they do so in time, or at once, where nothing is in their hands."""
    processes = list(processes)
    for process in processes:
        process.dismiss()
        if at_once:
            process.kill()
    until = time.monotonic() + STOP_SECONDS
    for process in processes:
        process.wait(max(0.0, until - time.monotonic()))


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Also in a process that is started meanwhile, until it can hear them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
