"""Waiting for a prompt: what the socket tells becomes progress, the queue and the history are the backstop.

The socket may be silent, drop, or be taken over by another with the same client id; then polling alone finds out where
the prompt is. What counts as progress is any sign that ours goes on; standing in a queue is not held against it.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from soundreel.disk.durable import write_whole
from soundreel.engines.comfyui.client import BusyError, Client, Graph, PromptStatus, State, UnreachableError
from soundreel.engines.comfyui.events import Event, EventSocket
from soundreel.engines.comfyui.steps import Steps
from soundreel.errors import EngineError
from soundreel.types import Progress, Report, Stage

TICK_SECONDS: Final = 0.25
"""Longest wait for a message; Ctrl-C and `Cancelled` are noticed as soon."""

QUEUE_POLL_SECONDS: Final = 1.0
RUNNING_POLL_SECONDS: Final = 5.0
BLIND_POLL_SECONDS: Final = 1.0
FINISHING_POLL_SECONDS: Final = 0.1

SILENT_SECONDS: Final = 20.0
"""After so long without a word the socket is opened anew: the server may have forgotten it."""

OUTAGE_SECONDS: Final = 120.0
"""A restart takes up to half a minute, a machine's reboot longer."""

ABSENT_SECONDS: Final = 3.0
"""A finished prompt is in neither the queue nor the history for up to half a second."""

BLIND_FACTOR: Final = 10
"""How much longer a prompt may run without a sign where the socket never said a word about it."""

_ENDINGS: Final = frozenset({"execution_success", "execution_error", "execution_interrupted"})


class VanishedError(EngineError):
    """The server knows nothing of the prompt any more; `restarted`: it was away, or may have been, in between."""

    def __init__(self, message: str, *, restarted: bool) -> None:
        super().__init__(message)
        self.restarted = restarted


class Watch:
    """One wait for one prompt.

    Args:
        socket: of the prompt's client id.
        patience_seconds: longest time without progress while the prompt runs.
        preview: where pictures of what is being sampled are put, less the ending; None: nowhere.
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
        preview: Path | None = None,
    ) -> None:
        self._client, self._socket, self._prompt_id = client, socket, prompt_id
        self._steps = Steps(graph)
        self._report, self._patience, self._preview = report, patience_seconds, preview
        self._state: State | None = None
        now = time.monotonic()
        self._moved_at = self._heard_at = now
        self._poll_at = now
        self._heard_ours = False
        self._ending = False
        self._away_since: float | None = None
        self._was_away = False
        self._absent_since: float | None = None

    def wait(self) -> Mapping[str, Any]:
        """The prompt's entry in the history, once it is there.

        Raises:
            VanishedError: the server knows nothing of the prompt.
            UnreachableError: the server stays away.
            EngineError: no progress for too long.
            Cancelled: by the report.
        """
        while True:
            event = self._socket.receive(TICK_SECONDS if not self._ending else FINISHING_POLL_SECONDS)
            if event is not None:
                self._hear(event)
            if time.monotonic() >= self._poll_at or self._ending:
                entry = self._look()
                if entry is not None:
                    return entry
            self._check_patience()

    def _hear(self, event: Event) -> None:
        self._heard_at = time.monotonic()
        ours = event.prompt_id == self._prompt_id
        if event.kind == "preview" and (ours or (event.prompt_id is None and self._state is State.RUNNING)):
            self._show(event.picture)
        if not ours:
            return
        self._moved_at = self._heard_at
        self._heard_ours = True
        self._state = State.RUNNING
        over = event.kind == "executing" and event.data.get("node") is None
        self._ending |= event.kind in _ENDINGS or over
        progress = self._steps.progress(event)
        if progress is not None:
            self._report(progress)

    def _show(self, picture: bytes) -> None:
        if self._preview is None:
            return
        path = self._preview.with_suffix(".png" if picture.startswith(b"\x89PNG") else ".jpg")
        write_whole(path, lambda new: new.write_bytes(picture), needed_bytes=len(picture))
        self._steps.preview = path

    def _look(self) -> Mapping[str, Any] | None:
        """Ask where the prompt is; its entry in the history, or None while it has none."""
        try:
            status = self._client.status(self._prompt_id)
        except BusyError:
            self._poll_at = time.monotonic() + BLIND_POLL_SECONDS
            return None
        except UnreachableError as error:
            self._bear_outage(error)
            return None
        self._away_since = None
        if status.state is not State.ABSENT:
            self._absent_since = None
        self._tell(status)
        self._poll_at = time.monotonic() + self._poll_seconds()
        return status.entry

    def _tell(self, status: PromptStatus) -> None:
        if status.state is State.ABSENT:
            self._bear_absence()
            return
        began = self._state is not State.RUNNING and status.state is State.RUNNING
        self._state = status.state
        if status.state is State.PENDING or began:
            self._moved_at = time.monotonic()
        if status.state is State.PENDING:
            self._report(Progress(stage=Stage.QUEUE, what=f"{status.before} before this one"))

    def _bear_outage(self, error: UnreachableError) -> None:
        now = time.monotonic()
        self._poll_at = now + BLIND_POLL_SECONDS
        self._was_away = True
        self._away_since = self._away_since or now
        if now - self._away_since > OUTAGE_SECONDS:
            raise error
        self._report(Progress(stage=Stage.QUEUE, what=f"{self._client.shown_url} does not answer, waiting for it"))

    def _bear_absence(self) -> None:
        now = time.monotonic()
        self._absent_since = self._absent_since or now
        if now - self._absent_since > ABSENT_SECONDS:
            raise VanishedError(
                f"{self._client.shown_url} no longer knows of the prompt",
                restarted=self._was_away or self._socket.broke,
            )

    def _poll_seconds(self) -> float:
        if self._ending or self._absent_since is not None:
            return FINISHING_POLL_SECONDS
        if self._state is State.PENDING:
            return QUEUE_POLL_SECONDS
        return RUNNING_POLL_SECONDS if self._socket.is_open else BLIND_POLL_SECONDS

    def _check_patience(self) -> None:
        now = time.monotonic()
        if now - self._heard_at > SILENT_SECONDS:
            self._heard_at = now
            self._socket.close()
        patience = self._patience if self._heard_ours else self._patience * BLIND_FACTOR
        if self._state is State.RUNNING and now - self._moved_at > patience:
            raise EngineError(
                f"{self._client.shown_url} shows no progress for {patience:.0f} s; it may still be working: the same "
                "command goes on waiting for it, --timeout SECONDS allows more"
            )
