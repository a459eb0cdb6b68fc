"""A server's messages about nodes as progress of clips."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from soundreel.engines.comfyui.client import Graph
from soundreel.engines.comfyui.events import Event
from soundreel.types import Progress, Stage

_STAGES: Final = {
    "UNETLoader": (Stage.LOAD, "diffusion model"),
    "CLIPLoader": (Stage.LOAD, "text encoder"),
    "VAELoader": (Stage.LOAD, "VAE"),
    "AudioEncoderLoader": (Stage.LOAD, "audio encoder"),
    "AudioEncoderEncode": (Stage.ANALYSE, ""),
    "VAEDecode": (Stage.RENDER, "decoding"),
    "VAEDecodeTiled": (Stage.RENDER, "decoding"),
    "SaveVideo": (Stage.RENDER, "saving on the server"),
    "SaveImage": (Stage.RENDER, "saving on the server"),
}
"""Node class → stage and what of it, for nodes that take long enough to be reported."""


def is_sampler(class_type: str) -> bool:
    """Whether a node class runs denoising steps: KSampler, KSamplerAdvanced, SamplerCustom, …"""
    return "Sampler" in class_type and not class_type.endswith("Select")


def samplers_in_order(graph: Graph) -> list[str]:
    """Node ids of the samplers in topological order: each after those whose latents it continues."""
    before = {node_id: _ancestors(graph, node_id) for node_id, node in graph.items() if is_sampler(node["class_type"])}
    return sorted(before, key=lambda node_id: len(before[node_id] & before.keys()))


def _ancestors(graph: Graph, node_id: str) -> set[str]:
    found: set[str] = set()
    waiting = [node_id]
    while waiting:
        inputs = graph.get(waiting.pop(), {}).get("inputs", {}).values()
        sources = {value[0] for value in inputs if isinstance(value, list) and value and isinstance(value[0], str)}
        waiting += sources - found
        found |= sources
    return found


class Steps:
    """Counts the denoising steps of one graph's samplers.

    Attributes:
        preview: path of the preview picture to report with the progress; None: there is none.
    """

    def __init__(self, graph: Graph) -> None:
        self._kinds = {node_id: node["class_type"] for node_id, node in graph.items()}
        self._clips = {node_id: place for place, node_id in enumerate(samplers_in_order(graph), start=1)}
        self._steps = 0
        self._furthest = (0, 0)  # clip and step of what was reported last
        self.preview: Path | None = None

    def progress(self, event: Event) -> Progress | None:
        """The progress that a message reports; None where it reports none."""
        if event.kind == "progress_state":
            return self._state(event.data.get("nodes"))
        node = event.data.get("node")
        if not isinstance(node, str):
            return None
        if event.kind == "progress":
            return self._counted(node, event.data)
        return self._begun(node) if event.kind == "executing" else None

    def _begun(self, node: str) -> Progress | None:
        """The progress of a node that begins to run."""
        if node in self._clips:
            return self._step(node, 0, self._steps)
        stage, what = _STAGES.get(self._kinds.get(node, ""), (None, ""))
        if stage is None:
            return None
        total = len(self._clips) * self._steps
        return Progress(stage=stage, what=what, done=total, total=total)

    def _state(self, nodes: Any) -> Progress | None:
        """The furthest sampler of all that run or have ended; what was missed without a connection is in it."""
        states = nodes if isinstance(nodes, Mapping) else {}
        begun = [node for node in states if node in self._clips and isinstance(states[node], Mapping)]
        last = max(begun, key=self._clips.__getitem__, default=None)
        return None if last is None else self._counted(last, states[last])

    def _counted(self, node: str, count: Mapping[str, Any]) -> Progress | None:
        """The progress of a sampler at step `value` of `max`; None where that is no news."""
        step, steps = count.get("value"), count.get("max")
        if node not in self._clips or not isinstance(step, int | float) or not isinstance(steps, int | float):
            return None
        if step < 1 or (self._clips[node], step) <= self._furthest:  # at first it has not said how many it will do
            return None
        return self._step(node, int(step), int(steps))

    def _step(self, node: str, step: int, steps: int) -> Progress:
        self._steps, self._furthest = steps, (self._clips[node], step)
        clip, clips = self._clips[node], len(self._clips)
        return Progress(
            stage=Stage.RENDER,
            clip=clip,
            clips=clips,
            step=step,
            steps=steps,
            done=(clip - 1) * steps + step,
            total=clips * steps,
            preview=self.preview,
        )
