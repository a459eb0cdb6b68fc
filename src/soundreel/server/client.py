"""Renders on a server as if it were here: the same request, the same progress, the same result."""

import dataclasses
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, TypeVar, cast

import httpx

from soundreel.disk import durable
from soundreel.disk.outputs import Inputs
from soundreel.errors import Cancelled, EngineError, InputError, SoundreelError
from soundreel.http_client import http_client
from soundreel.media.files import open_file
from soundreel.media.mux import verify
from soundreel.render import naming
from soundreel.render.recipe import read_recipe
from soundreel.request import (
    BESIDE_THE_OUTPUT,
    EngineName,
    Request,
    ShotRequest,
    WorkOptions,
    files_read,
)
from soundreel.request.checks import check_url
from soundreel.request.fields import fields_of, without_password
from soundreel.server.names import FIELDS, SHOT_FIELDS, SHOT_FILES, SHOTS, UPLOADED, is_word
from soundreel.server.patience import FileOnItsWay, Patience
from soundreel.server.remote_jobs import BusyError, error_of, made_error, plan_of, progress_of
from soundreel.server.wire import public_fields
from soundreel.types import CancelFlag, Check, Report, Result, go_on
from soundreel.units import StrPath

POLL_SECONDS: Final = 0.5
"""Between two looks at a job."""

PATIENCE_SECONDS: Final = 300.0
"""That a server may be away, as while it is started again, before this side gives up. The job waits for it there. What
is sent or brought may take longer, as long as it moves."""

TIMEOUT_SECONDS: Final = 60.0

PARTING_SECONDS: Final = 5.0
"""The same, and patience, for what is tidied up there: somebody may have pressed Ctrl-C, and waits."""

CHUNK_BYTES: Final = 2**20

T = TypeVar("T")

HERE: Final = frozenset(
    {"output.path", "output.dir", "output.settings", "output.preview", "recipe", "storyboard", "engine"}
)
"""Fields that are of this side, or become the server's name of a model."""

BY_NAME: Final = frozenset({"compute.models", "compute.loras", "server.workflow"})
"""Fields that are names of the server there, and paths elsewhere."""


class _AwayError(EngineError):
    """No server answers."""


class Client:
    """A `soundreel serve` somewhere else.

        with Client("http://gpu1:8765", token="…") as client:
            result = client.generate(Request(audio="song.mp3", ref_image="singer.jpg"))

    Models, LoRAs and workflows go by the server's own names: `Request(models="wan", loras=["anime:0.8"])`. What
    computes is the server's to say.

    Args:
        url: as `http://gpu1:8765`.
        token: that the server asks for; None: it asks for none.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        check_url(url)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._shown = without_password(url)
        self._http = http_client(base_url=url, headers=headers, timeout=TIMEOUT_SECONDS)
        self._has_answered = False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # rendering

    def generate(
        self,
        request: Request,
        on_progress: Report | None = None,
        *,
        on_start: Callable[[Mapping[str, Any]], None] | None = None,
        work: WorkOptions = BESIDE_THE_OUTPUT,
        cancel: CancelFlag | None = None,
    ) -> Result:
        """Render `request` there, and bring the video here.

        The same request again goes on with what is there of it: a job that waits or renders is listened to, one that
        was stopped or failed is gone on with, a finished one is downloaded; `work` with `resume=False` begins anew.
        `on_start` hears the job once its first clip is begun; other arguments and errors as `soundreel.generate`.
        """
        stop = CancelFlag() if cancel is None else cancel
        naming.check_output(request, Inputs.of(files_read(_without_names(request))))
        job = self._ask(request, is_new=not _resumes(work), check=stop.check)
        try:
            job = self._follow(job, on_progress, on_start, stop)
        except (Cancelled, KeyboardInterrupt) as error:
            with suppress(_AwayError):
                self._tidy("POST", f"/v1/videos/{job['id']}/cancel")
            error.add_note(f"what was rendered is kept on {self._shown}, the same command goes on with it")
            raise
        return self._bring(request, job, stop)

    def plan(self, request: Request) -> dict[str, Any]:
        """What `request` would make and take there."""
        body = self._body(request)
        uploads = self._send_files(request)
        try:
            return self._answer("POST", "/v1/plan", json=body | uploads)
        finally:
            self._forget(set(uploads.values()))

    def _ask(self, request: Request, *, is_new: bool, check: Check) -> dict[str, Any]:
        """The job for a request."""
        body = self._body(request)
        digests = {name: _digest(path, check) for name, path in _files(request).items()}
        what = json.dumps([body, digests], sort_keys=True)
        key = str(uuid.uuid4()) if is_new else hashlib.sha256(what.encode()).hexdigest()
        uploads = self._send_files(request, check)
        try:
            job = self._answer("POST", "/v1/videos", check, json=body | uploads, headers={"Idempotency-Key": key})
        except BaseException:
            self._forget(set(uploads.values()))
            raise
        self._forget(set(uploads.values()) - set(job["request"]["files"].values()))
        if job["state"] in {"failed", "cancelled"}:
            job = self._answer("POST", f"/v1/videos/{job['id']}/retry")
        return job

    def _follow(
        self,
        job: dict[str, Any],
        on_progress: Report | None,
        on_start: Callable[[Mapping[str, Any]], None] | None,
        stop: CancelFlag,
    ) -> dict[str, Any]:
        """The job once it has succeeded; its progress is reported meanwhile."""
        begun, is_started = time.monotonic(), False
        while True:
            stop.check()
            live = job["live"]
            if on_start is not None and not is_started and ((live and live["clips"]) or job["state"] == "succeeded"):
                on_start(job)
                is_started = True
            if job["state"] == "succeeded":
                return job
            if job["state"] in {"failed", "cancelled"}:
                raise made_error(job["error"]["code"], job["error"]["message"], job["error"]["field"])
            if on_progress is not None:
                on_progress(progress_of(job, time.monotonic() - begun))
            time.sleep(POLL_SECONDS)
            job = self._answer("GET", f"/v1/videos/{job['id']}", stop.check)

    def _bring(self, request: Request, job: Mapping[str, Any], stop: CancelFlag) -> Result:
        """The video of a job that has succeeded, here, verified and under its name."""
        result = job["result"]
        folder = naming.output_folder(request)
        durable.make_folder(folder, error=InputError, cure="choose another folder")
        staged = folder / f".{job['id']}{durable.TEMPORARY}"
        try:
            self._download(f"/v1/videos/{job['id']}/content", staged, result["bytes"], stop)
            verify(staged, frames=result["frames"], fps=result["fps"], sound=True, check=stop.check)
            recipe = read_recipe(staged)
            plan = plan_of(request, recipe)
            asked = request.output.path
            name = naming.output_name(plan, job["engine"], datetime.now()) if asked is None else Path(asked).name
            path = durable.publish(staged, folder / name, replace=asked is not None)
        finally:
            staged.unlink(missing_ok=True)
        return Result(
            path=path,
            engine=job["engine"],
            plan=plan,
            frames=result["frames"],
            fps=result["fps"],
            seconds=result["seconds"] or 0.0,
            notes=tuple(job["notes"]),
            recipe=recipe,
        )

    def _download(self, path: str, target: Path, size: int, stop: CancelFlag) -> None:
        """Bring a file here; where the connection breaks off, the rest of it."""
        patience = Patience(PATIENCE_SECONDS)
        with durable.reporting(target, needed_bytes=size), target.open("wb") as file:
            self._patiently(lambda: self._download_rest(path, file, stop, patience), stop.check, patience)

    def _download_rest(self, path: str, file: BinaryIO, stop: CancelFlag, patience: Patience) -> None:
        headers = {"Range": f"bytes={file.tell()}-"} if file.tell() else {}
        with self._http.stream("GET", path, headers=headers) as answer:
            if answer.status_code not in {200, 206}:
                answer.read()
                raise error_of(answer)
            if answer.status_code == 200:
                file.seek(0)
                file.truncate()
            for received in answer.iter_bytes():  # as it comes: what is gathered first would be lost with the line
                stop.check()
                file.write(received)
                patience.move(file.tell())

    # what is sent

    def _body(self, request: Request) -> dict[str, Any]:
        """The request as the server takes it, without its files.

        Raises:
            InputError: it says what only the server may.
        """
        _refuse_what_is_the_servers(request)
        body = public_fields(request)
        named = {
            "model": self._model(request),
            "loras": list(request.compute.loras),
            "workflow": request.server.workflow,
        }
        return body | {name: value for name, value in named.items() if value}

    def _model(self, request: Request) -> str | None:
        """The server's name of the model: as --models says, or the first that an engine has."""
        if request.compute.models is not None:
            return str(request.compute.models)
        if request.engine is EngineName.AUTO:
            return None
        models = self._answer("GET", "/v1/models")["data"]
        found = next((model["id"] for model in models if model["engine"] == request.engine), None)
        if found is None:
            names = ", ".join(model["id"] for model in models)
            raise InputError(f"{self._shown} has no engine {request.engine}: there are {names}", field="engine")
        return str(found)

    def _send_files(self, request: Request, check: Check = go_on) -> dict[str, str]:
        uploads: dict[str, str] = {}
        sent: dict[str, str] = {}  # by paths: a picture may be that of many shots
        for name, path in _files(request).items():
            place = os.fspath(path)
            try:
                if place not in sent:
                    patience = Patience(PATIENCE_SECONDS)
                    sent[place] = self._patiently(partial(self._send_file, place, patience), check, patience)
            except BaseException as error:
                self._forget(sent.values())
                if isinstance(error, SoundreelError):
                    error.field = name
                raise
            uploads[name] = sent[place]
        return uploads

    def _send_file(self, path: StrPath, patience: Patience) -> str:
        with open_file(path, "file") as file:
            sent = cast("BinaryIO", FileOnItsWay(file, patience))  # as much of one as is asked of it
            answer = self._http.post("/v1/files", files={"file": (Path(path).name, sent)})
        if answer.status_code != 200:
            raise error_of(answer)
        return str(answer.json()["id"])

    def _forget(self, uploads: Iterable[str]) -> None:
        with suppress(_AwayError):
            for upload in uploads:
                self._tidy("DELETE", f"/v1/files/{upload}")

    def _tidy(self, method: str, path: str) -> None:
        """Ask for what leaves nothing behind there; a refusal does not matter.

        Raises:
            _AwayError: the server does not answer now.
        """
        try:
            self._answer(method, path, patience=PARTING_SECONDS, timeout=PARTING_SECONDS)
        except _AwayError:
            raise
        except SoundreelError:
            return

    # asking

    def _answer(
        self, method: str, path: str, check: Check = go_on, *, patience: float = PATIENCE_SECONDS, **sent: Any
    ) -> dict[str, Any]:
        """The JSON of an answer; while the server is away, it is asked again.

        Raises:
            SoundreelError: what it refuses, or that it does not answer.
        """

        def ask() -> dict[str, Any]:
            answer = self._http.request(method, path, **sent)
            if answer.status_code != 200:
                raise error_of(answer)
            found: dict[str, Any] = answer.json()
            return found

        return self._patiently(ask, check, Patience(patience))

    def _patiently(self, ask: Callable[[], T], check: Check, patience: Patience) -> T:
        """What `ask` returns; a lost connection is an error only after a while, or where nobody has ever answered."""
        while True:
            try:
                found = ask()
            except (httpx.TransportError, BusyError) as error:
                if not self._has_answered or patience.is_over:
                    raise _AwayError(
                        f"no soundreel server answers at {self._shown} ({type(error).__name__}): is it running, and is "
                        "this its address?"
                    ) from error
            else:
                self._has_answered = True
                return found
            for _ in range(round(patience.pause() / 0.1)):
                check()
                time.sleep(0.1)


def _resumes(work: WorkOptions) -> bool:
    """Whether what is there is gone on with; `InputError` for what only a render here can."""
    given = {"--work-dir": work.work_dir, "--keep-work": work.keep_work, "--redo-clip": work.redo_clip}
    named = next((option for option, value in given.items() if value is not None), None)
    if named is not None:
        raise InputError(f"{named} is for renders on this machine: leave it out with --remote")
    return work.resume


def _refuse_what_is_the_servers(request: Request) -> None:
    plain, plain_shot = Request(audio=request.audio), ShotRequest()
    for field in fields_of(ShotRequest):
        is_sent = field.name in SHOT_FIELDS or field.name in SHOT_FILES
        if not is_sent and any(field.of(shot) != field.of(plain_shot) for shot in request.shots):
            raise InputError(f"{field.leaf} of a shot is the server's to say: leave it out with --remote", field=SHOTS)
    for field in fields_of(Request):
        is_ours = (
            field.name in FIELDS
            or field.name == SHOTS
            or field.name in UPLOADED
            or field.name in HERE
            or field.name in BY_NAME
        )
        if not is_ours and field.of(request) != field.of(plain):
            raise InputError(f"{field.flag} is the server's to say: leave it out with --remote", field=field.name)


def _without_names(request: Request) -> Request:
    """Without what is a path here and a name there."""
    return request.replace(models=None, loras=(), server=dataclasses.replace(request.server, workflow=None))


def _files(request: Request) -> dict[str, StrPath]:
    """The files of a request by the fields that they are."""
    named = [(name, field, field.of(request)) for name, field in UPLOADED.items()]
    for number, shot in enumerate(request.shots):
        named += [(f"{SHOTS}.{number}.{name}", field, field.of(shot)) for name, field in SHOT_FILES.items()]
    return {name: path for name, field, path in named if path is not None and not is_word(field, path)}


def _digest(path: StrPath, check: Check) -> str:
    digest = hashlib.sha256()
    with open_file(path, "file") as file:
        while chunk := file.read(CHUNK_BYTES):
            check()
            digest.update(chunk)
    return digest.hexdigest()
