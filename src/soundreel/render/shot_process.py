"""A process that renders shots for another one, the first: it is told what by a pipe, and ends with it.

It prepares the render as the first one has, has to come to the same fingerprints, and pulls shots until none is left.
What it says are pickled objects on what was its standard output: `Progress`, and the messages below.
"""

import pickle
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from soundreel.engines.base import Identity
from soundreel.engines.opened import Engines
from soundreel.errors import Cancelled, EngineError
from soundreel.render.child_process import Pipe, end_soon, run
from soundreel.render.claims import Claims
from soundreel.render.prepared import ask, prepare
from soundreel.render.puller import pull_chains
from soundreel.render.stored_clips import StoredClips
from soundreel.request import Request
from soundreel.types import CancelFlag, Clip, Progress, Report


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a process is to do."""

    request: Request  # on this process's own devices
    folder: Path  # the work folder
    identity: Identity  # what was decided by the first process
    fingerprints: tuple[str, ...]  # of the clips
    only_print: bool  # from negatives that are all there
    printed_models: Mapping[str, str] | None
    noted: Mapping[str, Any] = field(default_factory=dict)  # what the recipe is to tell of each of its clips


@dataclass(frozen=True)
class Stored:
    """A clip is on the disk."""

    index: int


@dataclass(frozen=True)
class Failed:
    """An error that would come again in any process."""

    error: Exception


@dataclass(frozen=True)
class Done:
    """All shots are there."""


def main() -> None:
    """The process."""
    run(_serve)


def _serve(pipe: Pipe, stop: CancelFlag) -> int:
    """Do a job, and say how it went; returns the exit code."""
    try:
        job = pipe.hear()
        threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
        _work(job, pipe, stop)
    except (Cancelled, EOFError):  # EOFError: the first process had no job any more
        raise
    except Exception as error:  # noqa: BLE001 - the first process is told of all of them
        pipe.say(Failed(_portable(error)))
        return 1
    pipe.say(Done())
    return 0


def _work(job: Job, pipe: Pipe, stop: CancelFlag) -> None:
    _choose_gpu(job.request.compute.device)

    def hear(progress: Progress) -> None:
        stop.check()
        pipe.say(progress)

    with Engines() as engines:
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


def _end_with(pipe: Pipe) -> None:
    """Stop this process when the first one wants no more or is gone."""
    with suppress(EOFError):
        pipe.hear()
    end_soon()


def _portable(error: Exception) -> Exception:
    """The error itself, with its notes, where it can be sent."""
    try:
        copy: Any = pickle.loads(pickle.dumps(error))  # noqa: S301 - written by this line
    except Exception:  # noqa: BLE001 - of other libraries, anything may happen
        return EngineError(f"{type(error).__name__}: {error}")
    assert isinstance(copy, Exception)
    return error
