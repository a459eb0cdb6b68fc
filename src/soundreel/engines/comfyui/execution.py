"""Execution of one prompt on one server: upload, queue, wait, download; resumed after a crash or a lost prompt."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from soundreel.engines.comfyui.answers import State
from soundreel.engines.comfyui.client import Graph, ServerFile
from soundreel.engines.comfyui.downloads import BrokenFilesError, download_whole
from soundreel.engines.comfyui.events import EventSocket
from soundreel.engines.comfyui.failures import FileGoneError, UnreachableError
from soundreel.engines.comfyui.outcome import check_outcome, was_interrupted
from soundreel.engines.comfyui.patience import Patience
from soundreel.engines.comfyui.pictures import Pictures, check_count, output_files
from soundreel.engines.comfyui.prompt import Prompt
from soundreel.engines.comfyui.record import PromptRecord
from soundreel.engines.comfyui.saved_files import saved_files
from soundreel.engines.comfyui.servers import ReadyServer
from soundreel.engines.comfyui.tags import write_tags
from soundreel.engines.comfyui.watch import VanishedError, Watch
from soundreel.errors import Cancelled, EngineError, InputError, MediaError
from soundreel.types import Check, Plan, Progress, Report, Stage, go_on

BASE_PATIENCE_SECONDS: Final = 600.0
PATIENCE_SECONDS_PER_MEGAPIXEL: Final = 2.0
"""Longest time without progress, unless `--timeout` gives another: while the server loads 30 GB of models or decodes a
whole video, it sends no messages."""

FOLDER: Final = "soundreel"
"""Folder in the server's output folder. File names in it begin with the prompt's id, so that they are unique."""


class PromptExecution:
    """One prompt on one server, and the scratch folder with its record and pictures."""

    def __init__(
        self, server: ReadyServer, prompt: Prompt, scratch: Path, report: Report, check: Check = go_on
    ) -> None:
        self._client, self._inventory, self._prompt, self._scratch = server.client, server.inventory, prompt, scratch
        self._report, self._check_stop = report, check
        self._patience = Patience.of_render(report, check)

    def pictures(self) -> Pictures:
        """All pictures, downloaded and counted; a prompt that an earlier process queued is continued.

        Raises:
            EngineError: the server refuses, fails, loses the prompt twice, or shows no progress for too long.
            Cancelled, KeyboardInterrupt: as raised while waiting; the prompt was cancelled on the server.
        """
        record = self._earlier_record() or PromptRecord.new(self._client.shown_url, self._prompt.hash)
        here = self._fetched() if record.is_fetched else None
        if here is not None:
            return here
        while True:
            try:
                return self._fetch(self._run(record))
            except VanishedError as lost:
                saved = self._fetch_without_history(record)
                if saved is not None:
                    return saved
                record = self._requeue(record, lost)
            except FileGoneError as lost:
                record = self._requeue(record, lost)

    def _earlier_record(self) -> PromptRecord | None:
        """The record that an earlier process wrote for the same graph on this server; None where there is none."""
        record = PromptRecord.read(self._scratch)
        if record is None or (record.url, record.graph_hash) != (self._client.shown_url, self._prompt.hash):
            return None
        self._report_queue("found the render that was begun before")
        return replace(record, found=True)

    def _run(self, record: PromptRecord) -> Mapping[str, Any]:
        """Queue the prompt, unless an earlier process did, and wait for its entry in the history."""
        client = self._client
        with EventSocket(client.url, client.headers, record.client_id, client.trust) as socket:
            socket.open()  # before the prompt runs, so that no message is missed
            try:
                if not record.found:
                    record = self._queue(record)
                return self._wait(record, socket)
            except (KeyboardInterrupt, Cancelled):
                self._cancel(record)
                raise

    def _queue(self, record: PromptRecord) -> PromptRecord:
        shutil.rmtree(self._pictures_folder, ignore_errors=True)
        names = self._upload()
        record = replace(record, uploads=names)
        record.write(self._scratch)
        write_tags(self._scratch, self._graph(record), self._inventory.nodes)
        with self._discarding_on_failure():
            self._send_prompt(record)
        return record

    def _send_prompt(self, record: PromptRecord) -> None:
        """Put the prompt into the queue once, even if answers are lost on the way."""
        was_sent = False

        def send() -> None:
            nonlocal was_sent
            if was_sent and self._client.status(record.prompt_id).state is not State.ABSENT:
                return  # only the answer was lost
            was_sent = True
            self._client.queue_prompt(
                self._graph(record),
                prompt_id=record.prompt_id,
                client_id=record.client_id,
                preview=self._prompt.plan.request.output.preview,
            )

        self._patience.bear(send)

    def _cancel(self, record: PromptRecord) -> None:
        """Take the prompt from the server, and forget it; if the server does not answer, a later process finds it.

        A server that was busy may stop it later.
        """
        try:
            Patience.brief().bear(lambda: self._client.cancel(record.prompt_id))
            PromptRecord.forget(self._scratch)
        except EngineError:
            kept = PromptRecord.read(self._scratch)
            if kept is None:
                return
            with suppress(MediaError):  # a full disk does not matter now
                replace(kept, is_given_up=True).write(self._scratch)

    def _upload(self) -> dict[str, str]:
        """Upload the input files; returns our names → the server's."""
        limit = self._patience.bear(self._client.max_upload_bytes)
        for file in self._prompt.files:
            if len(file.content) > limit:
                raise InputError(
                    f"{file.name} is {len(file.content) / 1e6:.1f} MB, {self._client.shown_url} takes "
                    f"{limit / 1e6:.1f} MB: render a shorter window, or start the server with --max-upload-size"
                )
        files = list(self._prompt.files)
        names = {}
        for number, file in enumerate(files):
            self._report(Progress(stage=Stage.LOAD, what="upload", done=number, total=len(files)))
            names[file.name] = self._patience.bear(
                lambda file=file: self._client.upload(file.name, file.content)  # type: ignore[misc]
            )
        return names

    def _requeue(self, record: PromptRecord, lost: VanishedError | FileGoneError) -> PromptRecord:
        """The record of a new prompt for the same graph, after the first loss that has an explanation.

        Raises:
            EngineError: the prompt was lost a second time, or without an explanation.
        """
        expected = isinstance(lost, FileGoneError) or lost.is_explained or record.found
        if record.queued_again or not expected:
            PromptRecord.forget(self._scratch)
            why = "again" if record.queued_again else "and it was there all the time: somebody took it from the queue"
            raise EngineError(f"{lost}, {why}. The same command queues it anew") from lost
        if isinstance(lost, FileGoneError):
            why = "its file is gone"
        elif lost.restarted:
            why = "the server was restarted"
        else:
            why = "it was stopped there, as asked" if record.is_given_up else "the server no longer knows of it"
        self._report_queue(f"{why}: queued once more")
        return replace(PromptRecord.new(record.url, record.graph_hash), queued_again=True)

    def _wait(self, record: PromptRecord, socket: EventSocket) -> Mapping[str, Any]:
        graph = self._graph(record)
        entry = Watch(
            client=self._client,
            socket=socket,
            prompt_id=record.prompt_id,
            graph=graph,
            report=self._report,
            check=self._check_stop,
            patience_seconds=patience_seconds(self._prompt.plan),
            preview=self._scratch / "preview" if self._prompt.plan.request.output.preview else None,
        ).wait()
        if record.is_given_up and was_interrupted(entry):
            raise VanishedError(
                f"{self._client.shown_url} has stopped it, as asked", restarted=False, is_explained=True
            )
        with self._discarding_on_failure():
            check_outcome(entry, graph)
        return entry

    def _fetch(self, entry: Mapping[str, Any]) -> Pictures:
        with self._discarding_on_failure():
            files = output_files(entry)
        with self._discarding_on_failure():
            return self._download(files)

    def _fetch_without_history(self, record: PromptRecord) -> Pictures | None:
        """What the prompt saved before the server forgot it, by the names that it gives; None where that is not there.

        A server that was killed may have left a file that is not whole.
        """
        files = saved_files(self._graph(record), self._prompt.saved_pictures)
        try:
            return self._download(files) if files else None
        except (FileGoneError, BrokenFilesError):
            return None

    def _download(self, files: Sequence[ServerFile]) -> Pictures:
        pictures = download_whole(self._client, files, self._pictures_folder, self._patience, self._check)
        record = PromptRecord.read(self._scratch)
        if record is not None:
            replace(record, is_fetched=True).write(self._scratch)
        return pictures

    def _fetched(self) -> Pictures | None:
        """The pictures that were downloaded before; None, and they are removed, where they are damaged."""
        pictures = Pictures(files=tuple(sorted(self._pictures_folder.glob("*"))))
        try:
            self._check(pictures)
        except EngineError:
            shutil.rmtree(self._pictures_folder, ignore_errors=True)
            return None
        return pictures

    def _check(self, pictures: Pictures) -> None:
        prompt = self._prompt
        check_count(pictures, prompt.skip + prompt.plan.frames, exactly=prompt.is_cut_there)

    @contextmanager
    def _discarding_on_failure(self) -> Iterator[None]:
        """Discard record and pictures on errors in the `with` block that would recur, so that a retry starts anew.

        A lost connection, prompt or file is no such error.
        """
        try:
            yield
        except (UnreachableError, VanishedError, FileGoneError):
            raise
        except EngineError:
            PromptRecord.forget(self._scratch)
            shutil.rmtree(self._pictures_folder, ignore_errors=True)
            raise

    def _graph(self, record: PromptRecord) -> Graph:
        return self._inventory.complete(self._prompt.graph(f"{FOLDER}/{record.prompt_id}", record.uploads))

    def _report_queue(self, what: str) -> None:
        self._report(Progress(stage=Stage.QUEUE, what=what))

    @property
    def _pictures_folder(self) -> Path:
        return self._scratch / "pictures"


def patience_seconds(plan: Plan) -> float:
    """Longest time without progress in seconds: as requested, else by the size of the render."""
    if plan.request.server.timeout is not None:
        return plan.request.server.timeout
    megapixels = plan.request.width * plan.request.height * plan.frames / 1e6
    return BASE_PATIENCE_SECONDS + PATIENCE_SECONDS_PER_MEGAPIXEL * megapixels
