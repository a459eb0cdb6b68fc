"""From what is sent to a `Request`, and back."""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, get_args

from soundreel.disk.plain_json import parse_json
from soundreel.errors import InputError
from soundreel.request import FLAT_NAMES, Request, ShotRequest
from soundreel.request.fields import fields_of, to_data
from soundreel.request.presets import mood, preset
from soundreel.server.names import (
    FIELDS,
    GROUPS,
    MOST_SHOTS,
    SHOT_FIELDS,
    SHOT_FILES,
    SHOTS,
    UPLOADED,
    WORDS,
    is_word,
    kind_of,
    known_name,
    uploaded_field,
)


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
        own = {name: shot[name] for name in SHOT_FIELDS if name in shot}
        for name, field in SHOT_FILES.items():
            if is_word(field, value := shot.get(name)):
                own[name] = value
            elif value is not None:
                files[f"{SHOTS}.{number}.{name}"] = _file_id(f"{SHOTS}.{number}.{name}", value)
        shots.append(own)
    return shots


def _names_of(kind: type) -> set[str]:
    return {field.name for field in fields_of(kind)}


def _sorted(
    name: str, value: Any, fields: dict[str, Any], files: dict[str, str], words: dict[str, Any]
) -> tuple[dict[str, Any] | None, Any]:
    """Where a value belongs, and as what; nowhere: nothing has such a name."""
    if name == SHOTS:
        return fields, _read_shots(value, files)
    sent = uploaded_field(name)
    if sent is not None:
        return (fields, value) if is_word(sent, value) else (files, _file_id(name, value))
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
    for name in sorted(fields, key=lambda name: name.count(".")):
        put(data, name, fields[name])
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
    return Request(**with_files(nested(fields), files))


def _is_told(kind: type, name: str, value: Any) -> bool:
    """Whether a value is a client's own: no file, and nothing that only the server says."""
    fields, files = (FIELDS, UPLOADED) if kind is Request else (SHOT_FIELDS, SHOT_FILES)
    return name in fields or (name in files and is_word(files[name], value))


def public_fields(request: Request) -> dict[str, Any]:
    """The fields of a request that a client sets, in groups; those that are not as by default."""
    data, plain = to_data(request), to_data(Request(audio=request.audio))
    changed: dict[str, Any] = {}
    if request.shots:
        plain_shot = to_data(ShotRequest())
        changed[SHOTS] = [
            {
                name: value
                for name, value in shot.items()
                if value != plain_shot[name] and _is_told(ShotRequest, name, value)
            }
            for shot in data[SHOTS]
        ]
    for name in (*FIELDS, *UPLOADED):
        value, default = (reduce(lambda inner, key: inner[key], name.split("."), tree) for tree in (data, plain))
        if value != default and _is_told(Request, name, value):
            changed[name] = value
    return nested(changed)


def with_files(fields: Mapping[str, Any], files: Mapping[str, Path | str]) -> dict[str, Any]:
    """Fields in groups, with the paths of files in their places."""
    data: dict[str, Any] = json.loads(json.dumps(fields))
    for name, path in files.items():
        put(data, name, str(path))
    return data
