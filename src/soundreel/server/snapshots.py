"""Jobs as JSON, made once for all who ask until something changes."""

import json
from collections import OrderedDict
from typing import Final

from soundreel.server import views
from soundreel.server.jobs import State
from soundreel.server.live import Hub
from soundreel.server.queue import Queue

MOST_KEPT: Final = 512


class Snapshots:
    """The bytes of `GET /v1/videos/{id}`, which every event has, too. For the event loop alone."""

    def __init__(self, queue: Queue, hub: Hub, keep_seconds: float | None) -> None:
        self._queue, self._hub, self._keep_seconds = queue, hub, keep_seconds
        self._kept: OrderedDict[str, tuple[int, bytes]] = OrderedDict()

    def of(self, job: str) -> bytes | None:
        """A job as it is now; None: there is none."""
        version = self._hub.version(job)  # before the job is read: what changes meanwhile makes it old
        kept = self._kept.get(job)
        if kept is not None and kept[0] == version:
            return kept[1]
        found = self._queue.find(job)
        if found is None:
            return None
        position = self._queue.position(found)
        body = as_bytes(views.video(found, self._hub.live(job), position, keep_seconds=self._keep_seconds))
        if found.state is not State.QUEUED:  # its position changes with other jobs
            self._kept[job] = version, body
            self._kept.move_to_end(job)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return body


def as_bytes(data: object) -> bytes:
    """Plain data as JSON in one line."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")
