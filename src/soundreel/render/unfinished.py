"""Renders that are under way, interrupted or kept, found by their work folders."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from soundreel.disk.locks import holder
from soundreel.errors import InputError
from soundreel.render.fingerprint import from_data
from soundreel.render.work_folder import PLAN_NAME, WORK_FOLDER, read_plan
from soundreel.request import Keeping, Request
from soundreel.units import StrPath

DEPTH: Final = 4
"""Folders below the one named that are looked into."""


@dataclass(frozen=True, kw_only=True)
class StoredJob:
    """What a work folder says of its render."""

    folder: Path
    audio: str
    engine: str
    clips: int
    done: int  # clips with a record whose seed is the plan's; resuming looks at them closely
    bytes: int
    finished: bool  # kept after success
    written: str  # when the render was begun or last gone on with
    pid: str | None  # of the process that renders; None: none

    @property
    def state(self) -> str:
        """In two words."""
        if self.pid is not None:
            return f"running, pid {self.pid}"
        return "finished, kept" if self.finished else "interrupted"


def find_jobs(folder: StrPath) -> list[StoredJob]:
    """The renders in `folder` and the folders in it, oldest first; `InputError` unless it is one."""
    root = _existing(folder)
    found = [_describe(place, plan) for place in _work_folders(root) if (plan := read_plan(place)) is not None]
    return sorted(found, key=lambda job: (job.written, job.folder))


def load_job(folder: StrPath) -> tuple[Request, Keeping]:
    """The request of a work folder, or of the only one in a folder, and how it is kept.

    Raises:
        InputError: there is none, more than one, or its plan cannot be read.
    """
    root = _existing(folder)
    places = [root] if (root / PLAN_NAME).exists() else list(_work_folders(root))
    if len(places) != 1:
        found = ", ".join(str(place.relative_to(root)) for place in places) or "none"
        raise InputError(f"{str(root)!r} is no work folder, and of the folders in it these are: {found}; name one")
    plan = read_plan(places[0])
    if plan is None:
        damaged = str(places[0] / PLAN_NAME)
        raise InputError(f"{damaged!r} is damaged: give the command that began the render again, its clips are kept")
    keeping = Keeping(work_dir=places[0], keep_work=plan.get("keep_work", False), only_resume=True)
    return from_data(plan["request"]), keeping


def _existing(folder: StrPath) -> Path:
    path = Path(folder)
    if not path.is_dir():
        state = "a file" if path.exists() else "not there"
        raise InputError(f"{os.fspath(folder)!r} is {state}: expected a folder")
    return path


def _work_folders(root: Path) -> Iterator[Path]:
    """Folders with a plan of ours, not inside one another."""
    for place, folders, files in os.walk(root):
        depth = len(Path(place).relative_to(root).parts)
        if PLAN_NAME in files:
            yield Path(place)
            folders.clear()
        elif depth >= DEPTH:
            folders[:] = [name for name in folders if name == WORK_FOLDER]
        folders.sort()


def _describe(folder: Path, plan: dict[str, Any]) -> StoredJob:
    running = holder(folder)
    return StoredJob(
        folder=folder,
        audio=str(plan["request"].get("audio", "")),
        engine=str(plan.get("engine", "")),
        clips=len(plan["clips"]),
        done=sum(_is_done(folder, plan, number) for number in range(1, len(plan["clips"]) + 1)),
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        finished=bool(plan.get("finished", False)),
        written=str(plan.get("written", "")),
        pid=None if running is None else running.pid,
    )


def _is_done(folder: Path, plan: dict[str, Any], number: int) -> bool:
    try:
        record = json.loads((folder / f"clip_{number:05d}.json").read_text(encoding="utf-8"))
        wanted = plan["fingerprint"], plan["clips"][number - 1]["seed"]
        return bool((record["fingerprint"], record["seed"]) == wanted)
    except (OSError, ValueError, KeyError, TypeError):
        return False
