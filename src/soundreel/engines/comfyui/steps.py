"""A server's messages about nodes as progress of clips."""

from pathlib import Path
from typing import Final

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
        self.preview: Path | None = None

    def progress(self, event: Event) -> Progress | None:
        """The progress that a message reports; None where it reports none."""
        node = event.data.get("node")
        if event.kind == "progress" and node in self._clips:
            return self._step(node, int(event.data["value"]), int(event.data["max"]))
        if event.kind != "executing" or node is None:
            return None
        if node in self._clips:
            return self._step(node, 0, self._steps)
        stage, what = _STAGES.get(self._kinds.get(node, ""), (None, ""))
        if stage is None:
            return None
        total = len(self._clips) * self._steps
        return Progress(stage=stage, what=what, done=total, total=total)

    def _step(self, node: str, step: int, steps: int) -> Progress:
        self._steps = steps
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
