"""The doors of storyboards: proposed for a song, written, read; and a shot of a finished video drawn again."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from soundreel.errors import InputError, MediaError, SoundreelError
from soundreel.request.fields import Role, option, settle
from soundreel.server.answers import answer
from soundreel.server.errors import PathHider, RefusedError
from soundreel.server.forms import check_room, read_json_body
from soundreel.server.helper import LISTEN_SECONDS, Helper
from soundreel.server.jobs import Job, NewJob, State, Upload
from soundreel.server.queue import Queue
from soundreel.server.settings import Settings
from soundreel.server.uploads import Uploads
from soundreel.server.wire import Wanted, asked_fields, make_request, nested, public_fields, put, read_wanted
from soundreel.server.worker import WORK

NEVER_COPIED: Final = ("lock", "*.tmp", "claim_*")
"""Of a work folder: what belongs to the process that renders in it."""


@dataclass(frozen=True, kw_only=True)
class _Again:
    """How a shot is drawn again."""

    seed: int | None = option(None, "Of its first clip", role=Role.PIXELS, at_least=0)

    def __post_init__(self) -> None:
        settle(self)


class StoryboardApi:
    """Doors that have to do with shots.

    Args:
        on_new: called with a job that has been added.
    """

    def __init__(
        self, settings: Settings, queue: Queue, uploads: Uploads, hide: PathHider, on_new: Callable[[Job], Response]
    ) -> None:
        self._settings, self._queue, self._uploads, self._hide, self._on_new = settings, queue, uploads, hide, on_new
        self._helper = Helper()

    def close(self) -> None:
        """End the process that belongs to it."""
        self._helper.close()

    # storyboards

    async def write(self, request: Request) -> Response:
        """The storyboard of a request; one that has no shots gets a proposal."""
        wanted = read_wanted(await read_json_body(request))
        return answer(await run_in_threadpool(self._write, wanted))

    async def of_video(self, request: Request) -> Response:
        """The storyboard of a job."""
        job = self._queue.job(request.path_params["id"])
        return answer(await run_in_threadpool(self._written, job.fields, job.files))

    async def read(self, request: Request) -> Response:
        """A storyboard's text as a request that can be asked for."""
        sent = await read_json_body(request)
        text, kind, files = sent.pop("text", None), sent.pop("format", "toml"), sent.pop("files", {})
        if sent:
            raise InputError(
                f"there is no {next(iter(sent))!r}: expected text, format and files", field=next(iter(sent))
            )
        if not isinstance(text, str) or kind not in ("toml", "json"):
            raise InputError("expected the text of a storyboard, and its format: toml or json", field="text")
        if not isinstance(files, dict) or not all(isinstance(upload, str) for upload in files.values()):
            raise InputError("files: expected the ids of files by the names that the storyboard uses", field="files")
        return answer(await run_in_threadpool(self._read, text, kind, files))

    def _write(self, wanted: Wanted) -> dict[str, Any]:
        self._uploads.check(wanted.files)
        fields = public_fields(make_request(asked_fields(wanted), wanted.files))
        return self._written(fields, wanted.files)

    def _written(self, fields: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
        uploads = {field: self._uploads.find(upload) for field, upload in files.items()}
        names = _different_names(uploads.values())
        by_field = {field: (names[one.id], str(self._uploads.path(one))) for field, one in uploads.items()}
        told = self._ask("write", fields, by_field)
        return _storyboard(told, {name: upload for upload, name in names.items()})

    def _read(self, text: str, kind: str, files: Mapping[str, str]) -> dict[str, Any]:
        uploads = {name: self._uploads.find(upload) for name, upload in files.items()}
        told = self._ask("parse", text, kind, {name: str(self._uploads.path(one)) for name, one in uploads.items()})
        self._uploads.check({field: files[name] for field, name in told["files"].items()})
        return _storyboard(told, files)

    def _ask(self, name: str, *arguments: Any) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._helper.ask(
                name, *arguments, seconds=LISTEN_SECONDS, module="soundreel.server.storyboard_texts"
            )
        except InputError:
            raise
        except SoundreelError as error:
            raise RefusedError(422, "unreadable_file", self._hide(str(error))) from error
        return found

    # a shot again

    async def redo(self, request: Request) -> Response:
        """A new job that draws a shot of a finished video again, and what depends on it."""
        sent = await read_json_body(request)
        seed = sent.pop("seed", None)
        if sent:
            raise InputError(f"there is no {next(iter(sent))!r}: expected seed", field=next(iter(sent)))
        seed = _Again(seed=seed).seed
        job = self._queue.job(request.path_params["id"])
        return self._on_new(await run_in_threadpool(self._redo, job, request.path_params["name"], seed))

    def _redo(self, job: Job, shot: str, seed: int | None) -> Job:
        result = job.result or {}
        if job.state is not State.SUCCEEDED or "clip_seeds" not in result:
            raise RefusedError(
                409, "not_finished", f"this video is {job.state}: only of a finished one a shot is redone"
            )
        known = [one["name"] for one in job.plan["shots"]] + [one["section"] for one in job.plan["shots"]]
        if shot not in filter(None, known):
            raise RefusedError(404, "not_found", f"there is no shot {shot!r} in this video", field="name")
        check_room(self._uploads, self._settings.limits)
        new = NewJob(
            id=f"video_{secrets.token_hex(12)}",
            engine=job.engine, model=job.model, weights=job.weights, files=job.files, plan=job.plan,
            fields={**job.fields, "clip_seeds": result["clip_seeds"]},
            names={**job.names, "redo": {"of": job.id, "shot": shot, "seed": seed}},
            seconds=job.seconds, priority=job.priority,
        )  # fmt: skip
        folder = self._settings.job_folder(new.id)
        try:
            _copy(self._settings.job_folder(job.id) / WORK, folder / WORK)
            made, _ = self._queue.add(new, self._settings.limits)
        except FileNotFoundError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise RefusedError(409, "not_kept", "the clips of this video are not kept any more") from error
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise MediaError(f"the clips of this video cannot be copied: {error.strerror}") from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return made


def _copy(source: Path, target: Path) -> None:
    """A work folder whose files are those of another: none of them is ever written in place."""
    shutil.copytree(source, target, copy_function=_link, ignore=shutil.ignore_patterns(*NEVER_COPIED))


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
    return target


def _different_names(uploads: Iterable[Upload]) -> dict[str, str]:
    """Names of uploads by their ids: each as it was called, two files of one name apart."""
    names: dict[str, str] = {}
    taken: dict[str, str] = {}  # digests by names
    for upload in uploads:
        digest = upload.facts["sha256"]
        is_free = taken.setdefault(upload.name, digest) == digest
        names[upload.id] = upload.name if is_free else f"{upload.id[-6:]}_{upload.name}"
    return names


def _storyboard(told: Mapping[str, Any], uploads: Mapping[str, str]) -> dict[str, Any]:
    """As it is answered; `uploads` are ids by the names in it."""
    request = nested(told["fields"])
    for field, name in told["files"].items():
        put(request, field, uploads[name])
    return {"object": "storyboard", "request": request, "toml": told["toml"], "json": told["json"]}
