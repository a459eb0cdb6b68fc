"""What the server knows of the files that were sent to it."""

import json
import sqlite3

from soundreel.server.database import Database
from soundreel.server.errors import RefusedError, not_found, too_much
from soundreel.server.jobs import Upload
from soundreel.server.rows import upload_of
from soundreel.server.settings import Limits


class UploadTable:
    """The uploads, in the file that has the jobs which read them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, upload: Upload, limits: Limits) -> None:
        """Note an upload that is on the disk.

        Raises:
            RefusedError: all uploads together would take too much.
        """
        with self._database.writing() as db:
            (stored,) = db.execute("SELECT coalesce(sum(bytes), 0) FROM uploads").fetchone()
            if stored + upload.bytes > limits.stored_bytes:
                raise too_much("the uploads take all the room that they may have: delete some, or try later")
            db.execute(
                "INSERT INTO uploads (id, name, kind, bytes, facts, created_at) VALUES (?, ?, ?, ?, ?, ?)",
                (upload.id, upload.name, upload.kind, upload.bytes, json.dumps(upload.facts), upload.created_at),
            )

    def find(self, upload: str) -> Upload:
        """An upload by its id; `RefusedError` where there is none."""
        rows = self._database.read("SELECT * FROM uploads WHERE id = ?", upload)
        if not rows:
            raise not_found(f"file {upload!r}")
        return upload_of(rows[0])

    def newest(self, *, limit: int = 100) -> list[Upload]:
        """The newest uploads."""
        return [
            upload_of(row) for row in self._database.read("SELECT * FROM uploads ORDER BY rowid DESC LIMIT ?", limit)
        ]

    def delete(self, upload: str) -> None:
        """Forget an upload.

        Raises:
            RefusedError: there is none, or a job reads it.
        """
        with self._database.writing() as db:
            if db.execute("SELECT 1 FROM uploads WHERE id = ?", (upload,)).fetchone() is None:
                raise not_found(f"file {upload!r}")
            if is_read(db, upload):
                raise RefusedError(409, "in_use", "a video is made of this file: delete that first")
            db.execute("DELETE FROM uploads WHERE id = ?", (upload,))

    def unread(self, before: float) -> list[str]:
        """Uploads from before a time that no job reads."""
        rows = self._database.read(
            "SELECT id FROM uploads WHERE created_at < ? AND id NOT IN (SELECT upload FROM job_files)", before
        )
        return [row["id"] for row in rows]


def is_read(db: sqlite3.Connection, upload: str) -> bool:
    """Whether a job reads an upload."""
    return db.execute("SELECT 1 FROM job_files WHERE upload = ?", (upload,)).fetchone() is not None
