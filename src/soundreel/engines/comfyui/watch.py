"""Waiting for a prompt: the WebSocket's messages are reported as progress, and queue and history are polled as well.

The WebSocket may be silent, lose its connection, or be replaced by another of the same client id; polling alone then
finds the prompt's state. Any message about the prompt counts as progress; waiting in the queue is no lack of it, while
the server answers.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from soundreel.disk.durable import write_whole
from soundreel.engines.comfyui.answers import PromptStatus, State
from soundreel.engines.comfyui.client import Client, Graph
from soundreel.engines.comfyui.events import Event, EventSocket
from soundreel.engines.comfyui.failures import BusyError, NoServerError, UnreachableError
from soundreel.engines.comfyui.patience import OUTAGE_SECONDS
from soundreel.engines.comfyui.steps import Steps
from soundreel.errors import EngineError
from soundreel.types import Check, Progress, Report, Stage, go_on

TICK_SECONDS: Final = 0.25
"""Longest wait for a message, and delay with which Ctrl-C and `Cancelled` take effect."""

QUEUE_POLL_SECONDS: Final = 1.0  # while the prompt waits
RUNNING_POLL_SECONDS: Final = 5.0  # while it runs and messages come
FALLBACK_POLL_SECONDS: Final = 1.0  # while there is no connection or no answer
FINISHING_POLL_SECONDS: Final = 0.1  # after its last message

SILENT_SECONDS: Final = 20.0
"""Time without a message after which the WebSocket is opened anew, since the server may have forgotten it."""

ABSENT_SECONDS: Final = 3.0
"""Longest time for which a prompt may be in neither queue nor history: between the two it is up to 0.5 s."""

LATE_HISTORY_SECONDS: Final = 30.0
"""The same after its success was heard: then it is certain to come."""

NO_MESSAGES_FACTOR: Final = 10
"""Factor on the longest time without progress for a prompt about which no message has ever come."""

_ENDINGS: Final = frozenset({"execution_success", "execution_error", "execution_interrupted"})


class VanishedError(EngineError):
    """The server no longer knows the prompt.

    Attributes:
        restarted: nothing listened at its address meanwhile.
        is_explained: the server may have forgotten it; False: it waited in a queue that was there all the time.
    """

    def __init__(self, message: str, *, restarted: bool, is_explained: bool) -> None:
        super().__init__(message)
        self.restarted, self.is_explained = restarted, is_explained


class Watch:
    """Waits for one prompt.

    Args:
        socket: that of the prompt's client id.
        patience_seconds: longest time without progress while the prompt runs.
        check: called every `TICK_SECONDS`; may raise to stop.
        preview: path, without extension, of the preview picture of the clip that is sampled; None: none is kept.
    """

    def __init__(
        self,
        *,
        client: Client,
        socket: EventSocket,
        prompt_id: str,
        graph: Graph,
        report: Report,
        patience_seconds: float,
        check: Check = go_on,
        preview: Path | None = None,
    ) -> None:
        self._client, self._socket, self._prompt_id = client, socket, prompt_id
        self._steps = Steps(graph)
        self._report, self._check, self._patience, self._preview = report, check, patience_seconds, preview
        self._state: State | None = None
        now = time.monotonic()
        self._progress_at = self._message_at = self._answered_at = now
        self._poll_at = now
        self._has_own_message = False
        self._ending = self._has_succeeded = False
        self._unreachable_since: float | None = None
        self._was_unreachable = self._was_down = False
        self._absent_since: float | None = None

    def wait(self) -> Mapping[str, Any]:
        """Wait until the prompt is done; returns its entry in the history.

        Raises:
            VanishedError: the server no longer knows the prompt.
            UnreachableError: the server is unreachable for longer than `OUTAGE_SECONDS`.
            EngineError: there is no progress, or no answer, for too long.
            Cancelled: raised by the report or the check.
        """
        while True:
            self._check()
            was_open = self._socket.is_open
            event = self._socket.receive(TICK_SECONDS if not self._ending else FINISHING_POLL_SECONDS)
            if event is not None:
                self._handle(event)
            elif was_open and not self._socket.is_open:
                self._poll_at = time.monotonic()  # the connection was lost: the server may be gone
            if time.monotonic() >= self._poll_at or self._ending:
                entry = self._poll()
                if entry is not None:
                    return entry
            self._check_patience()

    def _handle(self, event: Event) -> None:
        self._message_at = self._answered_at = time.monotonic()
        ours = event.prompt_id == self._prompt_id
        if event.kind == "preview" and (ours or (event.prompt_id is None and self._state is State.RUNNING)):
            self._save_preview(event.picture)
        if not ours:
            return
        self._progress_at = self._message_at
        self._has_own_message = True
        self._state = State.RUNNING
        self._has_succeeded |= event.kind == "execution_success"
        over = event.kind == "executing" and event.data.get("node") is None
        self._ending |= event.kind in _ENDINGS or over
        progress = self._steps.progress(event)
        if progress is not None:
            self._report(progress)

    def _save_preview(self, picture: bytes) -> None:
        if self._preview is None:
            return
        path = self._preview.with_suffix(".png" if picture.startswith(b"\x89PNG") else ".jpg")
        write_whole(path, lambda new: new.write_bytes(picture), needed_bytes=len(picture))
        self._steps.preview = path

    def _poll(self) -> Mapping[str, Any] | None:
        """Query the prompt's state; returns its entry in the history, None while there is none."""
        try:
            status = self._client.status(self._prompt_id)
        except BusyError:
            self._on_busy()
            return None
        except UnreachableError as error:
            self._on_unreachable(error)
            return None
        self._unreachable_since = None
        self._answered_at = time.monotonic()
        if status.state is not State.ABSENT:
            self._absent_since = None
        self._report_status(status)
        self._poll_at = time.monotonic() + self._poll_seconds()
        return status.entry

    def _report_status(self, status: PromptStatus) -> None:
        if status.state is State.ABSENT:
            self._on_absent()
            return
        began = self._state is not State.RUNNING and status.state is State.RUNNING
        self._state = status.state
        if status.state is State.PENDING or began:
            self._progress_at = time.monotonic()
        if status.state is State.PENDING:
            self._report(Progress(stage=Stage.QUEUE, what=f"{status.before} before this one"))

    def _on_busy(self) -> None:
        now = time.monotonic()
        self._poll_at = now + FALLBACK_POLL_SECONDS
        if now - self._answered_at > self._patience:
            raise self._impatience("has not answered", self._patience)
        if self._state is not State.RUNNING:  # else it is busy with the prompt
            self._report_silence()

    def _on_unreachable(self, error: UnreachableError) -> None:
        now = time.monotonic()
        self._poll_at = now + FALLBACK_POLL_SECONDS
        self._was_unreachable = True
        self._was_down |= isinstance(error, NoServerError)
        self._unreachable_since = self._unreachable_since or now
        if now - self._unreachable_since > OUTAGE_SECONDS:
            raise error
        self._report_silence()

    def _report_silence(self) -> None:
        self._report(Progress(stage=Stage.QUEUE, what=f"{self._client.shown_url} does not answer, waiting for it"))

    def _on_absent(self) -> None:
        now = time.monotonic()
        self._absent_since = self._absent_since or now
        if now - self._absent_since > (LATE_HISTORY_SECONDS if self._has_succeeded else ABSENT_SECONDS):
            raise VanishedError(
                f"{self._client.shown_url} no longer knows of the prompt",
                restarted=self._was_down,
                is_explained=self._was_unreachable or self._socket.was_lost or self._state is State.RUNNING,
            )

    def _poll_seconds(self) -> float:
        if self._ending or self._absent_since is not None:
            return FINISHING_POLL_SECONDS
        if self._state is State.PENDING:
            return QUEUE_POLL_SECONDS
        return RUNNING_POLL_SECONDS if self._socket.is_open else FALLBACK_POLL_SECONDS

    def _check_patience(self) -> None:
        now = time.monotonic()
        if now - self._message_at > SILENT_SECONDS:
            self._message_at = now
            self._socket.close()
        patience = self._patience if self._has_own_message else self._patience * NO_MESSAGES_FACTOR
        if self._state is State.RUNNING and now - self._progress_at > patience:
            raise self._impatience("shows no progress", patience)

    def _impatience(self, what: str, seconds: float) -> EngineError:
        return EngineError(
            f"{self._client.shown_url} {what} for {seconds:.0f} s; it may still be working: the same command goes on "
            "waiting for it, --timeout SECONDS allows more"
        )
