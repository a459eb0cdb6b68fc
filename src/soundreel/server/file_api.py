"""The doors of uploads: what is sent once for any number of requests, and what is heard in it."""

import asyncio
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from soundreel.errors import InputError
from soundreel.server import views
from soundreel.server.answers import answer
from soundreel.server.errors import PathHider
from soundreel.server.forms import read_form
from soundreel.server.hearing import Hearing
from soundreel.server.query import number, page_size
from soundreel.server.ranges import send_file
from soundreel.server.settings import Settings
from soundreel.server.uploads import Uploads

MOST_FIRST: Final = 10**6
"""More than there are pairs in an outline."""

MOST_AFTER: Final = 10**6
"""Seconds: more than there are in a sound."""


class FileApi:
    """All doors of uploads."""

    def __init__(self, settings: Settings, uploads: Uploads, hide: PathHider) -> None:
        self._limits, self._uploads = settings.limits, uploads
        self._hearing = Hearing(uploads, hide)

    def get_ready(self) -> None:
        """A sound will come soon."""
        self._hearing.get_ready()

    def close(self) -> None:
        """End the processes that belong to it."""
        self._hearing.close()

    async def upload(self, request: Request) -> Response:
        """Keep a file, for any number of requests."""
        form = await read_form(request, self._uploads, self._limits)
        try:
            if set(form.files) != {"file"} or not set(form.fields) <= {"purpose"}:
                raise InputError("expected a form with one file, called `file`", field="file")
            file = form.files["file"]
            kept = await run_in_threadpool(self._uploads.keep, file.path, file.name, file.sha256)
        finally:
            form.discard()
        return answer(views.file(kept))

    async def list(self, request: Request) -> Response:
        """The newest uploads."""
        limit = page_size(request)
        found = await run_in_threadpool(self._uploads.newest, limit=limit + 1)
        return answer(views.listed(list(map(views.file, found[:limit])), has_more=len(found) > limit))

    async def show(self, request: Request) -> Response:
        """An upload."""
        return answer(views.file(self._uploads.find(request.path_params["id"])))

    async def delete(self, request: Request) -> Response:
        """Remove an upload that no job reads."""
        identifier = request.path_params["id"]
        await run_in_threadpool(self._uploads.remove, identifier)
        return answer({"id": identifier, "object": "file", "deleted": True})

    async def content(self, request: Request) -> Response:
        """An upload's bytes; a browser that asks for more than a sound or picture gets them as a download."""
        upload = self._uploads.find(request.path_params["id"])
        return await send_file(request, self._uploads.path(upload), "application/octet-stream")

    async def picture(self, request: Request) -> Response:
        """A small JPEG of an uploaded picture."""
        upload = self._uploads.find(request.path_params["id"])
        return await send_file(request, await run_in_threadpool(self._uploads.picture, upload), "image/jpeg")

    async def peaks(self, request: Request) -> Response:
        """The outline of an uploaded sound; with `first` what there is of it from there on, maybe not all."""
        upload = self._uploads.find(request.path_params["id"])
        is_whole = "first" not in request.query_params
        first = number(request, "first", 0, 0, MOST_FIRST)
        found = await run_in_threadpool(self._hearing.outline, upload, first, is_whole=is_whole)
        return answer({"file": upload.id, **found})

    async def analysis(self, request: Request) -> Response:
        """All that is heard in an uploaded song, with its outline."""
        upload = self._uploads.find(request.path_params["id"])
        outline, song = await asyncio.gather(
            run_in_threadpool(self._hearing.outline, upload, is_whole=True),
            run_in_threadpool(self._hearing.analysis, upload),
        )
        return answer({"object": "analysis", "file": upload.id, **song, "outline": outline})

    async def analysis_progress(self, request: Request) -> Response:
        """How much of an uploaded song has been listened to; with `after` once it is more than so many seconds."""
        upload = self._uploads.find(request.path_params["id"])
        after = number(request, "after", 0, 0, MOST_AFTER) if "after" in request.query_params else -1
        heard = await run_in_threadpool(self._hearing.heard_seconds, upload, after)
        return answer({"file": upload.id, "heard": heard, "seconds": upload.facts["sound"]["seconds"]})
