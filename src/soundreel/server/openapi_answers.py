"""The schemas of what is answered."""

from soundreel.server.jobs import State
from soundreel.server.schemas import COUNT, NUMBER, TEXT, TIME, TRUTH, Schema, maybe, record, ref, several
from soundreel.server.views import PROGRESS_FIELDS


def _page(schema: str) -> Schema:
    return record(
        {
            "object": {"const": "list"},
            "data": several(ref(schema)),
            "first_id": maybe(TEXT),
            "last_id": maybe(TEXT),
            "has_more": TRUTH,
        }
    )


def answer_schemas() -> Schema:
    """All of them by name."""
    span = record({"start": NUMBER, "stop": NUMBER})
    return {
        "Video": _video(),
        "VideoList": _page("Video"),
        "Live": record(
            {
                **{name: maybe(_progress_type(name)) for name in PROGRESS_FIELDS},
                "worker": TEXT,
                "resumed": TEXT | {"description": "What an earlier attempt has left; empty: nothing."},
                "clips_stored": COUNT,
                "preview": COUNT | {"description": "Number of the newest picture; 0: there is none."},
                "partial": COUNT | {"description": "Number of the newest partial video; 0: there is none."},
            }
        )
        | {"description": "How a running job goes; fields as those of `--progress json`."},
        "PlanSummary": record(
            {
                "frames": COUNT,
                "fps": COUNT,
                "seconds": NUMBER,
                "silence_seconds": NUMBER | {"description": "Of them, after the end of the sound."},
                "clips": COUNT,
                "shots": several(
                    record(
                        {
                            "index": COUNT,
                            "name": TEXT,
                            "section": TEXT | {"description": "Of the song; empty: not known."},
                            "start": NUMBER,
                            "stop": NUMBER,
                            "clips": COUNT,
                        }
                    )
                ),
            }
        ),
        "Plan": _plan(),
        "Error": record({"error": ref("Failure")}),
        "Failure": record(
            {
                "code": TEXT | {"description": "For programs."},
                "message": TEXT | {"description": "For people: what is wrong, and what to do."},
                "field": maybe(TEXT) | {"description": "Of the request that is wrong, as `sampling.steps`."},
                "param": maybe(TEXT) | {"description": "The same, by OpenAI's name."},
                "type": TEXT,
            }
        ),
        "Deleted": record({"id": TEXT, "object": TEXT, "deleted": TRUTH}),
        "File": record(
            {
                "id": TEXT,
                "object": {"const": "file"},
                "filename": TEXT,
                "bytes": COUNT,
                "created_at": TIME,
                "purpose": TEXT,
                "status": TEXT,
                "kind": {"type": "string", "enum": ["sound", "picture", "video"]},
                "facts": {"type": "object", "description": "Of its sound, picture and video."},
            }
        ),
        "FileList": _page("File"),
        "Peaks": record(
            {
                "file": TEXT,
                "seconds": NUMBER,
                "per_second": NUMBER,
                "first": COUNT | {"description": "The number of the first pair."},
                "is_whole": TRUTH | {"description": "Whether these are the last ones."},
                "peaks": several(several(NUMBER)) | {"description": "Lowest and highest sample, -1 to 1."},
            }
        ),
        "Heard": record(
            {
                "file": TEXT,
                "heard": NUMBER | {"description": "Seconds that have been listened to."},
                "seconds": NUMBER | {"description": "Of the sound."},
            }
        ),
        "Analysis": record(
            {
                "object": {"const": "analysis"},
                "file": TEXT,
                "seconds": NUMBER,
                "tempo_bpm": NUMBER,
                "tempi": several(record({"start": NUMBER, "stop": NUMBER, "bpm": NUMBER})),
                "meter": maybe(TEXT),
                "beat_confidence": NUMBER,
                "downbeat_confidence": NUMBER,
                "beats": several(NUMBER),
                "downbeats": several(NUMBER),
                "sections": several(
                    record(
                        {
                            **span["properties"],
                            "name": TEXT,
                            "role": TEXT,
                            "letter": TEXT,
                            "confidence": NUMBER,
                            "energy": NUMBER,
                            "voiced": NUMBER,
                        }
                    )
                ),
                "voice": several(several(NUMBER)),
                "voice_source": TEXT,
                "energy": record({"per_second": NUMBER, "values": several(NUMBER)}),
                "strongest": several(record({"start": NUMBER, "duration": NUMBER, "energy": NUMBER})),
                "outline": {"type": "object", "description": "As GET /v1/files/{id}/peaks has it."},
            }
        ),
        "Storyboard": record(
            {
                "object": {"const": "storyboard"},
                "request": {"type": "object", "description": "For `POST /v1/videos`, as it stands or changed."},
                "toml": TEXT | {"description": "The storyboard as people edit it, with comments."},
                "json": {"type": "object", "description": "The same for programs."},
            }
        ),
        "Models": record(
            {
                "object": {"const": "list"},
                "data": several(
                    record({"id": TEXT, "object": TEXT, "created": COUNT, "owned_by": TEXT, "engine": TEXT})
                ),
                "loras": several(TEXT),
                "workflows": several(TEXT),
            }
        ),
        "Engines": record(
            {
                "object": {"const": "list"},
                "data": several(
                    record(
                        {
                            "engine": TEXT,
                            "name": TEXT,
                            "is_here": TRUTH,
                            "missing": maybe(TEXT) | {"description": "What to do to have it."},
                        }
                    )
                ),
            }
        ),
        "Demo": record({"audio": ref("File"), "ref_image": ref("File"), "storyboard": TEXT}),
        "Recipe": {"type": "object", "description": "As it is in the video."},
        "Health": record({"status": TEXT, "version": TEXT}),
        "Login": record({"status": TEXT}),
        "Status": record(
            {
                "version": TEXT,
                "workers": several(
                    record(
                        {
                            "name": TEXT,
                            "engine": TEXT,
                            "devices": several(TEXT),
                            "pid": maybe(COUNT) | {"description": "Of its process; null: nothing is loaded."},
                            "job": maybe(TEXT),
                        }
                    )
                ),
                "jobs": {"type": "object", "additionalProperties": COUNT},
                "limits": {"type": "object", "additionalProperties": NUMBER},
            }
        ),
    }


def _progress_type(name: str) -> Schema:
    if name in {"stage", "what"}:
        return TEXT
    return NUMBER if name in {"share", "seconds", "eta_seconds"} else COUNT


def _video() -> Schema:
    return record(
        {
            "id": TEXT,
            "object": {"const": "video"},
            "model": TEXT,
            "status": {
                "type": "string",
                "enum": ["queued", "in_progress", "completed", "failed"],
                "description": "OpenAI's word; of a cancelled job `failed`, with `error.code` `cancelled`.",
            },
            "state": {"type": "string", "enum": list(map(str, State)), "description": "soundreel's word."},
            "is_stopping": TRUTH | {"description": "It was cancelled, and ends within a step."},
            "progress": {"type": "integer", "minimum": 0, "maximum": 100},
            "position": maybe(COUNT) | {"description": "How many jobs are before it; null: it does not wait."},
            "priority": {"type": "integer"},
            "attempts": COUNT,
            "created_at": TIME,
            "started_at": maybe(TIME),
            "completed_at": maybe(TIME),
            "ended_at": maybe(TIME),
            "expires_at": maybe(TIME) | {"description": "When the server removes it; null: it runs, or is kept."},
            "prompt": maybe(TEXT),
            "seconds": TEXT,
            "size": TEXT,
            "remixed_from_video_id": maybe(TEXT),
            "error": maybe(ref("Failure")),
            "engine": TEXT,
            "request": {"type": "object", "description": "What was asked: fields that are not as by default, files."},
            "plan": ref("PlanSummary"),
            "notes": several(TEXT) | {"description": "What the user should know."},
            "live": maybe(ref("Live")),
            "result": maybe(record({"frames": COUNT, "fps": COUNT, "seconds": maybe(NUMBER), "bytes": COUNT})),
            "links": {"type": "object", "additionalProperties": TEXT, "description": "Where there is more."},
        }
    )


def _plan() -> Schema:
    clip = dict.fromkeys(("index", "start", "frames", "size", "lead_in", "seed", "shot"), COUNT)
    return record(
        {
            "object": {"const": "plan"},
            "model": TEXT,
            "engine": TEXT,
            "why": TEXT,
            "width": COUNT,
            "height": COUNT,
            "frames": COUNT,
            "fps": COUNT,
            "seconds": NUMBER,
            "frames_written": COUNT,
            "fps_written": COUNT,
            "audio_start": NUMBER,
            "audio_seconds": NUMBER,
            "silence_seconds": NUMBER,
            "sound_seconds": NUMBER,
            "seed": COUNT,
            "shots": several(record({"index": COUNT, "start": COUNT, "stop": COUNT, "clips": COUNT})),
            "clips": several(record(clip)),
            "memory_bytes": maybe(COUNT),
            "memory_mode": TEXT,
            "devices": TEXT,
            "host_memory_bytes": maybe(COUNT),
            "disk_bytes": COUNT,
            "disk_kept_bytes": COUNT,
            "estimated_seconds": maybe(NUMBER) | {"description": "Of rendering, on this machine; null: not known."},
            "estimate_basis": TEXT,
            "tokens": maybe(several(COUNT)) | {"description": "Of each clip, where the model is here."},
            "notes": several(TEXT),
        }
    )
