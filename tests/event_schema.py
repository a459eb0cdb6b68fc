"""The schema of the events of `--progress json`, and what events are by it."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import jsonschema

from command import REPO

SCHEMA: Final[dict[str, Any]] = json.loads((REPO / "docs" / "progress.schema.json").read_text(encoding="utf-8"))

OF_A_BATCH: Final = frozenset({"batch", "row", "standing", "remark", "end"})


def kinds_of(told: Iterable[Mapping[str, Any]]) -> set[str]:
    """The definitions in the schema that events are of; fails where one is not as the schema says."""
    events = list(told)
    for event in events:
        jsonschema.validate(event, SCHEMA)
    return {name for event in events for name in SCHEMA["$defs"] if "event" in kind(name) and _is_of(event, name)}


def kind(name: str) -> dict[str, Any]:
    """The fields of a definition in the schema."""
    properties: dict[str, Any] = SCHEMA["$defs"][name].get("properties", {})
    return properties


def _is_of(event: Mapping[str, Any], name: str) -> bool:
    """Whether an event is of that definition, and has no field that it does not name."""
    schema = {**SCHEMA["$defs"][name], "$defs": SCHEMA["$defs"]}
    return jsonschema.Draft202012Validator(schema).is_valid(event) and set(event) <= set(kind(name))
