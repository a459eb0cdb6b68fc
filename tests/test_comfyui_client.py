"""Every route of a ComfyUI server with every answer that something in between may give: an error of ours, always."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from soundreel.engines.comfyui.answers import State
from soundreel.engines.comfyui.client import Client, ServerFile
from soundreel.engines.comfyui.failures import BusyError, FileGoneError, NoServerError, UnreachableError
from soundreel.errors import EngineError, InputError
from soundreel.request import Server

ID = "00e25986-0789-43e3-be97-1f1ceac78690"
FILE = ServerFile(filename="a_00001_.mp4", subfolder="soundreel", type="output")
VIDEO = b"twelve bytes"

Answer = Callable[[httpx.Request], httpx.Response]


def as_json(value: Any, status: int = 200) -> Answer:
    return lambda _: httpx.Response(status, json=value)


GOOD: dict[str, Answer] = {
    "GET /system_stats": as_json({"system": {"comfyui_version": "0.33.0"}}),
    "GET /object_info": as_json({"VAELoader": {"input": {"required": {"vae_name": [["a"], {}]}}, "output": ["VAE"]}}),
    "GET /features": as_json({"max_upload_size": 1234}),
    "POST /upload/image": as_json({"name": "a.wav", "subfolder": "", "type": "input"}),
    "POST /prompt": as_json({"prompt_id": ID, "number": 1, "node_errors": {}}),
    f"GET /api/jobs/{ID}": as_json({"error": "Job not found"}, 404),
    "GET /queue": as_json({"queue_running": [[1, ID, {}, {}, []]], "queue_pending": []}),
    f"GET /history/{ID}": as_json({ID: {"outputs": {}, "status": {}}}),
    f"POST /api/jobs/{ID}/cancel": as_json({"cancelled": True}),
    "POST /queue": lambda _: httpx.Response(200),
    "POST /interrupt": lambda _: httpx.Response(200),
    "GET /view": lambda _: httpx.Response(200, content=VIDEO, headers={"Content-Type": "video/mp4"}),
}

OLD: dict[str, Answer] = {route: lambda _: httpx.Response(404) for route in GOOD if "/api/jobs/" in route}
"""What version 0.3.64 answers."""


def slow(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("late", request=request)


def cut(request: httpx.Request) -> httpx.Response:
    raise httpx.RemoteProtocolError("peer closed connection", request=request)


ANSWERS: dict[str, Answer] = {
    "a page": lambda _: httpx.Response(200, html="<html>Sign in</html>"),
    "nothing": lambda _: httpx.Response(200),
    "null": lambda _: httpx.Response(200, content=b"null", headers={"Content-Type": "application/json"}),
    "a list": as_json([1, 2]),
    "an empty object": as_json({}),
    "no text": lambda _: httpx.Response(200, content=b"\xff\xfe\x00", headers={"Content-Type": "text/plain"}),
    "wrong types": as_json(
        {
            "system": 3,
            "max_upload_size": "big",
            "name": 7,
            "status": 5,
            "queue_running": {},
            "queue_pending": 1,
            "VAELoader": {"input": 5},
            ID: [1],
            "cancelled": "yes",
        }
    ),
    "wrong types within": as_json(
        {
            "system": {"comfyui_version": {}},
            "max_upload_size": -1,
            "name": None,
            "status": "completed",
            "queue_running": [[1]],
            "queue_pending": [["x", None]],
            "outputs": [1],
            "execution_status": None,
            "VAELoader": {"input": {"required": {"vae_name": 5}}},
            ID: "x",
            "cancelled": None,
        }
    ),
    "401": lambda _: httpx.Response(401, html="who?"),
    "404": lambda _: httpx.Response(404, html="no such page"),
    "408": lambda _: httpx.Response(408),
    "413": lambda _: httpx.Response(413, html="too large"),
    "429": lambda _: httpx.Response(429),
    "500": lambda _: httpx.Response(500, text="oh"),
    "502": lambda _: httpx.Response(502, html="Bad Gateway"),
    "slow": slow,
    "cut": cut,
}

ODD = ("a page", "nothing", "null", "a list", "an empty object", "no text", "wrong types", "wrong types within")


def client_of(answers: dict[str, Answer], *, is_known: bool = True) -> Client:
    def handle(request: httpx.Request) -> httpx.Response:
        return answers[f"{request.method} {request.url.path}"](request)

    return Client("http://gpu:8188", Server(), is_known=is_known, transport=httpx.MockTransport(handle))


CALLS: dict[str, Callable[[Client, Path], Any]] = {
    "GET /system_stats": lambda client, _: client.version(),
    "GET /object_info": lambda client, _: client.node_classes(),
    "GET /features": lambda client, _: client.max_upload_bytes(),
    "POST /upload/image": lambda client, _: client.upload("a.wav", b"abc"),
    "POST /prompt": lambda client, _: client.queue_prompt({}, prompt_id=ID, client_id="me", preview=False),
    f"GET /api/jobs/{ID}": lambda client, _: client.status(ID),
    "GET /queue": lambda client, _: client.status(ID),
    f"GET /history/{ID}": lambda client, _: client.status(ID),
    f"POST /api/jobs/{ID}/cancel": lambda client, _: client.cancel(ID),
    "POST /queue": lambda client, _: client.cancel(ID),
    "POST /interrupt": lambda client, _: client.cancel(ID),
    "GET /view": lambda client, folder: client.download_rest(FILE, folder / "a.mp4.part", lambda *_: None),
}
"""Route → the method that uses it."""

OPTIONAL = ("GET /features", f"GET /api/jobs/{ID}", f"POST /api/jobs/{ID}/cancel")
"""Routes that not all versions have."""

UNREAD = ("POST /queue", "POST /interrupt", *OPTIONAL)
"""Routes whose answer does not matter, as long as it is one."""

NONE_EXPECTED = {
    *((route, "404") for route in OPTIONAL),
    *((route, answer) for route in UNREAD for answer in ODD),
    (f"GET /history/{ID}", "an empty object"),  # of a prompt that is not there
    ("GET /view", "nothing"),  # a file without content is found out by who wants to show it
}

SPECIAL = {
    **{(route, "401"): EngineError for route in CALLS},
    **{(route, "413"): InputError for route in CALLS},
    **{(route, "slow"): BusyError for route in CALLS},
    ("GET /view", "404"): FileGoneError,
    ("GET /view", "413"): EngineError,
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("route", GOOD)
def test_any_answer_is_an_error_of_the_server_or_does_not_matter(route: str, answer: str, tmp_path: Path) -> None:
    needs_old = route in ("POST /queue", "POST /interrupt", "GET /queue", f"GET /history/{ID}")
    answers = {**GOOD, **(OLD if needs_old else {}), route: ANSWERS[answer]}
    if route == f"GET /history/{ID}":
        answers["GET /queue"] = as_json({"queue_running": [], "queue_pending": []})
    client = client_of(answers)
    if (route, answer) in NONE_EXPECTED:
        CALLS[route](client, tmp_path)
        return
    error = SPECIAL.get((route, answer), UnreachableError)
    with pytest.raises(error) as caught:
        CALLS[route](client, tmp_path)
    assert isinstance(caught.value, UnreachableError) is issubclass(error, UnreachableError), caught.value
    assert "\n" not in str(caught.value)
    assert "gpu:8188" in str(caught.value)


@pytest.mark.parametrize("route", GOOD)
def test_the_answers_of_a_server(route: str, tmp_path: Path) -> None:
    for answers in (GOOD, {**GOOD, **OLD}):
        CALLS[route](client_of(answers), tmp_path)


@pytest.mark.parametrize("answer", ODD)
def test_at_the_first_word_another_service_is_no_server(answer: str) -> None:
    with pytest.raises(EngineError, match="is no ComfyUI server") as caught:
        client_of({"GET /system_stats": ANSWERS[answer]}, is_known=False).version()
    assert not isinstance(caught.value, UnreachableError), "waiting does not help"


def test_a_server_that_was_known_good_stays_known() -> None:
    answers = dict(GOOD)
    client = client_of(answers, is_known=False)
    assert client.version() == "0.33.0"
    answers["GET /queue"] = ANSWERS["a page"]
    with pytest.raises(UnreachableError, match="something answers for http://gpu:8188"):
        client.queue_length()


def test_nobody_there() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[Errno 111] Connection refused", request=request)

    with pytest.raises(NoServerError, match=r"no ComfyUI server answers at http://gpu:8188 \(Connection refused\)"):
        client_of({"GET /system_stats": refuse}).version()


def test_too_large_says_upload_limit() -> None:
    client = client_of({"POST /upload/image": ANSWERS["413"], "POST /prompt": ANSWERS["413"]})
    with pytest.raises(InputError, match=r"a\.wav \(2\.0 MB\) is larger than the upload limit of http://gpu:8188"):
        client.upload("a.wav", bytes(2_000_000))
    with pytest.raises(InputError, match="the graph is larger than the upload limit"):
        client.queue_prompt({}, prompt_id=ID, client_id="me", preview=False)


class TestWhatTheServerHas:
    """Jobs, where the server has them; queue and history where not."""

    def test_a_job_is_one_request(self) -> None:
        entry = {"outputs": {"save": {}}, "execution_status": {"status_str": "success"}}
        done = client_of({f"GET /api/jobs/{ID}": as_json({"id": ID, "status": "completed", **entry})}).status(ID)
        assert done.state is State.DONE
        assert done.entry == {"outputs": {"save": {}}, "status": {"status_str": "success"}}

    @pytest.mark.parametrize(("status", "state"), [("in_progress", State.RUNNING), ("failed", State.DONE)])
    def test_states_of_jobs(self, status: str, state: State) -> None:
        answer = {"status": status, "outputs": {}, "execution_status": {}}
        assert client_of({f"GET /api/jobs/{ID}": as_json(answer)}).status(ID).state is state

    def test_the_place_of_a_pending_one_is_in_the_queue(self) -> None:
        rows = [[[3, "c", {}], [1, "a", {}], [2, ID, {}]], [[0, "running", {}]]]
        answers = {
            f"GET /api/jobs/{ID}": as_json({"status": "pending"}),
            "GET /queue": as_json({"queue_pending": rows[0], "queue_running": rows[1]}),
        }
        status = client_of(answers).status(ID)
        assert (status.state, status.before) == (State.PENDING, 2)

    def test_an_unknown_one(self) -> None:
        assert client_of({f"GET /api/jobs/{ID}": GOOD[f"GET /api/jobs/{ID}"]}).status(ID).state is State.ABSENT

    def test_a_version_without_jobs_is_asked_for_them_once(self) -> None:
        asked: list[str] = []

        def absent(request: httpx.Request) -> httpx.Response:
            asked.append(request.url.path)
            return httpx.Response(404)

        client = client_of({**GOOD, f"GET /api/jobs/{ID}": absent})
        assert [client.status(ID).state for _ in range(3)] == [State.RUNNING] * 3
        assert len(asked) == 1

    def test_a_page_in_place_of_a_job_is_asked_around(self) -> None:
        client = client_of({**GOOD, f"GET /api/jobs/{ID}": ANSWERS["a page"]})
        assert client.status(ID).state is State.RUNNING

    @pytest.mark.parametrize("has_jobs", [True, False])
    def test_cancelling_is_one_request_where_it_can_be(self, has_jobs: bool) -> None:
        sent: list[tuple[str, Any]] = []

        def note(request: httpx.Request) -> httpx.Response:
            sent.append((request.url.path, json.loads(request.content)))
            return httpx.Response(200)

        answers = {**GOOD, **({} if has_jobs else OLD), "POST /queue": note, "POST /interrupt": note}
        client_of(answers).cancel(ID)
        assert sent == ([] if has_jobs else [("/queue", {"delete": [ID]}), ("/interrupt", {"prompt_id": ID})])


def test_a_token_in_the_url_goes_with_every_request(tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(dict(request.url.params))
        return GOOD[f"{request.method} {request.url.path.removeprefix('/comfy')}"](request)

    client = Client(
        "https://me:hush@gpu/comfy/?token=a%20b&x=", Server(), is_known=True, transport=httpx.MockTransport(handle)
    )
    for route in GOOD:
        CALLS[route](client, tmp_path)
    assert all(params.items() >= {"token": "a b", "x": ""}.items() for params in seen)
    assert any(params.get("filename") == FILE.filename for params in seen)
    assert client.shown_url == "https://gpu/comfy"
