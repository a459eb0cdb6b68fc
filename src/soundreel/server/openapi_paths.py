"""The paths of the OpenAPI document: every door that `api.py` opens."""

from typing import Final

from soundreel.server.jobs import State
from soundreel.server.openapi_doors import (
    body,
    door,
    good,
    in_header,
    in_path,
    in_query,
    picture,
    stream,
    whole_or_part,
)
from soundreel.server.schemas import Schema

VIDEO: Final = in_path("id", "Of a video.")
FILE: Final = in_path("id", "Of a file.")
LIMIT: Final = in_query("limit", "So many at most.", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20})
FIRST: Final = in_query(
    "first",
    "From this pair on, as soon as there is one: `is_whole` tells whether these are all. Without it the answer comes "
    "when all are there.",
    {"type": "integer", "minimum": 0, "maximum": 1_000_000},
)
AFTER_SECONDS: Final = in_query(
    "after",
    "The answer comes once more than so many seconds have been listened to, or all.",
    {"type": "integer", "minimum": 0, "maximum": 1_000_000},
)
NUMBER: Final = in_query("number", "Not read: a new one makes caches ask anew.", {"type": "integer"})

JOB: Final = good("The job as it is now.", "Video")
BOARD: Final = good("The storyboard.", "Storyboard")
GONE: Final = good("It is gone.", "Deleted")


def paths() -> Schema:
    """All of them, by path and method."""
    return _of_the_server() | _of_jobs() | _of_one_job() | _of_shots() | _of_files()


def _of_the_server() -> Schema:
    return {
        "/healthz": {"get": door("server", "Whether the server is there.", good("It is.", "Health"), is_public=True)},
        "/v1/status": {"get": door("server", "Workers, jobs by state, limits.", good("How it is.", "Status"))},
        "/v1/models": {"get": door("server", "What requests may name.", good("By their names.", "Models"))},
        "/v1/engines": {
            "get": door(
                "server", "What can render here, and what is missing for the rest.", good("All of them.", "Engines")
            )
        },
        "/v1/login": {
            "post": door(
                "server",
                "Keep the token as a cookie, for a page.",
                good("It is kept.", "Login"),
                *("400", "401"),
                body=body(json="Token"),
                is_public=True,
            )
        },
    }


def _of_jobs() -> Schema:
    page = [
        LIMIT,
        in_query("after", "The last id of the page before.", {"type": "string"}),
        in_query("order", "Newest or oldest first.", {"type": "string", "enum": ["desc", "asc"], "default": "desc"}),
        in_query("state", "Only those in this state.", {"type": "string", "enum": list(map(str, State))}),
    ]
    return {
        "/v1/videos": {
            "post": door(
                "videos",
                "Ask for a video.",
                JOB,
                *("400", "404", "409", "413", "415", "422", "429", "503", "507"),
                body=body(json="Request", form="Form"),
                parameters=[in_header("Idempotency-Key", "The same key and request give the same job, however often.")],
            ),
            "get": door("videos", "Jobs, a page of them.", good("A page.", "VideoList"), "400", "404", parameters=page),
        },
        "/v1/events": {
            "get": door("videos", "Server-sent events `video` and `deleted` of all jobs.", stream("text/event-stream")),
        },
        "/v1/plan": {
            "post": door(
                "videos",
                "What a request would make and take; nothing is rendered.",
                good("The plan.", "Plan"),
                *("400", "404", "413", "415", "422", "429", "507"),
                body=body(json="Request", form="Form"),
            ),
        },
    }


def _of_one_job() -> Schema:
    variants = ["video", "partial", "thumbnail", "spritesheet"]
    return {
        "/v1/videos/{id}": {
            "parameters": [VIDEO],
            "get": door("videos", "A job. One that has failed is answered with 200, too.", JOB, "404"),
            "delete": door("videos", "Stop a job if need be, and remove all of it.", GONE, "404", "503"),
        },
        "/v1/videos/{id}/content": {
            "parameters": [VIDEO],
            "get": door(
                "videos",
                "The video, or what there is of it while it renders; Range is heard.",
                whole_or_part("video/mp4", "image/jpeg"),
                *("400", "404", "409", "416", "422"),
                parameters=[
                    in_query(
                        "variant",
                        "`partial`: what there is so far, playable; `thumbnail`: its first picture, a small JPEG; "
                        "`spritesheet`: pictures from its beginning to its end in a row, a JPEG.",
                        {"type": "string", "enum": variants, "default": "video"},
                    ),
                    NUMBER,
                ],
            ),
        },
        "/v1/videos/{id}/preview": {
            "parameters": [VIDEO],
            "get": door(
                "videos",
                "The newest picture of what is rendered.",
                picture(),
                *("404", "416"),
                parameters=[NUMBER],
            ),
        },
        "/v1/videos/{id}/recipe": {
            "parameters": [VIDEO],
            "get": door(
                "videos",
                "The recipe in a finished video: all that it was made of.",
                good("It.", "Recipe"),
                *("404", "409", "422"),
            ),
        },
        "/v1/videos/{id}/sheet": {
            "parameters": [VIDEO],
            "get": door(
                "videos", "Small pictures of a finished video in a row.", picture(), "404", "409", "416", "422"
            ),
        },
        "/v1/videos/{id}/events": {
            "parameters": [VIDEO],
            "get": door(
                "videos",
                "Server-sent events `video`, each a whole Video, until the job has ended.",
                stream("text/event-stream"),
                "404",
            ),
        },
        "/v1/videos/{id}/cancel": {
            "parameters": [VIDEO],
            "post": door("videos", "Stop a job: within a step where it renders.", JOB, "404", "409", "503"),
        },
        "/v1/videos/{id}/retry": {
            "parameters": [VIDEO],
            "post": door("videos", "Go on with a job that has failed or was cancelled.", JOB, "404", "409", "503"),
        },
    }


def _of_shots() -> Schema:
    return {
        "/v1/videos/{id}/storyboard": {
            "parameters": [VIDEO],
            "get": door("shots", "The storyboard of a job.", BOARD, "400", "404", "422"),
        },
        "/v1/videos/{id}/shots/{name}/redo": {
            "parameters": [VIDEO, in_path("name", "Of a shot, or of a section: all its shots.")],
            "post": door(
                "shots",
                "A new job: the video with this shot drawn again, and what depends on it.",
                JOB,
                *("400", "404", "409", "413", "422", "429", "503", "507"),
                body=body(json="Redo"),
            ),
        },
        "/v1/storyboards": {
            "post": door(
                "shots",
                "The storyboard of a request; without shots one is proposed for its sound.",
                BOARD,
                *("400", "404", "413", "422"),
                body=body(json="Request"),
            )
        },
        "/v1/storyboards/read": {
            "post": door(
                "shots",
                "A storyboard's text as a request for `POST /v1/videos`.",
                BOARD,
                *("400", "404", "413", "422"),
                body=body(json="StoryboardText"),
            )
        },
    }


def _of_files() -> Schema:
    return {
        "/v1/demo": {
            "post": door(
                "files",
                "The example song and its picture, as files.",
                good("Both.", "Demo"),
                *("400", "422", "429", "503", "507"),
            )
        },
        "/v1/files": {
            "post": door(
                "files",
                "Send a file, for any number of requests.",
                good("It is kept.", "File"),
                *("400", "413", "415", "422", "429", "503", "507"),
                body=body(form="Upload"),
            ),
            "get": door("files", "The newest files.", good("A page.", "FileList"), "400", parameters=[LIMIT]),
        },
        "/v1/files/{id}": {
            "parameters": [FILE],
            "get": door("files", "What is known of a file.", good("It.", "File"), "404"),
            "delete": door("files", "Remove a file that no job reads.", GONE, "404", "409", "503"),
        },
        "/v1/files/{id}/content": {
            "parameters": [FILE],
            "get": door("files", "The file; Range is heard.", whole_or_part("application/octet-stream"), "404", "416"),
        },
        "/v1/files/{id}/picture": {
            "parameters": [FILE],
            "get": door("files", "A small JPEG of a picture.", picture(), "404", "416", "422"),
        },
        "/v1/files/{id}/peaks": {
            "parameters": [FILE],
            "get": door(
                "files",
                "The outline of a sound.",
                good("It, or what there is of it.", "Peaks"),
                "400",
                "404",
                "422",
                parameters=[FIRST],
            ),
        },
        "/v1/files/{id}/analysis": {
            "parameters": [FILE],
            "get": door(
                "files",
                "Beats, sections, voice and outline of a song; the first time takes a while.",
                good("What is heard.", "Analysis"),
                *("400", "404", "422"),
            ),
        },
        "/v1/files/{id}/analysis/progress": {
            "parameters": [FILE],
            "get": door(
                "files",
                "How much of a song has been listened to for its analysis, which begins if it has not.",
                good("So much.", "Heard"),
                *("400", "404", "422"),
                parameters=[AFTER_SECONDS],
            ),
        },
    }
