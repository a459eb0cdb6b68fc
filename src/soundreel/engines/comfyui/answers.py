"""A server's JSON answers as values of ours. Unknown keys are ignored; every function raises `OddAnswerError`."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

NodeClasses = dict[str, dict[str, Any]]
"""Node class → its /object_info, whose `input` has `required` and `optional`: input name → [type or choices, …]."""


class OddAnswerError(ValueError):
    """The answer is not of the form that ComfyUI gives."""


class State(StrEnum):
    """State of a prompt."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"  # in the history: finished, failed or interrupted
    ABSENT = "absent"  # neither in the queue nor in the history


@dataclass(frozen=True, kw_only=True)
class PromptStatus:
    """State of a prompt and, when it is done, its entry in the history."""

    state: State
    before: int = 0  # number of prompts that run first
    entry: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Queue:
    """Ids of the prompts that run, and of those that wait, next one first."""

    running: tuple[str, ...]
    pending: tuple[str, ...]

    def status(self, prompt_id: str) -> PromptStatus | None:
        """The status of a prompt; None where it neither runs nor waits."""
        if prompt_id in self.running:
            return PromptStatus(state=State.RUNNING)
        if prompt_id in self.pending:
            before = len(self.running) + self.pending.index(prompt_id)
            return PromptStatus(state=State.PENDING, before=before)
        return None


_JOB_STATES: Final = {
    "pending": State.PENDING,
    "in_progress": State.RUNNING,
    "completed": State.DONE,
    "failed": State.DONE,
    "cancelled": State.DONE,
}


def version(answer: Any) -> str:
    """ComfyUI's version in /system_stats."""
    return _text(_object(_object(answer).get("system")).get("comfyui_version"))


def node_classes(answer: Any) -> NodeClasses:
    """The node classes in /object_info; those of another form, as broken extensions give them, are left out."""
    found = {name: _node_class(node) for name, node in _object(answer).items() if isinstance(node, dict)}
    if not any(node["input"]["required"] for node in found.values()):
        raise OddAnswerError
    return found


def upload_limit(answer: Any) -> int | None:
    """Size in bytes of the largest upload in /features; None where it is not stated."""
    limit = _object(answer).get("max_upload_size")
    return limit if isinstance(limit, int) and limit > 0 else None


def upload_name(answer: Any) -> str:
    """The name, as nodes take it, of the file in an answer to /upload/image."""
    name, folder = _text(_object(answer).get("name")), answer.get("subfolder")
    return f"{folder}/{name}" if isinstance(folder, str) and folder else name


def queue(answer: Any) -> Queue:
    """The prompts in /queue."""
    running, pending = (_rows(_object(answer).get(name)) for name in ("queue_running", "queue_pending"))
    return Queue(
        running=tuple(prompt_id for _, prompt_id in running),
        pending=tuple(prompt_id for _, prompt_id in sorted(pending)),  # by number, smallest first
    )


def history_entry(answer: Any, prompt_id: str) -> Mapping[str, Any] | None:
    """The entry of a prompt in /history/ID; None where it has none."""
    entry = _object(answer).get(prompt_id)
    return None if entry is None else _object(entry)


def job(answer: Any) -> PromptStatus:
    """The status in /api/jobs/ID; its entry has the keys of one in the history that count here."""
    state = _JOB_STATES.get(_text(_object(answer).get("status")))
    if state is None:
        raise OddAnswerError
    if state is not State.DONE:
        return PromptStatus(state=state)
    entry = {"outputs": _object(answer.get("outputs")), "status": _object(answer.get("execution_status"))}
    return PromptStatus(state=state, entry=entry)


def is_cancelled(answer: Any) -> bool:
    """Whether /api/jobs/ID/cancel found something to cancel."""
    cancelled = _object(answer).get("cancelled")
    if not isinstance(cancelled, bool):
        raise OddAnswerError
    return cancelled


def describe_faults(answer: Any) -> str:
    """A server's reasons for refusing a graph in one line: node, message and details."""
    refusal = _object(answer)
    nodes = refusal.get("node_errors")
    found = [
        f"{node.get('class_type', node_id)}: {fault.get('message', '')} ({fault.get('details', '')})"
        for node_id, node in (nodes.items() if isinstance(nodes, dict) else ())
        if isinstance(node, dict)
        for fault in _objects(node.get("errors"))
    ]
    error = refusal.get("error")
    if not found and isinstance(error, dict):
        found = [f"{error.get('message', error.get('type'))} {error.get('details') or ''}".strip()]
    return "; ".join(found) or str(error or "no reason given")


def _node_class(node: dict[str, Any]) -> dict[str, Any]:
    inputs = node.get("input")
    groups = inputs if isinstance(inputs, dict) else {}
    return {**node, "input": {group: _inputs(groups.get(group)) for group in ("required", "optional")}}


def _inputs(described: Any) -> dict[str, list[Any]]:
    given = described.items() if isinstance(described, dict) else ()
    return {
        name: [*spec[:1], *(options for options in spec[1:2] if isinstance(options, dict))]
        for name, spec in given
        if isinstance(spec, list) and spec
    }


def _rows(rows: Any) -> list[tuple[float, str]]:
    """The (number, id) of queue rows [number, id, …]."""
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) > 1 for row in rows):
        raise OddAnswerError
    return [(row[0] if isinstance(row[0], int | float) else 0, _text(row[1])) for row in rows]


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise OddAnswerError
    return value


def _objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise OddAnswerError
    return value
