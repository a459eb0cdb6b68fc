"""A graph as a workflow file of ComfyUI's editor: laid out from left to right, a group for each chunk, seeds fixed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from soundreel.engines.comfyui.answers import NodeClasses
from soundreel.engines.comfyui.client import Graph
from soundreel.engines.comfyui.widgets import CONTROL, Spec, all_inputs, default_of, is_widget, widget_values

FORMAT_VERSION: Final = 0.4

MODELS: Final = frozenset(
    {"UNETLoader", "LoraLoaderModelOnly", "ModelSamplingSD3", "CLIPLoader", "VAELoader", "AudioEncoderLoader"}
)
INPUTS: Final = frozenset({"LoadAudio", "AudioEncoderEncode", "LoadImage", "CLIPTextEncode"})

COLUMN_PIXELS: Final = 400
NODE_PIXELS: Final = 330
MARGIN_PIXELS: Final = 30
TITLE_PIXELS: Final = 80  # of a group, with the head of its first node
SLOT_PIXELS: Final = 24
WIDGET_PIXELS: Final = 28
TEXT_PIXELS: Final = 140

_CHUNK: Final = re.compile(r"(?:chunk|sample|join|pose|pose_file)_(\d+)$")
_OF_SHOT: Final = re.compile(r"shot_(\d+)_(.+)")


@dataclass(frozen=True, kw_only=True)
class _Node:
    """A node of the graph with what the editor needs to know of it."""

    number: int
    node_id: str
    kind: str
    inputs: Mapping[str, Any]
    described: Mapping[str, Any]
    title: str

    @property
    def sockets(self) -> dict[str, Spec]:
        """The inputs that are links, and those that are linked instead of typed in."""
        given = all_inputs(self.described)
        return {name: spec for name, spec in given.items() if not is_widget(spec) or is_link(self.inputs.get(name))}

    @property
    def widgets(self) -> list[Any]:
        """The values of the widgets, in order."""

        def pick(name: str, spec: Spec) -> Any:
            if name == CONTROL:
                return "fixed"
            given = self.inputs.get(name)
            return default_of(spec) if given is None or is_link(given) else given

        return [value for _, value in widget_values(all_inputs(self.described), pick)]

    @property
    def height(self) -> int:
        """About what the editor needs to show it."""
        slots = max(len(self.sockets), len(self.described["output"]))
        text = TEXT_PIXELS if self.kind == "CLIPTextEncode" else 0
        return SLOT_PIXELS * (slots + 1) + WIDGET_PIXELS * len(self.widgets) + text


def to_editor(graph: Graph, nodes: NodeClasses) -> dict[str, Any]:
    """The workflow file for `graph`; `nodes` describes all its node classes."""
    placed = {
        node_id: _Node(
            number=number,
            node_id=node_id,
            kind=node["class_type"],
            inputs=node["inputs"],
            described=nodes[node["class_type"]],
            title=node.get("_meta", {}).get("title", node["class_type"]),
        )
        for number, (node_id, node) in enumerate(graph.items(), start=1)
    }
    links = _links(placed)
    sections: dict[str, list[_Node]] = {}
    for node in placed.values():
        sections.setdefault(_section(node), []).append(node)
    entering: dict[int, dict[int, int]] = {}  # by node: links by the socket that they lead to
    leaving: dict[int, list[tuple[int, int]]] = {}  # by node: the output, and a link from there
    for link, origin, out, target, slot, _ in links:
        entering.setdefault(target, {})[slot] = link
        leaving.setdefault(origin, []).append((out, link))
    drawn, groups = [], []
    for column, title in enumerate(sorted(sections, key=_section_order)):
        top = TITLE_PIXELS
        left = column * COLUMN_PIXELS
        for node in sections[title]:
            ends = entering.get(node.number, {}), leaving.get(node.number, [])
            drawn.append(_drawn(node, *ends, (left, top)))
            top += node.height + 2 * MARGIN_PIXELS
        bounds = [left - MARGIN_PIXELS, 0, NODE_PIXELS + 2 * MARGIN_PIXELS, top]
        groups.append({"id": column + 1, "title": title, "bounding": bounds, "color": "#3f789e", "flags": {}})
    return {
        "last_node_id": len(placed),
        "last_link_id": len(links),
        "nodes": sorted(drawn, key=lambda node: node["id"]),
        "links": links,
        "groups": groups,
        "config": {},
        "extra": {},
        "version": FORMAT_VERSION,
    }


def _links(placed: Mapping[str, _Node]) -> list[list[Any]]:
    rows = [
        (placed[node.inputs[name][0]], node.inputs[name][1], node, slot)
        for node in placed.values()
        for slot, name in enumerate(node.sockets)
        if is_link(node.inputs.get(name)) and node.inputs[name][0] in placed
    ]
    return [
        [number, origin.number, out, node.number, slot, origin.described["output"][out]]
        for number, (origin, out, node, slot) in enumerate(rows, start=1)
    ]


def _drawn(
    node: _Node, entering: Mapping[int, int], leaving: Sequence[tuple[int, int]], place: tuple[int, int]
) -> dict[str, Any]:
    outputs = node.described["output"]
    names = node.described.get("output_name") or outputs
    return {
        "id": node.number,
        "type": node.kind,
        "title": node.title,
        "pos": list(place),
        "size": [NODE_PIXELS, node.height],
        "flags": {},
        "order": node.number - 1,
        "mode": 0,
        "inputs": [
            {"name": name, "type": spec[0] if isinstance(spec[0], str) else "COMBO", "link": entering.get(slot)}
            | ({"widget": {"name": name}} if is_widget(spec) else {})
            for slot, (name, spec) in enumerate(node.sockets.items())
        ],
        "outputs": [
            {"name": names[slot], "type": kind, "links": [link for out, link in leaving if out == slot]}
            for slot, kind in enumerate(outputs)
        ],
        "properties": {"Node name for S&R": node.kind},
        "widgets_values": node.widgets,
    }


def _section(node: _Node) -> str:
    of_shot = _OF_SHOT.match(node.node_id)
    chunk = _CHUNK.match(node.node_id if of_shot is None else of_shot[2])
    if chunk is not None:
        return f"Chunk {chunk[1]}" if of_shot is None else f"Shot {of_shot[1]}, chunk {chunk[1]}"
    if node.kind in MODELS:
        return "Models"
    return "Sound, pictures and words" if node.kind in INPUTS else "Video"


def _section_order(title: str) -> tuple[int, ...]:
    numbers = [int(number) for number in re.findall(r"\d+", title)]
    return (2, *numbers) if numbers else ({"Models": 0, "Video": 3}.get(title, 1),)


def is_link(value: object) -> bool:
    """Whether an input is the output of another node."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)
