"""The OpenAPI document of the server: its paths and its schemas lie beside it."""

from soundreel.server.openapi_answers import answer_schemas
from soundreel.server.openapi_paths import paths
from soundreel.server.openapi_requests import SEED, form_schema, request_schema
from soundreel.server.schemas import TEXT, Schema, closed, maybe
from soundreel.version import __version__


def document() -> Schema:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "soundreel",
            "version": __version__,
            "summary": "Sound in, synchronized video out.",
            "description": (
                "Jobs have the shape of OpenAI's videos, files that of its files, so that its clients work here; what "
                "they lack is beside it. Errors are `{error: {code, message, field}}`."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "tags": [
            {"name": "videos", "description": "Jobs and the videos that come out."},
            {"name": "shots", "description": "Storyboards, and shots that are drawn again."},
            {"name": "files", "description": "Sounds, pictures and videos that jobs read."},
            {"name": "server", "description": "What it offers, and how it is."},
        ],
        "paths": paths(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
        },
    }


def _schemas() -> Schema:
    binary = {"type": "string", "format": "binary"}
    return {
        "Request": request_schema(),
        "Form": form_schema(),
        "Upload": closed({"file": binary, "purpose": TEXT | {"description": "Not read."}}, "file"),
        "Token": closed({"token": TEXT}, "token"),
        "Redo": closed({"seed": maybe(SEED) | {"description": "Of the first clip; null: one that it has not had."}}),
        "StoryboardText": closed(
            {
                "text": TEXT | {"description": "Of the file."},
                "format": {"type": "string", "enum": ["toml", "json"], "default": "toml"},
                "files": {
                    "type": "object",
                    "additionalProperties": TEXT,
                    "description": "Ids of files by the names that the storyboard uses: nothing else is opened.",
                },
            },
            "text",
        ),
        **answer_schemas(),
    }
