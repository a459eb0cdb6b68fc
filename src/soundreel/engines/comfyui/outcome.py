"""The outcome of a prompt, as soundreel's errors."""

from collections.abc import Mapping
from typing import Any, Final

from soundreel.engines.comfyui.client import Graph
from soundreel.errors import EngineError

OUT_OF_MEMORY: Final = ("outofmemory", "out of memory", "allocation on device")
"""Parts of exception types and messages, in lower case, that mean that memory ran out."""

LESS_MEMORY: Final = "the server ran out of memory: lower --width and --height, then --infer-frames or --frames"


def was_interrupted(entry: Mapping[str, Any]) -> bool:
    """Whether somebody stopped the prompt of this history entry."""
    status = entry.get("status")
    return isinstance(status, Mapping) and "execution_interrupted" in _messages(status.get("messages"))


def check_outcome(entry: Mapping[str, Any], graph: Graph) -> None:
    """Raise `EngineError` unless the prompt of this history entry succeeded."""
    status = entry.get("status")
    if not isinstance(status, Mapping) or status.get("status_str", "success") == "success":
        return
    messages = _messages(status.get("messages"))
    if "execution_error" in messages:
        raise EngineError(describe_error(messages["execution_error"]))
    if "execution_interrupted" in messages:
        node = messages["execution_interrupted"].get("node_id")
        where = f" at {graph[node]['class_type']}" if isinstance(node, str) and node in graph else ""
        raise EngineError(f"the render was stopped on the server{where}: the same command starts it again")
    raise EngineError(f"the render failed on the server, which does not say why ({status.get('status_str')})")


def _messages(pairs: Any) -> dict[str, Mapping[str, Any]]:
    """The messages of a history entry, [kind, data] each, by kind; those of another form are left out."""
    given = pairs if isinstance(pairs, list) else []
    found = (pair for pair in given if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str))
    return {kind: data for kind, data in found if isinstance(data, Mapping)}


def describe_error(error: Mapping[str, Any]) -> str:
    """An `execution_error` message in one line: node, exception, its text, and what to lower if memory ran out."""
    kind = str(error.get("exception_type", "")).rpartition(".")[2]
    text = " ".join(str(error.get("exception_message", "")).split())
    line = f"{error.get('node_type', 'a node')} failed on the server: {kind}: {text}"
    described = f"{kind} {text}".lower()
    return f"{line} – {LESS_MEMORY}" if any(mark in described for mark in OUT_OF_MEMORY) else line
