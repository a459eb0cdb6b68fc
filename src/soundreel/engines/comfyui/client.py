"""Client of a ComfyUI server's HTTP interface, with soundreel's errors.

Known to work from ComfyUI 0.3.64 on. Unknown keys in answers are ignored. No request is retried, except that a download
continues where the connection was lost.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from soundreel.disk.durable import rename_durably, reporting
from soundreel.errors import EngineError, InputError
from soundreel.fields import without_password
from soundreel.request import Server

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 60.0
"""Read timeout: a server that is loading a model answers late."""

DEFAULT_UPLOAD_BYTES: Final = 100 * 2**20
"""Largest request of a server that does not state its limit."""

DOWNLOAD_TRIES: Final = 5
"""Number of consecutive attempts at a download that may fail without receiving a byte."""

HOW_TO_START: Final = "start it with `python main.py` in its folder, or name another with --url"

Graph = dict[str, dict[str, Any]]
"""A workflow in ComfyUI's API format: node id → {"class_type", "inputs", "_meta"}."""

OnBytes = Callable[[int, int], None]
"""Called with the number of bytes received and their total."""


class UnreachableError(EngineError):
    """The server does not answer, or a gateway answers for it; a later attempt may succeed."""


class BusyError(UnreachableError):
    """The server accepted the request, but has not answered in time."""


class FileGoneError(EngineError):
    """The server names a file that it no longer has."""


class State(StrEnum):
    """State of a prompt."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"  # in the history: finished, failed or interrupted
    ABSENT = "absent"  # neither in the queue nor in the history


@dataclass(frozen=True, kw_only=True)
class PromptStatus:
    """State of a prompt and, when it is done, its entry in the history."""

    state: State
    before: int = 0  # number of prompts that run first
    entry: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ServerFile:
    """A file on the server, as a prompt's outputs name it."""

    filename: str
    subfolder: str
    type: str


class Client:
    """HTTP client of one server. A context manager that keeps its connections open.

    Raises (from every method):
        UnreachableError: no answer, or an answer of a gateway.
        EngineError: an answer that is not a ComfyUI server's.
    """

    def __init__(self, url: str, server: Server) -> None:
        self.url = url.rstrip("/")
        self.shown_url = without_password(self.url)
        self.headers = dict(_header(header) for header in server.headers)
        self._http = httpx.Client(
            base_url=self.url + "/",
            headers=self.headers,
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def version(self) -> str:
        """ComfyUI's version, such as "0.33.0". Raises `EngineError` where another service answers."""
        answer = self._get_json("system_stats")
        system = answer.get("system") if isinstance(answer, dict) else None
        if not isinstance(system, dict) or "comfyui_version" not in system:
            raise EngineError(f"{self.shown_url} answers, but is no ComfyUI server (or one older than 0.3.64)")
        return str(system["comfyui_version"])

    def node(self, class_type: str) -> dict[str, Any] | None:
        """The server's /object_info of a node class; None where it has no such class."""
        answer: dict[str, Any] = self._get_json(f"object_info/{class_type}")
        return answer.get(class_type)

    def max_upload_bytes(self) -> int:
        """Size of the largest file that the server accepts."""
        response = self._send("GET", "features", allowed=(404,))
        features = response.json() if response.status_code == httpx.codes.OK else {}
        return int(features.get("max_upload_size", DEFAULT_UPLOAD_BYTES))

    def upload(self, name: str, content: bytes) -> str:
        """Put a file into the server's input folder; returns its name as nodes take it."""
        response = self._send("POST", "upload/image", files={"image": (name, content)}, allowed=(413,))
        if response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            raise InputError(f"{self.shown_url} refuses {name} ({len(content) / 1e6:.1f} MB) as too large")
        answer = response.json()
        return f"{answer['subfolder']}/{answer['name']}" if answer.get("subfolder") else str(answer["name"])

    def queue_prompt(self, graph: Graph, *, prompt_id: str, client_id: str, preview: bool) -> None:
        """Put a graph into the queue. Raises `EngineError` with the server's reasons where it refuses the graph."""
        extra = {"preview_method": "latent2rgb"} if preview else {}
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id, "extra_data": extra}
        response = self._send("POST", "prompt", json=body, allowed=(400,))
        answer = response.json()
        faults = describe_faults(answer)
        if response.status_code == httpx.codes.BAD_REQUEST or answer.get("node_errors"):
            self.cancel(prompt_id)  # with status 200 and node_errors, the valid part of the graph is in the queue
            raise EngineError(f"{self.shown_url} does not take the graph: {faults}")

    def status(self, prompt_id: str) -> PromptStatus:
        """State of a prompt. The history is read after the queue, since a prompt moves from the queue into it."""
        queue = self._get_json("queue")
        if any(item[1] == prompt_id for item in queue["queue_running"]):
            return PromptStatus(state=State.RUNNING)
        pending = sorted(queue["queue_pending"], key=lambda item: item[0])  # by number, smallest first
        place = next((place for place, item in enumerate(pending) if item[1] == prompt_id), None)
        if place is not None:
            return PromptStatus(state=State.PENDING, before=place + len(queue["queue_running"]))
        entry = self._get_json(f"history/{prompt_id}").get(prompt_id)
        return PromptStatus(state=State.ABSENT if entry is None else State.DONE, entry=entry)

    def queue_length(self) -> int:
        """Number of prompts that run or wait."""
        queue = self._get_json("queue")
        return len(queue["queue_running"]) + len(queue["queue_pending"])

    def cancel(self, prompt_id: str) -> None:
        """Remove a prompt from the queue, or interrupt it if it runs; other prompts are not affected."""
        self._send("POST", "queue", json={"delete": [prompt_id]})
        self._send("POST", "interrupt", json={"prompt_id": prompt_id})

    def download(self, file: ServerFile, path: Path, on_bytes: OnBytes) -> None:
        """Download a file to `path`, which appears only when complete; what an earlier attempt received is kept.

        Raises:
            FileGoneError: the server no longer has it.
            UnreachableError: the connection is lost `DOWNLOAD_TRIES` times in a row.
        """
        part = path.with_name(path.name + ".part")
        fruitless = 0
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                with reporting(path):
                    self._download_rest(file, part, on_bytes)
            except UnreachableError:
                gained = part.exists() and part.stat().st_size > before
                fruitless = 0 if gained else fruitless + 1
                if fruitless >= DOWNLOAD_TRIES:
                    raise
                time.sleep(min(2.0, 0.1 * 2**fruitless))
            else:
                with reporting(path):
                    rename_durably(part, path)
                return

    def _download_rest(self, file: ServerFile, part: Path, on_bytes: OnBytes) -> None:
        have = part.stat().st_size if part.exists() else 0
        query = {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
        wanted = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"}
        with self._reporting(), self._http.stream("GET", "view", params=query, headers=wanted) as response:
            if response.status_code == httpx.codes.NOT_FOUND:
                raise FileGoneError(f"{self.shown_url} no longer has {file.filename}")
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                _check_whole(part, response)
                return
            self._check(response)
            resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            total = (have if resumed else 0) + int(response.headers.get("Content-Length", 0))
            done = have if resumed else 0
            with part.open("ab" if resumed else "wb") as out:
                for block in response.iter_bytes():
                    out.write(block)
                    done += len(block)
                    on_bytes(done, total)
            if done < total:
                raise UnreachableError(f"{self.shown_url} sent {done} of the {total} bytes of {file.filename}")

    def _get_json(self, path: str) -> Any:
        return self._json(self._send("GET", path))

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError:
            raise EngineError(
                f"{self.shown_url} answers, but is no ComfyUI server: {response.url.path} gives no JSON"
            ) from None

    def _send(self, method: str, path: str, *, allowed: tuple[int, ...] = (), **content: Any) -> httpx.Response:
        with self._reporting():
            response = self._http.request(method, path, **content)
            if response.status_code not in allowed:
                self._check(response)
            return response

    def _check(self, response: httpx.Response) -> None:
        """Raise the error for an answer that is no success."""
        code = response.status_code
        if response.is_success:
            return
        if code in (401, 403, 407):
            raise EngineError(
                f"{self.shown_url} wants to know who you are ({code}): give --header 'Authorization: …' or what it asks"
            )
        if response.is_redirect:
            raise EngineError(f"{self.shown_url} points to {response.headers.get('Location')}: give that as --url")
        if code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise UnreachableError(f"{self.shown_url} answers {code} to {response.url.path}")
        raise EngineError(f"{self.shown_url} answers {code} to {response.url.path}: is it a ComfyUI server?")

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Connection errors in the `with` block become `UnreachableError`."""
        try:
            yield
        except httpx.ConnectError as error:
            raise UnreachableError(
                f"no ComfyUI server answers at {self.shown_url} ({_in_words(error)}): {HOW_TO_START}"
            ) from error
        except httpx.ReadTimeout as error:
            raise BusyError(f"{self.shown_url} has not answered for {ANSWER_SECONDS:.0f} s") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise UnreachableError(f"the connection to {self.shown_url} failed: {_in_words(error)}") from error


def describe_faults(answer: Mapping[str, Any]) -> str:
    """A server's reasons for refusing a graph in one line: node, message and details."""
    found = [
        f"{node.get('class_type', node_id)}: {fault.get('message', '')} ({fault.get('details', '')})"
        for node_id, node in (answer.get("node_errors") or {}).items()
        for fault in node.get("errors", [])
    ]
    error = answer.get("error")
    if not found and isinstance(error, dict):
        found = [f"{error.get('message', error.get('type'))} {error.get('details') or ''}".strip()]
    return "; ".join(found) or str(error or "no reason given")


def _header(header: str) -> tuple[str, str]:
    name, _, value = header.partition(":")
    return name.strip(), value.strip()


def _check_whole(part: Path, response: httpx.Response) -> None:
    """After status 416: accept `part` if it has the SIZE of `Content-Range: bytes */SIZE`, else remove it and raise."""
    size = response.headers.get("Content-Range", "").rpartition("/")[2]
    if not size.isdecimal() or int(size) != part.stat().st_size:
        part.unlink()
        raise UnreachableError(f"what was downloaded of {part.stem} does not belong to it")


def _in_words(error: Exception) -> str:
    """What an error says, without the number that systems have for it."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
