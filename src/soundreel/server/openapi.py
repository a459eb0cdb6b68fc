"""The OpenAPI document of the server: its paths here, its schemas beside it."""

from typing import Final

from soundreel.server.jobs import State
from soundreel.server.openapi_answers import answer_schemas
from soundreel.server.openapi_requests import form_schema, request_schema
from soundreel.server.schemas import COUNT, TEXT, Schema, closed, maybe, ref
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
        "paths": _paths(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
        },
    }


# paths


def _paths() -> Schema:
    video, file = _parameter("id", "Of a video."), _parameter("id", "Of a file.")
    job = {"200": _json("The job as it is now.", "Video")}
    page = [
        _query("limit", "So many at most.", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
        _query("after", "The last id of the page before.", {"type": "string"}),
        _query("order", "Newest or oldest first.", {"type": "string", "enum": ["desc", "asc"], "default": "desc"}),
        _query("state", "Only those in this state.", {"type": "string", "enum": list(map(str, State))}),
    ]
    return {
        "/healthz": {
            "get": _door("server", "Whether the server is there.", {"200": _json("It is.", "Health")}, is_public=True)
        },
        "/v1/status": {
            "get": _door("server", "Workers, jobs by state, limits.", {"200": _json("How it is.", "Status")})
        },
        "/v1/models": {"get": _door("server", "What requests may name.", {"200": _json("By their names.", "Models")})},
        "/v1/engines": {
            "get": _door(
                "server",
                "What can render here, and what is missing for the rest.",
                {"200": _json("All of them.", "Engines")},
            )
        },
        "/v1/demo": {
            "post": _door(
                "files",
                "The example song and its picture, as files.",
                {"200": _json("Both.", "Demo")},
                refused=("400", "422", "429", "503", "507"),
            )
        },
        "/v1/login": {
            "post": _door(
                "server",
                "Keep the token as a cookie, for a page.",
                {"200": _json("It is kept.", "Login")},
                body=_json_body("Token"),
                refused=("400", "401"),
                is_public=True,
            )
        },
        "/v1/videos": {
            "post": _door(
                "videos",
                "Ask for a video.",
                job,
                body=_request_body(),
                parameters=[_header("Idempotency-Key", "The same key and request give the same job, however often.")],
                refused=("400", "404", "409", "413", "415", "422", "429", "503", "507"),
            ),
            "get": _door(
                "videos",
                "Jobs, a page of them.",
                {"200": _json("A page.", "VideoList")},
                parameters=page,
                refused=("400", "404"),
            ),
        },
        "/v1/videos/{id}": {
            "parameters": [video],
            "get": _door("videos", "A job. One that has failed is answered with 200, too.", job, refused=("404",)),
            "delete": _door(
                "videos",
                "Stop a job if need be, and remove all of it.",
                {"200": _json("It is gone.", "Deleted")},
                refused=("404", "503"),
            ),
        },
        "/v1/videos/{id}/content": {
            "parameters": [video],
            "get": _door(
                "videos",
                "The video, or what there is of it while it renders; Range is heard.",
                {
                    "200": _bytes("All of it.", "video/mp4", "image/jpeg"),
                    "206": _bytes("The part asked for.", "video/mp4", "image/jpeg"),
                    "304": {"description": "It is as you have it."},
                },
                parameters=[
                    _query(
                        "variant",
                        "`partial`: what there is so far, playable; `thumbnail`: a small JPEG.",
                        {"type": "string", "enum": ["video", "partial", "thumbnail"], "default": "video"},
                    ),
                    _query("number", "Not read: a new one makes caches ask anew.", {"type": "integer"}),
                ],
                refused=("400", "404", "409", "416", "422"),
            ),
        },
        "/v1/videos/{id}/preview": {
            "parameters": [video],
            "get": _door(
                "videos",
                "The newest picture of what is rendered.",
                {
                    "200": _bytes("A JPEG.", "image/jpeg"),
                    "206": _bytes("A part of it.", "image/jpeg"),
                    "304": {"description": "It is as you have it."},
                },
                parameters=[_query("number", "Not read: a new one makes caches ask anew.", {"type": "integer"})],
                refused=("404", "416"),
            ),
        },
        "/v1/videos/{id}/recipe": {
            "parameters": [video],
            "get": _door(
                "videos",
                "The recipe in a finished video: all that it was made of.",
                {"200": _json("It.", "Recipe")},
                refused=("404", "409", "422"),
            ),
        },
        "/v1/videos/{id}/sheet": {
            "parameters": [video],
            "get": _door(
                "videos",
                "Small pictures of a finished video in a row.",
                {
                    "200": _bytes("A JPEG.", "image/jpeg"),
                    "206": _bytes("A part of it.", "image/jpeg"),
                    "304": {"description": "It is as you have it."},
                },
                refused=("404", "409", "416", "422"),
            ),
        },
        "/v1/videos/{id}/events": {
            "parameters": [video],
            "get": _door(
                "videos",
                "Server-sent events `video`, each a whole Video, until the job has ended.",
                {"200": _bytes("The stream.", "text/event-stream")},
                refused=("404",),
            ),
        },
        "/v1/videos/{id}/cancel": {
            "parameters": [video],
            "post": _door("videos", "Stop a job: within a step where it renders.", job, refused=("404", "409", "503")),
        },
        "/v1/videos/{id}/retry": {
            "parameters": [video],
            "post": _door(
                "videos", "Go on with a job that has failed or was cancelled.", job, refused=("404", "409", "503")
            ),
        },
        "/v1/videos/{id}/storyboard": {
            "parameters": [video],
            "get": _door(
                "shots",
                "The storyboard of a job.",
                {"200": _json("The storyboard.", "Storyboard")},
                refused=("400", "404", "422"),
            ),
        },
        "/v1/videos/{id}/shots/{name}/redo": {
            "parameters": [video, _parameter("name", "Of a shot, or of a section: all its shots.")],
            "post": _door(
                "shots",
                "A new job: the video with this shot drawn again, and what depends on it.",
                job,
                body=_json_body("Redo"),
                refused=("400", "404", "409", "413", "422", "429", "503", "507"),
            ),
        },
        "/v1/storyboards": {
            "post": _door(
                "shots",
                "The storyboard of a request; without shots one is proposed for its sound.",
                {"200": _json("The storyboard.", "Storyboard")},
                body=_json_body("Request"),
                refused=("400", "404", "413", "422"),
            )
        },
        "/v1/storyboards/read": {
            "post": _door(
                "shots",
                "A storyboard's text as a request for `POST /v1/videos`.",
                {"200": _json("The storyboard.", "Storyboard")},
                body=_json_body("StoryboardText"),
                refused=("400", "404", "413", "422"),
            )
        },
        "/v1/events": {
            "get": _door(
                "videos",
                "Server-sent events `video` and `deleted` of all jobs.",
                {"200": _bytes("The stream.", "text/event-stream")},
            ),
        },
        "/v1/plan": {
            "post": _door(
                "videos",
                "What a request would make and take; nothing is rendered.",
                {"200": _json("The plan.", "Plan")},
                body=_request_body(),
                refused=("400", "404", "413", "415", "422", "429", "507"),
            ),
        },
        "/v1/files": {
            "post": _door(
                "files",
                "Send a file, for any number of requests.",
                {"200": _json("It is kept.", "File")},
                body={"required": True, "content": {"multipart/form-data": {"schema": ref("Upload")}}},
                refused=("400", "413", "415", "422", "429", "503", "507"),
            ),
            "get": _door(
                "files",
                "The newest files.",
                {"200": _json("A page.", "FileList")},
                parameters=page[:1],
                refused=("400",),
            ),
        },
        "/v1/files/{id}": {
            "parameters": [file],
            "get": _door("files", "What is known of a file.", {"200": _json("It.", "File")}, refused=("404",)),
            "delete": _door(
                "files",
                "Remove a file that no job reads.",
                {"200": _json("It is gone.", "Deleted")},
                refused=("404", "409", "503"),
            ),
        },
        "/v1/files/{id}/content": {
            "parameters": [file],
            "get": _door(
                "files",
                "The file; Range is heard.",
                {
                    "200": _bytes("All of it.", "application/octet-stream"),
                    "206": _bytes("The part asked for.", "application/octet-stream"),
                    "304": {"description": "It is as you have it."},
                },
                refused=("404", "416"),
            ),
        },
        "/v1/files/{id}/picture": {
            "parameters": [file],
            "get": _door(
                "files",
                "A small JPEG of a picture.",
                {
                    "200": _bytes("A JPEG.", "image/jpeg"),
                    "206": _bytes("A part of it.", "image/jpeg"),
                    "304": {"description": "It is as you have it."},
                },
                refused=("404", "416", "422"),
            ),
        },
        "/v1/files/{id}/peaks": {
            "parameters": [file],
            "get": _door(
                "files", "The outline of a sound.", {"200": _json("It.", "Peaks")}, refused=("400", "404", "422")
            ),
        },
        "/v1/files/{id}/analysis": {
            "parameters": [file],
            "get": _door(
                "files",
                "Beats, sections, voice and outline of a song; the first time takes a while.",
                {"200": _json("What is heard.", "Analysis")},
                refused=("400", "404", "422"),
            ),
        },
    }


def _door(
    tag: str,
    summary: str,
    answers: Schema,
    *,
    body: Schema | None = None,
    parameters: list[Schema] | None = None,
    refused: tuple[str, ...] = (),
    is_public: bool = False,
) -> Schema:
    codes = sorted({*refused, "403", "421", *(() if is_public else ("401",))})
    errors = {code: _json(REFUSALS[code], "Error") for code in codes}
    for code in {"429", "503", "507"} & set(errors):
        errors[code]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return {
        "tags": [tag],
        "summary": summary,
        **({"security": []} if is_public else {}),
        **({} if parameters is None else {"parameters": parameters}),
        **({} if body is None else {"requestBody": body}),
        "responses": answers | errors,
    }


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


def _parameter(name: str, text: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string"}}


def _query(name: str, text: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _header(name: str, text: str) -> Schema:
    schema = {"type": "string", "minLength": 1, "maxLength": 255}
    return {"name": name, "in": "header", "description": text, "schema": schema}


def _json(text: str, schema: str) -> Schema:
    return {"description": text, "content": {"application/json": {"schema": ref(schema)}}}


def _json_body(schema: str) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": ref(schema)}}}


def _bytes(text: str, *kinds: str) -> Schema:
    return {
        "description": text,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in kinds},
    }


def _request_body() -> Schema:
    return {
        "required": True,
        "content": {
            "application/json": {"schema": ref("Request")},
            "multipart/form-data": {"schema": ref("Form")},
        },
    }


def _schemas() -> Schema:
    binary = {"type": "string", "format": "binary"}
    return {
        "Request": request_schema(),
        "Form": form_schema(),
        "Upload": closed({"file": binary, "purpose": TEXT | {"description": "Not read."}}, "file"),
        "Token": closed({"token": TEXT}, "token"),
        "Redo": closed({"seed": maybe(COUNT) | {"description": "Of the first clip; null: one that it has not had."}}),
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
