"""The routes of a server over HTTP: what it answers to each request."""

import asyncio
import copy
import uuid
from collections.abc import Awaitable, Callable, Iterator

from aiohttp import web

from comfyui_server import graphs
from comfyui_server.graphs import RefusedError
from comfyui_server.queue import Queue, row
from comfyui_server.scene import Prompt, Scene
from comfyui_server.sockets import Sockets

LOADERS = (("LoadAudio", "audio"), ("LoadImage", "image"), ("LoadVideo", "file"))

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes:
    """The application of a running server.

    Args:
        prefix: of all paths.
        header: name and value that every request must have; None: none.
        numbers: of prompts.

    Attributes:
        transports: of all connections that there were.
    """

    def __init__(
        self,
        scene: Scene,
        queue: Queue,
        sockets: Sockets,
        *,
        prefix: str,
        header: tuple[str, str] | None,
        numbers: Iterator[int],
    ) -> None:
        self._scene, self._queue, self._sockets = scene, queue, sockets
        self._prefix, self._header, self._numbers = prefix, header, numbers
        self.transports: set[asyncio.Transport] = set()

    def app(self) -> web.Application:
        """All routes of this version, each under /api as well."""
        app = web.Application(client_max_size=self._scene.max_upload_bytes, middlewares=[self.gate])
        for path, handler in self._handlers():
            method, _, route = path.partition(" ")
            app.router.add_route(method, self._prefix + route, handler)
            app.router.add_route(method, self._prefix + "/api" + route, handler)
        if self._scene.has_jobs:
            app.router.add_get(self._prefix + "/api/jobs/{id}", self._job)
            app.router.add_post(self._prefix + "/api/jobs/{id}/cancel", self._cancel_job)
        return app

    def _handlers(self) -> list[tuple[str, Handler]]:
        return [
            ("GET /system_stats", self._stats),
            ("GET /features", self._features),
            ("GET /object_info", self._object_info),
            ("POST /upload/image", self._upload),
            ("POST /prompt", self._prompt),
            ("GET /queue", self._get_queue),
            ("POST /queue", self._change_queue),
            ("POST /interrupt", self._interrupt),
            ("GET /history/{id}", self._get_history),
            ("GET /view", self._view),
            ("GET /ws", self._sockets.serve),
        ]

    @web.middleware
    async def gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note a request, and let it through unless something in between answers."""
        faults, called = self._scene.faults, f"{request.method} {request.path.removeprefix(self._prefix)}"
        self._scene.requests.append(called)
        self._scene.queries.append(dict(request.query))
        if request.transport is not None:
            self.transports.add(request.transport)
        if self._header is not None and request.headers.get(self._header[0]) != self._header[1]:
            return web.Response(status=401)
        while faults.is_silent:
            await asyncio.sleep(0.02)
        if faults.error_answers > 0:
            faults.error_answers -= 1
            self._queue.changed()
            return web.Response(status=502, text="Bad Gateway")
        odd = faults.answer_instead(called)
        if odd is not None:
            return web.Response(status=odd.status, body=odd.body, content_type=odd.content_type)
        try:
            done = await handler(request)
            if request.transport is not None and faults.loses_answer(called):
                request.transport.abort()
            return done
        finally:
            self._queue.changed()

    async def _stats(self, _: web.Request) -> web.Response:
        return web.json_response({"system": {"os": "posix", "comfyui_version": self._scene.version}, "devices": []})

    async def _features(self, _: web.Request) -> web.Response:
        return web.json_response({"supports_preview_metadata": True, "max_upload_size": self._scene.max_upload_bytes})

    async def _object_info(self, _: web.Request) -> web.Response:
        info = copy.deepcopy(self._scene.info)
        for (kind, input_name), names in self._scene.models.items():
            spec = info[kind]["input"]["required"][input_name] if kind in info else [None]
            if isinstance(spec[0], list):
                spec[0] = names
            elif kind in info:
                spec[1]["options"] = names
        return web.json_response(info)

    async def _upload(self, request: web.Request) -> web.Response:
        fields = await request.post()
        file = fields.get("image")
        if not isinstance(file, web.FileField):
            return web.Response(status=400)
        content, name = file.file.read(), file.filename
        stem, dot, ending = name.rpartition(".")
        number = 0
        while self._scene.uploads.get(name, content) != content:
            number += 1
            name = f"{stem} ({number}){dot}{ending}"
        self._scene.uploads[name] = content
        return web.json_response({"name": name, "subfolder": "", "type": "input"})

    async def _prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        prompt_id = body.get("prompt_id") or str(uuid.uuid4())
        if self._scene.has_jobs and str(uuid.UUID(prompt_id)) != prompt_id:
            return web.json_response({"error": {"type": "invalid_prompt_id"}, "node_errors": {}}, status=400)
        options = self._scene.models | {loader: list(self._scene.uploads) for loader in LOADERS}
        try:
            graphs.check(body["prompt"], self._scene.info, options)
        except RefusedError as refused:
            return web.json_response(refused.body, status=400)
        prompt = Prompt(
            prompt_id, next(self._numbers), body["prompt"], body.get("client_id"), body.get("extra_data", {})
        )
        self._scene.prompts.append(prompt)
        self._queue.pending.append(prompt)
        dropped = {"save": {"errors": [{"message": "dropped", "details": ""}], "class_type": "SaveVideo"}}
        node_errors = dropped if self._scene.faults.drops_an_output else {}
        return web.json_response({"prompt_id": prompt_id, "number": prompt.number, "node_errors": node_errors})

    async def _get_queue(self, _: web.Request) -> web.Response:
        for prompt in self._queue:
            prompt.asked_for = True
        running = [self._queue.running] if self._queue.running else []
        rows = [list(map(row, some)) for some in (running, self._queue.pending)]
        return web.json_response({"queue_running": rows[0], "queue_pending": rows[1]})

    async def _change_queue(self, request: web.Request) -> web.Response:
        self._queue.delete((await request.json()).get("delete", []))
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        self._queue.interrupt((await request.json()).get("prompt_id"))
        return web.Response()

    async def _get_history(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["id"]
        if prompt_id in self._queue.history and self._scene.faults.late_history > 0:
            self._scene.faults.late_history -= 1
            return web.json_response({})
        return web.json_response(
            {prompt_id: self._queue.history[prompt_id]} if prompt_id in self._queue.history else {}
        )

    async def _job(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["id"]
        for prompt in self._queue:
            prompt.asked_for = True
            if prompt.id == prompt_id:
                state = "in_progress" if prompt is self._queue.running else "pending"
                return web.json_response({"id": prompt_id, "status": state, "outputs_count": 0})
        entry = self._queue.history.get(prompt_id)
        if entry is None or self._scene.faults.late_history > 0:
            self._scene.faults.late_history -= entry is not None
            return web.json_response({"error": "Job not found"}, status=404)
        state = "completed" if entry["status"]["completed"] else "failed"
        told = {"outputs": entry["outputs"], "execution_status": entry["status"]}
        return web.json_response({"id": prompt_id, "status": state, **told})

    async def _cancel_job(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["id"]
        found = any(prompt.id == prompt_id for prompt in self._queue)
        self._queue.delete([prompt_id])
        self._queue.interrupt(prompt_id)
        return web.json_response({"cancelled": found})

    async def _view(self, request: web.Request) -> web.StreamResponse:
        path = self._scene.folder / request.query["subfolder"] / request.query["filename"]
        if not path.is_file():
            return web.Response(status=404)
        if self._scene.faults.shortens_downloads > 0:
            self._scene.faults.shortens_downloads -= 1
            return await self._shortened(request, path.read_bytes())
        cut = self._scene.faults.downloads_cut_at
        if self._scene.faults.ignores_range:
            return web.Response(body=path.read_bytes(), content_type="video/mp4")
        if cut is None:
            return web.FileResponse(path)
        content = path.read_bytes()
        first = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        headers = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
        response = web.StreamResponse(status=206, headers=headers)
        response.content_length = len(content) - first
        await response.prepare(request)
        await response.write(content[first : first + cut])
        if request.transport is not None and first + cut < len(content):
            request.transport.close()
        return response

    async def _shortened(self, request: web.Request, content: bytes) -> web.StreamResponse:
        """An answer in order, except that it has only half of the bytes."""
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        if self._scene.faults.without_length:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(content) // 2
        await response.prepare(request)
        await response.write(content[: len(content) // 2])
        return response
