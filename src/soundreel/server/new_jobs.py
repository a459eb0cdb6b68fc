"""From what a client asks for to a job: planned, and with everything in it that it names."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from soundreel import planning
from soundreel.errors import InputError
from soundreel.request import EngineName
from soundreel.server.jobs import NewJob, Upload
from soundreel.server.names import MOST_PRIORITY
from soundreel.server.settings import Catalogue, Model
from soundreel.server.wire import Wanted, asked_fields, make_request, public_fields
from soundreel.types import Plan
from soundreel.units import MODEL_FPS


def new_job(
    wanted: Wanted, catalogue: Catalogue, uploads: Mapping[str, Upload], idempotency_key: str | None = None
) -> NewJob:
    """The job that a client asks for, planned; `uploads` are its files by their fields.

    Raises:
        InputError: it cannot be.
    """
    fields = asked_fields(wanted)
    request = make_request(fields, wanted.files)
    model, names = _named(wanted, catalogue)
    plan = planning.plan(request, uploads["audio"].facts["sound"]["seconds"])
    priority = _priority(wanted.words.get("priority", 0))
    files = {name: upload.facts["sha256"] for name, upload in uploads.items()}
    sent = {"fields": wanted.fields, "files": files, "words": wanted.words}
    weights = "|".join([model.name, *names.get("loras", ()), str(request.compute.precision)])
    return NewJob(
        engine=model.engine,
        model=model.name,
        weights=weights,
        fields=public_fields(request),
        files=dict(wanted.files),
        names=names,
        plan=plan_summary(plan),
        seconds=plan.seconds,
        priority=priority,
        idempotency_key=idempotency_key,
        digest=hashlib.sha256(json.dumps(sent, sort_keys=True, default=str).encode()).hexdigest(),
    )


def plan_summary(plan: Plan) -> dict[str, Any]:
    """What is told of a plan wherever its job is."""
    return {
        "frames": plan.frames,
        "fps": MODEL_FPS,
        "seconds": plan.seconds,
        "silence_seconds": plan.silence_seconds,
        "clips": len(plan.clips),
        "shots": [
            {
                "index": shot.index,
                "name": shot.name,
                "section": shot.section,
                "start": shot.start / MODEL_FPS,
                "stop": shot.stop / MODEL_FPS,
                "clips": len(shot.clips),
            }
            for shot in plan.shots
        ],
    }


def _named(wanted: Wanted, catalogue: Catalogue) -> tuple[Model, dict[str, Any]]:
    """The model, and the other things that go by the server's names; all of them are there."""
    words = wanted.words
    name = words.get("model")
    if name is not None and not isinstance(name, str):
        raise InputError("model is no text: expected an id of GET /v1/models", field="model")
    model = catalogue.model(name)
    names: dict[str, Any] = {}
    loras: Any = words.get("loras", [])
    loras = [loras] if isinstance(loras, str) else loras
    if not isinstance(loras, list) or not all(isinstance(lora, str) for lora in loras):
        raise InputError('loras is no list of names: expected ["NAME", "NAME:0.8"]', field="loras")
    for lora in loras:
        catalogue.lora(lora)
    if loras:
        names["loras"] = loras
    if words.get("workflow"):
        workflow = str(words["workflow"])
        catalogue.workflow(workflow)
        if model.engine != EngineName.COMFYUI:
            raise InputError(f"a workflow is for a ComfyUI server, and {model.name} is none", field="workflow")
        names["workflow"] = workflow
    return model, names


def _priority(value: Any) -> int:
    try:
        number = int(value) if not isinstance(value, bool) else None
    except (TypeError, ValueError):
        number = None
    if number is None or abs(number) > MOST_PRIORITY:
        raise InputError(
            f"priority is {str(value)[:40]!r}: expected a whole number from -{MOST_PRIORITY} to {MOST_PRIORITY}",
            field="priority",
        )
    return number
