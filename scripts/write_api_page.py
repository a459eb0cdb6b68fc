"""Write docs/api.md from the OpenAPI document of the server: `make docs`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from soundreel.server.openapi import document

PAGE = Path(__file__).parents[1] / "docs" / "api.md"

OPENING = """# The API of the server

Made by `make docs` from the OpenAPI document that the server has at `/openapi.json`; how to run one is in
[serve.md](serve.md). Answers are JSON. An error is `{"error": {"code", "message", "field"}}`, with the HTTP status
beside each door below.
"""

REQUESTS = ("Request", "Form", "StoryboardText", "Redo")
ANSWERS = (
    "Video",
    "Live",
    "PlanSummary",
    "Plan",
    "Storyboard",
    "File",
    "Peaks",
    "Analysis",
    "Models",
    "Status",
    "Failure",
)


def page() -> str:
    """The whole page."""
    data = document()
    return "\n".join([OPENING, *_doors(data), *_schemas(data["components"]["schemas"])]).rstrip() + "\n"


def _doors(data: dict[str, Any]) -> Iterator[str]:
    for tag in data["tags"]:
        yield f"## {tag['name'].capitalize()}\n"
        yield f"{tag['description']}\n"
        yield "| door | what | body | answer | refused with |"
        yield "|---|---|---|---|---|"
        for path, methods in data["paths"].items():
            for method in ("get", "post", "delete"):
                door = methods.get(method)
                if door is not None and tag["name"] in door["tags"]:
                    yield _row(method, path, door)
        yield ""
        yield from _parameters(data, tag["name"])


def _row(method: str, path: str, door: dict[str, Any]) -> str:
    body = ", ".join(_kinds(door.get("requestBody", {})))
    answers = {code: one for code, one in door["responses"].items() if code < "400"}
    refused = ", ".join(code for code in door["responses"] if code >= "400")
    first = next(iter(answers.values()))
    return f"| `{method.upper()} {path}` | {door['summary']} | {body} | {', '.join(_kinds(first))} | {refused} |"


def _kinds(part: dict[str, Any]) -> Iterator[str]:
    for kind, content in part.get("content", {}).items():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        what = {"application/json": "JSON", "multipart/form-data": "form"}.get(kind, f"`{kind}`")
        yield f"{what} [{name}](#{name.lower()})" if name in (*REQUESTS, *ANSWERS) else what


def _parameters(data: dict[str, Any], tag: str) -> Iterator[str]:
    rows = [
        f"| `{one['name']}` | `{method.upper()} {path}` | {one['description']}{_choices(one['schema'])} |"
        for path, methods in data["paths"].items()
        for method, door in methods.items()
        if method != "parameters" and tag in door["tags"]
        for one in door.get("parameters", ())
    ]
    if rows:
        yield from ("| parameter | of | what |", "|---|---|---|", *rows, "")


def _schemas(schemas: dict[str, Any]) -> Iterator[str]:
    yield "## What is sent\n"
    for name in REQUESTS:
        yield from _schema(name, schemas[name])
    yield "## What is answered\n"
    for name in ANSWERS:
        yield from _schema(name, schemas[name])


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    if "description" in schema:
        yield f"{schema['description']}\n"
    yield "| field | type | what |"
    yield "|---|---|---|"
    yield from _fields(schema, "")
    yield ""


def _fields(schema: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, field in schema["properties"].items():
        if field.get("type") == "object" and "properties" in field and "description" not in field:
            yield from _fields(field, f"{prefix}{name}.")
            continue
        required = (
            " **(required)**"
            if name in schema.get("required", ()) and not schema.get("additionalProperties", True)
            else ""
        )
        default = f" Default `{_json(field['default'])}`." if field.get("default") not in (None, []) else ""
        text = f"{field.get('description', '')}{_choices(field)}{default}{required}".replace("|", "\\|").strip()
        yield f"| `{prefix}{name}` | {_type(field)} | {text} |"


def _choices(field: dict[str, Any]) -> str:
    kinds = [field, *field.get("anyOf", ())]
    found = next((kind["enum"] for kind in kinds if "enum" in kind), None)
    return "" if found is None else f" One of {', '.join(f'`{value}`' for value in found)}."


def _type(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(kind) for kind in field["anyOf"]))
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in field:
        return f"`{_json(field['const'])}`"
    if field.get("format") == "binary":
        return "file"
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    limits = [
        f"{word} {field[key]:g}"
        for key, word in LIMITS.items()
        if key in field and not (key == "minimum" and field[key] == 0)
    ]
    return ", ".join([{"null": "null"}.get(field["type"], field["type"]), *limits])


LIMITS = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "multipleOf": "a multiple of"}


def _json(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
