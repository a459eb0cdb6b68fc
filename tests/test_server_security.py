"""Who may ask a server, and what an answer or a file's name can do: checked without a process, at its doors."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command import run_here
from serving import refused
from soundreel.cli.commands.serve import read_token
from soundreel.errors import InputError
from soundreel.server.app import opened
from soundreel.server.errors import PathHider
from soundreel.server.security import host_name
from soundreel.server.settings import Catalogue, Limits, Model, Settings, WorkerSpec
from soundreel.server.uploads import safe_name

TOKEN = "a-token-of-many-letters"  # noqa: S105 - of these tests


def settings(data: Path, **changed: Any) -> Settings:
    usual: dict[str, Any] = {
        "data": data,
        "catalogue": Catalogue(models=(Model(name="draft", engine="draft"),)),
        "workers": (WorkerSpec(name="draft-1", engine="draft"),),
    }
    return Settings(**usual | changed)


class Doors:
    """The doors of a server without a socket, and without workers."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, method: str, path: str, **sent: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765") as client:
                return await client.request(method, path, **sent)

        return asyncio.run(ask())


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    with opened(settings(tmp_path / "data")) as server:
        yield Doors(server.app)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Doors]:
    with opened(settings(tmp_path / "data", host="0.0.0.0", token=TOKEN, allowed_hosts=("gpu1",))) as server:  # noqa: S104
        yield Doors(server.app)


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "LOCALHOST", "[::1]:8765", "192.168.1.7:80"])
def test_addresses_and_localhost_are_its_names(doors: Doors, host: str) -> None:
    assert doors("GET", "/v1/status", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "localhost.evil.example", "127.0.0.1.nip.io", ""]
)
def test_another_name_that_leads_here_is_refused(doors: Doors, host: str) -> None:
    for path in ("/v1/status", "/", "/healthz"):
        assert refused(doors("GET", path, headers={"Host": host}), 421)["code"] == "wrong_host"


def test_a_name_that_is_allowed_is_answered(guarded: Doors) -> None:
    assert guarded("GET", "/healthz", headers={"Host": "gpu1:8765"}).status_code == 200
    refused(guarded("GET", "/healthz", headers={"Host": "gpu2:8765"}), 421)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_a_page_of_another_site_may_not_ask(doors: Doors, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/v1/videos"), ("DELETE", "/v1/videos/x"), ("GET", "/v1/videos")):
        assert refused(doors(method, path, headers=headers), 403)["code"] == "cross_site"


def test_its_own_page_and_programs_may(doors: Doors) -> None:
    for headers in (
        {"Origin": "http://127.0.0.1:8765", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {},
    ):
        assert doors("GET", "/v1/videos", headers=headers).status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert doors("GET", "/", headers=link).status_code == 200


def test_without_the_token_nothing_is_told(guarded: Doors) -> None:
    for token in (
        "",
        "Bearer ",
        "Bearer wrong",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer é",
    ):
        answer = guarded("GET", "/v1/videos", headers={"Authorization": token.encode()})
        assert refused(answer, 401)["code"] == "unauthorized"
        assert answer.headers["www-authenticate"] == "Bearer"
    assert guarded("GET", "/v1/videos", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert guarded("GET", "/healthz").status_code == 200
    assert guarded("GET", "/openapi.json").status_code == 200


def test_a_browser_gets_in_by_a_cookie_that_no_script_reads(guarded: Doors) -> None:
    refused(guarded("POST", "/v1/login", json={"token": "wrong"}), 401)
    refused(guarded("POST", "/v1/login", json={}), 401)
    answer = guarded("POST", "/v1/login", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert guarded("GET", "/v1/videos", headers={"Cookie": cookie.partition(";")[0]}).status_code == 200


def test_others_reach_it_only_with_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run_here(capsys, "serve", "--host", "0.0.0.0", "--data", tmp_path / "data", "--engine", "draft")  # noqa: S104
    assert done.code == 2
    assert "give it a --token-file" in done.err
    assert not (tmp_path / "data").exists()


def test_a_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "new" / "token"
    token = read_token(place, make=True)
    assert len(token) > 30
    assert place.stat().st_mode & 0o077 == 0
    assert read_token(place, make=True) == token
    assert token not in capsys.readouterr().err
    for text in ("short", "with spaces in its many letters", "é" * 20, ""):
        place.write_text(text)
        with pytest.raises(InputError, match="the token in"):
            read_token(place)


def test_the_data_folder_is_its_owners_alone(doors: Doors, tmp_path: Path) -> None:
    del doors
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0
    assert (tmp_path / "data/uploads").stat().st_mode & 0o077 == 0


def test_limits_are_told_before_a_file_is_read(tmp_path: Path, tune: Path) -> None:
    with opened(settings(tmp_path / "data", limits=Limits(upload_bytes=1000, free_bytes=0))) as server:
        with tune.open("rb") as file:
            error = refused(Doors(server.app)("POST", "/v1/files", files={"file": file}), 413)
        assert (error["code"], error["field"]) == ("too_large", "file")
        assert list((tmp_path / "data/uploads").iterdir()) == []
    with opened(settings(tmp_path / "data", limits=Limits(free_bytes=10**18))) as server:
        answer = Doors(server.app)("POST", "/v1/files", files={"file": b"x"})
        assert "keeps" in refused(answer, 429)["message"]
        assert int(answer.headers["retry-after"]) > 0


# names and paths


@given(st.text())
def test_no_name_leads_out_of_its_folder(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert safe not in {".", ".."}
    assert not safe.startswith(".")
    assert not re.search(r"[/\\\x00-\x1f\x7f:*?<>|]", safe)
    assert len(safe) <= 90


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\songs\\a.mp3", "a.mp3"),
        (".bashrc", "bashrc"),
        ("a\x1b[2J.mp3", "a__2J.mp3"),
    ],
)
def test_names_that_would_do_harm(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_paths_are_taken_out_of_texts(tmp_path: Path) -> None:
    place = tmp_path / "a folder"
    hide = PathHider([place])
    assert (
        hide(f"cannot write 'x' in folder '{place}/jobs/video_1': full") == "cannot write 'x' in folder 'video_1': full"
    )
    assert hide("no such file: '/usr/share/models/wan.safetensors'") == "no such file: 'wan.safetensors'"
    assert hide(f"{place}") == "a folder"
    for text in ("16/9, 1/16 s, 4/4", "see https://host/a/b?c=d", "and/or", "3 of 5", "12 GB/s"):
        assert hide(text) == text


@pytest.mark.parametrize(
    ("host", "name"),
    [("a:1", "a"), ("[::1]:8765", "::1"), ("[::1]", "::1"), ("::1", "::1"), ("A.b", "a.b"), ("", "")],
)
def test_a_host_without_its_port(host: str, name: str) -> None:
    assert host_name(host) == name
