"""The worker processes of a render on several devices, as the first rank sees them: this process.

It starts them, tells them what to do, watches over them, and ends them. Nothing hangs: when a worker ends, fails or
does not answer in time, all others are ended at once, which frees this process from waiting for them, and the render
stops with one message. Should this process not come free within `NOTICE_SECONDS` (a GPU may not let go), it ends, too:
what is on the disk is whole at any time.
"""

import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.reduction import send_handle
from typing import Any, Final

from torch import distributed as dist

from soundreel.engines.native.prepared import Placement, PrintPlacement
from soundreel.engines.native.rank_process import (
    FAILED,
    LOST,
    PLACE,
    READY,
    STARTED,
    Seat,
    Where,
    meet,
    open_store,
    prepare_environment,
    serve,
)
from soundreel.engines.native.team import Team
from soundreel.errors import Cancelled, EngineError
from soundreel.models.parallel.ranks import Mesh
from soundreel.types import Check, go_on

TIME_LIMIT: Final = 600.0
"""Seconds that a step may take on all ranks: many times what the slowest card that is of use takes."""

STARTING_SECONDS: Final = 300.0
"""That workers may take to import what they need, from a slow disk."""

MEETING_SECONDS: Final = 120.0
"""That ranks which have started may take to find each other."""

NOTICE_SECONDS: Final = 20.0
"""That this process may take to hear of a failure while it waits for others."""

ANSWER_SECONDS: Final = 2.0
"""That workers are given to say where they are, or what happened."""

LOOK_SECONDS: Final = 0.2
"""Between two looks at what happens meanwhile."""

MET = "met"
"""What workers are told when all have started."""


class Workers:
    """The workers of one engine: started when a render first needs them, kept for the next one that wants the same."""

    def __init__(self) -> None:
        self._crew: Crew | None = None
        self._leaving: threading.Thread | None = None

    def begin(self, placement: PrintPlacement) -> None:
        """Begin to start what `crew` will be asked for, where clips are to be sampled by several."""
        team = placement.team if isinstance(placement, Placement) else Team(devices=(placement.device,))
        if self._crew is not None and (self._crew.team != team or not self._crew.is_whole):
            self.close()
        if self._crew is None and team.size > 1:
            if self._leaving is not None:
                self._leaving.join()  # their memory is needed
            self._crew = Crew(team)

    def crew(self, placement: Placement, check: Check = go_on) -> "Crew | None":
        """Workers for all ranks but this one, ready; None for a team of one."""
        self.begin(placement)
        if self._crew is not None:
            self._crew.start(check)
        return self._crew

    def check(self, check: Check) -> None:
        """`check`, and raise `EngineError` once something has happened to one of them."""
        check()
        if self._crew is not None:
            self._crew.check()

    def close(self) -> None:
        """Let all of them end: GPUs take seconds to give their memory back, in which a video can be finished."""
        crew, self._crew = self._crew, None
        if crew is not None:
            self._leaving = threading.Thread(target=crew.close, name="soundreel workers leave")
            self._leaving.start()


class _Worker:
    """One process, and what it has said."""

    def __init__(self, seat: Seat) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(seat, theirs), name=f"soundreel rank {seat.rank}", daemon=True
        )
        self.says = f"rank {seat.rank} ({seat.device})"
        self.said: set[str] = set()
        self.place = f"rank {seat.rank} does not answer"
        self.process.start()
        theirs.close()

    def how_it_ended(self) -> str:
        """What is known of it."""
        self.process.join(ANSWER_SECONDS)
        code = self.process.exitcode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            why = " (the system does so where memory runs out)" if -code == signal.SIGKILL else ""
            return f"{self.says} was ended by {name}{why}"
        begun = STARTED in self.said
        hint = "" if begun else ': a script that uses several GPUs has to begin under `if __name__ == "__main__":`'
        return f"{self.says} ended with status {code}{hint}"


class Crew:
    """The ranks of a team: workers for all but the first, which is this process."""

    def __init__(self, team: Team) -> None:
        if dist.is_initialized():
            raise EngineError(
                "torch.distributed is set up in this process already: several GPUs need it for themselves"
            )
        prepare_environment()
        self.team = team
        self.is_closed = False
        self._mesh: Mesh | None = None
        self._failure = ""
        self._suspected: tuple[float, str] | None = None  # when it is taken for the failure
        self._changed = threading.Condition()
        self._noticed = threading.Event()
        self._limit = 0.0  # seconds that this process waits for others, until
        self._deadline: float | None = None  # None: it does not wait
        self._store = open_store()
        seats = [Seat(rank=rank, team=team, port=self._store.port, time_limit=TIME_LIMIT) for rank in range(team.size)]
        self._seat = seats[0]
        self._workers = [_Worker(seat) for seat in seats[1:]]
        self._watch = threading.Thread(target=self._watch_over, name="soundreel workers", daemon=True)
        self._watch.start()

    @property
    def is_whole(self) -> bool:
        """Whether nothing has happened to any of them: a worker may end between two renders."""
        are_there = all(worker.process.is_alive() for worker in self._workers)
        return are_there and not self._failure and not self.is_closed

    @property
    def mesh(self) -> Mesh:
        """This rank's."""
        assert self._mesh is not None
        return self._mesh

    def start(self, check: Check = go_on) -> None:
        """Wait until all have started and met, if they have not."""
        if self._mesh is not None:
            return
        try:
            with self._limited(STARTING_SECONDS):
                self.wait_for(STARTED, check)
            self.tell(MET)
            with self._waiting(MEETING_SECONDS):
                self._mesh = meet(self._seat, self._store)
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Raise `EngineError` once something has happened to one of them."""
        if self._failure:
            self._noticed.set()
            self.close()
            raise EngineError(self._failure)

    def tell(self, command: Any, descriptor: int | None = None) -> None:
        """Give every worker a command, and where it asks for one a descriptor of a file."""
        self.check()
        for worker in self._workers:
            try:
                worker.connection.send(command)
                if descriptor is not None:
                    send_handle(worker.connection, descriptor, worker.process.pid)
            except OSError:
                self._await_failure()
                self.check()
                raise EngineError(worker.how_it_ended()) from None

    def wait_for(self, word: str, check: Check = go_on) -> None:
        """Until every worker has said `word`, which is then forgotten, or something happened. `check` may raise."""
        while True:
            self.check()
            with self._changed:
                if all(word in worker.said for worker in self._workers):
                    break
                self._changed.wait(LOOK_SECONDS)
            check()
        if word != STARTED:
            for worker in self._workers:
                worker.said.discard(word)

    def wait_until_loaded(self, check: Check = go_on) -> None:
        """Wait for what all have been told to load, which this process has: they may take so much longer."""
        with self._limited(TIME_LIMIT):
            self.wait_for(READY, check)

    @contextmanager
    def step(self, stage: str) -> Iterator[None]:
        """What all ranks do together, called `stage` in messages: it may fail, but not wait for ever."""
        self.check()
        self.mesh.everyone.place.begin(stage)
        with self._waiting(TIME_LIMIT):
            yield
        self.check()

    def close(self) -> None:
        """End the workers and `torch.distributed`; whatever they are doing is given up."""
        if self.is_closed:
            return
        self.is_closed = True
        self._leave()
        for worker in self._workers:
            worker.connection.close()  # an idle worker ends by itself
        for worker in self._workers:
            worker.process.join(LOOK_SECONDS)
            worker.process.kill()
            worker.process.join()
        if threading.current_thread() is not self._watch:
            self._watch.join()

    @contextmanager
    def _limited(self, seconds: float) -> Iterator[None]:
        """Others are waited for, so long at most."""
        self._limit, self._deadline = seconds, time.monotonic() + seconds
        try:
            yield
        finally:
            self._deadline = None

    @contextmanager
    def _waiting(self, seconds: float) -> Iterator[None]:
        """Likewise: an error meanwhile may be due to one of them, and leaves all in no known state."""
        is_done = False
        try:
            with self._limited(seconds):
                try:
                    yield
                except Cancelled:
                    raise
                except Exception:
                    self._await_failure()
                    self.check()
                    raise
            is_done = True
        finally:
            if not is_done:
                self.close()

    def _await_failure(self) -> None:
        """Give the watch time to find out what happened: an error of others is heard here first."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._failure), 2 * ANSWER_SECONDS)

    # the watch, in a thread of its own

    def _watch_over(self) -> None:
        while not self.is_closed:
            watched = [worker for worker in self._workers if LOST not in worker.said]
            by_end = {worker.process.sentinel: worker for worker in watched}
            by_word = {worker.connection: worker for worker in watched}
            try:
                happened = wait_for_any([*by_end, *by_word], LOOK_SECONDS)
            except OSError:  # a pipe that was closed here
                return
            for worker in [by_word[one] for one in happened if one in by_word]:
                self._hear(worker)
            ended = [by_end[one] for one in happened if one in by_end]
            ended = [worker for worker in ended if LOST not in worker.said]
            if ended:
                self._fail(ended[0].how_it_ended())
            elif self._suspected is not None and time.monotonic() > self._suspected[0]:
                self._fail(self._suspected[1])
            elif (deadline := self._deadline) is not None and time.monotonic() > deadline:
                self._fail(self._says_where_all_are())
            if self._failure:
                return

    def _hear(self, worker: _Worker) -> None:
        try:
            while worker.connection.poll():
                kind, text = worker.connection.recv()
                if kind == FAILED:
                    self._fail(text)
                    return
                if kind == PLACE:
                    worker.place = text
                if kind == LOST and self._suspected is None:  # its cause may be heard of later
                    self._suspected = time.monotonic() + ANSWER_SECONDS, text
                with self._changed:
                    worker.said.add(kind)
                    self._changed.notify_all()
        except (EOFError, OSError):
            if not self.is_closed and LOST not in worker.said:
                self._fail(worker.how_it_ended())

    def _says_where_all_are(self) -> str:
        """Ask everyone; those who are stopped say nothing, and may take nothing either."""
        for worker in self._workers:
            with suppress(OSError, ValueError):
                _, takes, _ = select.select([], [worker.connection], [], 0)
                if takes:
                    worker.connection.send(Where())
        end = time.monotonic() + ANSWER_SECONDS
        for worker in self._workers:
            while PLACE not in worker.said and time.monotonic() < end:
                with suppress(OSError):
                    if worker.connection.poll(LOOK_SECONDS):
                        self._hear(worker)
        own = "rank 0" if self._mesh is None else str(self._mesh.everyone.place)
        places = "; ".join([own, *(worker.place for worker in self._workers)])
        return f"the ranks waited for each other for {self._limit:g} s: {places}"

    def _fail(self, what: str) -> None:
        """End all workers; this process hears of it when it next looks, or when what it waits for breaks off."""
        if self.is_closed or self._failure:
            return
        with self._changed:
            self._failure = f"{what}; finished clips are kept: the same command goes on"
            self._changed.notify_all()
        for worker in self._workers:
            worker.process.kill()
        if self._deadline is not None:
            self._leave()
            if not self._noticed.wait(NOTICE_SECONDS) and self._deadline is not None:
                sys.stderr.write(f"soundreel: {self._failure}\n")
                sys.stderr.flush()
                os._exit(EngineError.exit_code)

    def _leave(self) -> None:
        """Take `torch.distributed` down; on GPUs that breaks off what they wait for."""
        if not dist.is_initialized():
            return
        abort = getattr(dist.distributed_c10d, "_abort_process_group", None)
        with suppress(RuntimeError, ValueError, AssertionError):
            if abort is not None and self._seat.device.type == "cuda":
                abort()
            elif threading.current_thread() is not self._watch:  # gloo breaks off by itself
                dist.destroy_process_group()
