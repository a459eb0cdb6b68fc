"""A door of the API, a method of a path, as the OpenAPI document tells of it."""

from typing import Final

from soundreel.server.schemas import Schema, ref

REFUSALS: Final = {
    "400": "The request is wrong: `error.field` says where.",
    "401": "The token is missing, or another.",
    "403": "A page of another site has sent it.",
    "404": "There is no such thing.",
    "409": "Not in the state that it is in.",
    "413": "It is too large.",
    "415": "Neither JSON nor a form.",
    "416": "No such part of the content.",
    "421": "The server is not asked by that name.",
    "422": "A file cannot be read, or this machine cannot render it.",
    "429": "A limit is reached: come back later.",
    "503": "The queue cannot be written at the moment.",
    "507": "The disk is full.",
}
"""What each status means."""

PASSING: Final = frozenset({"429", "503", "507"})
"""What may pass: these answers say after how long to ask again."""


def door(
    tag: str,
    summary: str,
    answers: Schema,
    *refused: str,
    body: Schema | None = None,
    parameters: list[Schema] | None = None,
    is_public: bool = False,
) -> Schema:
    """An operation: its answers by status, and the statuses by which it refuses, beside those that all doors have."""
    codes = sorted({*refused, "403", "421", *(() if is_public else ("401",))})
    return {
        "tags": [tag],
        "summary": summary,
        **({"security": []} if is_public else {}),
        **({} if parameters is None else {"parameters": parameters}),
        **({} if body is None else {"requestBody": body}),
        "responses": answers | {code: _refusal(code) for code in codes},
    }


def _refusal(code: str) -> Schema:
    after = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return _json(REFUSALS[code], "Error") | ({"headers": after} if code in PASSING else {})


def _json(text: str, schema: str) -> Schema:
    return {"description": text, "content": {"application/json": {"schema": ref(schema)}}}


# answers, by status


def good(text: str, schema: str) -> Schema:
    """JSON."""
    return {"200": _json(text, schema)}


def stream(*kinds: str, text: str = "The stream.") -> Schema:
    """Bytes of one of the media types."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds}
    return {"200": {"description": text, "content": content}}


def whole_or_part(*kinds: str, text: str = "All of it.") -> Schema:
    """Bytes that may be asked for by Range, and kept."""
    return {
        **stream(*kinds, text=text),
        "206": stream(*kinds, text="The part asked for.")["200"],
        "304": {"description": "It is as you have it."},
    }


def picture() -> Schema:
    """A JPEG."""
    return whole_or_part("image/jpeg", text="A JPEG.")


# what comes with a request


def in_path(name: str, text: str) -> Schema:
    """A part of the path."""
    return {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string"}}


def in_query(name: str, text: str, schema: Schema) -> Schema:
    """A parameter of the query, which may be left out."""
    return {"name": name, "in": "query", "description": text, "schema": schema}


def in_header(name: str, text: str) -> Schema:
    """A header, which may be left out."""
    schema = {"type": "string", "minLength": 1, "maxLength": 255}
    return {"name": name, "in": "header", "description": text, "schema": schema}


def body(**schemas: str) -> Schema:
    """A body of one of several media types: `json` or `form`, each with the name of its schema."""
    kinds = {"json": "application/json", "form": "multipart/form-data"}
    return {"required": True, "content": {kinds[kind]: {"schema": ref(schema)} for kind, schema in schemas.items()}}
