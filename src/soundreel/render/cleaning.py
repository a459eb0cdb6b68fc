"""Removing work folders that are no longer needed: finished ones, and unfinished ones where that is asked for."""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from soundreel.disk.destination import remove_left_over
from soundreel.disk.locks import locked
from soundreel.disk.outputs import remove_dead_claims
from soundreel.errors import InputError
from soundreel.render.folder_files import remove_work
from soundreel.render.stored_renders import (
    StoredRender,
    bytes_below,
    existing,
    find_work_folders,
    folders_looked_into,
    folders_of_work_folders,
    stored_renders,
)
from soundreel.units import StrPath

UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

_AGE: Final = re.compile(rf"(\d+(?:\.\d+)?)([{''.join(UNITS)}])")


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """What happened to a work folder."""

    render: StoredRender  # that it is at, or else one of those in it; its bytes are all of the folder
    freed: int  # bytes
    left: str = ""  # why it was left; "": it was removed, or would be


def parse_age(text: str) -> timedelta:
    """`7d`, `12h`, `1.5w`, `30m` or `90s`; raises `InputError`."""
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise InputError(f"--older-than is {text!r}: expected a time as 7d, 12h or 30m")
    try:
        return timedelta(**{UNITS[found[2]]: float(found[1])})
    except OverflowError:
        raise InputError(f"--older-than is {text!r}: expected less") from None


def clean(
    folder: StrPath, *, unfinished: bool = False, older_than: timedelta | None = None, dry_run: bool = False
) -> list[Cleaned]:
    """Remove the work folders in `folder` and the folders in it, oldest first; never one that a process holds.

    What killed processes have left there without a render goes, too.

    Args:
        unfinished: those of renders that are not finished, too.
        older_than: only those that were last written to at least so long ago.
        dry_run: remove nothing.

    Raises:
        InputError: `folder` is none.
    """
    root = existing(folder)
    found = [
        replace(renders[0], bytes=bytes_below(place))
        for place in find_work_folders(root)
        if (renders := stored_renders(place))
    ]
    found.sort(key=lambda render: (render.written, render.folder))
    cleaned = [_clean(render, unfinished, older_than, dry_run) for render in found]
    if not dry_run:
        for place in folders_of_work_folders(root):
            remove_dead_claims(place)
        for place in folders_looked_into(root):
            remove_left_over(place)
    return cleaned


def _clean(render: StoredRender, unfinished: bool, older_than: timedelta | None, dry_run: bool) -> Cleaned:
    why = _why_left(render, unfinished, older_than)
    if why:
        return Cleaned(render=render, freed=0, left=why)
    if dry_run:
        return Cleaned(render=render, freed=render.bytes)
    try:
        with locked(render.folder):
            if not unfinished and not _is_finished(render.folder):
                return Cleaned(render=render, freed=0, left="it is rendered in again")
            remove_work(render.folder)
    except InputError as error:  # a process has just taken it, or it cannot be written
        return Cleaned(render=render, freed=0, left=str(error))
    return Cleaned(render=render, freed=render.bytes - bytes_below(render.folder))


def _why_left(render: StoredRender, unfinished: bool, older_than: timedelta | None) -> str:
    if render.pid is not None:
        return f"process {render.pid} is rendering in it"
    if not render.finished and not unfinished:
        return "not finished: --all removes it, too"
    if not unfinished and not _is_finished(render.folder):
        return "an earlier render in it is not finished: --all removes it, too"
    if older_than is not None and datetime.now(UTC) - _written(render) < older_than:
        return "not that old"
    return ""


def _written(render: StoredRender) -> datetime:
    """When it was last written to; of a version that did not note it, as its file says."""
    try:
        return datetime.fromisoformat(render.written)
    except ValueError:
        return datetime.fromtimestamp(render.plan.stat().st_mtime, UTC)


def _is_finished(folder: Path) -> bool:
    """Whether all renders that a folder keeps are; one that is damaged or of an earlier version may not be."""
    return all(render.finished for render in stored_renders(folder))
