"""Server-sent events: each is a whole snapshot, so that whoever comes late or has lost some needs nothing else.

event: video            a job as GET /v1/videos/{id} has it
event: deleted          {"id": …}
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

from soundreel.server.jobs import Job, State
from soundreel.server.live import Hub
from soundreel.server.queue import Queue
from soundreel.server.snapshots import Snapshots, as_bytes

BETWEEN_SECONDS: Final = 0.25
"""Between two events of one stream: what happens meanwhile is in the next."""

SILENCE_SECONDS: Final = 15.0
"""After which a comment is sent, so that proxies and clients know that the stream is there."""


async def stream_jobs(hub: Hub, queue: Queue, snapshots: Snapshots, job: str | None) -> AsyncIterator[bytes]:
    """The events of a job until it has ended, or those of all jobs until nobody listens any more."""
    watch = hub.watch(job)
    try:
        yield b"retry: 1000\n\n"
        changed = {job} if job is not None else {found.id for found in _unfinished(queue)}
        while True:
            sent = time.monotonic()
            for identifier in changed:
                yield _event(identifier, snapshots.of(identifier))
            if hub.is_closed or (job in changed and _has_ended(queue.find(job))):
                return
            await asyncio.sleep(max(0.0, sent + BETWEEN_SECONDS - time.monotonic()))
            while not (changed := await watch.changes(SILENCE_SECONDS)) and not hub.is_closed:
                yield b": still there\n\n"
    finally:
        hub.unwatch(watch)


def _unfinished(queue: Queue) -> list[Job]:
    waiting = queue.page(limit=100, newest_first=False, state=State.QUEUED)
    return [*(job for job, _ in queue.running() if not job.is_deleted), *waiting]


def _has_ended(found: Job | None) -> bool:
    return found is None or found.has_ended


def _event(job: str, snapshot: bytes | None) -> bytes:
    if snapshot is None:
        return b"event: deleted\ndata: " + as_bytes({"id": job}) + b"\n\n"
    return b"event: video\ndata: " + snapshot + b"\n\n"
