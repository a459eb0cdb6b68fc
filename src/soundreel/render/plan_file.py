"""The plans of a work folder: `plan.json` is of the render that it is at, `plan_5f2e3a1b.json` of each other one.

A *take* of what was asked is one with its own seeds, or encoded in its own way: another request's clips and another
take's stand beside one another, and none of them is ever deleted for the sake of another. A plan that is damaged costs
the memory of one render: its clips stay, and the command that began it finds them.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from soundreel.disk.digests import data_digest, file_digest
from soundreel.disk.durable import write_json
from soundreel.disk.json_form import Form, misfit
from soundreel.disk.outputs import PLAN_NAME
from soundreel.disk.plain_json import read_json
from soundreel.errors import InputError

PLAN_PATTERN: Final = r"plan(_[0-9a-f]{8})?\.json"
CLIP_DIGITS: Final = 8

PlanData = dict[str, Any]
"""What a plan says of its render."""

_PLAN: Final[Form] = {
    "asked": str,
    "parts": dict,
    "identity": dict,
    "encoding": dict,
    "engine?": str,
    "request": dict,
    "clips": [{"index": int, "fingerprint": str, "pixels?": str, "seed": int}],
    "taken": [int],
    "redo?": {"clip": int, "seeds": [int], "output?": str},
    "keep_work?": bool,
    "finished?": bool,
    "written?": str,
}


def clip_file(folder: Path, index: int, fingerprint: str, ending: str) -> Path:
    """A file of the clip with an index, from 0, and a fingerprint."""
    return folder / f"clip_{index + 1:05d}_{fingerprint[:CLIP_DIGITS]}{ending}"


@dataclass(frozen=True, kw_only=True)
class FoundPlans:
    """What a folder holds, seen from one render; the latest first."""

    latest: PlanData | None
    mine: PlanData | None  # of the same clips
    takes: list[PlanData]  # of what was asked: `mine`, other seeds, other encodings
    others: list[PlanData]  # all but `mine` of which clips are there; a take's redo is `mine`'s now

    @classmethod
    def read(cls, folder: Path, asked: str, fingerprints: Sequence[str]) -> Self:
        """Raises `InputError` for a folder of a version before 0.2."""
        plans = list(read_plans(folder).values())
        mine = next((plan for plan in plans if _fingerprints(plan) == list(fingerprints)), None)
        kept = [plan for plan in plans if plan is not mine and next(clip_records(folder, plan), None) is not None]
        others = [plan | ({"redo": None} if plan["asked"] == asked else {}) for plan in kept]
        takes = [plan for plan in plans if plan["asked"] == asked]
        return cls(latest=plans[0] if plans else None, mine=mine, takes=takes, others=others)

    @property
    def redo(self) -> PlanData | None:
        """A clip that is being drawn again, and is not done."""
        return next((plan["redo"] for plan in self.takes if plan.get("redo")), None)

    @property
    def taken(self) -> set[int]:
        """Seeds that clips of any take have had."""
        return {seed for plan in self.takes for seed in plan["taken"]}

    def is_finished(self, pixels: Sequence[str]) -> bool:
        """Whether a take whose clips have these pixels, encoded in whatever way, is done."""
        same = (take for take in self.takes if [clip.get("pixels") for clip in take["clips"]] == list(pixels))
        return any(take.get("finished") for take in same)


def worth_keeping(plan: PlanData) -> bool:
    """Whether a render's clips are still of use when another one is done in its folder."""
    return bool(plan.get("keep_work")) or not plan.get("finished")


def _fingerprints(plan: PlanData) -> list[str]:
    return [clip["fingerprint"] for clip in plan["clips"]]


def clip_records(folder: Path, plan: PlanData) -> Iterator[Path]:
    """The records of a render's clips that are there, of segments and of negatives."""
    endings = (("fingerprint", ".json"), ("pixels", ".latents.json"))
    records = (
        clip_file(folder, clip["index"], str(clip.get(of)), ending) for clip in plan["clips"] for of, ending in endings
    )
    return (path for path in records if path.exists())


# reading


def read_plans(folder: Path) -> dict[Path, PlanData]:
    """The plans of all renders in a folder that can be read, by their files: that of the latest first, if it can be.

    Raises:
        InputError: it is of a version before 0.2.
    """
    latest = read_plan(folder)
    plans = {} if latest is None else {folder / PLAN_NAME: latest}
    others = {path: plan for path in _other_plan_files(folder) if (plan := load_plan(path)) is not None}
    for path, plan in sorted(others.items(), key=lambda item: item[1].get("written") or "", reverse=True):
        if all(_fingerprints(plan) != _fingerprints(known) for known in plans.values()):
            plans[path] = plan  # else a copy: a process was killed before it had removed it
    return plans


def read_plan(folder: Path) -> PlanData | None:
    """The plan of the render that a folder is at; None where there is none that can be read.

    Raises:
        InputError: it is of a version before 0.2.
    """
    if is_of_earlier_version(folder):
        began = _read_json(folder / PLAN_NAME).get("soundreel", "0.1")
        raise InputError(
            f"{str(folder)!r} was begun by soundreel {began}, whose clips this version cannot go on with: finish it "
            "with that version, begin anew with --no-resume, or name another --work-dir"
        )
    return load_plan(folder / PLAN_NAME)


def load_plan(path: Path) -> PlanData | None:
    """What a plan's file says; None where it is none."""
    found = _read_json(path)
    return found if misfit(found, _PLAN) is None else None


def is_plan(path: Path) -> bool:
    """Whether a file is called as plans are."""
    return re.fullmatch(PLAN_PATTERN, path.name) is not None


def damaged_plans(folder: Path, plans: Collection[PlanData]) -> list[Path]:
    """The files that should be plans and are none, where there are clips that none of `plans` tells of."""
    files = [folder / PLAN_NAME, *_other_plan_files(folder)]
    damaged = [path for path in files if path.exists() and load_plan(path) is None]
    if not damaged:
        return []
    known = {path for plan in plans for path in clip_records(folder, plan)}
    return damaged if any(path not in known for path in folder.glob("clip_*.json")) else []


def is_of_earlier_version(folder: Path) -> bool:
    """Whether a version before 0.2 rendered here: clips were named by their number alone."""
    found = _read_json(folder / PLAN_NAME)
    return isinstance(found, dict) and "asked" not in found and "fingerprint" in found


def _other_plan_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("plan_*.json") if is_plan(path))


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


# writing


def write_plans(folder: Path, latest: PlanData, others: Sequence[PlanData]) -> None:
    """Note what a folder holds. Whatever is killed in between, no render is forgotten: one may be told of twice."""
    _set_aside(folder / PLAN_NAME)
    for plan in others:
        path = plan_file(folder, plan)
        if load_plan(path) != plan:
            write_json(path, plan)
    write_json(folder / PLAN_NAME, latest)
    kept = {plan_file(folder, plan) for plan in others}
    known = [latest, *others]
    damaged = damaged_plans(folder, known)
    for path in _other_plan_files(folder):
        if path not in kept and path not in damaged:
            path.unlink(missing_ok=True)


def plan_file(folder: Path, plan: PlanData) -> Path:
    """Where the plan of a render is that its folder is not at."""
    return _named(folder, data_digest(_fingerprints(plan)))


def _set_aside(path: Path) -> None:
    """Let a plan that is damaged make room for one that is not."""
    with suppress(OSError):
        if load_plan(path) is None:
            path.replace(_named(path.parent, file_digest(path)))


def _named(folder: Path, digest: str) -> Path:
    return folder / f"plan_{digest[:CLIP_DIGITS]}.json"
