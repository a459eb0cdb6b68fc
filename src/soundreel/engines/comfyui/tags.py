"""The graph in the metadata of a video, under the keys that ComfyUI's editor looks for in a file dropped into it."""

import json
from pathlib import Path
from typing import Final

from soundreel.disk.durable import write_json
from soundreel.disk.plain_json import read_json
from soundreel.engines.comfyui.answers import NodeClasses
from soundreel.engines.comfyui.client import Graph
from soundreel.engines.comfyui.editor_layout import to_editor

FILE_NAME: Final = "tags.json"

KEYS: Final = ("prompt", "workflow")
"""The graph in API format, and as the editor's file."""


def write_tags(folder: Path, graph: Graph, nodes: NodeClasses) -> None:
    """Keep the graph of a prompt until the video is written. Raises `MediaError` where that is not possible."""
    write_json(folder / FILE_NAME, dict(zip(KEYS, (graph, to_editor(graph, nodes)), strict=True)))


def read_tags(folder: Path) -> dict[str, str]:
    """The tags of a render's video; {} where none were kept."""
    try:
        kept = read_json(folder / FILE_NAME)
        return {key: json.dumps(kept[key], ensure_ascii=False) for key in KEYS}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
