"""Which files of a work folder are soundreel's own, and removing them; those of others are never touched."""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from soundreel.disk.durable import TEMPORARY_PATTERN, WINDOWS
from soundreel.disk.locks import LOCK_NAME
from soundreel.disk.outputs import WORK_FOLDER, is_folder
from soundreel.errors import InputError
from soundreel.render.claims import CLAIM_PATTERN
from soundreel.render.plan_file import PLAN_PATTERN, is_plan

ENGINE_FOLDER: Final = "engine"

_CLIP_FILE: Final = re.compile(r"(clip|carry)_\d{5}(_[0-9a-f]{8})?(\.latents)?\.(mp4|safetensors|json)")
_OURS: Final = re.compile(
    rf"({LOCK_NAME}|{ENGINE_FOLDER}|{PLAN_PATTERN}|(finished|partial)\.mp4|{_CLIP_FILE.pattern}|{CLAIM_PATTERN})"
    rf"({TEMPORARY_PATTERN})?"
)
_BEFORE_THE_PLAN: Final = re.compile(rf"{LOCK_NAME}|.*{TEMPORARY_PATTERN}")
"""Of these, what may be in a work folder that has no plan yet."""


def refuse_foreign(folder: Path) -> None:
    """Raise `InputError` for a folder that holds anything but what a work folder does: other names, links, pipes."""
    if not is_folder(folder):
        return
    foreign = next((entry.name for entry in folder.iterdir() if not _OURS.fullmatch(entry.name)), None)
    foreign = foreign or next((str(path.relative_to(folder)) for path in _not_plain(folder)), None)
    if foreign is not None:
        raise _is_foreign(folder, foreign)


def refuse_without_plan(folder: Path) -> None:
    """Raise `InputError` for a folder that holds files of such names, but no plan.

    Names alone do not tell: beside clips or an engine's files there is a plan, which is written first and removed last.
    """
    names = sorted(entry.name for entry in folder.iterdir()) if is_folder(folder) else []
    if any(is_plan(Path(name)) for name in names):
        return
    foreign = next((name for name in names if not _BEFORE_THE_PLAN.fullmatch(name)), None)
    if foreign is not None:
        raise _is_foreign(folder, foreign)


def _is_foreign(folder: Path, holds: str) -> InputError:
    return InputError(
        f"{str(folder)!r} is no work folder of soundreel (it holds {holds!r}): name an empty or a new one"
    )


def _not_plain(folder: Path) -> Iterator[Path]:
    """All below a folder that is neither a file nor a folder: links, through which other files would be written."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            with suppress(FileNotFoundError):  # temporary, of a process that renders there
                mode = path.lstat().st_mode
                if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                    yield path


def remove_work(folder: Path) -> None:
    """Remove a work folder, and the folder of work folders when it was the last one."""
    if not folder.is_dir():
        return
    entries = sorted((path for path in folder.iterdir() if _OURS.fullmatch(path.name)), key=_removal_order)
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK_NAME or not WINDOWS:  # where `locked` removes it, once it is closed
            entry.unlink()
    for empty in (folder, *([folder.parent] if folder.parent.name == WORK_FOLDER else [])):
        with suppress(OSError):  # not empty: another render is in it
            empty.rmdir()


def _removal_order(path: Path) -> tuple[bool, bool]:
    """The lock last, the plans before it: whoever is killed in between leaves what can still be removed."""
    return path.name.startswith(LOCK_NAME), is_plan(path)
