"""A process that renders shots for another one, the first: it is told what by a pipe, and ends with it.

It prepares the render as the first one has, has to come to the same fingerprints, and pulls shots until none is left;
then it waits for the next job, and keeps what it has loaded if there may be one. What it says are pickled objects on
what was its standard output: `Progress`, and the messages of `shot_jobs`.
"""

import pickle
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import Any, Final

from soundreel.disk.durable import uninterrupted
from soundreel.engines.opened import Engines
from soundreel.errors import Cancelled, EngineError
from soundreel.render.child_process import Pipe, end_soon, run
from soundreel.render.claims import Claims
from soundreel.render.prepared import ask, prepare
from soundreel.render.puller import pull_chains
from soundreel.render.shot_jobs import Done, Failed, Job, Stored
from soundreel.render.stored_clips import StoredClips
from soundreel.types import CancelFlag, Clip, Progress, Report

LOOK_SECONDS: Final = 0.2
"""Between two looks whether to stop, while there is no job."""


def main() -> None:
    """The process."""
    run(_serve)


def _serve(pipe: Pipe, stop: CancelFlag) -> int:
    """Do one job after the other, and say how each went; returns the exit code of one that failed."""
    job: Job = pipe.hear()
    _choose_gpu(job.request.compute.device)  # of all jobs
    jobs: SimpleQueue[Job] = SimpleQueue()
    jobs.put(job)
    threading.Thread(target=_hear_jobs, args=(pipe, jobs), daemon=True).start()
    with Engines(keep=job.stays) as engines:
        while True:
            try:
                _work(_next_job(jobs, stop), engines, pipe, stop)
            except Cancelled:
                raise
            except Exception as error:  # noqa: BLE001 - the first process is told of all of them
                pipe.say(Failed(_portable(error)))
                return 1
            pipe.say(Done(engines.held()))


def _next_job(jobs: "SimpleQueue[Job]", stop: CancelFlag) -> Job:
    """Wait for it."""
    while True:
        stop.check()
        with suppress(Empty), uninterrupted():
            return jobs.get(timeout=LOOK_SECONDS)


def _work(job: Job, engines: Engines, pipe: Pipe, stop: CancelFlag) -> None:
    def hear(progress: Progress) -> None:
        stop.check()
        pipe.say(progress)

    take_part(job, engines, hear, stop, lambda clip: pipe.say(Stored(clip.index)))


def take_part(
    job: Job, engines: Engines, report: Report, stop: CancelFlag, on_stored: Callable[[Clip], object]
) -> None:
    """Render shots of another process's render until none is left.

    Raises:
        EngineError: this process would make other pictures.
        SoundreelError: it cannot render them at all.
    """
    what = ask(job.request, job.printed_models, engines.open)
    render = replace(prepare(what, job.identity, stop.check, only_print=job.only_print), noted=job.noted)
    if tuple(render.clip_fingerprints) != job.fingerprints:
        raise EngineError(
            "a process of this render would make other pictures than the first: has a file changed since it began?"
        )
    clips = StoredClips(job.folder, render, all_there=job.only_print)
    pull_chains(clips, Claims(job.folder), report, stop, lambda clip, _: on_stored(clip))


def _choose_gpu(device: str) -> None:
    """Make it the current one, or something would come onto the first GPU as well."""
    if device.startswith("cuda:"):
        import_module("torch").cuda.set_device(device)


def _hear_jobs(pipe: Pipe, jobs: "SimpleQueue[Job]") -> None:
    """Stop this process when the first one wants no more or is gone."""
    with suppress(EOFError):
        while True:
            jobs.put(pipe.hear())
    end_soon()


def _portable(error: Exception) -> Exception:
    """The error itself, with its notes, where it can be sent."""
    try:
        copy: Any = pickle.loads(pickle.dumps(error))  # noqa: S301 - written by this line
    except Exception:  # noqa: BLE001 - of other libraries, anything may happen
        return EngineError(f"{type(error).__name__}: {error}")
    assert isinstance(copy, Exception)
    return error
