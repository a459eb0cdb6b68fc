"""A ComfyUI server as the captures show it, on loopback, over real HTTP and WebSocket, and all that can befall one.

It validates graphs by the captured /object_info, keeps queue and history, tells of every step in the captured order,
and saves pictures that carry their place in time (see `graphs`). Nothing is sampled.
"""

import asyncio
import copy
import json
import socket
import ssl
import struct
import threading
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from aiohttp import WSCloseCode, WSMsgType, web
from PIL import Image

from comfyui_server import graphs
from comfyui_server.graphs import Graph, RefusedError
from numbered_sound import heard_frame
from soundreel.media.video import SegmentWriter

MODELS = {
    ("UNETLoader", "unet_name"): ["wan2.2_s2v_14B_fp8_scaled.safetensors"],
    ("CLIPLoader", "clip_name"): ["umt5_xxl_fp8_e4m3fn_scaled.safetensors"],
    ("VAELoader", "vae_name"): ["wan_2.1_vae.safetensors", "pixel_space"],
    ("AudioEncoderLoader", "audio_encoder_name"): ["wav2vec2_large_english_fp16.safetensors"],
    ("LoraLoaderModelOnly", "lora_name"): ["wan2.2_t2v_lightx2v_4steps_lora_v1.1_high_noise.safetensors"],
}
LOADERS = (("LoadAudio", "audio"), ("LoadImage", "image"), ("LoadVideo", "file"))


@dataclass
class Prompt:
    """A prompt that a client queued."""

    id: str
    number: int
    graph: Graph
    client_id: str | None
    extra: dict[str, Any]
    interrupted: bool = False
    asked_for: bool = False  # whether its client has looked into the queue since


PAGE = b"<!doctype html><html><body>One moment, please</body></html>"
"""What a gateway shows to people."""


@dataclass
class Odd:
    """An answer in place of the server's, so many times."""

    body: bytes = PAGE
    status: int = 200
    content_type: str = "text/html"
    times: int = 1


@dataclass
class Faults:
    """What goes wrong; set before or while a prompt runs. Counts go down as they are used.

    Routes are named as in "GET /view".
    """

    answers: dict[str, Odd] = field(default_factory=dict)  # route → what something in between answers
    loses_answers: dict[str, int] = field(default_factory=dict)  # route → so many times it is done, and not answered
    shortens_downloads: int = 0  # so many bodies are cut short, as if that were all
    without_length: bool = False  # these bodies come in chunks, whose end is the end
    forgets_results: bool = False  # the history of a finished prompt is empty
    tells_states_only: bool = False  # progress comes as progress_state alone

    raises: dict[str, tuple[str, str]] = field(default_factory=dict)  # kind of node → exception type and message
    hangs_at: str | None = None  # kind of node that never ends
    interrupted_by_another: bool = False
    silent_socket: bool = False  # connects, says nothing
    refuses_socket: bool = False
    drops_sockets_at_step: int | None = None
    dies_at_step: int | None = None  # as by SIGKILL; `restart` brings it back
    error_answers: int = 0  # so many requests are answered 502
    drops_an_output: bool = False  # 200 with node_errors
    late_history: int = 0  # so many times a finished prompt is not in the history yet
    loses_files: int = 0  # so many finished prompts leave a history entry and no file
    downloads_cut_at: int | None = None  # bytes of a body after which the connection breaks
    ignores_range: bool = False
    output: bytes | None = None  # instead of the video
    frames_short: int = 0  # pictures missing at the end


class ContractServer:
    """A context manager: a server in its own thread, gone with the block.

    It waits for events, never for a time: a prompt is begun once its client looks into the queue, so that none of its
    messages can be missed, and goes on when what it is held for has come.

    Args:
        listens: pictures show the numbers that they hear in a sound of `numbered`, not their own.
        trace: messages that a real server sent about a prompt, which are sent instead of those made here.
        certificate: file with certificate and key; the server is then one of https.

    Attributes:
        prompts: all that were queued, in order.
        uploads: content of the input folder.
        requests: "METHOD path" of every request.
        queries: the query of each.
        faults: what goes wrong.
        holds: number of a step → what must be before it is taken.
        odd_messages: kind and data of messages that are sent before each step.
        folder: its output folder.
    """

    def __init__(
        self,
        info: dict[str, Any],
        folder: Path,
        *,
        version: str = "0.33.0",
        prefix: str = "",
        header: tuple[str, str] | None = None,
        max_upload_bytes: int = 100 * 2**20,
        listens: bool = False,
        trace: Sequence[dict[str, Any]] = (),
        certificate: Path | None = None,
    ) -> None:
        self.version, self.faults = version, Faults()
        self.info = copy.deepcopy(info) | {"SaveImage": graphs.SAVE_IMAGE}
        self.models = copy.deepcopy(MODELS)
        self.prompts: list[Prompt] = []
        self.uploads: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.queries: list[dict[str, str]] = []
        self.holds: dict[int, Callable[[], bool]] = {}
        self.odd_messages: list[tuple[str, dict[str, Any]]] = []
        self._listens, self._trace = listens, trace
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._tls.load_cert_chain(certificate)
        self.folder, self._prefix, self._header, self._max_upload = folder, prefix, header, max_upload_bytes
        self._port_holder = socket.socket()  # keeps the port while the server is away
        self._port_holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._port_holder.bind(("127.0.0.1", 0))
        self._port = self._port_holder.getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}{prefix}"
        self._count = 0
        self._worker: asyncio.Future[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._port_holder.close()

    def kill(self) -> None:
        """End it as SIGKILL does: connections break, queue and history are gone, files stay."""
        self._run(self._stop())

    def restart(self) -> None:
        """Start it again on the same port."""
        self._run(self._start())

    def occupy(self, count: int) -> list[Prompt]:
        """Put prompts of somebody else into the queue, in front of all that follow. They run until `release`."""
        others = [Prompt(str(uuid.uuid4()), self._number(), {}, "another", {}) for _ in range(count)]
        self._call(self._pending.extend, others)
        return others

    def release(self) -> None:
        """Let the prompts of others be done."""
        self._call(self._released.set)

    def forget(self, prompt_id: str) -> None:
        """Somebody takes a pending prompt from the queue."""
        self._call(self._delete, [prompt_id])

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until something holds that depends on requests, connections, queue or history."""
        self._run(self._until(condition))

    def is_listened_to(self) -> bool:
        """Whether a WebSocket is open."""
        return bool(self._sockets)

    @property
    def queued_ids(self) -> list[str]:
        """Ids that run or wait."""
        running = [self._running] if self._running else []
        return [prompt.id for prompt in (*running, *self._pending)]

    @property
    def history_ids(self) -> list[str]:
        """Ids that have an entry in the history."""
        return list(self._history)

    def _run(self, work: Awaitable[None]) -> None:
        asyncio.run_coroutine_threadsafe(_as_coroutine(work), self._loop).result(timeout=60)

    def _call(self, change: Callable[..., object], *arguments: Any) -> None:
        async def call() -> None:
            change(*arguments)
            self._changed()

        self._run(call())

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._change.wait()

    def _changed(self) -> None:
        """Let all that wait look again."""
        self._change.set()
        self._change = asyncio.Event()

    async def _start(self) -> None:
        if self._worker is not None:  # it may still be on its way out
            await asyncio.wait([self._worker])
        self._pending: list[Prompt] = []
        self._running: Prompt | None = None
        self._history: dict[str, Any] = {}
        self._finished: dict[str, dict[str, Any]] = {}  # graph as text → outputs: what ComfyUI caches
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._with_metadata: set[str] = set()
        self._transports: set[asyncio.Transport] = set()
        self._released = asyncio.Event()
        self._change = asyncio.Event()
        app = web.Application(client_max_size=self._max_upload, middlewares=[self._gate])
        for path, handler in self._routes():
            method, _, route = path.partition(" ")
            app.router.add_route(method, self._prefix + route, handler)
            app.router.add_route(method, self._prefix + "/api" + route, handler)
        if not self.version.startswith("0.3."):
            app.router.add_get(self._prefix + "/api/jobs/{id}", self._job)
            app.router.add_post(self._prefix + "/api/jobs/{id}/cancel", self._cancel_job)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_port=True, ssl_context=self._tls).start()
        self._worker = asyncio.ensure_future(self._work())

    async def _stop(self) -> None:
        if self._worker is not None and self._worker is not asyncio.current_task():
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        for transport in self._transports:
            transport.abort()
        await self._runner.cleanup()

    def _routes(self) -> list[tuple[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]]:
        return [
            ("GET /system_stats", self._stats),
            ("GET /features", self._features),
            ("GET /object_info", self._object_info),
            ("POST /upload/image", self._upload),
            ("POST /prompt", self._prompt),
            ("GET /queue", self._queue),
            ("POST /queue", self._change_queue),
            ("POST /interrupt", self._interrupt),
            ("GET /history/{id}", self._get_history),
            ("GET /view", self._view),
            ("GET /ws", self._socket),
        ]

    @web.middleware
    async def _gate(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        called = f"{request.method} {request.path.removeprefix(self._prefix)}"
        self.requests.append(called)
        self.queries.append(dict(request.query))
        if request.transport is not None:
            self._transports.add(request.transport)
        if self._header is not None and request.headers.get(self._header[0]) != self._header[1]:
            return web.Response(status=401)
        if self.faults.error_answers > 0:
            self.faults.error_answers -= 1
            self._changed()
            return web.Response(status=502, text="Bad Gateway")
        odd = _named(self.faults.answers, called)
        if odd is not None and self.faults.answers[odd].times > 0:
            answer = self.faults.answers[odd]
            answer.times -= 1
            return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)
        try:
            done = await handler(request)
            lost = _named(self.faults.loses_answers, called)
            if lost is not None and self.faults.loses_answers[lost] > 0 and request.transport is not None:
                self.faults.loses_answers[lost] -= 1
                request.transport.abort()
            return done
        finally:
            self._changed()

    async def _stats(self, _: web.Request) -> web.Response:
        return web.json_response({"system": {"os": "posix", "comfyui_version": self.version}, "devices": []})

    async def _features(self, _: web.Request) -> web.Response:
        return web.json_response({"supports_preview_metadata": True, "max_upload_size": self._max_upload})

    async def _object_info(self, _: web.Request) -> web.Response:
        info = copy.deepcopy(self.info)
        for (kind, input_name), names in self.models.items():
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
        while self.uploads.get(name, content) != content:
            number += 1
            name = f"{stem} ({number}){dot}{ending}"
        self.uploads[name] = content
        return web.json_response({"name": name, "subfolder": "", "type": "input"})

    async def _prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        prompt_id = body.get("prompt_id") or str(uuid.uuid4())
        if not self.version.startswith("0.3.") and str(uuid.UUID(prompt_id)) != prompt_id:
            return web.json_response({"error": {"type": "invalid_prompt_id"}, "node_errors": {}}, status=400)
        options = self.models | {loader: list(self.uploads) for loader in LOADERS}
        try:
            graphs.check(body["prompt"], self.info, options)
        except RefusedError as refused:
            return web.json_response(refused.body, status=400)
        prompt = Prompt(prompt_id, self._number(), body["prompt"], body.get("client_id"), body.get("extra_data", {}))
        self.prompts.append(prompt)
        self._pending.append(prompt)
        dropped = {"save": {"errors": [{"message": "dropped", "details": ""}], "class_type": "SaveVideo"}}
        node_errors = dropped if self.faults.drops_an_output else {}
        return web.json_response({"prompt_id": prompt_id, "number": prompt.number, "node_errors": node_errors})

    async def _queue(self, _: web.Request) -> web.Response:
        running = [self._running] if self._running else []
        for prompt in (*running, *self._pending):
            prompt.asked_for = True
        rows = [
            [[prompt.number, prompt.id, prompt.graph, {"client_id": prompt.client_id}, ["save"]] for prompt in some]
            for some in (running, self._pending)
        ]
        return web.json_response({"queue_running": rows[0], "queue_pending": rows[1]})

    async def _change_queue(self, request: web.Request) -> web.Response:
        self._delete((await request.json()).get("delete", []))
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        wanted = (await request.json()).get("prompt_id")
        if self._running and wanted in (None, self._running.id):
            self._running.interrupted = True
        return web.Response()

    async def _get_history(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["id"]
        if prompt_id in self._history and self.faults.late_history > 0:
            self.faults.late_history -= 1
            return web.json_response({})
        return web.json_response({prompt_id: self._history[prompt_id]} if prompt_id in self._history else {})

    async def _job(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["id"]
        running = [self._running] if self._running else []
        for state, prompts in (("in_progress", running), ("pending", self._pending)):
            for prompt in prompts:
                prompt.asked_for = True
                if prompt.id == prompt_id:
                    return web.json_response({"id": prompt_id, "status": state, "outputs_count": 0})
        entry = self._history.get(prompt_id)
        if entry is None or self.faults.late_history > 0:
            self.faults.late_history -= entry is not None
            return web.json_response({"error": "Job not found"}, status=404)
        state = "completed" if entry["status"]["completed"] else "failed"
        told = {"outputs": entry["outputs"], "execution_status": entry["status"]}
        return web.json_response({"id": prompt_id, "status": state, **told})

    async def _cancel_job(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["id"]
        found = prompt_id in self.queued_ids
        self._delete([prompt_id])
        if self._running and self._running.id == prompt_id:
            self._running.interrupted = True
        return web.json_response({"cancelled": found})

    async def _view(self, request: web.Request) -> web.StreamResponse:
        path = self.folder / request.query["subfolder"] / request.query["filename"]
        if not path.is_file():
            return web.Response(status=404)
        if self.faults.shortens_downloads > 0:
            self.faults.shortens_downloads -= 1
            return await self._shortened(request, path.read_bytes())
        cut = self.faults.downloads_cut_at
        if self.faults.ignores_range:
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
        if self.faults.without_length:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(content) // 2
        await response.prepare(request)
        await response.write(content[: len(content) // 2])
        return response

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if self.faults.refuses_socket:
            return web.Response(status=403)
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        client_id = request.query.get("clientId") or uuid.uuid4().hex
        self._sockets[client_id] = connection
        self._changed()
        await self._tell(client_id, "status", status=self._queue_status, sid=client_id)
        async for message in connection:
            if message.type is WSMsgType.TEXT and "supports_preview_metadata" in message.data:
                self._with_metadata.add(client_id)
        self._sockets.pop(client_id, None)  # also where a newer one has taken its place: ComfyUI forgets the id
        return connection

    async def _work(self) -> None:
        while True:
            await self._until(lambda: bool(self._pending))
            prompt = self._running = self._pending.pop(0)
            if prompt.client_id == "another":
                await self._released.wait()
                self._running = None
                self._changed()
                continue
            await self._until(lambda prompt=prompt: prompt.asked_for or prompt.interrupted)
            outputs, messages = await self._execute(prompt)
            failed = messages[-1][0] != "execution_success"
            status = {"status_str": "error" if failed else "success", "completed": not failed, "messages": messages}
            row = [prompt.number, prompt.id, prompt.graph, {"client_id": prompt.client_id}, ["save"]]
            self._running = None
            if not self.faults.forgets_results:
                self._history[prompt.id] = {"prompt": row, "outputs": outputs, "status": status, "meta": {}}
            self._changed()
            await self._tell(prompt.client_id, "status", status=self._queue_status)
            await self._tell(prompt.client_id, "executing", node=None, prompt_id=prompt.id)

    async def _execute(self, prompt: Prompt) -> tuple[dict[str, Any], list[list[Any]]]:
        messages: list[list[Any]] = []

        async def note(kind: str, **data: Any) -> None:
            messages.append([kind, {"prompt_id": prompt.id, **data}])
            await self._tell(prompt.client_id, kind, prompt_id=prompt.id, **data)

        if self._trace:
            return await self._replay(prompt)
        await note("execution_start", timestamp=0)
        known = self._finished.get(json.dumps(prompt.graph))
        await note("execution_cached", nodes=list(prompt.graph) if known else [], timestamp=0)
        outputs = known or {}
        for node_id in [] if known else _in_order(prompt.graph):
            kind = prompt.graph[node_id]["class_type"]
            await self._tell(prompt.client_id, "executing", node=node_id, display_node=node_id, prompt_id=prompt.id)
            await self._until(lambda kind=kind: self.faults.hangs_at != kind or prompt.interrupted)
            if kind == "KSampler":
                await self._sample(prompt, node_id)
            if prompt.interrupted or (self.faults.interrupted_by_another and kind == "KSampler"):
                await note("execution_interrupted", node_id=node_id, node_type=kind, executed=[])
                return {}, messages
            if kind in self.faults.raises:
                exception, text = self.faults.raises[kind]
                where = {"node_id": node_id, "node_type": kind, "executed": [], "traceback": [], "current_inputs": {}}
                await note("execution_error", **where, exception_type=exception, exception_message=text)
                return {}, messages
            if kind in ("SaveVideo", "SaveImage"):
                outputs[node_id] = await asyncio.to_thread(self._save, prompt.graph, node_id)
        for node_id, output in outputs.items():
            await self._tell(prompt.client_id, "executed", node=node_id, output=output, prompt_id=prompt.id)
        self._finished[json.dumps(prompt.graph)] = outputs
        await note("execution_success", timestamp=0)
        return outputs, messages

    async def _replay(self, prompt: Prompt) -> tuple[dict[str, Any], list[list[Any]]]:
        """Send what a real server sent about a prompt with the same node ids."""
        outputs = {
            node_id: await asyncio.to_thread(self._save, prompt.graph, node_id)
            for node_id, node in prompt.graph.items()
            if node["class_type"] == "SaveVideo"
        }
        for message in self._trace:
            data = dict(message["data"])
            if "prompt_id" in data:
                data["prompt_id"] = prompt.id
            if message["type"] == "executed":
                data["output"] = outputs[data["node"]]
            await self._tell(prompt.client_id, message["type"], **data)
        return outputs, [["execution_success", {"prompt_id": prompt.id}]]

    async def _sample(self, prompt: Prompt, node_id: str) -> None:
        steps = prompt.graph[node_id]["inputs"]["steps"]
        if isinstance(steps, list):  # of a node that gives a number
            steps = prompt.graph[steps[0]]["inputs"]["value"]
        for step in range(1, steps + 1):
            may_go_on = self.holds.get(step, lambda: True)
            await self._until(lambda may_go_on=may_go_on: prompt.interrupted or may_go_on())
            if prompt.interrupted:
                return
            if self.faults.dies_at_step == step:
                self.faults.dies_at_step = None
                await self._stop()
                raise asyncio.CancelledError
            if self.faults.drops_sockets_at_step == step:
                self.faults.drops_sockets_at_step = None
                for connection in list(self._sockets.values()):
                    await connection.close(code=WSCloseCode.GOING_AWAY)
            if prompt.extra.get("preview_method"):
                await self._preview(prompt, node_id)
            for kind, data in self.odd_messages:
                await self._tell(prompt.client_id, kind, **{"prompt_id": prompt.id} | data)
            count = {"value": step, "max": steps}
            states = {node_id: {**count, "state": "running", "node_id": node_id, "prompt_id": prompt.id}}
            await self._tell(prompt.client_id, "progress_state", prompt_id=prompt.id, nodes=states)
            if not self.faults.tells_states_only:
                await self._tell(prompt.client_id, "progress", **count, prompt_id=prompt.id, node=node_id)

    async def _preview(self, prompt: Prompt, node_id: str) -> None:
        out = BytesIO()
        Image.new("RGB", (16, 16), (200, 40, 40)).save(out, "JPEG")
        connection = self._sockets.get(prompt.client_id or "")
        if connection is None:
            return
        if prompt.client_id in self._with_metadata:
            about = json.dumps({"node_id": node_id, "prompt_id": prompt.id, "image_type": "image/jpeg"}).encode()
            await connection.send_bytes(struct.pack(">II", 4, len(about)) + about + out.getvalue())
        else:
            await connection.send_bytes(struct.pack(">II", 1, 1) + out.getvalue())

    def _save(self, graph: Graph, node_id: str) -> dict[str, Any]:
        inputs = graph[node_id]["inputs"]
        chunk = next(node["inputs"] for node in graph.values() if node["class_type"] == "WanSoundImageToVideo")
        width, height = chunk["width"], chunk["height"]
        shown = graphs.labels(graph, inputs.get("video") or inputs["images"])
        shown = shown[: len(shown) - self.faults.frames_short]
        if self._listens:
            name = next(node["inputs"]["audio"] for node in graph.values() if node["class_type"] == "LoadAudio")
            shown = [heard_frame(self.uploads[name], label) for label in shown]
        subfolder, _, stem = inputs["filename_prefix"].rpartition("/")
        folder = self.folder / subfolder
        folder.mkdir(parents=True, exist_ok=True)
        if graph[node_id]["class_type"] == "SaveImage":
            names = [f"{stem}_{number:05d}_.png" for number in range(1, len(shown) + 1)]
            for name, label in zip(names, shown, strict=True):
                Image.fromarray(graphs.draw(label, width, height)).save(folder / name)
            self._lose(folder / names[-1])
            return {"images": [{"filename": name, "subfolder": subfolder, "type": "output"} for name in names]}
        path = folder / f"{stem}_00001_.mp4"
        crf = next((value for name, value in inputs.items() if name.endswith("crf")), 23)
        with SegmentWriter(path, width=width, height=height, crf=round(crf)) as writer:
            writer.write(np.stack([graphs.draw(label, width, height) for label in shown]))
        if self.faults.output is not None:
            path.write_bytes(self.faults.output)
        self._lose(path)
        listed = {"filename": path.name, "subfolder": subfolder, "type": "output"}
        return {"images": [listed], "animated": [True]}

    def _lose(self, path: Path) -> None:
        if self.faults.loses_files > 0:
            self.faults.loses_files -= 1
            path.unlink()

    async def _tell(self, client_id: str | None, kind: str, **data: Any) -> None:
        connection = self._sockets.get(client_id or "")
        if connection is None or connection.closed or self.faults.silent_socket:
            return
        with suppress(ConnectionError):
            await connection.send_str(json.dumps({"type": kind, "data": data}))

    @property
    def _queue_status(self) -> dict[str, Any]:
        return {"exec_info": {"queue_remaining": len(self._pending) + (self._running is not None)}}

    def _delete(self, prompt_ids: list[str]) -> None:
        self._pending = [prompt for prompt in self._pending if prompt.id not in prompt_ids]

    def _number(self) -> int:
        self._count += 1
        return self._count


def _named(by_route: Mapping[str, Any], called: str) -> str | None:
    """The key that names the route of a request, "GET /history" for "GET /history/7"."""
    return next((route for route in by_route if called == route or called.startswith(route + "/")), None)


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work


def _in_order(graph: Graph) -> list[str]:
    """Node ids, each behind those that it needs."""
    done: list[str] = []

    def visit(node_id: str) -> None:
        if node_id not in done:
            for value in graph[node_id]["inputs"].values():
                if isinstance(value, list):
                    visit(value[0])
            done.append(node_id)

    for node_id in graph:
        visit(node_id)
    return done
