"""Who works on what: starts workers when there is work, gives them jobs, hears them, and takes back what the dead had.

One thread decides; another one for each worker listens. What a worker has said counts only while it has the job, and
what has become of a job is in the queue before the worker gets the next one.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Final

from soundreel.disk.processes import is_running
from soundreel.render.child_process import ChildProcess, how_it_ended
from soundreel.render.shot_jobs import Job as Share
from soundreel.server.errors import PathHider, RefusedError, failure_of
from soundreel.server.housekeeping import Housekeeping
from soundreel.server.jobs import Job, Lease
from soundreel.server.live import Hub
from soundreel.server.messages import (
    Alive,
    Begun,
    Failed,
    Going,
    Gone,
    Help,
    Helped,
    Made,
    Stop,
    Stopped,
    Word,
    Work,
)
from soundreel.server.placement import placed, request_of
from soundreel.server.queue import Queue, still_runs
from soundreel.server.settings import Settings, WorkerSpec
from soundreel.server.uploads import Uploads

LOG: Final = logging.getLogger("soundreel.server")

TICK_SECONDS: Final = 0.5
"""Between two looks at what nobody tells of."""

SILENCE_SECONDS: Final = 60.0
"""Without a sign of life, after which a worker is taken for stuck and ended."""

CANCEL_SECONDS: Final = 60.0
"""That a worker has to stop a job; then it is ended. A step of the largest videos takes that long."""


@dataclass
class Working:
    """A worker, and what it has in hand."""

    spec: WorkerSpec
    process: ChildProcess | None = None
    listener: threading.Thread | None = None
    number: int = 0  # of the process: what an earlier one has said is not listened to
    job: Job | None = None
    loaded: str | None = None  # weights of the job that it had last
    heard: float = 0.0  # when it gave its last sign of life
    idle_since: float = 0.0
    told_to_stop: float | None = None
    share: Share | None = None  # of its job, for workers that have nothing else to do
    helps: str | None = None  # the job of another worker that it takes shots of
    helped: set[str] = field(default_factory=set)  # jobs that it has nothing to do in any more
    stored: int = 0  # clips of its job that it has told of
    outcome: Callable[[], object] | None = field(default=None, repr=False)  # of its job, not in the queue yet


class Supervisor:
    """Runs the workers of a server from `start` to `stop`."""

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        uploads: Uploads,
        hub: Hub,
        hide: PathHider,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._queue, self._uploads, self._hub, self._hide = settings, queue, uploads, hub, hide
        self._clock = clock
        self._housekeeping = Housekeeping(settings, queue, uploads, hub)
        self._workers = {spec.name: Working(spec=spec) for spec in settings.workers}
        self._inbox: SimpleQueue[tuple[str, int, object]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._is_stopping = threading.Event()

    # from outside

    def start(self) -> None:
        """Take back what the server before has left, and begin."""
        self._take_back()
        self._thread.start()

    def wake(self) -> None:
        """Something has changed in the queue."""
        self._inbox.put(("", 0, None))

    def stop(self) -> None:
        """Stop all work; what is under way waits in the queue, and goes on with the next server."""
        self._is_stopping.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join()

    def facts(self) -> list[dict[str, object]]:
        """The workers, as /healthz tells of them."""
        return [
            {
                "name": worker.spec.name,
                "engine": worker.spec.engine,
                "devices": list(worker.spec.devices),
                "pid": None if worker.process is None else worker.process.pid,
                "job": worker.helps if worker.job is None else worker.job.id,
            }
            for worker in self._workers.values()
        ]

    # what the server before has left

    def _take_back(self) -> None:
        """Jobs that were running wait again; processes that still have one are ended first."""
        for job, lease in self._queue.running():
            if still_runs(lease):
                assert lease is not None
                _end(lease)
            self._queue.give_back(job.id, why="the server was ended")
        self._housekeeping.begin()

    # the loop

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            try:
                self._look()
            except RefusedError:  # the queue cannot be written now
                self._is_stopping.wait(TICK_SECONDS)
            except Exception:
                LOG.exception("the supervisor goes on after")
                self._is_stopping.wait(TICK_SECONDS)
        self._end_all()

    def _look(self) -> None:
        """Hear what workers say, and do what is to be done; what cannot be done now is tried again."""
        with suppress(Empty):
            self._hear(*self._inbox.get(timeout=TICK_SECONDS))
            while True:
                self._hear(*self._inbox.get_nowait())
        for worker in self._workers.values():
            self._look_after(worker)
        self._housekeeping.go_on()

    def _hear(self, name: str, number: int, message: object) -> None:
        worker = self._workers.get(name)
        if worker is None or worker.number != number:
            return
        worker.heard = self._clock()
        if isinstance(message, Gone):
            self._bury(worker)
        elif isinstance(message, Helped):
            worker.helps, worker.idle_since = None, worker.heard
        elif isinstance(message, Word) and _is_about(message, worker.job):
            self._hear_word(worker, message)
        else:
            assert isinstance(message, Alive | Word)

    def _hear_word(self, worker: Working, word: Word) -> None:
        job = word.job
        if isinstance(word, Begun):
            facts = {**word.facts, "notes": [self._hide(note) for note in word.facts["notes"]]}
            worker.share = word.share
            self._hub.update(job, begun=facts, worker=worker.spec.name)
        elif isinstance(word, Going):
            if word.stored > worker.stored:
                worker.stored = word.stored
                with suppress(RefusedError):
                    self._queue.has_gone_on(job)
            self._hub.update(
                job, progress=word.progress, stored=word.stored, preview=word.preview, partial=word.partial
            )
        elif isinstance(word, Made):
            result = {**word.result, "notes": [self._hide(note) for note in word.result["notes"]]}
            worker.outcome = lambda: self._queue.succeed(job, result)
        elif isinstance(word, Failed):
            failure = self._hide.failure(word.failure)
            worker.outcome = lambda: self._queue.fail(job, failure)
        elif isinstance(word, Stopped):
            worker.outcome = lambda: self._queue.stopped(job)

    def _bury(self, worker: Working) -> None:
        """A worker's process is gone."""
        assert worker.process is not None
        code = worker.process.wait(1.0)
        worker.process, worker.loaded, worker.helps = None, None, None
        job = worker.job
        if job is not None and worker.outcome is None:
            why = f"the worker {worker.spec.name} {how_it_ended(code)}"
            most = self._settings.limits.crashes
            worker.outcome = lambda: self._queue.give_back(job.id, why=why, is_crash=True, most_crashes=most)

    def _look_after(self, worker: Working) -> None:
        """Whatever a worker needs: its job settled, stopped or given, its process started or ended."""
        now = self._clock()
        if worker.outcome is not None:
            self._settle(worker)
        if worker.job is not None:
            self._look_after_job(worker, now)
        elif worker.helps is not None:
            self._look_after_help(worker, now)
        elif not self._begin(worker) and not self._help(worker) and worker.process is not None:
            if now - worker.idle_since > self._settings.idle_seconds:
                worker.process.dismiss()  # all memory is given back; it is started again when there is work
            elif now - worker.heard > SILENCE_SECONDS:
                worker.process.kill()

    def _look_after_job(self, worker: Working, now: float) -> None:
        job, process = worker.job, worker.process
        assert job is not None
        if process is None:
            return
        if now - worker.heard > SILENCE_SECONDS:
            process.kill()
        if worker.told_to_stop is None:
            found = self._queue.find(job.id)
            if found is None or found.is_cancelled:
                process.say(Stop(job=job.id))
                worker.told_to_stop = now
        elif now - worker.told_to_stop > CANCEL_SECONDS:
            process.kill()

    # several workers for one job

    def _help(self, worker: Working) -> bool:
        """Let a worker that has nothing to do take shots of another one's job, if there are any."""
        for other in self._workers.values():
            job, share = other.job, other.share
            if job is None or share is None or other.outcome is not None or other.told_to_stop is not None:
                continue
            if other.spec.engine != worker.spec.engine or job.id in worker.helped or not _has_shots(other, self._hub):
                continue
            process = worker.process or self._start(worker)
            request = placed(share.request, worker.spec)
            process.say(Help(job=job.id, share=replace(share, request=request)))
            worker.helps, worker.loaded, worker.told_to_stop = job.id, job.weights, None
            worker.helped = {*(one.job.id for one in self._workers.values() if one.job is not None)} & worker.helped
            worker.helped.add(job.id)
            self._queue.note(job.id, "helped", worker.spec.name)
            return True
        return False

    def _look_after_help(self, worker: Working, now: float) -> None:
        """A helper stops when its job ends, or when a job of its own waits."""
        process, job = worker.process, worker.helps
        assert process is not None
        assert job is not None
        is_needed = any(other.job is not None and other.job.id == job for other in self._workers.values())
        if now - worker.heard > SILENCE_SECONDS:
            process.kill()
        elif worker.told_to_stop is not None:
            if now - worker.told_to_stop > CANCEL_SECONDS:
                process.kill()
        elif not is_needed or self._has_work(worker):
            process.say(Stop(job=job))
            worker.told_to_stop = now

    def _settle(self, worker: Working) -> None:
        """Write down what has become of a worker's job; it has none then."""
        assert worker.outcome is not None
        assert worker.job is not None
        worker.outcome()
        job, worker.job, worker.outcome, worker.share = worker.job, None, None, None
        worker.idle_since, worker.told_to_stop = self._clock(), None
        self._hub.drop(job.id)

    def _begin(self, worker: Working) -> bool:
        """Give a worker the next job, if there is one for it."""
        if worker.process is None and not self._has_work(worker):
            return False
        process = worker.process or self._start(worker)
        job = self._queue.take(worker.spec.engine, worker.loaded, Lease.of(worker.spec.name, process.pid))
        if job is None:
            return False
        worker.job, worker.loaded, worker.stored, worker.told_to_stop = job, job.weights, 0, None
        worker.share = None
        self._hub.update(job.id, worker=worker.spec.name)
        try:
            request = request_of(job, self._uploads.paths(job.files), self._settings, worker.spec)
        except Exception as error:  # noqa: BLE001 - what the catalogue has lost since it was asked
            failure = self._hide.failure(failure_of(error))
            worker.outcome = lambda: self._queue.fail(job.id, failure)
            return True
        folder = self._settings.job_folder(job.id)
        redo = job.names.get("redo")
        process.say(Work(job=job.id, attempt=job.attempts, request=request, folder=folder, redo=redo))
        return True

    def _has_work(self, worker: Working) -> bool:
        return self._queue.has_waiting(worker.spec.engine)

    def _start(self, worker: Working) -> ChildProcess:
        process = ChildProcess("soundreel.server.worker", is_apart=True)
        worker.process, worker.number = process, worker.number + 1
        worker.heard = worker.idle_since = self._clock()
        arguments = (worker.spec.name, worker.number, process)
        worker.listener = threading.Thread(target=self._listen, args=arguments, daemon=True)
        worker.listener.start()
        return process

    def _listen(self, name: str, number: int, process: ChildProcess) -> None:
        with suppress(EOFError):
            while True:
                self._inbox.put((name, number, process.hear()))
        self._inbox.put((name, number, Gone()))

    def _end_all(self) -> None:
        """All workers end; what they had waits again, unless they came to its end meanwhile."""
        running = [worker for worker in self._workers.values() if worker.process is not None]
        for worker in running:
            assert worker.process is not None
            worker.process.dismiss()
        for worker in running:
            assert worker.process is not None
            assert worker.listener is not None
            worker.process.wait()
            worker.listener.join()
        with suppress(Empty):
            while True:
                name, number, message = self._inbox.get_nowait()
                if isinstance(message, Made):
                    self._hear(name, number, message)
        for worker in self._workers.values():
            with suppress(RefusedError):  # the next server takes it back
                if worker.job is not None:
                    if worker.outcome is not None:
                        worker.outcome()
                    else:
                        self._queue.give_back(worker.job.id, why="the server was stopped")


def _is_about(word: Word, job: Job | None) -> bool:
    return job is not None and (word.job, word.attempt) == (job.id, job.attempts)


def _has_shots(worker: Working, hub: Hub) -> bool:
    """Whether a worker's job has clips that are not begun: more than two are left."""
    live = None if worker.job is None else hub.live(worker.job.id)
    return live is not None and int(live.begun.get("clips", 0)) - live.stored > 2


def _end(lease: Lease) -> None:
    """Kill a process of an earlier server, and wait until it is gone: it may have the work folder."""
    with suppress(OSError):
        os.kill(lease.pid, signal.SIGKILL)
    end = time.monotonic() + 10.0
    while is_running(lease.pid, lease.started) and time.monotonic() < end:
        time.sleep(0.01)
