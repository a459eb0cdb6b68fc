"""Doors that the page needs beside the others: what can render here, the example, and what a finished video tells."""

from functools import cached_property
from pathlib import Path
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from soundreel.disk.digests import file_digest
from soundreel.disk.example_files import PICTURE, SONG, STORYBOARD, example_folder
from soundreel.engines.base import why_not_native
from soundreel.request import EngineName
from soundreel.request import Request as RenderRequest
from soundreel.server import views
from soundreel.server.answers import answer
from soundreel.server.errors import PathHider, RefusedError
from soundreel.server.forms import check_room
from soundreel.server.helper import PLAN_SECONDS, Helper
from soundreel.server.jobs import Job, State, Upload
from soundreel.server.pictures import SPRITESHEET, picture_of
from soundreel.server.queue import Queue
from soundreel.server.ranges import send_file
from soundreel.server.settings import Settings
from soundreel.server.uploads import Uploads
from soundreel.server.worker import VIDEO

ENGINE_NAMES: Final = {
    EngineName.NATIVE: "Wan 2.2 S2V on this machine",
    EngineName.COMFYUI: "ComfyUI",
    EngineName.DRAFT: "Drafts, without the model",
}


class Studio:
    """These doors."""

    def __init__(self, settings: Settings, queue: Queue, uploads: Uploads, hide: PathHider) -> None:
        self._settings, self._queue, self._uploads, self._hide = settings, queue, uploads, hide
        self._reader = Helper()
        self._examples: dict[str, Upload] = {}

    def close(self) -> None:
        """End the process that reads videos."""
        self._reader.close()

    def routes(self) -> list[Route]:
        """Paths and doors."""
        return [
            Route("/v1/engines", self.engines, methods=["GET"]),
            Route("/v1/demo", self.demo, methods=["POST"]),
            Route("/v1/videos/{id}/recipe", self.recipe, methods=["GET"]),
            Route("/v1/videos/{id}/sheet", self.sheet, methods=["GET"]),
        ]

    async def engines(self, request: Request) -> Response:
        """All engines: which are here, and what keeps the others away."""
        del request
        return answer({"object": "list", "data": await run_in_threadpool(lambda: self._engines)})

    @cached_property
    def _engines(self) -> list[dict[str, Any]]:
        here = {model.engine for model in self._settings.catalogue.models}
        return [
            {
                "engine": str(engine),
                "name": name,
                "is_here": engine in here,
                "missing": None if engine in here else self._missing(engine),
            }
            for engine, name in ENGINE_NAMES.items()
        ]

    def _missing(self, engine: EngineName) -> str:
        if engine is EngineName.COMFYUI:
            return "start the server with --url and the address of one"
        why = why_not_native(RenderRequest(audio="-")) if engine is EngineName.NATIVE else None
        return self._hide(why) if why else f"start the server with --engine {engine}, too"

    async def demo(self, request: Request) -> Response:
        """The example song and its picture, as uploads, the same ones as long as they are there; and its storyboard."""
        del request
        return answer(await run_in_threadpool(self._demo))

    def _demo(self) -> dict[str, Any]:
        check_room(self._uploads, self._settings.limits)
        folder = example_folder()
        kept = {field: self._kept(folder / name) for field, name in {"audio": SONG, "ref_image": PICTURE}.items()}
        storyboard = (folder / STORYBOARD).read_text(encoding="utf-8")
        return {**{field: views.file(upload) for field, upload in kept.items()}, "storyboard": storyboard}

    def _kept(self, source: Path) -> Upload:
        known = self._examples.get(source.name)
        if known is not None and self._uploads.path(known).exists():
            return known
        place = self._uploads.new_place()
        place.write_bytes(source.read_bytes())
        kept = self._examples[source.name] = self._uploads.keep(place, source.name, file_digest(source))
        return kept

    async def recipe(self, request: Request) -> Response:
        """The recipe in a finished video, as JSON."""
        return answer(await run_in_threadpool(self._recipe, self._finished(request)))

    def _recipe(self, job: Job) -> Any:
        return self._reader.ask("recipe", str(self._video(job)), seconds=PLAN_SECONDS)

    async def sheet(self, request: Request) -> Response:
        """Small pictures of a finished video in a row, from its beginning to its end."""
        folder = self._settings.job_folder(self._finished(request).id)
        place = await run_in_threadpool(picture_of, folder, SPRITESHEET, self._reader)
        return await send_file(request, place, "image/jpeg")

    def _finished(self, request: Request) -> Job:
        job = self._queue.job(request.path_params["id"])
        if job.state is not State.SUCCEEDED:
            raise RefusedError(409, "not_ready", f"this video is {job.state}")
        return job

    def _video(self, job: Job) -> Path:
        return self._settings.job_folder(job.id) / VIDEO
