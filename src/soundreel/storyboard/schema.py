"""The JSON schema of storyboards, for editors and programs: docs/storyboard.schema.json is what this gives."""

import os
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin

from soundreel.request.fields import Field, Seconds
from soundreel.storyboard.reading import DEFAULTS, OWN, WORDS

TIME: Final[dict[str, Any]] = {
    "description": 'Seconds, or a time as "1:23.5".',
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}],
}
START: Final[dict[str, Any]] = TIME | {"description": 'Seconds, "1:23.5", "bar 17" or "bar 17 beat 3".'}


def schema() -> dict[str, Any]:
    """What a storyboard may hold, as JSON and as the data of a TOML file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "soundreel storyboard",
        "description": "A song and its shots. A shot goes on until the next one begins.",
        "type": "object",
        "additionalProperties": False,
        "required": ["song", "shot"],
        "properties": {
            "song": {"type": "string", "description": "Any file with sound in it, as seen from the storyboard."},
            "song_sha256": {"type": "string", "description": "Of the song that the storyboard was made for."},
            "lyrics": {"type": "string", "description": "A .lrc or .srt file; else the one beside the song."},
            "defaults": _defaults(),
            "shot": {"type": "array", "minItems": 1, "items": _shot()},
        },
    }


def _defaults() -> dict[str, Any]:
    """Fields by themselves or in their groups."""
    properties: dict[str, Any] = {}
    for field in DEFAULTS.values():
        group, _, leaf = field.name.rpartition(".")
        said = _said(field)
        if group:
            table = properties.setdefault(group, {"type": "object", "additionalProperties": False, "properties": {}})
            table["properties"][leaf] = said
        else:
            properties[WORDS.get(leaf, leaf)] = said
    return {
        "description": "What is so for all shots that do not say otherwise: fields of soundreel.Request.",
        "type": "object",
        "properties": properties,
    }


def _shot() -> dict[str, Any]:
    own = {WORDS.get(field.name, field.name): _said(field) for field in OWN.values() if field.name != "start"}
    stop = TIME | {"description": "Only to be checked: where the next shot begins; of the last one the video's end."}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {"start": START, "stop": stop, **own},
    }


def _said(field: Field) -> dict[str, Any]:
    declared = field.option
    limits = {"minimum": declared.at_least, "exclusiveMinimum": declared.above, "maximum": declared.at_most,
              "multipleOf": declared.multiple_of}  # fmt: skip
    known = {name: value for name, value in limits.items() if value is not None}
    kind = _kind(field.hint)
    if kind.get("type") in {"number", "integer"}:
        kind |= known
    elif "items" in kind:
        kind["items"] |= known
    return {"description": f"{declared.help}.", **kind}


def _kind(hint: Any) -> dict[str, Any]:
    if get_origin(hint) in (Union, UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not NoneType]
        return {"type": "string"} if any(get_origin(kind) is os.PathLike for kind in kinds) else _kind(kinds[0])
    if get_origin(hint) is tuple:
        return {"type": "array", "items": _kind(get_args(hint)[0])}
    if hint == Seconds:
        return {"anyOf": list(TIME["anyOf"])}
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return {"enum": [str(value) for value in hint]}
    return {"type": {int: "integer", float: "number", bool: "boolean", str: "string"}[hint]}
