"""What a ComfyUI server makes of a graph: whether it takes it, and which pictures come out.

A picture is known by its label: the frame, at 16 per second, whose sound it belongs to. Latent i hears the sound up to
frame 4i, and its pictures are 4i − 3 … 4i (contract, section 4); the first of a video has only 4i.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Graph = dict[str, dict[str, Any]]

LABEL_BITS = 16
LABEL_OFFSET = 8
"""Labels begin below 0 where a latent frame is decoded a second time."""

SAVE_IMAGE = {
    "input": {"required": {"images": ["IMAGE", {}], "filename_prefix": ["STRING", {"default": "ComfyUI"}]}},
    "output": [],
    "name": "SaveImage",
    "output_node": True,
}
"""Not in the captures; every version has it."""

LATENT_MAKERS = ("WanSoundImageToVideo", "WanSoundImageToVideoExtend")


class RefusedError(Exception):
    """A 400: the body of the answer."""

    def __init__(self, error: dict[str, Any], node_errors: dict[str, Any]) -> None:
        super().__init__(error["type"])
        self.body = {"error": error, "node_errors": node_errors}


def check(graph: Graph, info: Mapping[str, Any], options: Mapping[tuple[str, str], list[str]]) -> None:
    """Raise `RefusedError` as ComfyUI's validation does; `options` are what the server has for a combo."""
    for node_id, node in graph.items():
        if node["class_type"] not in info:
            message = f"Node '{node['class_type']}' not found."
            raise RefusedError(_error("missing_node_type", message, f"Node ID '#{node_id}'"), {})
    if not any(info[node["class_type"]].get("output_node") for node in graph.values()):
        raise RefusedError(_error("prompt_no_outputs", "Prompt has no outputs"), {})
    faults = {node_id: _faults(node, graph, info, options) for node_id, node in graph.items()}
    node_errors = {
        node_id: {"errors": found, "dependent_outputs": ["save"], "class_type": graph[node_id]["class_type"]}
        for node_id, found in faults.items()
        if found
    }
    if node_errors:
        raise RefusedError(_error("prompt_outputs_failed_validation", "Prompt outputs failed validation"), node_errors)


def _faults(
    node: Mapping[str, Any], graph: Graph, info: Mapping[str, Any], options: Mapping[tuple[str, str], list[str]]
) -> list[dict[str, Any]]:
    kind, given = node["class_type"], node["inputs"]
    described = info[kind]["input"]
    found = [_fault("required_input_missing", name) for name in described.get("required", {}) if name not in given]
    for name, value in given.items():
        spec = {**described.get("required", {}), **described.get("optional", {})}.get(name)
        if spec is None:
            continue
        limits = spec[1] if len(spec) > 1 else {}
        if isinstance(value, list):
            found += _link_faults(name, value, spec, graph, info)
        elif (kind, name) in options and value not in options[kind, name]:
            found.append(_fault("value_not_in_list", f"{name}: {value!r} not in {options[kind, name]}"))
        elif isinstance(value, int | float) and value < limits.get("min", -np.inf):
            found.append(_fault("value_smaller_than_min", name))
        elif isinstance(value, int | float) and value > limits.get("max", np.inf):
            found.append(_fault("value_bigger_than_max", name))
    return found


def _link_faults(
    name: str, link: list[Any], spec: list[Any], graph: Graph, info: Mapping[str, Any]
) -> list[dict[str, Any]]:
    if link[0] not in graph:
        return [_fault("exception_during_inner_validation", repr(link[0]))]
    given = info[graph[link[0]]["class_type"]]["output"][link[1]]
    if isinstance(spec[0], str) and given != spec[0]:
        return [_fault("return_type_mismatch", f"{name}, received_type({given}) mismatch input_type({spec[0]})")]
    return []


def _fault(kind: str, details: str) -> dict[str, Any]:
    return {"type": kind, "message": kind.replace("_", " ").capitalize(), "details": details, "extra_info": {}}


def _error(kind: str, message: str, details: str = "") -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": {}}


def latents(graph: Graph, link: list[Any]) -> list[int]:
    """The latent frames of an output, each by its number in the whole video."""
    node = graph[link[0]]
    inputs = node["inputs"]
    match node["class_type"]:
        case "KSampler":
            return latents(graph, inputs["latent_image"])
        case "WanSoundImageToVideo":
            return list(range((inputs["length"] - 1) // 4 + 1))
        case "WanSoundImageToVideoExtend":
            before = len(latents(graph, inputs["video_latent"]))
            return list(range(before, before + (inputs["length"] - 1) // 4 + 1))
        case "LatentConcat":
            return latents(graph, inputs["samples1"]) + latents(graph, inputs["samples2"])
        case "LatentCut":
            return latents(graph, inputs["samples"])[inputs["index"] :][: inputs["amount"]]
        case other:
            raise AssertionError(f"{other} gives no latents")


def labels(graph: Graph, link: list[Any]) -> list[int]:
    """The pictures of an output by their labels."""
    node = graph[link[0]]
    inputs = node["inputs"]
    match node["class_type"]:
        case "VAEDecode":
            first, *rest = latents(graph, inputs["samples"])
            return [4 * first, *(4 * latent - back for latent in rest for back in (3, 2, 1, 0))]
        case "ImageFromBatch":
            return labels(graph, inputs["image"])[inputs["batch_index"] :][: inputs["length"]]
        case "CreateVideo":
            return labels(graph, inputs["images"])
        case other:
            raise AssertionError(f"{other} gives no pictures")


def samplers(graph: Graph) -> list[str]:
    """Samplers in the order in which they run."""
    found = [node_id for node_id, node in graph.items() if node["class_type"] == "KSampler"]
    return sorted(found, key=lambda node_id: latents(graph, [node_id, 0])[0])


def draw(label: int, width: int, height: int) -> NDArray[np.uint8]:
    """A picture that shows its label as black and white columns, uint8 [H, W, 3]."""
    bits = [(label + LABEL_OFFSET) >> bit & 1 for bit in range(LABEL_BITS)]
    columns = np.repeat(np.array(bits, np.uint8) * 200 + 30, -(-width // LABEL_BITS))[:width]
    return np.ascontiguousarray(np.broadcast_to(columns[None, :, None], (height, width, 3)))


def read_label(picture: NDArray[np.uint8]) -> int:
    """The label of a picture that `draw` made, through any compression."""
    size = -(-picture.shape[1] // LABEL_BITS)
    bits = [int(picture[:, size * bit + size // 2].mean() > 128) for bit in range(LABEL_BITS)]
    return sum(value << bit for bit, value in enumerate(bits)) - LABEL_OFFSET
