"""The queue of the server by itself: order, ends, limits, keys, and an SQLite file that cannot be written."""

import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from soundreel.errors import InputError
from soundreel.server.database import Database
from soundreel.server.errors import RefusedError
from soundreel.server.jobs import Failure, Job, Lease, NewJob, State, Upload
from soundreel.server.queue import MOST_OVERTAKEN, Queue
from soundreel.server.schema import MIGRATIONS
from soundreel.server.settings import Limits
from soundreel.server.upload_table import UploadTable

LEASE = Lease.of("worker", os.getpid())


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "queue.db", busy_seconds=0.1)


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue(database)


@pytest.fixture
def uploads(database: Database) -> UploadTable:
    return UploadTable(database)


def new(**changed: Any) -> NewJob:
    usual: dict[str, Any] = {
        "engine": "draft", "model": "draft", "weights": "a", "fields": {}, "files": {}, "plan": {}, "seconds": 4.0,
    }  # fmt: skip
    return NewJob(**usual | changed)


def add(queue: Queue, **changed: Any) -> Job:
    return queue.add(new(**changed), Limits())[0]


def take(queue: Queue, loaded: str | None = None) -> Job:
    job = queue.take("draft", loaded, LEASE)
    assert job is not None
    return job


def kinds(queue: Queue, job: Job) -> list[str]:
    return [event["kind"] for event in queue.events(job.id)]


# order


def test_the_first_by_priority_then_by_age_whatever_the_clock_says(database: Database) -> None:
    clock = iter(range(1_000, 0, -1))  # it is set back all the time
    queue = Queue(database, clock=lambda: float(next(clock)))
    first, second, urgent = add(queue), add(queue), add(queue, priority=5)
    assert [queue.position(job) for job in (first, second, urgent)] == [1, 2, 0]
    assert queue.positions([first, second, urgent]) == {first.id: 1, second.id: 2, urgent.id: 0}
    assert queue.positions([]) == {}
    assert [take(queue).id for _ in range(3)] == [urgent.id, first.id, second.id]
    assert queue.take("draft", None, LEASE) is None
    assert queue.take("native", None, LEASE) is None


def test_jobs_of_the_loaded_model_go_together_and_nobody_waits_for_ever(queue: Queue) -> None:
    other = add(queue, weights="b")
    alike = [add(queue, weights="a") for _ in range(MOST_OVERTAKEN + 3)]
    urgent = add(queue, weights="b", priority=1)
    assert take(queue, loaded="a").id == urgent.id
    taken = [take(queue, loaded="a").id for _ in range(MOST_OVERTAKEN)]
    assert taken == [job.id for job in alike[:MOST_OVERTAKEN]]
    assert take(queue, loaded="a").id == other.id


# ends


def test_a_job_ends_once(queue: Queue) -> None:
    job = add(queue)
    assert not queue.succeed(job.id, {})  # it has not begun
    take(queue)
    assert queue.succeed(job.id, {"frames": 3})
    assert not queue.fail(job.id, Failure(code="x", message="x"))
    assert not queue.stopped(job.id)
    assert queue.give_back(job.id, why="x") is None
    found = queue.job(job.id)
    assert (found.state, found.result, found.failure) == (State.SUCCEEDED, {"frames": 3}, None)
    assert kinds(queue, job) == ["created", "started", "succeeded"]
    with pytest.raises(RefusedError, match="has succeeded"):
        queue.cancel(job.id)
    with pytest.raises(RefusedError, match="only what has failed"):
        queue.retry(job.id)


def test_after_crashes_in_a_row_it_fails_with_the_reason_and_goes_on_when_retried(queue: Queue) -> None:
    job = add(queue)
    take(queue)
    assert queue.give_back(job.id, why="killed", is_crash=True) is State.QUEUED
    take(queue)
    queue.has_gone_on(job.id)  # a clip was stored: the crash before is not its fault
    assert queue.give_back(job.id, why="killed", is_crash=True) is State.QUEUED
    take(queue)
    assert queue.give_back(job.id, why="the server was ended") is State.QUEUED  # no crash of the job's
    take(queue)
    assert queue.give_back(job.id, why="killed", is_crash=True) is State.FAILED
    failed = queue.job(job.id)
    assert failed.failure == Failure(code="worker_crashed", message="killed, 2 times: retry tries again")
    assert failed.attempts == 4
    assert queue.retry(job.id).state is State.QUEUED
    assert take(queue).failure is None
    assert [kind for kind in kinds(queue, job) if kind in {"failed", "succeeded", "cancelled"}] == ["failed"]


def test_cancel_ends_a_waiting_job_at_once_and_marks_a_running_one(queue: Queue) -> None:
    running, waiting = add(queue), add(queue)
    take(queue)
    assert queue.cancel(waiting.id).state is State.CANCELLED
    assert queue.cancel(waiting.id).state is State.CANCELLED  # twice is as once
    marked = queue.cancel(running.id)
    assert (marked.state, marked.is_cancelled) == (State.RUNNING, True)
    queue.cancel(running.id)
    assert queue.give_back(running.id, why="the server was ended") is State.CANCELLED
    assert kinds(queue, running) == ["created", "started", "stopping", "cancelled"]
    assert queue.job(running.id).failure == queue.job(waiting.id).failure
    assert queue.retry(running.id).is_cancelled is False


def test_a_deleted_job_is_shown_no_more_and_its_uploads_go_with_the_last_that_reads_them(
    queue: Queue, uploads: UploadTable
) -> None:
    for name in ("one", "two"):
        uploads.add(upload(name), Limits())
    first = add(queue, files={"audio": "one", "ref_image": "two"})
    second = add(queue, files={"audio": "one"})
    take(queue)
    queue.delete(first.id)
    assert queue.find(first.id) is None
    assert [job.id for job in queue.page()] == [second.id]
    assert queue.forget(first.id) == []  # a worker has it
    assert queue.deleted() == []
    queue.stopped(first.id)
    assert queue.deleted() == [first.id]
    assert queue.forget(first.id) == ["two"]
    with pytest.raises(RefusedError, match="made of this file"):
        uploads.delete("one")
    queue.delete(second.id)
    assert queue.forget(second.id) == ["one"]
    assert uploads.unread(time.time()) == ["one", "two"]
    uploads.delete("two")
    assert [left.id for left in uploads.newest()] == ["one"]


def upload(name: str, size: int = 10) -> Upload:
    return Upload(id=name, name=name, kind="sound", bytes=size, facts={}, created_at=0.0)


# asking twice, and for too much


def test_jobs_expire_after_their_end_and_no_others(database: Database) -> None:
    now = [1000.0]
    queue = Queue(database, clock=lambda: now[0])
    old, retried, running, young = (add(queue) for _ in range(4))
    for job in (old, retried, running):
        assert take(queue).id == job.id
    queue.succeed(old.id, {})
    queue.fail(retried.id, Failure(code="x", message="x"))
    queue.retry(retried.id)
    now[0] += 60
    queue.cancel(young.id)
    assert queue.expire(60.5) == []
    assert queue.expire(60) == [old.id]
    assert queue.find(old.id) is None
    assert queue.deleted() == [old.id]
    assert all(queue.find(job.id) is not None for job in (retried, running, young))


def test_a_key_gives_the_same_job_and_is_no_other_requests(queue: Queue) -> None:
    first, is_new = queue.add(new(idempotency_key="k", digest="d"), Limits())
    again, is_new_again = queue.add(new(idempotency_key="k", digest="d"), Limits(jobs=0))
    assert (is_new, is_new_again, again.id) == (True, False, first.id)
    with pytest.raises(RefusedError, match="another request") as reused:
        queue.add(new(idempotency_key="k", digest="e"), Limits())
    assert reused.value.status == 409
    queue.delete(first.id)
    assert queue.add(new(idempotency_key="k", digest="e"), Limits())[1]


@pytest.mark.parametrize(
    ("limits", "says"),
    [(Limits(jobs=1), "1 videos wait already"), (Limits(waiting_seconds=7.0), "hours of video wait already")],
)
def test_what_is_too_much_may_come_again_later(queue: Queue, limits: Limits, says: str) -> None:
    queue.add(new(), limits)
    with pytest.raises(RefusedError, match=says) as refused:
        queue.add(new(), limits)
    assert (refused.value.status, refused.value.retry_after) == (429, 30)
    take(queue)
    queue.add(new(), limits)


def test_uploads_take_no_more_than_they_may(uploads: UploadTable) -> None:
    uploads.add(upload("one", 60), Limits(stored_bytes=100))
    with pytest.raises(RefusedError, match="all the room") as refused:
        uploads.add(upload("two", 60), Limits(stored_bytes=100))
    assert refused.value.status == 429


# the file


def test_while_another_process_writes_reads_go_on_and_writes_are_refused_for_a_moment(
    queue: Queue, tmp_path: Path
) -> None:
    job = add(queue)
    other = sqlite3.connect(tmp_path / "queue.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RefusedError, match="being written by another process") as refused:
        add(queue)
    assert (refused.value.status, refused.value.retry_after) == (503, 2)
    assert queue.job(job.id).id == job.id
    other.execute("ROLLBACK")
    add(queue)
    assert queue.counts()[State.QUEUED] == 2


def test_a_full_disk_is_said_and_nothing_is_half_done(queue: Queue, database: Database) -> None:
    job = add(queue)
    pages = database.writer.execute("PRAGMA page_count").fetchone()[0]
    database.writer.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(RefusedError, match="disk is full") as refused:
        for _ in range(200):
            add(queue, fields={"prompt": "x" * 1000})
    assert refused.value.status == 507
    there = queue.counts()[State.QUEUED]
    assert all(kinds(queue, found) == ["created"] for found in queue.page(limit=100))
    database.writer.execute("PRAGMA max_page_count = 1000000")
    add(queue)
    assert queue.counts()[State.QUEUED] == there + 1
    assert queue.job(job.id).state is State.QUEUED


def test_a_queue_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    Database(tmp_path / "queue.db").close()
    later = sqlite3.connect(tmp_path / "queue.db")
    later.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    later.commit()
    with pytest.raises(InputError, match="written by a later soundreel"):
        Database(tmp_path / "queue.db")


def test_many_threads_take_each_job_once(queue: Queue) -> None:
    jobs = {add(queue).id for _ in range(40)}
    taken: list[str] = []

    def work() -> None:
        while (job := queue.take("draft", None, LEASE)) is not None:
            taken.append(job.id)
            queue.succeed(job.id, {})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(jobs)


def test_a_page_of_ten_thousand_waiting_jobs_is_listed_by_its_index(queue: Queue, database: Database) -> None:
    """Its time is measured in benchmarks/server.py; here, that no table is read to its end for it."""
    add(queue)
    for sql in (
        "SELECT * FROM jobs WHERE NOT is_deleted ORDER BY seq DESC LIMIT 20",
        "SELECT * FROM jobs WHERE state = 'queued' AND engine = 'draft' ORDER BY priority DESC, seq LIMIT 1",
        "SELECT * FROM jobs WHERE id = 'x'",
    ):
        plan = " ".join(row["detail"] for row in database.read(f"EXPLAIN QUERY PLAN {sql}"))
        assert "TEMP B-TREE" not in plan
