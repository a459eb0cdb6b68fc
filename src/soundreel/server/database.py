"""The SQLite file of a server: one connection that writes, and one of each thread that reads."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from soundreel.server.errors import busy, disk_full
from soundreel.server.schema import migrate

BUSY_SECONDS: Final = 5.0
"""That a write waits for another process which writes the file: a backup, or somebody who looks into it."""


class Database:
    """The file, its tables brought to this version. What a transaction has done is on the disk when it is left."""

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path, self._busy_seconds = path, busy_seconds
        self._lock = threading.Lock()
        self.writer = self._open()
        migrate(self.writer)
        self._readers = threading.local()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def close(self) -> None:
        """Close the file for writing."""
        with self._lock:
            self.writer.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all that is done in the block, or nothing.

        Raises:
            RefusedError: another process writes for too long, or the disk is full.
        """
        with self._lock, _refusing():
            self.writer.execute("BEGIN IMMEDIATE")
            try:
                yield self.writer
                self.writer.execute("COMMIT")
            except BaseException:
                if self.writer.in_transaction:
                    self.writer.execute("ROLLBACK")
                raise

    def read(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """The rows that a question finds; it waits for nobody who writes."""
        if not hasattr(self._readers, "connection"):
            self._readers.connection = self._open()
        with _refusing():
            rows: list[sqlite3.Row] = self._readers.connection.execute(sql, values).fetchall()
        return rows


@contextmanager
def _refusing() -> Iterator[None]:
    """What SQLite cannot do at this moment becomes a refusal."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise busy() from error
        if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
            raise disk_full() from error
        raise
