"""Hands out rows, and notes what becomes of them: each is tried until its video is there, or no try is left."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from soundreel.batch.actors import VERSIONS, About, HandedBack, Outcome, State
from soundreel.batch.cluster import Actor, Cluster, first_line
from soundreel.batch.manifest import Row, Work
from soundreel.batch.results import FAILED, MADE, Results, RowResult
from soundreel.batch.rows import Group, Rows, group_of
from soundreel.errors import EngineError
from soundreel.render.shot_jobs import Job

LOOK_SECONDS: Final = 1.0
"""Between two looks at how far rows are, and at the nodes."""

WAIT_SECONDS: Final = 0.5

NO_NODE_SECONDS: Final = 300.0
"""After so long without an actor that runs, what is left cannot be done."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a batch is."""

    total: int
    done: int  # made, found, or there before
    failed: int
    under_way: Mapping[str, tuple[str, float | None]]  # by device: the row's id, and how much of it is done
    frames: int  # of the videos that this run has made
    seconds: float  # since it began
    left_seconds: float | None  # None: not known yet


class Listener(Protocol):
    """Hears how a batch goes."""

    def row(self, result: RowResult) -> None:
        """What became of a row."""

    def standing(self, standing: Standing) -> None:
        """How far all is; about once a second."""

    def remark(self, says: str) -> None:
        """What the user should know of a device."""


@dataclass
class _Try:
    """A row in the hands of an actor, or help that it gives to another one."""

    actor: Actor
    row: Row | None  # None: it helps
    state: State = field(default_factory=State)
    asked: Any = None  # a reference to its state


class Driver:
    """Gives each actor one row after another, the rows of one model together.

    Args:
        tries: that a row has, while its actors are lost or fail in a way that may not come again.
    """

    def __init__(self, cluster: Cluster, rows: Rows, results: Results, listener: Listener, *, tries: int) -> None:
        self._cluster, self._rows, self._results, self._listener = cluster, rows, results, listener
        self._ray, self._most_tries = cluster.ray, tries
        self._total = self._done = self._failed = self._frames = self._ended = 0
        self._tries: dict[str, int] = {}  # of rows that are tried again
        self._spent: dict[str, float] = {}  # seconds, on rows that were handed back
        self._starting: dict[Any, Actor] = {}  # by the reference to what it says of itself
        self._going: dict[Any, _Try] = {}  # by the reference to what comes of it
        self._idle: list[Actor] = []
        self._aside: list[Actor] = []  # take nothing any more; they stay, so that nothing else is placed there
        self._last: dict[int, Group] = {}  # what an actor has loaded, by its number
        self._helped: set[tuple[int, str]] = set()  # actors and rows
        self._has_gpus = False  # once it has: a GPU that was lost is waited for, and no CPU does its work
        self._has_cpus = True  # beside those of GPUs
        self._why_aside = "no device took a row"
        self._begun = self._looked = self._ran = time.monotonic()
        self.first_failure = 0  # its exit code

    def run(self, *, total: int, done: int) -> None:
        """Do all rows that wait; of `total` rows so many are `done` already."""
        self._total, self._done = total, done
        self._add_actors()
        while self._rows.left() or any(going.row for going in self._going.values()):
            self._hand_out()
            self._give_up_without_actors()
            self._hear()
            if time.monotonic() - self._looked >= LOOK_SECONDS:
                self._looked = time.monotonic()
                self._add_actors()
                self._ask_states()
                self._listener.standing(self.standing())
        self._listener.standing(self.standing())

    def standing(self) -> Standing:
        """How far it is."""
        seconds = time.monotonic() - self._begun
        busy = [going for going in self._going.values() if going.row]
        begun = sum(going.state.share or 0.0 for going in busy)
        left = self._total - self._done - self._failed
        return Standing(
            total=self._total,
            done=self._done,
            failed=self._failed,
            under_way={going.actor.name: (going.row.id, going.state.share) for going in busy if going.row},
            frames=self._frames,
            seconds=seconds,
            left_seconds=seconds * (left - begun) / (self._ended + begun) if left and self._ended + begun else None,
        )

    # actors

    def _add_actors(self) -> None:
        """As many as there is room for, and no more than there are rows."""
        self._has_gpus = self._has_gpus or self._cluster.has_gpus
        self._has_cpus = self._cluster.actors_wanted(on_gpu=False) > 0
        for on_gpu in (True, False) if self._has_gpus else (False,):
            there = [actor for actor in self._actors() if actor.on_gpu is on_gpu]
            busy = sum(actor.on_gpu is on_gpu for actor in (going.actor for going in self._going.values()))
            rows = self._rows.left(on_gpu=self._takes(on_gpu)) + busy
            for _ in range(len(there), min(rows, self._cluster.actors_wanted(on_gpu=on_gpu))):
                self._begin(self._cluster.start(on_gpu=on_gpu))

    def _actors(self) -> list[Actor]:
        return [*self._starting.values(), *(going.actor for going in self._going.values()), *self._idle, *self._aside]

    def _takes(self, on_gpu: bool) -> bool | None:
        """Which rows such an actor takes (`Rows.take`): all, where there are only devices of its kind."""
        return on_gpu if self._has_gpus and self._has_cpus else None

    def _begin(self, actor: Actor) -> None:
        """Wait for an actor to run, for the first time or again."""
        actor.about = None
        self._last.pop(actor.number, None)
        self._starting[self._cluster.ask_about(actor)] = actor

    def _has_begun(self, actor: Actor, ref: Any) -> None:
        try:
            about: About = self._ray.get(ref)
        except Exception as error:  # noqa: BLE001 - it could not be made, whatever it was
            self._set_aside(actor, first_line(error))
            return
        actor.about = about
        problem = about.problem or ("" if about.version == VERSIONS else f"has {about.version}, here is {VERSIONS}")
        if problem:
            self._set_aside(actor, problem)
        else:
            self._ran = time.monotonic()
            self._idle.append(actor)

    def _set_aside(self, actor: Actor, why: str) -> None:
        """Let an actor take no row any more."""
        self._why_aside = why
        self._aside.append(actor)
        self._listener.remark(f"{actor.name} takes no more rows: {why}")

    def _give_up_without_actors(self) -> None:
        """What is left fails where nothing runs that could take it: called when all have been handed what they take."""
        if self._going or not self._rows.left():
            self._ran = time.monotonic()
            return
        waited = time.monotonic() - self._ran
        if self._starting and waited < NO_NODE_SECONDS:
            return
        why = f"no device has come for {waited:.0f} s" if self._starting else self._why_aside
        while (row := self._rows.take()) is not None:
            self._end(_not_made(row, self._tries.get(row.id, 0), why))

    # rows

    def _hand_out(self) -> None:
        """Give every idle actor something to do."""
        for actor in [*self._idle]:
            row = self._rows.take(on_gpu=self._takes(actor.on_gpu), last=self._last.get(actor.number))
            if row is not None:
                self._last[actor.number] = group_of(row)
                hands_on = actor.on_gpu and self._has_cpus and row.work is Work.ANY and row.request.output.score
                ref = actor.handle.render.remote(row, self._tries.get(row.id, 0) + 1, hands_on)
            elif (helped := self._to_help(actor)) is not None:
                ref = actor.handle.help.remote(helped)
            else:
                continue
            self._idle.remove(actor)
            self._going[ref] = _Try(actor=actor, row=row)

    def _to_help(self, actor: Actor) -> Job | None:
        """Shots of another actor's row, on devices of the same kind."""
        for going in self._going.values():
            row, job = going.row, going.state.job
            if row and job and going.actor.on_gpu is actor.on_gpu and (actor.number, row.id) not in self._helped:
                self._helped.add((actor.number, row.id))
                return job
        return None

    def _hear(self) -> None:
        """What has come meanwhile, if anything comes within a moment."""
        waiting = [*self._starting, *self._going]
        if not waiting:
            time.sleep(WAIT_SECONDS)
            return
        came, _ = self._ray.wait(waiting, num_returns=1, timeout=WAIT_SECONDS)
        for ref in came:
            if ref in self._starting:
                self._has_begun(self._starting.pop(ref), ref)
            else:
                self._has_ended(self._going.pop(ref), ref)

    def _has_ended(self, going: _Try, ref: Any) -> None:
        actor, row = going.actor, going.row
        outcome: Outcome | HandedBack | None = None
        try:
            outcome = self._ray.get(ref)
            self._idle.append(actor)
        except self._ray.exceptions.RayTaskError:  # only of help, which the other one can do without
            self._idle.append(actor)
        except self._ray.exceptions.RayError as error:
            outcome = None if row is None else self._lost(row, error)
            self._begin(actor)
        if row is None or outcome is None:
            return
        if isinstance(outcome, HandedBack):
            self._spent[row.id] = self._spent.get(row.id, 0.0) + outcome.seconds
            self._rows.give_back(outcome.row)
            return
        if outcome.is_full and actor in self._idle:
            self._idle.remove(actor)
            self._set_aside(actor, outcome.result.reason or "its disk is full")
        self._judge(row, outcome)

    def _lost(self, row: Row, error: Exception) -> Outcome:
        """The try of an actor that has died, or whose machine has."""
        why = f"what rendered it has died ({first_line(error)})"
        return Outcome(result=_not_made(row, self._tries.get(row.id, 0) + 1, why), may_try_again=True)

    def _judge(self, row: Row, outcome: Outcome) -> None:
        """Note what became of a row, unless it has another try."""
        result = outcome.result
        if result.state == FAILED and outcome.may_try_again and result.tries < self._most_tries:
            self._tries[row.id] = result.tries
            self._rows.give_back(row)
        else:
            self._end(result)

    def _end(self, result: RowResult) -> None:
        self._tries.pop(result.id, None)
        if (spent := self._spent.pop(result.id, None)) is not None and result.seconds is not None:
            result = replace(result, seconds=round(result.seconds + spent, 3))
        self._helped = {(number, row) for number, row in self._helped if row != result.id}
        self._results.add(result)
        self._ended += 1
        if result.state == FAILED:
            self._failed += 1
            self.first_failure = self.first_failure or result.exit_code
        else:
            self._done += 1
            self._frames += (result.frames or 0) * (result.state == MADE)
        self._listener.row(result)

    def _ask_states(self) -> None:
        """Take the answers of those that were asked the last time, and ask again."""
        for going in self._going.values():
            if going.row is None:
                continue
            if going.asked is not None:
                came, _ = self._ray.wait([going.asked], timeout=0)
                if not came:
                    continue
                with suppress(self._ray.exceptions.RayError):  # what became of it is heard elsewhere
                    going.state = self._ray.get(going.asked)
            going.asked = going.actor.handle.state.remote()


def _not_made(row: Row, tries: int, why: str) -> RowResult:
    return RowResult(
        id=row.id,
        line=row.line,
        state=FAILED,
        asked=row.digest,
        tries=tries,
        reason=why,
        exit_code=EngineError.exit_code,
    )
