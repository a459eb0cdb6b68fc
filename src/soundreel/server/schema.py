"""The tables of the queue, and how those of an earlier version become them."""

import sqlite3
from typing import Final

from soundreel.errors import InputError

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE jobs (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL DEFAULT 'queued'
            CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
        priority INTEGER NOT NULL,
        engine TEXT NOT NULL,
        model TEXT NOT NULL,
        weights TEXT NOT NULL,
        fields TEXT NOT NULL,
        names TEXT NOT NULL,
        plan TEXT NOT NULL,
        seconds REAL NOT NULL,
        idempotency_key TEXT UNIQUE,
        digest TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        crashes INTEGER NOT NULL DEFAULT 0,
        overtaken INTEGER NOT NULL DEFAULT 0,
        is_cancelled INTEGER NOT NULL DEFAULT 0,
        is_deleted INTEGER NOT NULL DEFAULT 0,
        worker TEXT,
        worker_pid INTEGER,
        worker_started TEXT,
        created_at REAL NOT NULL,
        started_at REAL,
        ended_at REAL,
        failure TEXT,
        result TEXT
    );
    CREATE INDEX jobs_waiting ON jobs (engine, priority DESC, seq) WHERE state = 'queued';
    CREATE INDEX jobs_by_state ON jobs (state, is_deleted, seq);
    CREATE INDEX jobs_shown ON jobs (is_deleted, seq);
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        job INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        says TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX events_of_jobs ON events (job, seq);
    CREATE TABLE uploads (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        kind TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        facts TEXT NOT NULL,
        created_at REAL NOT NULL
    );
    CREATE TABLE job_files (
        job INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
        field TEXT NOT NULL,
        upload TEXT NOT NULL REFERENCES uploads (id),
        PRIMARY KEY (job, field)
    );
    CREATE INDEX job_files_of_uploads ON job_files (upload);
    """,
)
"""What makes each version of the tables of the one before; only ever added to."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to this version; each step is done whole or not at all.

    Raises:
        InputError: they are of a later version.
    """
    while True:
        connection.execute("BEGIN IMMEDIATE")
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(MIGRATIONS):
                raise InputError(
                    f"the queue was written by a later soundreel (its version is {version}, this one knows "
                    f"{len(MIGRATIONS)}): install that one, or name another --data"
                )
            if version == len(MIGRATIONS):
                connection.execute("COMMIT")
                return
            for statement in filter(str.strip, MIGRATIONS[version].split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
