"""What renders: one process for each device set, with a session, into which Ray sends rows."""

import errno
import json
import os
import platform
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from soundreel.batch.kept import to_print, to_render
from soundreel.batch.manifest import Row, Work
from soundreel.batch.results import FAILED, FOUND, MADE, RowResult, asked_of
from soundreel.disk.digests import file_digest
from soundreel.disk.locks import holder
from soundreel.errors import EngineError, InputError, MediaError, SoundreelError, WeightsError
from soundreel.media.mux import verify
from soundreel.render.plan_file import read_plan
from soundreel.render.prepared import PreparedRender
from soundreel.render.recipe import read_recipe
from soundreel.render.recipe_files import in_shot
from soundreel.render.room import NoRoomError
from soundreel.render.sharing import share_of
from soundreel.render.shot_jobs import Job
from soundreel.request import EngineName, Request, ShotRequest, WorkOptions
from soundreel.request.fields import Paths, fields_of, to_data
from soundreel.session import Session
from soundreel.types import CancelFlag, Progress, Stage
from soundreel.version import __version__

LOCK_SECONDS: Final = 600.0
"""That an actor waits for another process to let a row's work folder go: those of a driver that is gone end soon."""

LOOK_SECONDS: Final = 0.2

COMES_AGAIN: Final = (InputError, MediaError, WeightsError)
"""Errors that another try would meet again, except for a full disk."""

CANNOT_PRINT: Final = (InputError, WeightsError, EngineError)
"""What a render is refused with of which only the printing was thought to be left."""

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, kw_only=True)
class About:
    """What an actor or a node says of itself."""

    host: str
    version: str
    device: str = ""  # of an actor; a node may have several
    problem: str = ""  # why it cannot take rows


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a try ended."""

    result: RowResult
    may_try_again: bool = False
    is_full: bool = False  # the disk of this machine has no room


@dataclass(frozen=True, kw_only=True)
class HandedBack:
    """A row that is to be handed out again, for what is left to do of it."""

    row: Row
    seconds: float  # that were spent on it


class _SampledError(Exception):
    """All pictures are there, and who prints them is another one."""


@dataclass(frozen=True, kw_only=True)
class State:
    """How far a row is."""

    share: float | None = None  # of the whole that is done
    job: Job | None = None  # for others to take shots of it; None: there are none to be taken


def look(token: Path, secret: str, device: str = "") -> About:
    """What the machine that this runs on sees of the storage of all."""
    problem = ""
    try:
        if token.read_text(encoding="utf-8") != secret:
            problem = f"finds another file as {str(token)!r}"
    except OSError as error:
        problem = f"does not see {str(token.parent)!r}: {error.strerror}"
    return About(host=socket.gethostname(), version=_versions(), device=device, problem=problem)


def _versions() -> str:
    major, minor, _ = platform.python_version_tuple()
    return f"soundreel {__version__}, Python {major}.{minor}"


VERSIONS: Final = _versions()
"""Of this process."""


class Worker:
    """Renders rows, one at a time, and tells in another thread how far it is.

    Args:
        output: the folder of the videos, which all machines see.
        gpus: how many it has.
    """

    def __init__(self, output: Path, keep_work: bool | None, gpus: float) -> None:
        self.output, self._keep_work, self._gpus = output, keep_work, gpus
        self._session = Session()
        self._session.__enter__()
        self._state = State()

    def about(self, token: Path, secret: str) -> About:
        """What is told before the first row."""
        return look(token, secret, self._device)

    def state(self) -> State:
        """How far the row is that is under way."""
        return self._state

    def render(self, row: Row, tries: int, hands_on: bool = False) -> Outcome | HandedBack:
        """Make a row's video, or find it; errors are part of the answer.

        Args:
            hands_on: leave it to another process to score and write the video, once all its pictures are there.
        """
        begun = time.monotonic()
        self._state = State()
        facts: dict[str, Any] = {"id": row.id, "line": row.line, "tries": tries, "device": self._device}
        facts |= {"host": socket.gethostname()}
        try:
            facts["asked"] = asked_of(row)
            _wait_for(row.work_folder(self.output))
            facts |= self._found(row) or self._made(row, hands_on=hands_on)
            return Outcome(result=RowResult(**facts, seconds=round(time.monotonic() - begun, 3)))
        except _SampledError:
            return HandedBack(row=replace(row, work=Work.PRINT), seconds=time.monotonic() - begun)
        except CANNOT_PRINT as error:
            if row.work is Work.PRINT and not _causes(error):
                return HandedBack(row=replace(row, work=Work.WHOLE), seconds=time.monotonic() - begun)
            return _failed(row, error, facts)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other rows are not to blame
            return _failed(row, error, facts)
        finally:
            self._state = State()

    def help(self, job: Job) -> None:
        """Take shots of the row of another actor, which goes on without this one whatever happens."""
        self._session.take_part(job, lambda _: None, lambda _: None, CancelFlag())

    @property
    def _device(self) -> str:
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return f"cuda:{gpus}" if self._gpus and gpus else "cpu"

    def _found(self, row: Row) -> dict[str, Any] | None:
        """What an earlier driver has had made and could not note any more."""
        path, folder = row.video(self.output), row.work_folder(self.output)
        if not path.exists() or (folder.exists() and not (read_plan(folder) or {}).get("finished")):
            return None  # what is left of a render that was killed is tidied up by going on with it
        if not was_made_by(path, row.request):
            return None
        recipe = read_recipe(path)
        return {"state": FOUND, "path": str(path), "bytes": path.stat().st_size} | _of_recipe(recipe)

    def _made(self, row: Row, *, hands_on: bool) -> dict[str, Any]:
        request, work = self._asked(row)
        facts = {"state": MADE, "printed_again": False}
        keeps_latents = False

        def begin(render: PreparedRender) -> None:
            nonlocal keeps_latents
            keeps_latents = render.engine.reach is not None
            facts["printed_again"] = render.is_printed_again
            is_alone = render.division.is_divided or len(render.plan.chains) == 1 or render.is_printed_again
            self._state = State(job=None if is_alone else share_of(render, row.work_folder(self.output)))

        def hear(progress: Progress) -> None:
            self._state = State(share=progress.share, job=self._state.job)
            if hands_on and keeps_latents and progress.stage is Stage.WRITE:
                raise _SampledError

        made = self._session.generate(request, hear, on_start=begin, work=work)
        return facts | {"path": str(made.path), "bytes": made.path.stat().st_size} | _of_recipe(made.recipe)

    def _asked(self, row: Row) -> tuple[Request, WorkOptions]:
        """What is asked of the session for a row."""
        request, work = to_print(row, self.output) if row.work is Work.PRINT else to_render(row, self.output)
        if self._gpus > 1 and request.compute.gpus is None:
            request = request.replace(gpus="all")
        return request, replace(work, keep_work=self._keep_work, is_shared=True)


def _of_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "engine": recipe.get("engine"),
        "frames": recipe.get("frames"),
        "fps": recipe.get("fps"),
        "scores": recipe.get("scores"),
    }


def _failed(row: Row, error: Exception, facts: Mapping[str, Any]) -> Outcome:
    reason = "; ".join([_says(error), *getattr(error, "__notes__", ())])
    causes = _causes(error)
    is_full = isinstance(error, NoRoomError) or any(cause.errno in FULL for cause in causes)
    result = RowResult(
        **{"asked": row.digest, **facts},
        state=FAILED,
        reason=reason,
        exit_code=error.exit_code if isinstance(error, SoundreelError) else 1,
    )
    comes_again = isinstance(error, COMES_AGAIN) and not causes
    return Outcome(result=result, may_try_again=is_full or not comes_again, is_full=is_full)


def _says(error: Exception) -> str:
    """The message of an error, where it came from a row and not from options of a command."""
    if isinstance(error, NoRoomError):
        return f"{error.shortage}: free some"
    return str(error) if isinstance(error, SoundreelError) else f"{type(error).__name__}: {error}"


def _causes(error: BaseException | None) -> list[OSError]:
    """What the system has said: a machine or its disk may be at fault, and another one may not."""
    found = []
    while error is not None:
        found += [error] if isinstance(error, OSError) else []
        error = error.__cause__ or error.__context__
    return found


def _wait_for(folder: Path) -> None:
    """Until no other process has a row's work folder; `EngineError` where that takes too long."""
    end = time.monotonic() + LOCK_SECONDS
    while folder.is_dir() and (other := holder(folder)) is not None:
        if time.monotonic() > end:
            raise EngineError(f"{other} is still rendering this in {str(folder)!r}")
        time.sleep(LOOK_SECONDS)


def was_made_by(video: Path, request: Request) -> bool:
    """Whether a video is whole, and its recipe that of a request with files as they are now."""
    with suppress(SoundreelError, OSError, KeyError, TypeError, ValueError):
        recipe = read_recipe(video)
        verify(video, frames=recipe["frames"], fps=recipe["fps"], sound=True)
        if request.engine is EngineName.AUTO:  # a print names the one that has rendered it
            request = request.replace(engine=recipe["request"]["engine"])
        return _said(recipe["request"]) == _said(_public(request)) and _has_files(recipe["inputs"], request)
    return False


def _public(request: Request) -> dict[str, Any]:
    return to_data(request, Paths.ABSOLUTE if request.output.recipe_paths else Paths.NAMES)


def _said(data: Mapping[str, Any]) -> Any:
    """What a request says of a video, without where it is and which server was asked."""
    output = {name: value for name, value in data["output"].items() if name not in {"path", "dir"}}
    return json.loads(json.dumps({**data, "output": output, "server": None}))


def _has_files(digests: Mapping[str, str], request: Request) -> bool:
    """Whether the files of a request have these digests, by field."""
    paths = {field.name: field.of(request) for field in fields_of(Request)}
    paths |= {
        in_shot(number, field): field.of(shot)
        for number, shot in enumerate(request.shots)
        for field in fields_of(ShotRequest)
    }
    return all(file_digest(paths[name]) == digest for name, digest in digests.items())
