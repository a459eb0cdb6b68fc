"""The page: files of a bundle that is built from `web/`, and is not always there."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from soundreel.server.ranges import send_file

STATIC: Final = Path(__file__).parent / "static"
"""Where the bundle is: `index.html`, and files whose names change with what is in them."""

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".flac": "audio/flac",
    ".webmanifest": "application/manifest+json",
}

NO_PAGE: Final = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>soundreel</title>
<p>This soundreel server has no page: its API is at <a href="/openapi.json">/openapi.json</a>.</p></html>
"""


def has_page() -> bool:
    """Whether the bundle is there."""
    return (STATIC / "index.html").is_file()


def page_routes(on_open: Callable[[], None]) -> list[Route]:
    """The page at `/`, and its files beside it; `on_open` is called in a thread of its own when somebody opens it."""

    async def index(request: Request) -> Response:
        if not has_page():
            return Response(NO_PAGE, media_type="text/html")
        threading.Thread(target=on_open, daemon=True).start()
        return await send_file(request, STATIC / "index.html", TYPES[".html"], is_final=False)

    return [Route("/", index, methods=["GET"]), Route("/{path:path}", _file, methods=["GET"])]


async def _file(request: Request) -> Response:
    """A file of the bundle; nothing above it, nothing hidden, and nothing of a kind that it has none of."""
    parts = request.path_params["path"].split("/")
    place = STATIC.joinpath(*parts)
    is_plain = all(part and not part.startswith(".") and "\\" not in part and "\0" not in part for part in parts)
    if request.url.path.startswith("/v1/") or not is_plain or place.suffix not in TYPES or not place.is_file():
        raise HTTPException(404)
    return await send_file(request, place, TYPES[place.suffix])
