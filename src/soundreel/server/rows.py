"""Rows of the server's tables as the objects that they stand for."""

import json
import sqlite3
from typing import Final

from soundreel.server.jobs import Failure, Job, Lease, State, Upload

JOB: Final = """
    SELECT jobs.*, (SELECT json_group_object(field, upload) FROM job_files WHERE job = jobs.seq) AS files FROM jobs
"""
"""Jobs with the uploads that they read."""


def failure_text(failure: Failure | None) -> str | None:
    """As a table has it."""
    if failure is None:
        return None
    return json.dumps({"code": failure.code, "message": failure.message, "field": failure.field})


def job_of(row: sqlite3.Row) -> Job:
    """A job, of a row of `JOB`."""
    same = (
        "seq", "id", "priority", "engine", "model", "weights", "seconds", "digest", "attempts", "crashes",
        "created_at", "started_at", "ended_at",
    )  # fmt: skip
    failure, result = row["failure"], row["result"]
    return Job(
        **{name: row[name] for name in same},
        state=State(row["state"]),
        fields=json.loads(row["fields"]),
        files=json.loads(row["files"]),
        names=json.loads(row["names"]),
        plan=json.loads(row["plan"]),
        is_cancelled=bool(row["is_cancelled"]),
        is_deleted=bool(row["is_deleted"]),
        failure=None if failure is None else Failure(**json.loads(failure)),
        result=None if result is None else json.loads(result),
    )


def lease_of(row: sqlite3.Row) -> Lease | None:
    """The process that has a job; None: none has."""
    if row["worker_pid"] is None:
        return None
    return Lease(worker=row["worker"], pid=row["worker_pid"], started=row["worker_started"])


def upload_of(row: sqlite3.Row) -> Upload:
    """An upload."""
    return Upload(**{**dict(row), "facts": json.loads(row["facts"])})
