"""The user's own graph, adapted to a plan. Nodes are recognised by class, links and title.

Models, steps, guidance and sampler stay as in the graph. Replaced are sound, reference image, size, length, seeds,
prompts that the request states, and the names of output files.
"""

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from soundreel.disk.plain_json import read_json
from soundreel.engines.comfyui.answers import NodeClasses
from soundreel.engines.comfyui.client import Graph
from soundreel.engines.comfyui.editor_files import is_editor_file, to_graph
from soundreel.engines.comfyui.graph import FIRST_CHUNK, NEXT_CHUNK, InputNames, OutputFormat, sampled_length
from soundreel.engines.comfyui.inventory import PLAIN_VIDEO, Inventory
from soundreel.engines.comfyui.steps import samplers_in_order
from soundreel.errors import InputError
from soundreel.media.files import check_file, reason
from soundreel.types import Plan
from soundreel.units import StrPath

_SEEDS: Final = ("seed", "noise_seed")


def read_workflow(path: StrPath) -> dict[str, Any]:
    """Read a workflow file, in API format or as ComfyUI's editor saves it.

    Raises:
        InputError: there is no such file, or it is neither.
    """
    name = os.fspath(path)
    check_file(path, "workflow")
    try:
        content = read_json(Path(path))
    except ValueError as error:  # UnicodeDecodeError is one
        raise InputError(f"--workflow {name!r} is not JSON: {error}") from error
    except OSError as error:
        raise InputError(f"cannot open workflow {name!r}: {reason(error)}") from error
    graph = content.get("prompt", content) if isinstance(content, dict) else None
    if not is_editor_file(content) and not (
        isinstance(graph, dict) and graph and all(_is_node(node) for node in graph.values())
    ):
        raise InputError(
            f"--workflow {name!r} is no workflow: expected a file that ComfyUI's editor saves or exports (API), nodes "
            "with class_type and inputs"
        )
    workflow: dict[str, Any] = content
    return workflow


def as_graph(workflow: dict[str, Any], nodes: NodeClasses) -> Graph:
    """The graph of a workflow file, as a server with these node classes takes it."""
    if is_editor_file(workflow):
        return to_graph(workflow, nodes)
    graph: Graph = workflow.get("prompt", workflow)
    return graph


def fill(graph: Graph, plan: Plan, files: InputNames, output: OutputFormat) -> Graph:
    """A copy of `graph` that renders `plan`.

    Raises:
        InputError: the graph has no node for the sound or the reference image, or too few chunks for the plan, or the
            plan has shots that continue each other.
    """
    if len(plan.shots) > 1:
        raise InputError(
            "a --workflow of your own has one prompt and one picture, and the storyboard has shots that continue each "
            "other with others: give these shots hard cuts, or leave --workflow out",
            field="server.workflow",
        )
    filled = copy.deepcopy(graph)
    _fill_sound(filled, files)
    _fill_chunks(filled, plan)
    _fill_reference(filled, files)
    _fill_words(filled, plan)
    for node_id, clip in zip(samplers_in_order(filled), plan.clips, strict=False):
        inputs = filled[node_id]["inputs"]
        inputs.update({name: clip.seed for name in _SEEDS if name in inputs})
    for node in _nodes(filled, "SaveVideo", "SaveImage"):
        node["inputs"]["filename_prefix"] = output.prefix
    for node in _nodes(filled, "SaveVideo"):
        node["inputs"] = {**_without_format(node["inputs"]), **(output.video or PLAIN_VIDEO)}
    return filled


def check_outputs(graph: Graph, inventory: Inventory) -> None:
    """Raise `InputError` for a graph without an output node."""
    if not any(inventory.is_output(node["class_type"]) for node in graph.values()):
        raise InputError("the workflow has no output node: end it with SaveVideo or SaveImage")


def _fill_sound(graph: Graph, files: InputNames) -> None:
    loaders = list(_nodes(graph, "LoadAudio"))
    if not loaders:
        raise InputError("the workflow has no LoadAudio node: there is no place for the sound")
    for node in loaders:
        node["inputs"]["audio"] = files.sound
    for node in _nodes(graph, "TrimAudioDuration"):  # the uploaded sound is the window already
        node["inputs"].update(start_index=0.0, duration=1e6)


def _fill_chunks(graph: Graph, plan: Plan) -> None:
    chunks = list(_nodes(graph, FIRST_CHUNK, NEXT_CHUNK))
    if len(chunks) < len(plan.clips):
        raise InputError(
            f"the workflow has {len(chunks)} chunk{'' if len(chunks) == 1 else 's'} ({FIRST_CHUNK}, {NEXT_CHUNK}), "
            f"{plan.frames} frames need {len(plan.clips)}: add Extend nodes, or ask for fewer frames"
        )
    for node in chunks:
        node["inputs"]["length"] = sampled_length(plan.clips[0])
    for node in _nodes(graph, FIRST_CHUNK):
        node["inputs"].update(width=plan.request.width, height=plan.request.height)


def _fill_reference(graph: Graph, files: InputNames) -> None:
    """Set the image of the LoadImage nodes linked to the chunks' ref_image, else of those with "ref" in the title."""
    reference = files.references[0] if files.references else None
    if reference is None:
        return
    linked = _sources(graph, "ref_image", "LoadImage")
    titled = [node for node in _nodes(graph, "LoadImage") if "ref" in _title(node)]
    loaders = linked or titled
    if not loaders:
        raise InputError("the workflow has no LoadImage node for a reference: leave out --ref-image, or add one")
    for node in loaders:
        node["inputs"]["image"] = reference


def _fill_words(graph: Graph, plan: Plan) -> None:
    request = plan.request_of(plan.shots[0])
    for name, text in (("positive", request.prompt), ("negative", request.negative_prompt)):
        if text is None:
            continue
        encoders = _sources(graph, name, "CLIPTextEncode")
        titled = [node for node in _nodes(graph, "CLIPTextEncode") if name in _title(node)]
        for node in titled or encoders:
            node["inputs"]["text"] = text


def _sources(graph: Graph, input_name: str, kind: str) -> list[dict[str, Any]]:
    """The nodes of class `kind` nearest upstream of the chunks' input, directly or through other nodes."""
    waiting = [
        node["inputs"][input_name] for node in _nodes(graph, FIRST_CHUNK, NEXT_CHUNK) if input_name in node["inputs"]
    ]
    found: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    while waiting:
        link = waiting.pop()
        if not isinstance(link, list) or link[0] in seen or link[0] not in graph:
            continue
        seen.add(link[0])
        node = graph[link[0]]
        if node["class_type"] == kind:
            found[link[0]] = node
        else:
            waiting += node["inputs"].values()
    return list(found.values())


def _without_format(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if name.split(".")[0] not in PLAIN_VIDEO}


def _nodes(graph: Graph, *kinds: str) -> Iterator[dict[str, Any]]:
    return (node for node in graph.values() if node["class_type"] in kinds)


def _title(node: dict[str, Any]) -> str:
    return str(node.get("_meta", {}).get("title", "")).lower()


def _is_node(node: object) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)
