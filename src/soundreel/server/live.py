"""What is known of running jobs and stands in no queue: progress, pictures, partial videos; and who wants to hear it.

Written by the supervisor's threads, read by the event loop.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from soundreel.types import Progress


@dataclass(frozen=True, kw_only=True)
class Live:
    """How a running job goes."""

    worker: str = ""
    begun: Mapping[str, Any] = field(default_factory=dict)  # what will come out; empty: it is being prepared
    progress: Progress | None = None
    stored: int = 0  # clips on the disk
    preview: int = 0
    partial: int = 0


class Watch:
    """Somebody who wants to hear of changes: of one job, or of all."""

    def __init__(self, job: str | None) -> None:
        self.job = job
        self._event = asyncio.Event()
        self._changed: set[str] = set()

    def tell(self, job: str) -> None:
        """A job has changed; called in the event loop."""
        if self.job in {None, job}:
            self._changed.add(job)
            self._event.set()

    def wake(self) -> None:
        """Wait no longer; called in the event loop."""
        self._event.set()

    async def changes(self, seconds: float) -> set[str]:
        """The jobs that have changed since this was asked last; none: nothing has for so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)
        self._event.clear()
        changed, self._changed = self._changed, set()
        return changed


class Hub:
    """Keeps what is live, and tells those who watch."""

    def __init__(self) -> None:
        self._lives: dict[str, Live] = {}
        self._versions: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watches: set[Watch] = set()
        self._is_closed = False

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on those who watch are told, in this loop."""
        self._loop = loop

    @property
    def is_closed(self) -> bool:
        """Whether the server is about to end."""
        return self._is_closed

    def close(self) -> None:
        """The server ends: nobody waits any more; called in the event loop."""
        self._is_closed = True
        for watch in self._watches:
            watch.wake()

    def live(self, job: str) -> Live | None:
        """How a job goes; None: it does not run."""
        return self._lives.get(job)

    def version(self, job: str) -> int:
        """A number that rises with every change of a job."""
        return self._versions[job]

    def update(self, job: str, **changes: Any) -> None:
        """A running job has gone on."""
        with self._lock:
            self._lives[job] = replace(self._lives.get(job, Live()), **changes)
        self.changed(job)

    def drop(self, job: str) -> None:
        """A job runs no more."""
        with self._lock:
            self._lives.pop(job, None)
        self.changed(job)

    def changed(self, job: str) -> None:
        """Tell those who watch it; from any thread, and after the queue has noted it."""
        with self._lock:
            self._versions[job] += 1
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the server ends
                self._loop.call_soon_threadsafe(self._tell, job)

    def _tell(self, job: str) -> None:
        for watch in self._watches:
            watch.tell(job)

    def watch(self, job: str | None = None) -> Watch:
        """Begin to watch; in the event loop."""
        watch = Watch(job)
        self._watches.add(watch)
        return watch

    def unwatch(self, watch: Watch) -> None:
        """Watch no more."""
        self._watches.discard(watch)
