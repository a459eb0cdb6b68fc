"""Sending a file that may be replaced or removed meanwhile: what was opened is what is sent, whole or in part."""

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from soundreel.server.errors import RefusedError, not_found

CHUNK_BYTES: Final = 256 * 2**10


async def send_file(
    request: Request,
    path: Path,
    media_type: str,
    *,
    instead: Path | None = None,
    name: str | None = None,
    is_final: bool = True,
) -> Response:
    """The file at `path`, or the part of it that a Range asks for.

    Args:
        instead: what is sent where there is nothing at `path` (any more).
        name: what a browser saves it as.
        is_final: it will not change: a browser may keep it.

    Raises:
        RefusedError: there is no such file, or no such part of it.
    """
    file = await run_in_threadpool(_open, path, instead)
    try:
        status = os.fstat(file.fileno())
        tag = f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'
        headers = {
            "Accept-Ranges": "bytes",
            "ETag": tag,
            "Last-Modified": formatdate(status.st_mtime, usegmt=True),
            "Cache-Control": "private, max-age=86400" if is_final else "private, no-cache",
        }
        if name is not None:
            headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(name)}"
        if request.headers.get("if-none-match") == tag:
            file.close()
            return Response(status_code=304, headers=headers)
        start, stop, code = _part(request, tag, status.st_size)
        if code == 206:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{status.st_size}"
    except BaseException:
        file.close()
        raise
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        file.close()
        return Response(status_code=code, headers=headers, media_type=media_type)
    return StreamingResponse(_chunks(file, start, stop), code, headers=headers, media_type=media_type)


def _open(path: Path, instead: Path | None) -> BinaryIO:
    for place in (path, instead):
        with suppress(OSError):
            if place is not None:
                return place.open("rb")
    raise not_found("such content yet")


def _part(request: Request, tag: str, size: int) -> tuple[int, int, int]:
    """First byte, the byte after the last, and the answer's status. Of several ranges none is heard, as the standard
    allows."""
    asked = request.headers.get("range", "").replace(" ", "").lower()
    if request.headers.get("if-range", tag) != tag or not asked.startswith("bytes=") or "," in asked:
        return 0, size, 200
    first, dash, last = asked.removeprefix("bytes=").partition("-")
    if not dash or not (first or last) or not all(part.isdecimal() or not part for part in (first, last)):
        return 0, size, 200
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= size or stop <= start:
        raise RangeError(size)
    return start, stop, 206


class RangeError(RefusedError):
    """A Range that is not in the file."""

    def __init__(self, size: int) -> None:
        super().__init__(416, "no_such_range", f"the content has {size:,} bytes")
        self.size = size


async def _chunks(file: BinaryIO, start: int, stop: int) -> AsyncIterator[bytes]:
    try:
        await run_in_threadpool(file.seek, start)
        while start < stop:
            chunk = await run_in_threadpool(file.read, min(CHUNK_BYTES, stop - start))
            if not chunk:
                return
            start += len(chunk)
            yield chunk
    finally:
        file.close()
