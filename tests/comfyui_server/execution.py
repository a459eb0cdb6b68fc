"""How a server runs prompts: it tells of every step in the captured order, and saves pictures. Nothing is sampled."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from comfyui_server import graphs
from comfyui_server.graphs import Graph
from comfyui_server.queue import Queue, row
from comfyui_server.scene import Prompt, Scene
from comfyui_server.sockets import Sockets
from numbered_sound import heard_frame
from soundreel.media.video import SegmentWriter

SOMEBODY_ELSE = "another"
"""Client id of prompts that only take up time."""


class Execution:
    """The worker of a running server.

    A prompt is begun once its client looks into the queue, so that none of its messages can be missed, and goes on when
    what it is held for has come.

    Args:
        die: ends the server as SIGKILL does.

    Attributes:
        is_released: the prompts of others may be done.
    """

    def __init__(self, scene: Scene, queue: Queue, sockets: Sockets, die: Callable[[], Awaitable[None]]) -> None:
        self._scene, self._queue, self._sockets, self._die = scene, queue, sockets, die
        self._finished: dict[str, dict[str, Any]] = {}  # graph as text → outputs: what ComfyUI caches
        self.is_released = False

    async def work(self) -> None:
        """Run one prompt after another, for ever."""
        while True:
            await self._queue.until(lambda: bool(self._queue.pending))
            prompt = self._queue.running = self._queue.pending.pop(0)
            if prompt.client_id == SOMEBODY_ELSE:
                await self._queue.until(lambda: self.is_released)
                self._queue.running = None
                self._queue.changed()
                continue
            await self._queue.until(lambda prompt=prompt: prompt.asked_for or prompt.interrupted)
            outputs, messages = await self._execute(prompt)
            failed = messages[-1][0] != "execution_success"
            status = {"status_str": "error" if failed else "success", "completed": not failed, "messages": messages}
            self._queue.running = None
            if not self._scene.faults.forgets_results:
                self._queue.history[prompt.id] = {
                    "prompt": row(prompt),
                    "outputs": outputs,
                    "status": status,
                    "meta": {},
                }
            self._queue.changed()
            await self._sockets.tell_status(prompt.client_id)
            await self._sockets.tell(prompt.client_id, "executing", node=None, prompt_id=prompt.id)

    async def _execute(self, prompt: Prompt) -> tuple[dict[str, Any], list[list[Any]]]:
        messages: list[list[Any]] = []

        async def note(kind: str, **data: Any) -> None:
            messages.append([kind, {"prompt_id": prompt.id, **data}])
            await self._sockets.tell(prompt.client_id, kind, prompt_id=prompt.id, **data)

        if self._scene.trace:
            return await self._replay(prompt)
        await note("execution_start", timestamp=0)
        known = self._finished.get(json.dumps(prompt.graph))
        await note("execution_cached", nodes=list(prompt.graph) if known else [], timestamp=0)
        outputs = known or {}
        for node_id in [] if known else _in_order(prompt.graph):
            kind = prompt.graph[node_id]["class_type"]
            await self._sockets.tell(
                prompt.client_id, "executing", node=node_id, display_node=node_id, prompt_id=prompt.id
            )
            await self._queue.until(lambda kind=kind: self._scene.faults.hangs_at != kind or prompt.interrupted)
            if kind == "KSampler":
                await self._sample(prompt, node_id)
            if prompt.interrupted or (self._scene.faults.interrupted_by_another and kind == "KSampler"):
                await note("execution_interrupted", node_id=node_id, node_type=kind, executed=[])
                return {}, messages
            if kind in self._scene.faults.raises:
                exception, text = self._scene.faults.raises[kind]
                where = {"node_id": node_id, "node_type": kind, "executed": [], "traceback": [], "current_inputs": {}}
                await note("execution_error", **where, exception_type=exception, exception_message=text)
                return {}, messages
            if kind in ("SaveVideo", "SaveImage"):
                outputs[node_id] = await asyncio.to_thread(self._save, prompt.graph, node_id)
        for node_id, output in outputs.items():
            await self._sockets.tell(prompt.client_id, "executed", node=node_id, output=output, prompt_id=prompt.id)
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
        for message in self._scene.trace:
            data = dict(message["data"])
            if "prompt_id" in data:
                data["prompt_id"] = prompt.id
            if message["type"] == "executed":
                data["output"] = outputs[data["node"]]
            await self._sockets.tell(prompt.client_id, message["type"], **data)
        ends = ("execution_success", "execution_interrupted", "execution_error")
        last = next(message for message in reversed(self._scene.trace) if message["type"] in ends)
        is_done = last["type"] == ends[0]
        return outputs if is_done else {}, [[last["type"], {**last["data"], "prompt_id": prompt.id}]]

    async def _sample(self, prompt: Prompt, node_id: str) -> None:
        steps = prompt.graph[node_id]["inputs"]["steps"]
        if isinstance(steps, list):  # of a node that gives a number
            steps = prompt.graph[steps[0]]["inputs"]["value"]
        for step in range(1, steps + 1):
            may_go_on = self._scene.holds.get(step, lambda: True)
            await self._queue.until(lambda may_go_on=may_go_on: prompt.interrupted or may_go_on())
            if prompt.interrupted:
                return
            if self._scene.faults.dies_at_step == step:
                self._scene.faults.dies_at_step = None
                await self._die()
                raise asyncio.CancelledError
            if self._scene.faults.drops_sockets_at_step == step:
                self._scene.faults.drops_sockets_at_step = None
                await self._sockets.drop_all()
            if prompt.extra.get("preview_method"):
                await self._sockets.preview(prompt, node_id)
            for kind, data in self._scene.odd_messages:
                await self._sockets.tell(prompt.client_id, kind, **{"prompt_id": prompt.id} | data)
            count = {"value": step, "max": steps}
            states = {node_id: {**count, "state": "running", "node_id": node_id, "prompt_id": prompt.id}}
            await self._sockets.tell(prompt.client_id, "progress_state", prompt_id=prompt.id, nodes=states)
            if not self._scene.faults.tells_states_only:
                await self._sockets.tell(prompt.client_id, "progress", **count, prompt_id=prompt.id, node=node_id)

    def _save(self, graph: Graph, node_id: str) -> dict[str, Any]:
        inputs = graph[node_id]["inputs"]
        chunk = next(node["inputs"] for node in graph.values() if node["class_type"] == "WanSoundImageToVideo")
        width, height = chunk["width"], chunk["height"]
        shown = graphs.labels(graph, inputs.get("video") or inputs["images"])
        shown = shown[: len(shown) - self._scene.faults.frames_short]
        if self._scene.listens:
            name = next(node["inputs"]["audio"] for node in graph.values() if node["class_type"] == "LoadAudio")
            shown = [heard_frame(self._scene.uploads[name], label) for label in shown]
        subfolder, _, stem = inputs["filename_prefix"].rpartition("/")
        folder = self._scene.folder / subfolder
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
        if self._scene.faults.output is not None:
            path.write_bytes(self._scene.faults.output)
        self._lose(path)
        listed = {"filename": path.name, "subfolder": subfolder, "type": "output"}
        return {"images": [listed], "animated": [True]}

    def _lose(self, path: Path) -> None:
        if self._scene.faults.loses_files > 0:
            self._scene.faults.loses_files -= 1
            path.unlink()


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
