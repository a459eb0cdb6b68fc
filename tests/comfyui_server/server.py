"""A ComfyUI server as the captures show it, on loopback, over real HTTP and WebSocket, and all that can befall one.

It validates graphs by the captured /object_info, keeps queue and history, tells of every step in the captured order,
and saves pictures that carry their place in time (see `graphs`). Nothing is sampled.
"""

import asyncio
import copy
import socket
import ssl
import threading
import uuid
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from comfyui_server import graphs
from comfyui_server.execution import SOMEBODY_ELSE, Execution
from comfyui_server.queue import Queue
from comfyui_server.routes import Routes
from comfyui_server.scene import Prompt, Scene
from comfyui_server.sockets import Sockets

MODELS = {
    ("UNETLoader", "unet_name"): ["wan2.2_s2v_14B_fp8_scaled.safetensors"],
    ("CLIPLoader", "clip_name"): ["umt5_xxl_fp8_e4m3fn_scaled.safetensors"],
    ("VAELoader", "vae_name"): ["wan_2.1_vae.safetensors", "pixel_space"],
    ("AudioEncoderLoader", "audio_encoder_name"): ["wav2vec2_large_english_fp16.safetensors"],
    ("LoraLoaderModelOnly", "lora_name"): ["wan2.2_t2v_lightx2v_4steps_lora_v1.1_high_noise.safetensors"],
}


class ContractServer(Scene):
    """A context manager: a server in its own thread, gone with the block. It waits for events, never for a time.

    Args:
        prefix: of all paths.
        header: name and value that every request must have; None: none.
        certificate: file with certificate and key; the server is then one of https.
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
        super().__init__(
            version=version,
            info=copy.deepcopy(info) | {"SaveImage": graphs.SAVE_IMAGE},
            models=copy.deepcopy(MODELS),
            folder=folder,
            max_upload_bytes=max_upload_bytes,
            listens=listens,
            trace=trace,
        )
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._tls.load_cert_chain(certificate)
        self._prefix, self._header = prefix, header
        self._port_holder = socket.socket()  # keeps the port while the server is away
        self._port_holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._port_holder.bind(("127.0.0.1", 0))
        self._port = self._port_holder.getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}{prefix}"
        self._numbers = count(1)
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
        others = [Prompt(str(uuid.uuid4()), next(self._numbers), {}, SOMEBODY_ELSE, {}) for _ in range(count)]
        self._call(self._queue.pending.extend, others)
        return others

    def release(self) -> None:
        """Let the prompts of others be done."""
        self._call(setattr, self._execution, "is_released", True)

    def forget(self, prompt_id: str) -> None:
        """Somebody takes a pending prompt from the queue."""
        self._call(self._queue.delete, [prompt_id])

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until something holds that depends on requests, connections, queue or history."""
        self._run(self._queue.until(condition))

    def is_listened_to(self) -> bool:
        """Whether a WebSocket is open."""
        return len(self._sockets) > 0

    @property
    def queued_ids(self) -> list[str]:
        """Ids that run or wait."""
        return [prompt.id for prompt in self._queue]

    @property
    def history_ids(self) -> list[str]:
        """Ids that have an entry in the history."""
        return list(self._queue.history)

    def _run(self, work: Awaitable[None]) -> None:
        asyncio.run_coroutine_threadsafe(_as_coroutine(work), self._loop).result(timeout=60)

    def _call(self, change: Callable[..., object], *arguments: Any) -> None:
        async def call() -> None:
            change(*arguments)
            self._queue.changed()

        self._run(call())

    async def _start(self) -> None:
        if self._worker is not None:  # it may still be on its way out
            await asyncio.wait([self._worker])
        self._queue = Queue()
        self._sockets = Sockets(self, self._queue)
        self._execution = Execution(self, self._queue, self._sockets, self._stop)
        self._routes = Routes(
            self, self._queue, self._sockets, prefix=self._prefix, header=self._header, numbers=self._numbers
        )
        self._runner = web.AppRunner(self._routes.app(), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_port=True, ssl_context=self._tls).start()
        self._worker = asyncio.ensure_future(self._execution.work())

    async def _stop(self) -> None:
        if self._worker is not None and self._worker is not asyncio.current_task():
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        for transport in self._routes.transports:
            transport.abort()
        await self._runner.cleanup()


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work
