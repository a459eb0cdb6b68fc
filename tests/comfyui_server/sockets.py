"""The WebSockets of a server: one for each client id, with what is told on it."""

import json
import struct
import uuid
from contextlib import suppress
from io import BytesIO
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web
from PIL import Image

from comfyui_server.queue import Queue
from comfyui_server.scene import Prompt, Scene


class Sockets:
    """The connections of a running server."""

    def __init__(self, scene: Scene, queue: Queue) -> None:
        self._scene, self._queue = scene, queue
        self._open: dict[str, web.WebSocketResponse] = {}
        self._with_metadata: set[str] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """GET /ws: a connection until its client closes it."""
        if self._scene.faults.refuses_socket:
            return web.Response(status=403)
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        client_id = request.query.get("clientId") or uuid.uuid4().hex
        self._open[client_id] = connection
        self._queue.changed()
        await self.tell_status(client_id, sid=client_id)
        async for message in connection:
            if message.type is WSMsgType.TEXT and "supports_preview_metadata" in message.data:
                self._with_metadata.add(client_id)
        self._open.pop(client_id, None)  # also where a newer one has taken its place: ComfyUI forgets the id
        return connection

    async def drop_all(self) -> None:
        """Close all connections, as a gateway does that goes away."""
        for connection in list(self._open.values()):
            await connection.close(code=WSCloseCode.GOING_AWAY)

    async def tell_status(self, client_id: str | None, **more: Any) -> None:
        """Tell how long the queue is."""
        await self.tell(client_id, "status", status={"exec_info": {"queue_remaining": len(self._queue)}}, **more)

    async def tell(self, client_id: str | None, kind: str, **data: Any) -> None:
        """Tell a client something, if it listens."""
        connection = self._open.get(client_id or "")
        if connection is None or connection.closed or self._scene.faults.silent_socket:
            return
        with suppress(ConnectionError):
            await connection.send_str(json.dumps({"type": kind, "data": data}))

    async def preview(self, prompt: Prompt, node_id: str) -> None:
        """Send a picture of what is sampled."""
        out = BytesIO()
        Image.new("RGB", (16, 16), (200, 40, 40)).save(out, "JPEG")
        connection = self._open.get(prompt.client_id or "")
        if connection is None:
            return
        if prompt.client_id in self._with_metadata:
            about = json.dumps({"node_id": node_id, "prompt_id": prompt.id, "image_type": "image/jpeg"}).encode()
            await connection.send_bytes(struct.pack(">II", 4, len(about)) + about + out.getvalue())
        else:
            await connection.send_bytes(struct.pack(">II", 1, 1) + out.getvalue())
