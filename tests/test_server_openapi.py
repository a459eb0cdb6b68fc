"""The OpenAPI document: it is one, it knows every field, the page follows from it, and the server keeps to it."""

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from command import REPO
from serving import SMALL_JOB, Server
from soundreel.request import Request
from soundreel.request.fields import fields_of
from soundreel.server.names import FIELDS, TEXTS, UPLOADED, kind_of
from soundreel.server.openapi import document


@pytest.fixture(autouse=True)
def nothing_goes_on() -> None:
    """In place of the fixture that ends all processes after each test: the server is for all of them."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("openapi") / "data") as running:
        yield running


def test_the_page_is_what_the_document_says() -> None:
    made = runpy.run_path(str(REPO / "scripts" / "write_api_page.py"))["page"]()
    assert (REPO / "docs" / "api.md").read_text(encoding="utf-8") == made, "make docs writes it"


def test_every_field_of_a_request_is_known_or_the_servers_own() -> None:
    """Whoever adds a field decides whether others may set it: one that says where something is may they never."""
    known = {field.name for field in fields_of(Request)}
    assert FIELDS.keys() | UPLOADED.keys() <= known
    properties = document()["components"]["schemas"]["Form"]["properties"]
    assert FIELDS.keys() | UPLOADED.keys() <= properties.keys()
    for field in fields_of(Request):
        declared = field.option
        if field.name in UPLOADED:
            continue
        is_free_text = kind_of(field.hint) in {str, tuple[str, ...]} and field.name not in TEXTS
        if is_free_text or declared.is_secret or declared.is_address or declared.is_of_machine or declared.is_written:
            assert field.name not in properties


def test_what_is_answered_is_as_the_document_says(server: Server, tune: Path, cover: Path) -> None:
    data = document()

    def holds(schema: str, path: str) -> Any:
        answer = server.client.get(path).json()
        jsonschema.validate(answer, {"$ref": f"#/components/schemas/{schema}", "components": data["components"]})
        return answer

    sound, picture = server.upload(tune), server.upload(cover)
    job = server.create(sound, ref_image=picture, **{"window.frames": 60})["id"]
    server.stored(job)
    holds("Video", f"/v1/videos/{job}")
    server.ended(job)
    holds("Video", f"/v1/videos/{job}")
    holds("VideoList", "/v1/videos")
    holds("File", f"/v1/files/{picture}")
    holds("FileList", "/v1/files")
    holds("Peaks", f"/v1/files/{sound}/peaks")
    holds("Analysis", f"/v1/files/{sound}/analysis")
    holds("Heard", f"/v1/files/{sound}/analysis/progress")
    holds("Models", "/v1/models")
    holds("Status", "/v1/status")
    holds("Health", "/healthz")
    holds("Error", "/v1/videos/none")
    plan = server.client.post("/v1/plan", json={"audio": sound, **SMALL_JOB}).json()
    jsonschema.validate(plan, {"$ref": "#/components/schemas/Plan", "components": data["components"]})


@pytest.fixture(scope="module")
def things(server: Server, tune: Path) -> dict[str, str]:
    """An upload and a finished job."""
    sound = server.upload(tune)
    return {"files": sound, "videos": server.ended(server.create(sound)["id"])["id"]}


schema = schemathesis.openapi.from_dict(document())


@schema.exclude(path_regex="events$").parametrize()
@settings(
    max_examples=4, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much, HealthCheck.too_slow],
)  # fmt: skip
def test_whatever_the_document_allows_is_answered_as_it_says(
    case: schemathesis.Case, server: Server, things: dict[str, str]
) -> None:
    """What is there is asked for half of the time; what is not, the other half."""
    kind = next((name for name in things if case.path.startswith(f"/v1/{name}/")), None)
    if kind is not None and case.method == "GET" and len(str(case.path_parameters["id"])) % 2:
        case.path_parameters["id"] = things[kind]
    if case.path == "/v1/plan" and isinstance(case.body, dict) and case.media_type == "application/json":
        case.body["audio"] = things["files"]
    answer = case.call(base_url=server.address)
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    case.validate_response(answer, checks=checks)
