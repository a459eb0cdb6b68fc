"""Workflow files of ComfyUI's editor: read into a graph in API format, subgraphs, bypassed and muted nodes included.

A file has nodes, each with slots and the values of its widgets, links [id, from, slot, to, slot, type], and definitions
of subgraphs, whose instances are nodes of the definition's id as type. Within one, −10 stands for its inputs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

from soundreel.engines.comfyui.answers import NodeClasses
from soundreel.engines.comfyui.client import Graph
from soundreel.engines.comfyui.widgets import CONTROL, all_inputs, is_widget, widget_values
from soundreel.errors import InputError

SUBGRAPH_INPUTS: Final = -10

MUTED, BYPASSED = 2, 4
"""Modes of nodes that do not run; what goes into a bypassed one comes out of it."""

NOTES: Final = frozenset({"Note", "MarkdownNote"})

_PRIMITIVE: Final = "PrimitiveNode"
_REROUTE: Final = "Reroute"
_WITHOUT_WORK: Final = NOTES | {_PRIMITIVE, _REROUTE}
"""Node types that only the editor knows."""


def is_editor_file(content: object) -> bool:
    """Whether a JSON value is a workflow as the editor saves it."""
    return isinstance(content, dict) and isinstance(content.get("nodes"), list)


def to_graph(workflow: Mapping[str, Any], nodes: NodeClasses) -> Graph:
    """The graph in API format that the editor would queue.

    Raises:
        InputError: the file is damaged.
    """
    try:
        graph = dict(_api_nodes(_Scope.of(workflow), nodes))
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, RecursionError) as error:
        raise InputError(f"the --workflow is damaged: {type(error).__name__} {error}") from error
    return _needed(graph, nodes)


@dataclass(frozen=True, kw_only=True)
class _Scope:
    """The top level of a file, or one instance of a subgraph."""

    content: Mapping[str, Any]
    definitions: Mapping[str, Mapping[str, Any]]
    prefix: str = ""  # of node ids, as "79:"
    outside: Self | None = None
    instance: Mapping[str, Any] | None = None  # the node outside

    @classmethod
    def of(cls, workflow: Mapping[str, Any]) -> Self:
        given = (workflow.get("definitions") or {}).get("subgraphs") or []
        return cls(content=workflow, definitions={definition["id"]: definition for definition in given})

    @cached_property
    def nodes(self) -> dict[int, Mapping[str, Any]]:
        return {node["id"]: node for node in self.content["nodes"]}

    @cached_property
    def links(self) -> dict[int, tuple[int, int]]:
        """Link id → id of the node and number of the slot that it comes from."""
        rows = (
            (link["id"], link["origin_id"], link["origin_slot"]) if isinstance(link, Mapping) else link[:3]
            for link in self.content.get("links") or []
        )
        return {link: (origin, slot) for link, origin, slot in rows}

    def within(self, instance: Mapping[str, Any]) -> Self:
        """The subgraph that a node of this scope is an instance of."""
        return type(self)(
            content=self.definitions[instance["type"]],
            definitions=self.definitions,
            prefix=f"{self.prefix}{instance['id']}:",
            outside=self,
            instance=instance,
        )

    def source(self, link: int | None) -> Any:
        """What comes along a link: [node id, slot], a value, or None where nothing does."""
        if link is None or link not in self.links:
            return None
        origin, slot = self.links[link]
        if origin == SUBGRAPH_INPUTS:
            return self._from_outside(slot)
        return self._output(self.nodes[origin], slot)

    def _output(self, node: Mapping[str, Any], slot: int) -> Any:
        kind = node["type"]
        if node.get("mode") == MUTED:
            return None
        if node.get("mode") == BYPASSED or kind == _REROUTE:
            return self._passed_through(node, slot)
        if kind == _PRIMITIVE:
            return node["widgets_values"][0]
        if kind in self.definitions:
            inside = self.within(node)
            links = inside.content["outputs"][slot].get("linkIds") or []
            return inside.source(links[0]) if links else None
        return [f"{self.prefix}{node['id']}", slot]

    def _passed_through(self, node: Mapping[str, Any], slot: int) -> Any:
        inputs, kind = node.get("inputs") or [], node["outputs"][slot]["type"]
        ordered = [*inputs[slot : slot + 1], *inputs]  # the one of the same number first
        fitting = (given for given in ordered if given["type"] == kind or node["type"] == _REROUTE)
        return next((self.source(given.get("link")) for given in fitting), None)

    def _from_outside(self, slot: int) -> Any:
        assert self.outside is not None, "the top level has no inputs"
        assert self.instance is not None
        name = self.content["inputs"][slot]["name"]
        links = (entry.get("link") for entry in self.instance.get("inputs") or [] if entry["name"] == name)
        linked = self.outside.source(next(links, None))
        return linked if linked is not None else self._instance_values.get(name)

    @cached_property
    def _instance_values(self) -> dict[str, Any]:
        """Values that are typed into the instance, by the names of the subgraph's inputs."""
        assert self.instance is not None
        typed_in = [entry["name"] for entry in self.content["inputs"] if is_widget([entry["type"]])]
        values = self.instance.get("widgets_values") or []
        return dict(zip(typed_in, values, strict=True)) if len(values) == len(typed_in) else {}


def _api_nodes(scope: _Scope, nodes: NodeClasses) -> Iterator[tuple[str, dict[str, Any]]]:
    for node in scope.content["nodes"]:
        kind = node["type"]
        if node.get("mode") in (MUTED, BYPASSED) or kind in _WITHOUT_WORK:
            continue
        if kind in scope.definitions:
            yield from _api_nodes(scope.within(node), nodes)
            continue
        linked = {entry["name"]: scope.source(entry.get("link")) for entry in node.get("inputs") or []}
        inputs = _typed_in(node, nodes) | {name: value for name, value in linked.items() if value is not None}
        title = node.get("title") or kind
        yield f"{scope.prefix}{node['id']}", {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}


def _typed_in(node: Mapping[str, Any], nodes: NodeClasses) -> dict[str, Any]:
    """The values of a node's widgets by name; {} where the server lacks its class, which is said elsewhere."""
    values = node.get("widgets_values") or []
    described = nodes.get(node["type"])
    if described is None:
        return {}
    inputs = all_inputs(described)
    if isinstance(values, Mapping):
        return {name: value for name, value in values.items() if name in inputs}
    row = iter(values)
    found = widget_values(inputs, lambda *_: next(row, None))
    return {name: value for name, value in found if name != CONTROL and value is not None}


def _needed(graph: Graph, nodes: NodeClasses) -> Graph:
    """The output nodes and all that they need; the whole graph where it has none, which is said elsewhere."""
    waiting = [node_id for node_id, node in graph.items() if nodes.get(node["class_type"], {}).get("output_node")]
    if not waiting:
        return graph
    found: set[str] = set()
    while waiting:
        node_id = waiting.pop()
        if node_id in graph and node_id not in found:
            found.add(node_id)
            links = (value[0] for value in graph[node_id]["inputs"].values() if _is_link(value))
            waiting += links
    return {node_id: node for node_id, node in graph.items() if node_id in found}


def _is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
