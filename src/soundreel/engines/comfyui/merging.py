"""Several graphs as one: what they have in common once, all else under the number of the graph that it is from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

from soundreel.disk.digests import data_digest
from soundreel.engines.comfyui.client import Graph
from soundreel.engines.comfyui.editor_layout import is_link


def merged(graphs: Sequence[Graph]) -> Graph:
    """One graph that does what all of them do.

    Nodes that do the same, whatever they are called, become one. What only one graph has is called `shot_2_…` after it.

    Raises:
        ValueError: nodes of a graph wait for each other.
    """
    works = [_works(graph) for graph in graphs]
    shared = Counter(work for of_graph in works for work in set(of_graph.values()))
    whole: Graph = {}
    name_of: dict[str, str] = {}  # by what a node does
    for number, (graph, of_graph) in enumerate(zip(graphs, works, strict=True), start=1):
        for node_id, work in of_graph.items():
            if work in name_of:
                continue
            is_shared = shared[work] > 1 and node_id not in whole
            shot = "" if is_shared else f"shot {number} "
            name = name_of[work] = node_id if is_shared else f"shot_{number}_{node_id}"
            whole[name] = _renamed(
                graph[node_id], shot, {other: name_of[of_graph[other]] for other in _before(graph, node_id)}
            )
    return whole


def _renamed(node: Mapping[str, Any], shot: str, names: Mapping[str, str]) -> dict[str, Any]:
    """A node with its links to nodes by their new names."""
    inputs = {
        key: [names[value[0]], value[1]] if is_link(value) and value[0] in names else value
        for key, value in node["inputs"].items()
    }
    return {**node, "inputs": inputs, "_meta": {"title": shot + node.get("_meta", {}).get("title", node["class_type"])}}


def _works(graph: Graph) -> dict[str, str]:
    """What each node does, with all that it gets from others: the same digest, the same work. Those before it first."""
    found: dict[str, str] = {}
    for node_id in TopologicalSorter({node_id: _before(graph, node_id) for node_id in graph}).static_order():
        node = graph[node_id]
        inputs = {
            key: {"from": found[value[0]], "output": value[1]} if is_link(value) and value[0] in graph else value
            for key, value in node["inputs"].items()
        }
        found[node_id] = data_digest([node["class_type"], inputs])
    return found


def _before(graph: Graph, node_id: str) -> set[str]:
    """The nodes that a node gets something from."""
    return {value[0] for value in graph[node_id]["inputs"].values() if is_link(value) and value[0] in graph}
