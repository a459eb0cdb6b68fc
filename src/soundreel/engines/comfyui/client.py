"""Client of a ComfyUI server's HTTP interface, with soundreel's errors.

Known to work from ComfyUI 0.3.64 on. Each method makes its requests once; who calls it decides whether to make them
again. Once a server has shown that it is one, an answer that no ComfyUI gives comes from something in front of it.
"""

import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

import httpx

from soundreel.engines.comfyui import answers
from soundreel.engines.comfyui.answers import NodeClasses, PromptStatus, State
from soundreel.engines.comfyui.failures import BusyError, FileGoneError, NoServerError, UnreachableError
from soundreel.errors import EngineError, InputError
from soundreel.http_client import http_client
from soundreel.request import Server
from soundreel.request.fields import without_password

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 60.0
"""Read timeout: a server that is loading a model answers late."""

PARTING_SECONDS: Final = 3.0
"""The same for all that takes a prompt from a server."""

DEFAULT_UPLOAD_BYTES: Final = 100 * 2**20
"""Largest request of a server that does not state its limit."""

HOW_TO_START: Final = "start it with `python main.py` in its folder, or name another with --url"

PASSING_CODES: Final = frozenset({408, 425, 429})
"""Status codes, beside those from 500 on, after which the same request may succeed."""

Graph = dict[str, dict[str, Any]]
"""A workflow in ComfyUI's API format: node id → {"class_type", "inputs", "_meta"}."""

OnBytes = Callable[[int, int], None]
"""Called with the number of bytes received and their total, 0 where that is not known."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ServerFile:
    """A file on the server, as a prompt's outputs name it."""

    filename: str
    subfolder: str
    type: str


class Client:
    """HTTP client of one server. A context manager that keeps its connections open.

    Args:
        url: the server's; its query, such as `?token=…`, goes with every request.
        server: headers, and certificates to trust.
        is_known: whether it is certain that a ComfyUI server is there, as after `version`.
        transport: what carries requests, instead of the network.

    Raises (from every method):
        UnreachableError: no answer, or one that is not the server's.
        EngineError: the server is none, or wants to know who asks.
        InputError: a request is larger than the server takes.
    """

    def __init__(
        self, url: str, server: Server, *, is_known: bool = False, transport: httpx.BaseTransport | None = None
    ) -> None:
        parts = urlsplit(url)
        self.url = urlunsplit(parts._replace(path=parts.path.rstrip("/"), fragment=""))
        self.shown_url = without_password(self.url)
        self.headers = dict(_header(header) for header in server.headers)
        self.trust = _trust(server) if parts.scheme == "https" else None
        self._is_known = is_known
        self._has_jobs = True  # until it answers as a version without them
        self._http = http_client(
            base_url=urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/", query="", fragment="")),
            params=httpx.QueryParams(parts.query),
            headers=self.headers,
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            verify=self.trust or True,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def version(self) -> str:
        """ComfyUI's version, such as "0.33.0". Raises `EngineError` where another service answers."""
        found = self._read(self._send("GET", "system_stats"), answers.version)
        self._is_known = True
        return found

    def node_classes(self) -> NodeClasses:
        """All node classes of the server."""
        return self._read(self._send("GET", "object_info"), answers.node_classes)

    def max_upload_bytes(self) -> int:
        """Size of the largest file that the server accepts, as far as it says."""
        response = self._send("GET", "features", allowed=(404,))
        with suppress(ValueError):
            return answers.upload_limit(response.json()) or DEFAULT_UPLOAD_BYTES
        return DEFAULT_UPLOAD_BYTES

    def upload(self, name: str, content: bytes) -> str:
        """Put a file into the server's input folder; returns its name as nodes take it."""
        return self._read(
            self._send("POST", "upload/image", files={"image": (name, content)}, what=name, size=len(content)),
            answers.upload_name,
        )

    def queue_prompt(self, graph: Graph, *, prompt_id: str, client_id: str, preview: bool) -> None:
        """Put a graph into the queue. Raises `EngineError` with the server's reasons where it refuses the graph.

        After an `UnreachableError` the prompt may be in the queue nevertheless.
        """
        extra = {"preview_method": "latent2rgb"} if preview else {}
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id, "extra_data": extra}
        response = self._send("POST", "prompt", json=body, allowed=(400,), what="the graph")
        is_refused = response.status_code == httpx.codes.BAD_REQUEST
        faults = self._read(response, answers.describe_faults)
        if is_refused or response.json().get("node_errors"):
            if not is_refused:  # the valid part of the graph is in the queue
                with suppress(EngineError):
                    self.cancel(prompt_id)
            raise EngineError(f"{self.shown_url} does not take the graph: {faults}")
        if "prompt_id" not in response.json():
            raise self._odd(response)

    def status(self, prompt_id: str) -> PromptStatus:
        """State of a prompt."""
        status = self._job(prompt_id)
        if status is not None and status.state is not State.PENDING:
            return status
        # the history is read after the queue, since a prompt moves from the queue into it
        waiting = self._read(self._send("GET", "queue"), answers.queue).status(prompt_id)
        if waiting is not None:
            return waiting
        history = self._send("GET", f"history/{prompt_id}")
        entry = self._read(history, lambda answer: answers.history_entry(answer, prompt_id))
        return PromptStatus(state=State.ABSENT if entry is None else State.DONE, entry=entry)

    def queue_length(self) -> int:
        """Number of prompts that run or wait."""
        queue = self._read(self._send("GET", "queue"), answers.queue)
        return len(queue.running) + len(queue.pending)

    def cancel(self, prompt_id: str) -> None:
        """Remove a prompt from the queue, or interrupt it if it runs; other prompts are not affected.

        Who cancels has done with the server, and may have pressed Ctrl-C: a silent one is not waited for.
        """
        ends_at = time.monotonic() + PARTING_SECONDS

        def ask(path: str, **content: Any) -> httpx.Response:
            left = max(0.0, ends_at - time.monotonic())
            return self._send("POST", path, timeout=left, **content)

        response = ask(f"api/jobs/{prompt_id}/cancel", allowed=(404, 405))
        if response.is_success:
            with suppress(ValueError):
                answers.is_cancelled(response.json())
                return
        ask("queue", json={"delete": [prompt_id]})
        ask("interrupt", json={"prompt_id": prompt_id})

    def download_rest(self, file: ServerFile, part: Path, on_bytes: OnBytes) -> None:
        """Download what `part` lacks of a file, or all of it from a server that knows no ranges.

        Raises:
            FileGoneError: the server answers that it has no such file.
        """
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
            if response.headers.get("Content-Type", "").startswith(("text/", "application/json")):
                raise UnreachableError(f"something answers for {self.shown_url} with a text instead of {file.filename}")
            resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            done = have if resumed else 0
            length = response.headers.get("Content-Length", "")
            total = done + int(length) if length.isdecimal() else 0
            with part.open("ab" if resumed else "wb") as out:
                for block in response.iter_bytes():
                    out.write(block)
                    done += len(block)
                    on_bytes(done, total)
            if done < total:
                raise UnreachableError(f"{self.shown_url} sent {done} of the {total} bytes of {file.filename}")

    def _job(self, prompt_id: str) -> PromptStatus | None:
        """The status by /api/jobs, which versions after 0.3 have; None where the server does not tell it there."""
        if not self._has_jobs:
            return None
        response = self._send("GET", f"api/jobs/{prompt_id}", allowed=(404,))
        with suppress(ValueError):
            answer = response.json()
            if response.is_success:
                return answers.job(answer)
            if isinstance(answer, dict) and "error" in answer:
                return PromptStatus(state=State.ABSENT)
        self._has_jobs = response.is_success
        return None

    def _read(self, response: httpx.Response, read: Callable[[Any], T]) -> T:
        """What `read` makes of the answer; it raises `OddAnswerError` for one that no ComfyUI gives."""
        try:
            return read(response.json())
        except ValueError:  # no JSON, no text at all, or of another form
            raise self._odd(response) from None

    def _odd(self, response: httpx.Response) -> EngineError:
        path = response.url.path
        if self._is_known:
            return UnreachableError(f"something answers for {self.shown_url} that is no ComfyUI server (at {path})")
        return EngineError(f"{self.shown_url} answers, but is no ComfyUI server (or one older than 0.3.64)")

    def _send(
        self,
        method: str,
        path: str,
        *,
        allowed: tuple[int, ...] = (),
        what: str = "what is asked",
        size: int = 0,
        **content: Any,
    ) -> httpx.Response:
        with self._reporting():
            response = self._http.request(method, path, **content)
        if response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            raise InputError(
                f"{what}{f' ({size / 1e6:.1f} MB)' if size else ''} is larger than the upload limit of "
                f"{self.shown_url}: render a shorter window, start the server with a larger --max-upload-size, or "
                "raise the limit of the proxy before it"
            )
        if response.status_code not in allowed:
            self._check(response)
        return response

    def _check(self, response: httpx.Response) -> None:
        """Raise the error for an answer that is no success."""
        code, path = response.status_code, response.url.path
        if response.is_success:
            return
        if code in (401, 403, 407):
            raise EngineError(
                f"{self.shown_url} wants to know who you are ({code}): give --header 'Authorization: …' or what it asks"
            )
        if response.is_redirect:
            raise EngineError(f"{self.shown_url} points to {response.headers.get('Location')}: give that as --url")
        is_passing = code in PASSING_CODES or code >= httpx.codes.INTERNAL_SERVER_ERROR
        if is_passing or (code == httpx.codes.NOT_FOUND and self._is_known):
            raise UnreachableError(f"{self.shown_url} answers {code} to {path}")
        raise EngineError(f"{self.shown_url} answers {code} to {path}: is it a ComfyUI server?")

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Connection errors in the `with` block become errors of ours."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise EngineError(
                    f"the certificate of {self.shown_url} is not trusted ({_in_words(error)}): name it, or that of who "
                    "signed it, with --ca-file FILE or the environment variable SSL_CERT_FILE"
                ) from error
            raise NoServerError(
                f"no ComfyUI server answers at {self.shown_url} ({_in_words(error)}): {HOW_TO_START}"
            ) from error
        except httpx.ReadTimeout as error:
            raise BusyError(f"{self.shown_url} has not answered in time") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise UnreachableError(f"the connection to {self.shown_url} failed: {_in_words(error)}") from error


def _trust(server: Server) -> ssl.SSLContext:
    """The certificates to trust: those that httpx knows or SSL_CERT_FILE names, and those in `server.ca_file`."""
    context = httpx.create_ssl_context()
    if server.ca_file is not None:
        try:
            context.load_verify_locations(server.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise InputError(
                f"--ca-file {str(server.ca_file)!r} cannot be used ({_in_words(error)}): expected certificates in PEM "
                "format",
                field="server.ca_file",
            ) from error
    return context


def _header(header: str) -> tuple[str, str]:
    name, _, value = header.partition(":")
    return name.strip(), value.strip()


def _check_whole(part: Path, response: httpx.Response) -> None:
    """After status 416: accept `part` if it has the SIZE of `Content-Range: bytes */SIZE`, else remove it and raise."""
    size = response.headers.get("Content-Range", "").rpartition("/")[2]
    if not size.isdecimal() or int(size) != part.stat().st_size:
        part.unlink(missing_ok=True)
        raise UnreachableError(f"what was downloaded of {part.stem} does not belong to it")


def _in_words(error: Exception) -> str:
    """What an error says, without the number that systems have for it."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
