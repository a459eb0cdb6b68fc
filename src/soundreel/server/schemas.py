"""Words of JSON Schema, for the OpenAPI document."""

from typing import Any, Final

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
NUMBER: Final[Schema] = {"type": "number"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
TRUTH: Final[Schema] = {"type": "boolean"}
TIME: Final[Schema] = {"type": "integer", "description": "Seconds since 1970."}


def ref(name: str) -> Schema:
    """One of the document's own schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(properties: Schema) -> Schema:
    """An object that has all of these, and may have more in later versions."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def closed(properties: Schema, *required: str) -> Schema:
    """An object that has some of these, and nothing else."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def maybe(schema: Schema) -> Schema:
    """The same, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def several(items: Schema) -> Schema:
    """A list of such."""
    return {"type": "array", "items": items}
