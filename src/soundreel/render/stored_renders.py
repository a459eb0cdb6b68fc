"""What work folders say of their renders: which are under way, interrupted or kept, and how far they are."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from soundreel.disk.locks import holder
from soundreel.disk.outputs import PLAN_NAME, WORK_FOLDER, is_folder
from soundreel.errors import InputError
from soundreel.render.clip_records import read_record
from soundreel.render.plan_file import (
    PlanData,
    clip_file,
    clip_records,
    damaged_plans,
    is_plan,
    read_plans,
)
from soundreel.units import StrPath

DEPTH: Final = 4
"""Folders below the one named that are looked into."""


@dataclass(frozen=True, kw_only=True)
class StoredRender:
    """What a work folder says of one of its renders."""

    folder: Path
    plan: Path  # the file that tells of it
    audio: str = ""
    storyboard: str = ""  # the file that its shots are from
    shots: int = 1
    engine: str = ""
    clips: int = 0
    done: int = 0  # clips with a record; resuming looks at them closely
    bytes: int  # of the folder; for a render that the folder is not at, of its clips
    finished: bool = False  # kept after success
    written: str = ""  # when the render was begun or last gone on with
    pid: str | None = None  # of the process that renders; None: none
    problem: str = ""  # why it cannot be gone on with

    @property
    def is_latest(self) -> bool:
        """Whether its folder is at it: named alone, the folder means this one."""
        return self.plan.name == PLAN_NAME

    @property
    def place(self) -> Path:
        """What names it in a command."""
        return self.folder if self.is_latest else self.plan

    @property
    def state(self) -> str:
        """In two words."""
        if self.pid is not None:
            return f"running, pid {self.pid}"
        return "finished, kept" if self.finished else "damaged" if self.problem else "interrupted"


def find_renders(folder: StrPath) -> list[StoredRender]:
    """The renders in `folder` and the folders in it, oldest first; `InputError` unless it is one."""
    found = [render for place in find_work_folders(existing(folder)) for render in stored_renders(place)]
    return sorted(found, key=lambda render: (render.written, render.place))


def existing(folder: StrPath) -> Path:
    """The path of a folder; `InputError` where there is none."""
    path = Path(folder)
    if not os.fspath(folder):
        raise InputError("'' is no name: expected a folder")
    if not is_folder(path):
        state = "a file" if path.exists() else "not there"
        raise InputError(f"{os.fspath(folder)!r} is {state}: expected a folder")
    return path


def find_work_folders(root: Path) -> Iterator[Path]:
    """Folders in and below `root` with a plan of ours, not inside one another."""
    return (place for place, files in _looked_into(root) if _holds_a_plan(files))


def folders_of_work_folders(root: Path) -> Iterator[Path]:
    """The folders in and below `root` that soundreel has made for work folders."""
    return (place for place, _ in _looked_into(root) if place.name == WORK_FOLDER)


def folders_looked_into(root: Path) -> list[Path]:
    """`root` and the folders below it that may hold work folders."""
    return [place for place, _ in _looked_into(root)]


def _looked_into(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """`root` and the folders below it that may hold work folders, with the names of the files in each."""
    for place, folders, files in os.walk(root):
        yield Path(place), files
        if _holds_a_plan(files):
            folders.clear()
        elif len(Path(place).relative_to(root).parts) >= DEPTH:
            folders[:] = [name for name in folders if name == WORK_FOLDER]
        folders.sort()


def _holds_a_plan(names: list[str]) -> bool:
    return any(is_plan(Path(name)) for name in names)


def stored_renders(folder: Path) -> list[StoredRender]:
    """The renders in a work folder, the one that it is at first; none where what is there is of another program."""
    running = holder(folder)
    pid = None if running is None else running.pid
    try:
        plans = read_plans(folder)
    except InputError as error:
        whole = bytes_below(folder)
        return [StoredRender(folder=folder, plan=folder / PLAN_NAME, bytes=whole, pid=pid, problem=str(error))]
    found = [_stored(path, plan, pid) for path, plan in plans.items()]
    return found + [_damaged(path) for path in damaged_plans(folder, plans.values())]


def _stored(path: Path, plan: PlanData, pid: str | None) -> StoredRender:
    folder, is_latest = path.parent, path.name == PLAN_NAME
    files = {file for record in clip_records(folder, plan) for file in folder.glob(f"{record.stem}.*")}
    return StoredRender(
        folder=folder,
        plan=path,
        audio=str(plan["request"].get("audio", "")),
        storyboard=str(plan["request"].get("storyboard") or ""),
        shots=1 + max((clip.get("shot", 0) for clip in plan["clips"]), default=0),
        engine=str(plan.get("engine", "")),
        clips=len(plan["clips"]),
        done=sum(_is_done(folder, clip) for clip in plan["clips"]),
        bytes=bytes_below(folder) if is_latest else sum(map(_size, files)),
        finished=bool(plan.get("finished", False)),
        written=str(plan.get("written", "")),
        pid=pid if is_latest else None,
    )


def _damaged(path: Path) -> StoredRender:
    says = f"{str(path)!r} is damaged: give the command that began the render again, its clips are kept"
    whole = bytes_below(path.parent) if path.name == PLAN_NAME else 0
    return StoredRender(folder=path.parent, plan=path, bytes=whole, problem=says)


def bytes_below(folder: Path) -> int:
    """What the files in a folder and the folders in it take; 0 where there is none."""
    return sum(_size(Path(place) / name) for place, _, names in os.walk(folder) for name in names)


def _size(path: Path) -> int:
    with suppress(OSError):  # gone in between: a process renders there
        return path.stat().st_size
    return 0


def _is_done(folder: Path, clip: PlanData) -> bool:
    record = read_record(clip_file(folder, clip["index"], clip["fingerprint"], ".json"))
    return record is not None and record.fingerprint == clip["fingerprint"]
