"""How jobs, uploads and models look in answers: the shape of OpenAI's videos, and what that lacks."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from soundreel.server.jobs import Job, State, Upload
from soundreel.server.live import Live
from soundreel.server.settings import Catalogue
from soundreel.wording.durations import silence_follows

STATUS: Final[Mapping[State, str]] = {
    State.QUEUED: "queued",
    State.RUNNING: "in_progress",
    State.SUCCEEDED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "failed",  # OpenAI's clients know no other word; error.code tells
}

PROGRESS_FIELDS: Final = (
    "stage", "what", "clip", "clips", "step", "steps", "done", "total", "share", "seconds", "eta_seconds",
)  # fmt: skip


def video(
    job: Job, live: Live | None = None, position: int | None = None, *, keep_seconds: float | None = None
) -> dict[str, Any]:
    """A job as answers tell of it, whole: whoever has this needs nothing that was told before.

    Args:
        keep_seconds: after its end; None: for ever.
    """
    width, height = job.fields.get("width", 480), job.fields.get("height", 832)
    begun = {} if live is None else live.begun
    result = job.result or {}
    plan: dict[str, Any] = {"silence_seconds": 0.0, **(result.get("plan") or begun.get("plan") or job.plan)}
    return {
        "id": job.id,
        "object": "video",
        "model": job.model,
        "status": STATUS[job.state],
        "state": str(job.state),
        "is_stopping": job.is_cancelled,
        "progress": percent(job, live),
        "position": position,
        "priority": job.priority,
        "attempts": job.attempts,
        "created_at": int(job.created_at),
        "started_at": _whole(job.started_at),
        "completed_at": _whole(job.ended_at) if job.state is State.SUCCEEDED else None,
        "ended_at": _whole(job.ended_at),
        "expires_at": None if keep_seconds is None or job.ended_at is None else int(job.ended_at + keep_seconds),
        "prompt": job.fields.get("prompt"),
        "seconds": f"{job.seconds:g}",
        "size": f"{width}x{height}",
        "remixed_from_video_id": job.names.get("redo", {}).get("of"),
        "error": None if job.failure is None else job.failure.data,
        "engine": result.get("engine") or begun.get("engine") or job.engine,
        "request": {"fields": dict(job.fields), "files": dict(job.files), **job.names},
        "plan": plan,
        "notes": list(
            result.get("notes") or begun.get("notes") or silence_follows(plan["seconds"], plan["silence_seconds"])
        ),
        "live": None if live is None else _live(live),
        "result": None
        if job.result is None
        else {name: result.get(name) for name in ("frames", "fps", "seconds", "bytes")},
        "links": _links(job, live),
    }


def percent(job: Job, live: Live | None) -> int:
    """Of a job, what is done: 100 only when it has succeeded."""
    if job.state is State.SUCCEEDED:
        return 100
    progress = None if live is None else live.progress
    if progress is None or progress.share is None:
        return 0
    return min(99, int(100 * progress.share))


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _live(live: Live) -> dict[str, Any]:
    """How a running job goes."""
    known = {} if live.progress is None else dataclasses.asdict(live.progress)
    progress = {name: known.get(name) for name in PROGRESS_FIELDS}
    return {
        **progress,
        "stage": str(progress["stage"]) if progress["stage"] else "load",
        "worker": live.worker,
        "resumed": live.begun.get("resumed", ""),
        "clips_stored": live.stored,
        "preview": live.preview,
        "partial": live.partial,
    }


def _links(job: Job, live: Live | None) -> dict[str, str]:
    """Where there is more; a number in a link changes when what it leads to does."""
    here = f"/v1/videos/{job.id}"
    links = {"self": here, "events": f"{here}/events"}
    if job.state is State.SUCCEEDED:
        links["content"] = f"{here}/content"
        links["thumbnail"] = f"{here}/content?variant=thumbnail"
        links["spritesheet"] = f"{here}/content?variant=spritesheet"
    if live is not None and live.partial:
        links["partial"] = f"{here}/content?variant=partial&number={live.partial}"
    if live is not None and live.preview:
        links["preview"] = f"{here}/preview?number={live.preview}"
    return links


def file(upload: Upload) -> dict[str, Any]:
    """An upload, in the shape of OpenAI's files."""
    facts = {name: value for name, value in upload.facts.items() if name != "sha256"}
    return {
        "id": upload.id,
        "object": "file",
        "filename": upload.name,
        "bytes": upload.bytes,
        "created_at": int(upload.created_at),
        "purpose": "user_data",
        "status": "processed",
        "kind": upload.kind,
        "facts": facts,
    }


def models(catalogue: Catalogue) -> dict[str, Any]:
    """What requests may name, in the shape of OpenAI's models."""
    return {
        "object": "list",
        "data": [
            {"id": model.name, "object": "model", "created": 0, "owned_by": "soundreel", "engine": model.engine}
            for model in catalogue.models
        ],
        "loras": sorted(catalogue.loras),
        "workflows": sorted(catalogue.workflows),
    }


def listed(rows: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page of a list."""
    return {
        "object": "list",
        "data": rows,
        "first_id": rows[0]["id"] if rows else None,
        "last_id": rows[-1]["id"] if rows else None,
        "has_more": has_more,
    }
