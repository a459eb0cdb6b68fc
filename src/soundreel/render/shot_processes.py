"""The processes that render the shots of a render, as the first process sees them: this one.

It renders nothing itself. It starts them, hears what they have stored and how far they are, and ends them, or keeps
them for the next render of a session (`kept_processes`). One that is killed costs no more than the clip in its hands:
the others take its shot over. An error ends all of them, for it would come again. Should this process be gone, they
end by themselves.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Final, Self

from soundreel.disk.durable import uninterrupted
from soundreel.errors import EngineError
from soundreel.progress_timer import KINDS
from soundreel.render.child_process import how_it_ended
from soundreel.render.claims import Claims
from soundreel.render.kept_processes import Ended, KeptProcesses, Messages, ShotProcess, end
from soundreel.render.puller import OnStored
from soundreel.render.shot_jobs import Done, Failed, Job, Stored
from soundreel.render.work_folder import WorkFolder
from soundreel.request import WorkOptions
from soundreel.types import CancelFlag, Plan, Progress, Report, Stage

LOOK_SECONDS: Final = 0.2
"""Between two looks whether to stop."""


def render_shots(
    work: WorkFolder,
    options: WorkOptions,
    report: Report,
    stop: CancelFlag,
    on_stored: OnStored,
    kept: KeptProcesses,
) -> tuple[str, ...]:
    """Render what is missing, in as many processes as the render is divided among; returns what the user should know.

    Args:
        kept: has processes of renders before, and gets those of this one.

    Raises:
        SoundreelError: what went wrong in one of them, or that all have been killed.
    """
    clips, plan = work.clips, work.render.plan
    unfinished = sum(bool(clips.missing(chain.clips)) for chain in plan.chains)
    if unfinished == 0:
        return ()
    jobs = _jobs(work, options, stay=kept.stay)[:unfinished]
    progress = SharedProgress(plan, clips.missing(), report)
    report(Progress(stage=Stage.LOAD, what=f"{len(jobs)} processes"))
    remove_claims = Claims(work.folder).remove_those_of_the_dead
    processes = ShotProcesses(jobs, work.render.division.processes, kept, then=remove_claims)

    def see(indices: Iterable[int]) -> None:
        """Clips that are on the disk by now."""
        for clip in [plan.clips[index] for index in indices]:
            clips.look_again([clip])
            progress.is_stored(clip.index)
            on_stored(clip, stop.check)

    try:
        with processes:
            while clips.missing():
                stop.check()
                message = processes.next_message()
                if isinstance(message, Progress):
                    progress(message)
                elif isinstance(message, Stored):
                    see([message.index])
                elif isinstance(message, Done):
                    see(clips.missing())  # what one has stored that was killed before it could say so
    finally:
        clips.look_again([plan.clips[index] for index in clips.missing()])  # what was stored last, and not told of
    return processes.notes


def _jobs(work: WorkFolder, options: WorkOptions, *, stay: bool) -> list[Job]:
    render = work.render
    return [
        Job(
            request=render.division.request_of(render.request, number).replace(engine=render.engine.name),
            folder=work.folder,
            identity=render.identity,
            fingerprints=tuple(render.clip_fingerprints),
            only_print=options.only_print,
            printed_models=options.printed_models,
            stays=stay,
            noted={"device": render.division.kinds[number]} if render.division.kinds else {},
        )
        for number in range(len(render.division.processes))
    ]


class ShotProcesses:
    """Processes that do jobs, from the beginning of a block to its end.

    Args:
        jobs: one for each.
        devices: of each.
        kept: where they come from, and go.
        then: called when those have ended that are not kept; in a thread, where nothing went wrong.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        devices: Sequence[Sequence[str]],
        kept: KeptProcesses,
        then: Callable[[], object],
    ) -> None:
        self._jobs, self._devices, self._kept, self._then = jobs, devices, kept, then
        self._processes: list[ShotProcess] = []
        self._messages: Messages = SimpleQueue()
        self._running: set[int] = set()
        self._killed: list[str] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """What happened that the user should know."""
        return tuple(f"{says}: the others rendered its shots" for says in self._killed)

    def next_message(self) -> object:
        """What one of them says next; None where none says anything for a moment.

        Raises:
            EngineError: all of them have been killed.
            Exception: what went wrong in one of them.
        """
        try:
            with uninterrupted():
                number, message = self._messages.get(timeout=LOOK_SECONDS)
        except Empty:
            return None
        if isinstance(message, Failed):
            raise message.error
        if isinstance(message, Done):
            self._running.discard(number)
        if isinstance(message, Ended) and number in self._running:
            self._running.discard(number)
            self._killed.append(self._how_it_ended(number))
        if isinstance(message, Ended) and not self._running:
            raise EngineError("; ".join(self._killed) or "the processes have ended, and clips are missing")
        return message

    def _how_it_ended(self, number: int) -> str:
        name = f"process {number + 1} of {len(self._jobs)} ({' + '.join(self._devices[number])})"
        return f"{name} {how_it_ended(self._processes[number].wait())}"

    def __enter__(self) -> Self:
        try:
            for number, (job, devices) in enumerate(zip(self._jobs, self._devices, strict=False)):
                with uninterrupted():
                    process = self._kept.take(tuple(devices))
                    self._processes.append(process)
                    self._running.add(number)
                    process.begin(job, number, self._messages)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with uninterrupted():
            if kind is None:
                self._kept.put_back(self._processes, self._then)
            else:
                self._end()

    def _end(self) -> None:
        end(self._processes)
        self._then()


class SharedProgress:
    """Progress of several processes as that of one render: how much of all clips is sampled, and how much written."""

    def __init__(self, plan: Plan, missing: Sequence[int], report: Report) -> None:
        self._plan, self._report = plan, report
        self._done = [float(clip.index not in missing) for clip in plan.clips]
        self._shares: dict[str, list[float]] = {}  # of each clip, by kind of work

    def __call__(self, progress: Progress) -> None:
        """Report what one of them says."""
        kind = KINDS.get(progress.stage)
        if kind is None or not progress.clip:
            self._report(progress)
            return
        shares = self._shares.setdefault(kind, list(self._done))
        if progress.steps:
            index = progress.clip - 1
            shares[index] = max(shares[index], progress.step / progress.steps)
        done = sum(share * clip.frames for share, clip in zip(shares, self._plan.clips, strict=True))
        self._report(dataclasses.replace(progress, done=round(done), total=self._plan.frames, eta_seconds=None))

    def is_stored(self, index: int) -> None:
        """A clip is on the disk, whatever was told of it before."""
        for shares in (self._done, *self._shares.values()):
            shares[index] = 1.0
