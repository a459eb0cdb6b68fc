"""Renders with the comfyui engine, on whatever server a request names, and ways in which they end."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from comfyui_server import ContractServer, read_label
from comfyui_server.nodes import Info
from conftest import SHARED
from soundreel import planning
from soundreel.engines.base import Identity, Prepared
from soundreel.engines.comfyui import ComfyUIEngine
from soundreel.engines.comfyui.client import Graph
from soundreel.media.audio import probe_sound
from soundreel.request import Request
from soundreel.types import Check, Plan, Progress, RenderedClip, Report, Stage, go_on
from soundreel.units import Frames
from starts import starts_from

CAPTURES = SHARED / "comfyui" / "samples"
VERSIONS = {"0.33.0": "object_info_033.json", "0.3.64": "object_info_0364.json"}

Serve = Callable[..., ContractServer]

NEVER = 60.0
"""Seconds: where a test waits for so long, something hangs."""


class CrashError(Exception):
    """This process is no more, as far as the server can tell."""


def plan(request: Request) -> Plan:
    """As the pipeline plans for this engine."""
    return planning.plan(request, probe_sound(request.audio).seconds, equal_clips=True)


def ignore(_: Progress) -> None:
    """No display."""


def prepare(request: Request, kept: Identity | None = None) -> Prepared:
    """What the engine decides for a request; raises where it cannot be rendered."""
    return ComfyUIEngine().prepare(plan(request), kept)


def render(
    request: Request, scratch: Path, report: Report = ignore, *, start: int = 0, check: Check = go_on
) -> Iterator[RenderedClip]:
    """The clips from index `start` on."""
    prepared = prepare(request)
    return ComfyUIEngine().render(prepared, starts_from(prepared.plan, scratch, start), report, check)


def pictures(request: Request, scratch: Path, report: Report = ignore) -> Frames:
    """All frames of a render."""
    return np.concatenate([rendered.frames for rendered in render(request, scratch, report)])


def nodes(graph: Graph, kind: str) -> list[dict[str, Any]]:
    """Inputs of all nodes of a kind."""
    return [node["inputs"] for node in graph.values() if node["class_type"] == kind]


def crash_at(stage: Stage, step: int = 1) -> Report:
    """A report in which the process ends."""

    def report(progress: Progress) -> None:
        if progress.stage is stage and progress.step >= step:
            raise CrashError

    return report


def captured(version: str) -> Info:
    """What a server of this version did answer."""
    info: Info = json.loads((CAPTURES / VERSIONS[version]).read_text(encoding="utf-8"))
    return info


def labels(request: Request, scratch: Path, report: Report = ignore) -> list[int]:
    """The labels of all frames."""
    return [read_label(frame) for frame in pictures(request, scratch, report)]
