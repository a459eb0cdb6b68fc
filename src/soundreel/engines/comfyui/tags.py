"""The graph in the metadata of a video, under the keys that ComfyUI's editor looks for in a file dropped into it."""

import json
from pathlib import Path
from typing import Final

from soundreel.disk.durable import write_json
from soundreel.disk.plain_json import read_json
from soundreel.engines.comfyui.answers import NodeClasses
from soundreel.engines.comfyui.client import Graph
from soundreel.engines.comfyui.editor_layout import to_editor
from soundreel.engines.comfyui.merging import merged

FILE_NAME, CHAINS_NAME = "tags.json", "chains.json"

KEYS: Final = ("prompt", "workflow")
"""The graph in API format, and as the editor's file."""

MOST_BYTES: Final = 4 * 2**20
"""Of both: a video of hundreds of shots has none, rather than a header that players have to read first."""


def write_tags(folder: Path, graph: Graph, nodes: NodeClasses) -> None:
    """Keep the graph of a prompt until the video is written. Raises `MediaError` where that is not possible."""
    used = {node["class_type"] for node in graph.values()}
    write_json(folder / FILE_NAME, {"graph": graph, "nodes": {kind: nodes[kind] for kind in sorted(used)}})


def write_chains(scratch: Path, count: int) -> None:
    """Note of how many chains a render is. Raises `MediaError` where that is not possible."""
    write_json(scratch / CHAINS_NAME, {"chains": count})


def chain_folder(scratch: Path, index: int) -> Path:
    """Where the prompt of a chain is kept, of a render that has several."""
    return scratch / f"chain_{index + 1:05d}"


def read_tags(scratch: Path) -> dict[str, str]:
    """The tags of a render's video; {} where the graph of one of its prompts was not kept."""
    try:
        kept = [read_json(folder / FILE_NAME) for folder in _folders(scratch)]
        graphs = [one["graph"] for one in kept]
        graph = graphs[0] if len(graphs) == 1 else merged(graphs)
        nodes = {kind: described for one in kept for kind, described in one["nodes"].items()}
        tags = [json.dumps(content, ensure_ascii=False) for content in (graph, to_editor(graph, nodes))]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return dict(zip(KEYS, tags, strict=True)) if sum(map(len, tags)) <= MOST_BYTES else {}


def _folders(scratch: Path) -> list[Path]:
    """Those of a render's prompts."""
    try:
        count = read_json(scratch / CHAINS_NAME)["chains"]
    except FileNotFoundError:
        return [scratch]
    return [chain_folder(scratch, index) for index in range(count)]
