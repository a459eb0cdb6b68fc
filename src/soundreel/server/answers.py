"""Answers in JSON, and how errors become them."""

import logging
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from soundreel.errors import InputError, SoundreelError
from soundreel.server.errors import INTERNAL, PathHider, RefusedError, failure_of
from soundreel.server.jobs import Failure
from soundreel.server.ranges import RangeError
from soundreel.server.snapshots import as_bytes

LOG: Final = logging.getLogger("soundreel.server")

JSON: Final = "application/json"


def answer(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Plain data as JSON."""
    return Response(as_bytes(data), status, headers=headers, media_type=JSON)


def refusal(error: RefusedError) -> Response:
    """A refusal as an answer."""
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RangeError):
        headers["Content-Range"] = f"bytes */{error.size}"
    return answer({"error": error.failure.data}, error.status, headers)


class Errors:
    """Turns whatever a door raises into an answer that names no path of this machine."""

    def __init__(self, hide: PathHider) -> None:
        self._hide = hide

    def refused(self, request: Request, error: Exception) -> Response:
        """One that was refused on purpose."""
        del request
        assert isinstance(error, SoundreelError)
        if isinstance(error, RefusedError):
            return refusal(error)
        status = 400 if isinstance(error, InputError) else 422
        return answer({"error": self._hide.failure(failure_of(error)).data}, status)

    def of_http(self, request: Request, error: Exception) -> Response:
        """No such path, or no such method."""
        assert isinstance(error, HTTPException)
        says = {404: f"there is no {request.url.path!r}", 405: f"{request.method} is not for this path"}
        failure = Failure(
            code="not_found" if error.status_code == 404 else "invalid_request",
            message=says.get(error.status_code, error.detail),
        )
        return answer({"error": failure.data}, error.status_code, dict(error.headers or {}))

    def unexpected(self, request: Request, error: Exception) -> Response:
        """One that nobody foresaw: the log has all of it, the answer nothing."""
        LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
        failure = Failure(code=INTERNAL, message="something went wrong in the server: its log says more")
        return answer({"error": failure.data}, 500)
