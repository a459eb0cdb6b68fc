"""The messages of a ComfyUI server's WebSocket as events. A lost connection means no events, never an exception.

Messages are JSON `{"type", "data"}`, or binary: a big-endian uint32 event, 1 = uint32 image type + image,
4 = uint32 length + JSON metadata + image.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from soundreel.disk.durable import uninterrupted
from soundreel.engines.comfyui.loop_thread import LoopThread

RECONNECT_SECONDS: Final = 2.0
"""Shortest time between two attempts to connect."""

OPEN_SECONDS: Final = 5.0
"""Timeout of an attempt to connect."""

CLOSE_SECONDS: Final = 1.0
"""Longest time for which the server's goodbye is awaited."""

MAX_MESSAGE_BYTES: Final = 64 * 2**20
"""Error messages may include whole inputs, previews a picture."""

_IMAGE, _IMAGE_WITH_METADATA = 1, 4
_UINT32_BYTES: Final = 4
_CONNECTION_ERRORS: Final = (OSError, WebSocketException)
_WANT_METADATA: Final = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})


@dataclass(frozen=True, kw_only=True)
class Event:
    """One message."""

    kind: str  # the message's type; "preview" for pictures
    prompt_id: str | None  # None where the message does not name its prompt
    data: Mapping[str, Any]
    picture: bytes = b""  # JPEG or PNG of a preview


class _ConnectThere(connect):
    """Follows no redirect: headers go to the server that the user named, and to no other."""

    def process_redirect(self, exc: Exception) -> Exception:
        """Why there is no connection; the base class may return another address instead."""
        return exc


class EventSocket:
    """The WebSocket of one client id, connected on demand and again after the connection was lost; a context manager.

    The old connection is always closed before a new one opens: when the older of two sockets with one client id closes,
    ComfyUI forgets the id and sends nothing more to the newer one.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], client_id: str, trust: ssl.SSLContext | None = None
    ) -> None:
        self._url = _socket_url(url, client_id)
        self._headers, self._trust = dict(headers), trust
        self._loop = LoopThread()
        self._connection: ClientConnection | None = None  # set in the loop's thread only
        self.was_lost = False  # at any time so far
        self._tried_at = float("-inf")

    def __enter__(self) -> Self:
        self._loop.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        finally:
            self._loop.stop()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection; a loss is noticed at the next `receive` only."""
        return self._connection is not None

    def close(self) -> None:
        """Close the connection; the next `receive` opens another."""
        with uninterrupted(), suppress(*_CONNECTION_ERRORS):
            self._loop.run(self._disconnect())

    def open(self) -> None:
        """Connect, unless connected already or tried less than `RECONNECT_SECONDS` ago."""
        if self.is_open or time.monotonic() - self._tried_at < RECONNECT_SECONDS:
            return
        self._tried_at = time.monotonic()
        try:
            self._loop.run(self._connect())
        except _CONNECTION_ERRORS:
            self.close()

    def receive(self, seconds: float) -> Event | None:
        """The next event; None where none came within about `seconds`."""
        self.open()
        if self._connection is None:
            time.sleep(seconds)
            return None
        try:
            return _parse(self._loop.run(_next_message(self._connection, seconds)))
        except TimeoutError:
            return None
        except _CONNECTION_ERRORS:
            self.close()
            self.was_lost = True
            return None

    async def _connect(self) -> None:
        self._connection = await _ConnectThere(
            self._url,
            additional_headers=self._headers,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=None,  # a busy server may answer pings minutes late
            max_size=MAX_MESSAGE_BYTES,
            ssl=self._trust,
        )
        await self._connection.send(_WANT_METADATA)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


async def _next_message(connection: ClientConnection, seconds: float) -> str | bytes:
    async with asyncio.timeout(seconds):
        return await connection.recv()


def _socket_url(url: str, client_id: str) -> str:
    parts = urlsplit(url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    query = "&".join(filter(None, (parts.query, urlencode({"clientId": client_id}))))
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/ws", query, ""))


def _parse(message: str | bytes) -> Event | None:
    if isinstance(message, bytes):
        return _parse_picture(message)
    try:
        content = json.loads(message)
    except ValueError:
        return None
    if not isinstance(content, dict) or not isinstance(content.get("type"), str):
        return None  # some extensions send messages in other formats
    return _event(content["type"], content.get("data") or {})


def _event(kind: str, data: Any, picture: bytes = b"") -> Event | None:
    if not isinstance(data, dict):
        return None
    prompt_id = data.get("prompt_id")
    return Event(kind=kind, prompt_id=prompt_id if isinstance(prompt_id, str) else None, data=data, picture=picture)


def _parse_picture(message: bytes) -> Event | None:
    kind = int.from_bytes(message[:_UINT32_BYTES])
    body = message[_UINT32_BYTES:]
    if kind == _IMAGE:
        return _event("preview", {}, body[_UINT32_BYTES:])
    if kind != _IMAGE_WITH_METADATA:
        return None
    length = int.from_bytes(body[:_UINT32_BYTES])
    try:
        metadata = json.loads(body[_UINT32_BYTES : _UINT32_BYTES + length])
    except ValueError:
        return None
    return _event("preview", metadata, body[_UINT32_BYTES + length :])
