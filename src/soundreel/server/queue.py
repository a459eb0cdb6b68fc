"""The queue: the truth about jobs, in an SQLite file. What a call has returned from is on the disk.

    queued → running → succeeded | failed | cancelled
       ↑________│         retry: failed | cancelled → queued

A job ends once: every change asks for the state that it changes, in the transaction that notes its event. Jobs are as
old as their number says, never by a clock.
"""

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any, Final

from soundreel.disk.processes import is_running
from soundreel.server.database import Database
from soundreel.server.errors import RefusedError, not_found, too_much
from soundreel.server.jobs import CANCELLED, Failure, Job, Lease, NewJob, State
from soundreel.server.rows import JOB, failure_text, job_of, lease_of
from soundreel.server.settings import Limits
from soundreel.server.upload_table import is_read

MOST_OVERTAKEN: Final = 4
"""How many younger jobs may go before one, because their model is loaded."""


class Queue:
    """Jobs and their events.

    Args:
        clock: seconds since 1970, for what is shown; nothing is decided by it.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    # asking

    def find(self, job: str) -> Job | None:
        """A job by its id."""
        rows = self._database.read(f"{JOB} WHERE id = ? AND NOT is_deleted", job)
        return job_of(rows[0]) if rows else None

    def job(self, job: str) -> Job:
        """A job by its id; `RefusedError` where there is none."""
        found = self.find(job)
        if found is None:
            raise not_found(f"video {job!r}")
        return found

    def page(
        self, *, after: str | None = None, limit: int = 20, newest_first: bool = True, state: State | None = None
    ) -> list[Job]:
        """Jobs in the order in which they came, those after the one with the id `after`."""
        conditions, values = ["NOT is_deleted"], []
        if state is not None:
            conditions.append("state = ?")
            values.append(str(state))
        if after is not None:
            conditions.append(f"seq {'<' if newest_first else '>'} ?")
            values.append(str(self.job(after).seq))
        order = "DESC" if newest_first else "ASC"
        rows = self._database.read(
            f"{JOB} WHERE {' AND '.join(conditions)} ORDER BY seq {order} LIMIT ?", *values, limit
        )
        return [job_of(row) for row in rows]

    def position(self, job: Job) -> int | None:
        """How many jobs are before it, from 0; None: it does not wait."""
        if job.state is not State.QUEUED:
            return None
        return self.positions([job])[job.id]

    def positions(self, jobs: Iterable[Job]) -> dict[str, int]:
        """The same for many jobs at once, by their ids; those that do not wait are left out."""
        waiting = sorted((job for job in jobs if job.state is State.QUEUED), key=_lane_and_age)
        found: dict[str, int] = {}
        for (engine, priority), lane in groupby(waiting, key=_lane):
            before = self._count("priority > ?", engine, priority)
            last = 0
            for job in lane:  # each job that waits is counted once, however many are asked for
                before += self._count("priority = ? AND seq >= ? AND seq < ?", engine, priority, last, job.seq)
                found[job.id], last = before, job.seq
        return found

    def _count(self, condition: str, engine: str, *values: int) -> int:
        sql = f"SELECT count(*) FROM jobs WHERE state = 'queued' AND engine = ? AND {condition}"  # noqa: S608 - our own
        return int(self._database.read(sql, engine, *values)[0][0])

    def counts(self) -> dict[State, int]:
        """How many jobs are in each state."""
        rows = self._database.read("SELECT state, count(*) AS jobs FROM jobs WHERE NOT is_deleted GROUP BY state")
        found = {State(row["state"]): int(row["jobs"]) for row in rows}
        return {state: found.get(state, 0) for state in State}

    def events(self, job: str) -> list[dict[str, Any]]:
        """What has happened to a job."""
        rows = self._database.read(
            "SELECT at, kind, says FROM events WHERE job = (SELECT seq FROM jobs WHERE id = ?) ORDER BY seq", job
        )
        return [dict(row) for row in rows]

    def has_waiting(self, engine: str) -> bool:
        """Whether a job waits for an engine."""
        return bool(self._database.read("SELECT 1 FROM jobs WHERE state = 'queued' AND engine = ? LIMIT 1", engine))

    def running(self) -> list[tuple[Job, Lease | None]]:
        """Jobs that a process has, or had when the server ended."""
        rows = self._database.read(f"{JOB} WHERE state = 'running' ORDER BY seq")
        return [(job_of(row), lease_of(row)) for row in rows]

    def knows(self, job: str) -> bool:
        """Whether there is such a job, shown or not."""
        return bool(self._database.read("SELECT 1 FROM jobs WHERE id = ?", job))

    def deleted(self) -> list[str]:
        """Jobs that nobody has any more and whose files are still there."""
        return [row["id"] for row in self._database.read("SELECT id FROM jobs WHERE is_deleted AND state <> 'running'")]

    # adding

    def add(self, new: NewJob, limits: Limits) -> tuple[Job, bool]:
        """Put a job into the queue; returns it, and whether it is new: a known key gives the job that it gave before.

        Raises:
            RefusedError: the key is of another request, or a limit is reached.
        """
        with self._database.writing() as db:
            before = self._with_key(db, new)
            if before is not None:
                return before, False
            _check_limits(db, new, limits)
            identifier = new.id or f"video_{secrets.token_hex(12)}"
            cursor = db.execute(
                "INSERT INTO jobs (id, priority, engine, model, weights, fields, names, plan, seconds, "
                "idempotency_key, digest, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    identifier, new.priority, new.engine, new.model, new.weights, json.dumps(new.fields),
                    json.dumps(new.names), json.dumps(new.plan), new.seconds, new.idempotency_key,
                    new.digest, self._clock(),
                ),
            )  # fmt: skip
            try:
                db.executemany(
                    "INSERT INTO job_files (job, field, upload) VALUES (?, ?, ?)",
                    [(cursor.lastrowid, field, upload) for field, upload in new.files.items()],
                )
            except sqlite3.IntegrityError:
                raise not_found("such file: it has been removed meanwhile") from None
            self._note(db, identifier, "created")
            return _one(db, identifier), True

    def _with_key(self, db: sqlite3.Connection, new: NewJob) -> Job | None:
        if new.idempotency_key is None:
            return None
        row = db.execute(f"{JOB} WHERE idempotency_key = ?", (new.idempotency_key,)).fetchone()
        if row is None:
            return None
        if row["digest"] != new.digest:
            raise RefusedError(
                409, "idempotency_key_reused", "this Idempotency-Key came with another request before: take a new one"
            )
        return job_of(row)

    # working

    def take(self, engine: str, loaded: str | None, lease: Lease) -> Job | None:
        """Begin the next job for an engine: the first by priority, then by age.

        One that needs the networks which are `loaded` goes before others of its priority, a few times at most.
        """
        with self._database.writing() as db:
            first = db.execute(
                "SELECT * FROM jobs WHERE state = 'queued' AND engine = ? ORDER BY priority DESC, seq LIMIT 1",
                (engine,),
            ).fetchone()
            if first is None:
                return None
            chosen = first
            if loaded is not None and first["weights"] != loaded and first["overtaken"] < MOST_OVERTAKEN:
                alike = db.execute(
                    "SELECT * FROM jobs WHERE state = 'queued' AND engine = ? AND priority = ? AND weights = ? "
                    "ORDER BY seq LIMIT 1",
                    (engine, first["priority"], loaded),
                ).fetchone()
                chosen = first if alike is None else alike
            if chosen["seq"] != first["seq"]:
                db.execute("UPDATE jobs SET overtaken = overtaken + 1 WHERE seq = ?", (first["seq"],))
            db.execute(
                "UPDATE jobs SET state = 'running', attempts = attempts + 1, started_at = coalesce(started_at, ?), "
                "worker = ?, worker_pid = ?, worker_started = ? WHERE seq = ?",
                (self._clock(), lease.worker, lease.pid, lease.started, chosen["seq"]),
            )
            self._note(db, chosen["id"], "started" if chosen["attempts"] == 0 else "gone on with", lease.worker)
            return _one(db, chosen["id"])

    def succeed(self, job: str, result: Mapping[str, Any]) -> bool:
        """A running job has its video; False: it was not running any more."""
        return self._end(job, State.SUCCEEDED, result=result)

    def fail(self, job: str, failure: Failure) -> bool:
        """A running job has failed."""
        return self._end(job, State.FAILED, failure=failure)

    def stopped(self, job: str) -> bool:
        """A running job was stopped, as somebody has asked."""
        return self._end(job, State.CANCELLED, failure=CANCELLED)

    def _end(
        self, job: str, state: State, *, failure: Failure | None = None, result: Mapping[str, Any] | None = None
    ) -> bool:
        with self._database.writing() as db:
            changed = db.execute(
                "UPDATE jobs SET state = ?, failure = ?, result = ?, ended_at = ?, is_cancelled = 0, worker = NULL, "
                "worker_pid = NULL, worker_started = NULL WHERE id = ? AND state = 'running'",
                (
                    str(state), failure_text(failure),
                    None if result is None else json.dumps(result), self._clock(), job,
                ),
            ).rowcount  # fmt: skip
            if changed:
                self._note(db, job, str(state), "" if failure is None else failure.message)
            return bool(changed)

    def give_back(self, job: str, *, why: str, is_crash: bool = False, most_crashes: int = 2) -> State | None:
        """A running job has no process any more: it waits again, where it was stopped, or ends.

        A crash counts; one too many of them in a row, and the job fails with the reason. Returns its new state; None:
        it was not running.
        """
        with self._database.writing() as db:
            row = db.execute("SELECT * FROM jobs WHERE id = ? AND state = 'running'", (job,)).fetchone()
            if row is None:
                return None
            crashes = row["crashes"] + is_crash
            if row["is_cancelled"]:
                state, failure = State.CANCELLED, CANCELLED
            elif is_crash and crashes >= most_crashes:
                state = State.FAILED
                often = f", {crashes} times" if crashes > 1 else ""
                failure = Failure(code="worker_crashed", message=f"{why}{often}: retry tries again")
            else:
                state, failure = State.QUEUED, None
            db.execute(
                "UPDATE jobs SET state = ?, crashes = ?, failure = ?, ended_at = ?, is_cancelled = 0, worker = NULL, "
                "worker_pid = NULL, worker_started = NULL WHERE seq = ?",
                (
                    str(state), crashes, failure_text(failure),
                    None if failure is None else self._clock(), row["seq"],
                ),
            )  # fmt: skip
            if is_crash or state is State.QUEUED:
                self._note(db, job, "crashed" if is_crash else "interrupted", why)
            if failure is not None:
                self._note(db, job, str(state), failure.message)
            return state

    def note(self, job: str, kind: str, says: str) -> None:
        """Note something that has happened to a job."""
        with self._database.writing() as db:
            self._note(db, job, kind, says)

    def has_gone_on(self, job: str) -> None:
        """A running job has stored more of its video: earlier crashes are not its own."""
        with self._database.writing() as db:
            db.execute("UPDATE jobs SET crashes = 0 WHERE id = ? AND state = 'running' AND crashes > 0", (job,))

    # deciding otherwise

    def cancel(self, job: str) -> Job:
        """Stop a job: at once where it waits; a running one is marked, and its worker is to be told.

        Raises:
            RefusedError: there is no such job, or it has ended otherwise.
        """
        with self._database.writing() as db:
            found = _shown(db, job)
            if found.state is State.QUEUED:
                db.execute(
                    "UPDATE jobs SET state = 'cancelled', failure = ?, ended_at = ? WHERE id = ?",
                    (failure_text(CANCELLED), self._clock(), job),
                )
                self._note(db, job, "cancelled")
            elif found.state is State.RUNNING and not found.is_cancelled:
                db.execute("UPDATE jobs SET is_cancelled = 1 WHERE id = ?", (job,))
                self._note(db, job, "stopping")
            elif found.state in {State.SUCCEEDED, State.FAILED}:
                raise RefusedError(409, "has_ended", f"this video has {found.state}: there is nothing to cancel")
            return _one(db, job)

    def retry(self, job: str) -> Job:
        """Put a job that has failed or was cancelled into the queue again: it goes on with what is there of it.

        Raises:
            RefusedError: there is no such job, or it has not ended, or well.
        """
        with self._database.writing() as db:
            found = _shown(db, job)
            if found.state not in {State.FAILED, State.CANCELLED}:
                raise RefusedError(409, "not_failed", f"this video is {found.state}: only what has failed is retried")
            db.execute(
                "UPDATE jobs SET state = 'queued', failure = NULL, ended_at = NULL, crashes = 0, overtaken = 0 "
                "WHERE id = ?",
                (job,),
            )
            self._note(db, job, "retried")
            return _one(db, job)

    def delete(self, job: str) -> Job:
        """Show a job no more, and stop it; returns it as it was. Its files go when no process has it any more."""
        with self._database.writing() as db:
            found = _shown(db, job)
            ends = found.state is State.QUEUED
            db.execute(
                "UPDATE jobs SET is_deleted = 1, idempotency_key = NULL, is_cancelled = (state = 'running'), "
                "state = CASE WHEN ? THEN 'cancelled' ELSE state END WHERE id = ?",
                (ends, job),
            )
            self._note(db, job, "deleted")
            return found

    def expire(self, keep_seconds: float) -> list[str]:
        """Delete jobs that ended so many seconds ago; returns their ids."""
        with self._database.writing() as db:
            rows = db.execute(
                "UPDATE jobs SET is_deleted = 1, idempotency_key = NULL WHERE ended_at <= ? AND NOT is_deleted "
                "RETURNING id",
                (self._clock() - keep_seconds,),
            ).fetchall()
            return [row["id"] for row in rows]

    def forget(self, job: str) -> list[str]:
        """Remove a deleted job that no process has, with its events; returns uploads that nobody reads any more."""
        with self._database.writing() as db:
            row = db.execute(
                "SELECT seq FROM jobs WHERE id = ? AND is_deleted AND state <> 'running'", (job,)
            ).fetchone()
            if row is None:
                return []
            uploads = [
                file["upload"] for file in db.execute("SELECT upload FROM job_files WHERE job = ?", (row["seq"],))
            ]
            db.execute("DELETE FROM jobs WHERE seq = ?", (row["seq"],))
            return [upload for upload in uploads if not is_read(db, upload)]

    def _note(self, db: sqlite3.Connection, job: str, kind: str, says: str = "") -> None:
        db.execute(
            "INSERT INTO events (job, at, kind, says) VALUES ((SELECT seq FROM jobs WHERE id = ?), ?, ?, ?)",
            (job, self._clock(), kind, says),
        )


def still_runs(lease: Lease | None) -> bool:
    """Whether the process that has a job is there."""
    return lease is not None and is_running(lease.pid, lease.started) is True


def _lane(job: Job) -> tuple[str, int]:
    """Jobs of one lane go by their age alone."""
    return job.engine, job.priority


def _lane_and_age(job: Job) -> tuple[str, int, int]:
    return (*_lane(job), job.seq)


def _check_limits(db: sqlite3.Connection, new: NewJob, limits: Limits) -> None:
    jobs, seconds = db.execute("SELECT count(*), coalesce(sum(seconds), 0) FROM jobs WHERE state = 'queued'").fetchone()
    if jobs >= limits.jobs:
        raise too_much(f"{jobs:,} videos wait already: try again when some are done")
    if seconds + new.seconds > limits.waiting_seconds:
        raise too_much(f"{seconds / 3600:.1f} hours of video wait already: try again when some are done")


def _shown(db: sqlite3.Connection, job: str) -> Job:
    row = db.execute(f"{JOB} WHERE id = ? AND NOT is_deleted", (job,)).fetchone()
    if row is None:
        raise not_found(f"video {job!r}")
    return job_of(row)


def _one(db: sqlite3.Connection, job: str) -> Job:
    return job_of(db.execute(f"{JOB} WHERE id = ?", (job,)).fetchone())
