"""What real servers sent, sent again: messages to a render, and every answer to what reads answers."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from comfyui_renders import CAPTURES, Serve, labels, nodes
from soundreel.engines.comfyui import answers
from soundreel.engines.comfyui.client import Graph
from soundreel.engines.comfyui.events import Event
from soundreel.engines.comfyui.steps import Steps
from soundreel.errors import EngineError
from soundreel.request import Request
from soundreel.types import Progress, Stage

pytest_plugins = ("comfyui_fixtures",)

pytestmark = [
    pytest.mark.usefixtures("no_patience_wasted"),
    pytest.mark.skipif(not CAPTURES.is_dir(), reason="../shared/comfyui is not here"),
]

Ask = Callable[..., Request]
Trace = dict[str, Any]

SERVERS: Final = {"033": "0.33.0", "0364": "0.3.64"}
"""How a capture's name ends or goes on → the version of the server."""

TRACES: Final = sorted(path.stem for path in CAPTURES.glob("*.json") if not path.stem.startswith("object_info"))

WHOLE: Final = [name for name in TRACES if name.startswith(("run_", "prev_"))]
"""Of one render from the beginning to its end."""

READERS: Final[dict[str, Callable[[Any, str], Any]]] = {
    r"GET /history/([\w-]+)": answers.history_entry,
    r"GET /queue()": lambda body, _: answers.queue(body),
    r"GET /api/jobs/([\w-]+)": lambda body, _: answers.job(body),
    r"POST /api/jobs/([\w-]+)/cancel": lambda body, _: answers.is_cancelled(body),
    r"POST /upload/image()": lambda body, _: answers.upload_name(body),
}
"""Route → what reads an answer of it."""


def trace_of(name: str) -> Trace:
    whole: Trace = json.loads((CAPTURES / f"{name}.json").read_text(encoding="utf-8"))
    return whole


def version_of(name: str) -> str:
    return SERVERS[name.split("_")[-1 if name.rsplit("_", maxsplit=1)[-1] in SERVERS else 1]]


def graphs_of(trace: Trace) -> list[Graph]:
    """Those that were queued, refused ones too."""
    bodies = [call["json"] for call in trace["http"] if call["req"] == "POST /prompt"]
    return [body["prompt"] for body in bodies if isinstance(body, dict) and isinstance(body.get("prompt"), dict)]


def messages_of(trace: Trace) -> list[dict[str, Any]]:
    """Those in JSON."""
    return [message for _, message in trace["ws"] if isinstance(message, dict) and "data" in message]


def graph_file(folder: Path, graph: Graph) -> Path:
    path = folder / "graph.json"
    path.write_text(json.dumps(graph), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", WHOLE)
def test_a_render_follows_the_messages_of_a_real_server(
    serve: Serve, ask: Ask, scratch: Path, cover: Path, name: str
) -> None:
    trace = trace_of(name)
    (graph,) = graphs_of(trace)
    samplers = nodes(graph, "KSampler")
    server = serve(version_of(name), trace=messages_of(trace))
    told: list[Progress] = []
    length = 100 if len(samplers) > 1 else 60
    request = ask(urls=(server.url,), workflow=graph_file(scratch, graph), frames=length, ref_image=cover)
    shown = labels(request, scratch, told.append)
    assert shown == list(range(shown[0], shown[0] + length))
    steps = [(p.clip, p.step, p.steps) for p in told if p.stage is Stage.RENDER and p.step]
    assert steps == sorted(set(steps)), "every step once, in order"
    last = len(samplers), samplers[-1]["steps"]
    assert (*last, last[1]) in steps
    assert {steps for _, _, steps in steps} == {sampler["steps"] for sampler in samplers}


@pytest.mark.parametrize("name", ["lifecycle_033", "lifecycle_0364"])
def test_a_render_that_was_stopped_on_a_real_server_says_so(
    serve: Serve, ask: Ask, scratch: Path, cover: Path, name: str
) -> None:
    trace = trace_of(name)
    graph = graphs_of(trace)[-1]
    (stopped,) = (m["data"]["prompt_id"] for m in messages_of(trace) if m["type"] == "execution_interrupted")
    messages = [message for message in messages_of(trace) if message["data"].get("prompt_id") == stopped]
    server = serve(version_of(name), trace=messages)
    request = ask(urls=(server.url,), workflow=graph_file(scratch, graph), frames=60, ref_image=cover)
    with pytest.raises(EngineError, match="stopped on the server at KSampler"):
        labels(request, scratch)


@pytest.mark.parametrize("name", TRACES)
def test_every_answer_and_message_of_a_real_server_is_understood(name: str) -> None:
    trace = trace_of(name)
    read = 0
    for call in trace["http"]:
        for route, reader in READERS.items():
            found = re.fullmatch(route, call["req"])
            if found is not None and call["status"] == 200:
                reader(call["body"], found[1])
                read += 1
        if call["req"] == "POST /prompt" and call["status"] == 400:
            assert answers.describe_faults(call["body"]) not in {"", "no reason given"}
    assert read or name.startswith("prev_"), "whose only call is the prompt"
    counters = [Steps(graph) for graph in graphs_of(trace)]
    for message in messages_of(trace):
        data = message["data"]
        for counter in counters:
            told = counter.progress(Event(kind=message["type"], prompt_id=data.get("prompt_id"), data=data))
            assert told is None or told.step <= told.steps
