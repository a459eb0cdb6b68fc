"""What the server removes: deleted jobs, those that have expired, and files that nobody has read for a day."""

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from soundreel.server.errors import RefusedError
from soundreel.server.live import Hub
from soundreel.server.queue import Queue
from soundreel.server.settings import Settings
from soundreel.server.uploads import Uploads

MOST_SECONDS: Final = 60.0
"""Between two looks for what has expired."""


class Housekeeping:
    """Looks after the folders of jobs and uploads; for the supervisor's thread.

    Args:
        clock: seconds that only rise.
    """

    def __init__(
        self, settings: Settings, queue: Queue, uploads: Uploads, hub: Hub, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings, self._queue, self._uploads, self._hub, self._clock = settings, queue, uploads, hub, clock
        self._next = clock()

    def begin(self) -> None:
        """Remove what a server before has left."""
        for job in self._queue.deleted():
            self._remove(job)
        for folder in (self._settings.data / "jobs").glob("video_*"):
            if not self._queue.knows(folder.name):  # made for a job that was never added
                shutil.rmtree(folder, ignore_errors=True)
        self._uploads.remove_broken()

    def go_on(self) -> None:
        """Remove what was deleted, and from time to time what has expired."""
        if self._clock() >= self._next:
            self._expire()
        for job in self._queue.deleted():
            self._remove(job)

    def _expire(self) -> None:
        keep = self._settings.keep_seconds
        self._next = self._clock() + MOST_SECONDS if keep is None else min(MOST_SECONDS, keep)
        self._uploads.remove_unread()
        for job in [] if keep is None else self._queue.expire(keep):
            self._hub.changed(job)

    def _remove(self, job: str) -> None:
        """Remove all of a deleted job that no process has any more."""
        folder = self._settings.job_folder(job)
        uploads = self._queue.forget(job)
        shutil.rmtree(folder, ignore_errors=True)
        for upload in uploads:
            with suppress(RefusedError):
                self._uploads.remove(upload)
