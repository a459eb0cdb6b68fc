"""Who may ask: the checks that come before any door.

A page of another site can make a browser send requests here. What it cannot do is choose the Host that the browser
says, once the name is no address (DNS rebinding), or hide the Origin of what it sends (CSRF). Both are checked, whether
there is a token or not.
"""

import hmac
import ipaddress
import socket
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from soundreel.server.answers import refusal
from soundreel.server.errors import RefusedError

COOKIE: Final = "soundreel_token"

PUBLIC: Final = frozenset({"/healthz", "/openapi.json", "/v1/login"})
"""Paths that tell nothing of anybody, and that by which a browser gets in. The page itself asks for the token."""

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "connect-src 'self'; font-src 'self'; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI middleware: what is refused never reaches a door.

    Args:
        token: without it nothing but the page and its health is told; None: whoever reaches the port may ask.
        hosts: names by which the server may be asked, beside addresses and `localhost`.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, hosts: Iterable[str] = ()) -> None:
        self._app, self._token = app, token
        self._hosts = {"localhost", *(host.lower() for host in hosts)}
        if token is not None:
            self._hosts |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                message["headers"] = headers.raw
            await send(message)

        refused = self._refused(scope)
        answer = self._app if refused is None else refusal(refused)
        await answer(scope, receive, send_with_headers)

    def _refused(self, scope: Scope) -> RefusedError | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return RefusedError(
                421, "wrong_host", "this server is not asked by that name: --allow-host NAME makes it answer to it"
            )
        if not _is_same_site(headers, host):
            return RefusedError(403, "cross_site", "a page of another site may not ask this server")
        needs_token = scope["path"].startswith("/v1/") and scope["path"] not in PUBLIC
        if self._token is not None and needs_token and not is_token(_token_in(headers), self._token):
            return RefusedError(401, "unauthorized", "expected the server's token: Authorization: Bearer TOKEN")
        return None

    def _is_ours(self, host: str) -> bool:
        name = host_name(host)
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def host_name(host: str) -> str:
    """A Host header without its port and brackets, in small letters."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _is_same_site(headers: Headers, host: str) -> bool:
    """Whether no page of another site has sent this; programs say nothing of it."""
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != host.strip().lower():
        return False
    return headers.get("sec-fetch-site", "none") in {"none", "same-origin"} or (
        headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    )


def _token_in(headers: Headers) -> str:
    """The token that comes with a request, as a header or as a browser's cookie; "": none."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def is_token(given: str, token: str) -> bool:
    """Whether it is the token; how long that takes tells nothing."""
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())
