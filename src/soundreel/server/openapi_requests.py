"""The schemas of what is sent: they follow from the declarations of `Request`."""

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, get_args, get_origin

from soundreel.request.fields import Field, Seconds
from soundreel.request.presets import MOODS, PRESETS
from soundreel.server.names import (
    FIELDS,
    MOST_PRIORITY,
    MOST_SHOTS,
    OPENAI_NAMES,
    SHOT_FIELDS,
    SHOT_FILES,
    SHOTS,
    UPLOADED,
    WORDS,
    kind_of,
)
from soundreel.server.schemas import Schema, closed

SEED: Final[Schema] = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^-?\d+$"}]}

SCALARS: Final[Mapping[Any, str]] = {int: "integer", float: "number", bool: "boolean", str: "string"}


def request_schema() -> Schema:
    """A request as JSON: fields in their groups."""
    properties: Schema = {}
    for name, field in FIELDS.items():
        _place(properties, name)[field.leaf] = _field(field)
    for name, field in UPLOADED.items():
        _place(properties, name)[field.leaf] = {
            "description": f"{field.option.help}{_or_a_word(field)}: the id of a file.",
            "anyOf": [{"type": "string"}, closed({"file_id": {"type": "string"}}, "file_id")],
        }
    properties[SHOTS] = _shots()
    properties |= _words()
    return closed(properties, "audio") | {
        "description": 'Fields may stand in their groups, or by themselves: `{"steps": 4}`, `{"sampling.steps": 4}`.',
        "examples": [{"audio": "file_1f2e3d4c", "prompt": "neon rain", "size": "480x832", "seconds": 8}],
    }


def _shots() -> Schema:
    """The shots of a storyboard."""
    shot = {name: _field(field) for name, field in SHOT_FIELDS.items()}
    for name, field in SHOT_FILES.items():
        shot[name] = {"type": "string", "description": f"{field.option.help}{_or_a_word(field)}: the id of a file."}
    return {
        "type": "array",
        "maxItems": MOST_SHOTS,
        "items": closed(shot),
        "description": "The shots of a storyboard, in order; they replace cuts.",
    }


def _or_a_word(field: Field) -> str:
    """That it may be no file, where it may."""
    words = ", ".join(f"`{word}`" for word in field.option.words)
    return f" ({words} by name)" if words else ""


def _place(properties: Schema, name: str) -> Schema:
    group, dot, _ = name.rpartition(".")
    if not dot:
        return properties
    held: Schema = properties.setdefault(group, {"type": "object", "additionalProperties": False, "properties": {}})
    inner: Schema = held["properties"]
    return inner


def form_schema() -> Schema:
    """The same as a form: dotted names, and files as they are."""
    properties: Schema = {name: _field(field) for name, field in FIELDS.items()}
    for name, field in UPLOADED.items():
        says = f"{field.option.help}{_or_a_word(field)}: the file, or its id."
        binary = {"type": "string", "format": "binary", "description": says}
        properties[name] = binary
    properties[SHOTS] = {"type": "string", "description": "The shots of a storyboard, as JSON has them."}
    other = {ours: theirs for theirs, ours in OPENAI_NAMES.items()}
    for ours, theirs in other.items():
        properties[theirs] = {**properties[ours], "description": f"Another name of {ours}."}
    return closed(properties | _words(), "audio")


def _words() -> Schema:
    choices = {"preset": list(PRESETS), "mood": list(MOODS)}
    words: Schema = {
        name: {"type": "string", "description": f"{text}."} | ({"enum": choices[name]} if name in choices else {})
        for name, text in WORDS.items()
    }
    words["size"]["pattern"] = r"^\d+[x*×]\d+$"
    words["loras"] |= {"type": "array", "items": {"type": "string"}}
    words["priority"] |= {"type": "integer", "minimum": -MOST_PRIORITY, "maximum": MOST_PRIORITY, "default": 0}
    return words


def _field(field: Field) -> Schema:
    declared, default = field.option, field.default
    schema = SEED if field.leaf == "seed" else _typed(field)
    if type(None) in get_args(field.hint):
        schema = {"anyOf": [schema, {"type": "null"}]}
    text = f"{declared.help}." + (f" By default {declared.default_says}." if declared.default_says else "")
    if field.leaf == "seed":
        text += " As text it keeps its digits where numbers have 15, as in JavaScript."
    if default is not dataclasses.MISSING and default is not None:
        schema["default"] = list(default) if isinstance(default, tuple) else default
    return schema | {"description": text}


def _typed(field: Field) -> Schema:
    kind = kind_of(field.hint)
    if get_origin(kind) is tuple:
        inner, *more = get_args(kind)
        items = {"type": SCALARS[kind_of(inner)] if inner is not Seconds else "number", **_range(field)}
        if more and more[-1] is not Ellipsis:
            return {"type": "array", "items": items, "minItems": len(more) + 1, "maxItems": len(more) + 1}
        return {"type": "array", "items": items}
    if kind is Seconds or (get_origin(field.hint) is not None and Seconds in get_args(field.hint)):
        return {"type": "number", **_range(field)}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {"type": "string", "enum": [str(value) for value in kind]}
    if field.name in {"width", "height"}:
        return {"type": "integer", "minimum": 16, "maximum": 16384, "multipleOf": 16}
    return {"type": SCALARS[kind], **_range(field)}


def _range(field: Field) -> Schema:
    declared = field.option
    limits = {
        "minimum": declared.at_least,
        "exclusiveMinimum": declared.above,
        "maximum": declared.at_most,
        "multipleOf": declared.multiple_of,
    }
    return {name: limit for name, limit in limits.items() if limit is not None}
