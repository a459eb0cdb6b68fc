"""From what is sent to a `Request`: which fields may be asked for, by which names, and what stands in for files.

A request that comes from outside names nothing on this machine. Files are uploads, by their ids; models, LoRAs and
workflows go by the server's own names; what computes and where the video goes is the server's to say.
"""

import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin

from soundreel import planning
from soundreel.disk.plain_json import parse_json
from soundreel.errors import InputError
from soundreel.fields import Field, Seconds, fields_of, to_data
from soundreel.presets import mood, preset
from soundreel.request import FLAT_NAMES, EngineName, Request, ShotRequest
from soundreel.server.jobs import Job, NewJob, Upload
from soundreel.server.settings import Catalogue, Model, Settings, WorkerSpec
from soundreel.types import Plan
from soundreel.units import MODEL_FPS

SERVERS_OWN: Final = frozenset(
    {
        "engine", "server.timeout", "server.workflow", "output.preview", "output.recipe_paths", "output.write_recipe",
    }
)  # fmt: skip
"""Fields that could name no place, and are yet not a client's to set, or go by another name."""

TEXTS: Final = frozenset(
    {
        "prompt", "negative_prompt", "name", "section",
        "server.diffusion_model", "server.text_encoder", "server.vae", "server.audio_encoder",
    }
)  # fmt: skip
"""Fields of free text that a client sets: words, and names that a ComfyUI server has. No other text is taken, for it
could be a path."""


def kind_of(hint: Any) -> Any:
    """`hint` without None."""
    if get_origin(hint) in (Union, UnionType):
        return kind_of(next(kind for kind in get_args(hint) if kind is not NoneType))
    return hint


def _is_asked_for(field: Field) -> bool:
    """Whether a client sets it: its values cannot say where something is, nor what computes."""
    declared, kind = field.option, kind_of(field.hint)
    if declared.is_secret or declared.is_address or declared.is_of_machine or field.name in SERVERS_OWN:
        return False
    kinds = [kind for kind in get_args(kind) if kind is not Ellipsis] if get_origin(kind) is tuple else [kind]
    is_plain = all(
        kind in {int, float, bool, Seconds} or (isinstance(kind, type) and issubclass(kind, StrEnum)) for kind in kinds
    )
    return is_plain or (kinds == [str] and field.name in TEXTS)


def _is_sent(field: Field) -> bool:
    """Whether it is a file that a client sends."""
    return field.option.is_path and field.option.is_file and field.name not in SERVERS_OWN


FIELDS: Final[Mapping[str, Field]] = {field.name: field for field in fields_of(Request) if _is_asked_for(field)}
"""Fields of `Request` that a client sets, by their names as `sampling.steps`."""

UPLOADED: Final[Mapping[str, Field]] = {field.name: field for field in fields_of(Request) if _is_sent(field)}
"""Fields that are files: a client sends them, or names an upload."""

SHOTS: Final = "shots"

SHOT_FIELDS: Final = {field.name: field for field in fields_of(ShotRequest) if _is_asked_for(field)}
SHOT_FILES: Final = {field.name: field for field in fields_of(ShotRequest) if _is_sent(field)}
"""The same of one shot; a file of the third one is called `shots.2.ref_image`."""

MOST_SHOTS: Final = 2_000


def uploaded_field(name: str) -> Field | None:
    """The field that is a file with this name, also of a shot; None: there is none."""
    found = re.fullmatch(rf"{SHOTS}\.\d{{1,4}}\.(\w+)", name)
    return UPLOADED.get(name) if found is None else SHOT_FILES.get(found[1])


OPENAI_NAMES: Final = {
    "input_reference": "ref_image",
    "seconds": "window.duration",
    "num_frames": "window.frames",
    "num_inference_steps": "sampling.steps",
    "guidance_scale": "sampling.guide_scale",
    "flow_shift": "sampling.shift",
}
"""Names that the clients of other servers use."""

WORDS: Final = {
    "model": "One of GET /v1/models, by its id; the first of them unless given",
    "size": "WIDTHxHEIGHT in one word",
    "preset": "Length, size, steps and guidance; single fields win over it",
    "mood": "A prompt for this kind of sound, in place of prompt",
    "loras": "NAME or NAME:STRENGTH of GET /v1/models; several",
    "workflow": "A ComfyUI graph of GET /v1/models, by its name",
    "priority": "The larger the sooner, -100 to 100",
}
"""What a request may say beside fields of `Request`."""

MOST_PRIORITY: Final = 100

GROUPS: Final = frozenset(name.partition(".")[0] for name in {**FIELDS, **UPLOADED} if "." in name)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a client asks for, read and in order, before its files are looked at."""

    fields: Mapping[str, Any]  # of `Request` by dotted names
    files: Mapping[str, str]  # ids of uploads by dotted names
    words: Mapping[str, Any]  # those of `WORDS`


def read_wanted(sent: Mapping[str, Any]) -> Wanted:
    """Sort what was sent: dotted names, groups, flat names of the command line, and those of other servers.

    Raises:
        InputError: a name that is none, or comes twice.
    """
    fields: dict[str, Any] = {}
    files: dict[str, str] = {}
    words: dict[str, Any] = {}
    for name, value in _flattened(sent):
        known = known_name(name)
        place, settled = _sorted(known, value, fields, files, words)
        if place is None:
            raise InputError(_unknown(name), field=name)
        if known in place:
            raise InputError(f"{known} is given twice: give it once", field=known)
        place[known] = settled
    lost = next((name for name in files if name.startswith(f"{SHOTS}.") and not _has_shot(fields, name)), None)
    if lost is not None:
        raise InputError(f"{lost}: there is no such shot", field=SHOTS)
    return Wanted(fields=fields, files=files, words={name: value for name, value in words.items() if value is not None})


def known_name(name: str) -> str:
    """The name that a field has here, for one that others or the command line use."""
    return name if name in WORDS else OPENAI_NAMES.get(name, FLAT_NAMES.get(name, name))


def _flattened(sent: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in sent.items():
        if name in GROUPS and isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", one) for inner, one in value.items())
        else:
            yield name, value


def _read_shots(value: Any, files: dict[str, str]) -> list[dict[str, Any]]:
    """The shots without their files, which go to `files`."""
    if not isinstance(value, list) or not all(isinstance(shot, Mapping) for shot in value) or len(value) > MOST_SHOTS:
        raise InputError(f"shots is no list of at most {MOST_SHOTS:,} shots: expected [{{…}}, …]", field=SHOTS)
    shots = []
    for number, shot in enumerate(value):
        for name in shot:
            if name not in SHOT_FIELDS and name not in SHOT_FILES:
                what = "is the server's to say" if name in _names_of(ShotRequest) else "is no field"
                raise InputError(f"{name!r} {what} of a shot: it has {', '.join(SHOT_FIELDS)}", field=SHOTS)
        files |= {
            f"{SHOTS}.{number}.{name}": _file_id(f"{SHOTS}.{number}.{name}", shot[name])
            for name in SHOT_FILES
            if shot.get(name) is not None
        }
        shots.append({name: shot[name] for name in SHOT_FIELDS if name in shot})
    return shots


def _names_of(kind: type) -> set[str]:
    return {field.name for field in fields_of(kind)}


def _sorted(
    name: str, value: Any, fields: dict[str, Any], files: dict[str, str], words: dict[str, Any]
) -> tuple[dict[str, Any] | None, Any]:
    """Where a value belongs, and as what; nowhere: nothing has such a name."""
    if name == SHOTS:
        return fields, _read_shots(value, files)
    if uploaded_field(name) is not None:
        return files, _file_id(name, value)
    if name in FIELDS:
        return fields, value
    return (words if name in WORDS else None), value


def _has_shot(fields: Mapping[str, Any], name: str) -> bool:
    return int(name.split(".")[1]) < len(fields.get(SHOTS, ()))


def _file_id(name: str, value: Any) -> str:
    """An upload's id, given by itself or as `{"file_id": …}`."""
    if isinstance(value, Mapping) and set(value) == {"file_id"}:
        value = value["file_id"]
    if not isinstance(value, str) or not value:
        raise InputError(f"{name} is no file: send it as a part of the form, or name an upload by its id", field=name)
    return value


def _unknown(name: str) -> str:
    declared = next((field for field in fields_of(Request) if name in {field.name, field.leaf}), None)
    if declared is not None:
        return f"{name} is the server's to say, not a request's: leave it out"
    return (
        f"there is no {name!r}: expected fields of a request, as prompt or sampling.steps; /openapi.json has them all"
    )


def asked_fields(wanted: Wanted) -> dict[str, Any]:
    """Dotted fields of `Request`, with presets and shorthands worked in; single fields win."""
    words, fields = wanted.words, dict(wanted.fields)
    if "mood" in words:
        if fields.get("prompt") is not None:
            raise InputError("prompt and mood are two prompts: give one of them", field="mood")
        fields["prompt"] = mood(str(words["mood"]))
    if "size" in words:
        fields = parse_size(words["size"]) | fields
    if "preset" in words:
        fields = {FLAT_NAMES.get(name, name): value for name, value in preset(str(words["preset"])).items()} | fields
    if str(fields.get("seed", "")).strip() == "-1":
        fields["seed"] = random.SystemRandom().randrange(2**31)
    if fields.get("window.num_clip") is not None and not {"window.frames", "window.duration"} & fields.keys():
        fields["window.full"] = True  # as on the command line: else the default length would limit the clips
    return {name: value for name, value in fields.items() if value is not None}


def parse_size(size: Any) -> dict[str, Any]:
    """`480x832` → width and height."""
    sides = str(size).lower().replace("*", "x").replace("×", "x").split("x")
    if len(sides) != 2 or not all(side.strip().isdecimal() for side in sides):
        raise InputError(f"size is {str(size)[:40]!r}: expected WIDTHxHEIGHT, for example 480x832", field="size")
    return {"width": int(sides[0]), "height": int(sides[1])}


def text_values(sent: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a form as JSON would have them: a form knows texts only."""
    return {name: _from_text(name, value) for name, value in sent.items()}


def _from_text(name: str, value: Any) -> Any:
    if name == SHOTS and isinstance(value, str):
        return _from_json(name, value)
    field = FIELDS.get(known_name(name))
    if not isinstance(value, str) or field is None:
        return value
    if value == "" and type(None) in get_args(field.hint):
        return None
    return {"true": True, "false": False}.get(value.lower(), value) if kind_of(field.hint) is bool else value


def _from_json(name: str, text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        raise InputError(f"{name} is no JSON: expected a list of shots as JSON has it", field=name) from None


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as groups in each other."""
    data: dict[str, Any] = {}
    for name, value in fields.items():
        put(data, name, value)
    return data


def put(data: dict[str, Any], name: str, value: Any) -> None:
    """Set what a dotted name stands for; a number in it is a place in a list that is there."""
    *groups, leaf = name.split(".")
    place: Any = data
    for group in groups:
        place = place[int(group)] if group.isdecimal() else place.setdefault(group, {})
    place[leaf] = value


def make_request(fields: Mapping[str, Any], files: Mapping[str, Path | str]) -> Request:
    """The request, with the paths of its files.

    Raises:
        InputError: a field has a value that it cannot have.
    """
    if "audio" not in files:
        raise InputError("there is no sound: send one as `audio`, or name an upload by its id", field="audio")
    return Request(**_with_files(nested(fields), files))


def public_fields(request: Request) -> dict[str, Any]:
    """The fields of a request that a client sets, in groups; those that are not as by default."""
    data, plain = to_data(request), to_data(Request(audio=request.audio))
    changed: dict[str, Any] = {}
    if request.shots:
        plain_shot = to_data(ShotRequest())
        changed[SHOTS] = [
            {name: shot[name] for name in SHOT_FIELDS if shot[name] != plain_shot[name]} for shot in data[SHOTS]
        ]
    for name in FIELDS:
        value, default = (reduce(lambda inner, key: inner[key], name.split("."), tree) for tree in (data, plain))
        if value != default:
            changed[name] = value
    return nested(changed)


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


def request_of(job: Job, files: Mapping[str, Path], settings: Settings, worker: WorkerSpec) -> Request:
    """What a worker is to render: the job's fields, the paths of its files, and what is the server's to say."""
    return _placed(job, files, settings, worker, settings.job_folder(job.id) / "video.mp4")


def _placed(
    job: Job | NewJob, files: Mapping[str, Path], settings: Settings, worker: WorkerSpec, output: Path
) -> Request:
    catalogue = settings.catalogue
    model = catalogue.model(job.model)
    base = Request(**_with_files(job.fields, files))
    compute: dict[str, Any] = {"loras": [catalogue.lora(lora) for lora in job.names.get("loras", ())]}
    if model.folder is not None:
        compute["models"] = str(model.folder)
    server: dict[str, Any] = {"headers": settings.headers}
    if "workflow" in job.names:
        server["workflow"] = str(catalogue.workflow(job.names["workflow"]))
    request = base.replace(
        engine=job.engine,
        compute=_replaced(base.compute, compute),
        server=_replaced(base.server, server),
        output=_replaced(base.output, {"path": str(output), "preview": True}),
    )
    return placed(request, worker)


def placed(request: Request, worker: WorkerSpec) -> Request:
    """The same on a worker's own devices, or on its server."""
    first, *more = worker.devices or ("auto",)
    gpus = ",".join(device.partition(":")[2] for device in worker.devices) if more else None
    server = {} if worker.url is None else {"urls": (worker.url,)}
    return request.replace(
        compute=_replaced(request.compute, {"device": first, "memory": worker.memory, "gpus": gpus}),
        server=_replaced(request.server, server),
    )


def plan_request(new: NewJob, files: Mapping[str, Path], settings: Settings) -> Request:
    """What a worker would be asked to render; nothing is written for it."""
    workers = [spec for spec in settings.workers if spec.engine == new.engine]
    return _placed(new, files, settings, workers[0], settings.data / "plan.mp4")


def _replaced(group: Any, values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**{name: getattr(group, name) for name in group.__dataclass_fields__}, **values}


def _with_files(fields: Mapping[str, Any], files: Mapping[str, Path | str]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(fields))
    for name, path in files.items():
        put(data, name, str(path))
    return data
