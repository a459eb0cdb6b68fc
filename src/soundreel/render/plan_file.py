"""plan.json of a work folder: the render that it is at, and earlier ones whose clips are kept there as well.

A *take* of what was asked is one with its own seeds, or encoded in its own way: another request's clips and another
take's stand beside one another, and none of them is ever deleted for the sake of another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from soundreel.disk.plain_json import read_json
from soundreel.errors import InputError

PLAN_NAME: Final = "plan.json"
CLIP_DIGITS: Final = 8

PlanData = dict[str, Any]
"""What plan.json says of one render."""

_KINDS: Final = {
    "asked": str, "parts": dict, "identity": dict, "encoding": dict, "request": dict, "clips": list,
    "taken": list, "earlier": list,
}  # fmt: skip


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
        plans = plans_of(read_plan(folder))
        mine = next((plan for plan in plans if _fingerprints(plan) == list(fingerprints)), None)
        kept = [plan for plan in plans if plan is not mine and _has_clips(folder, plan)]
        others = [plan | {"earlier": []} | ({"redo": None} if plan["asked"] == asked else {}) for plan in kept]
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


def plans_of(found: PlanData | None) -> list[PlanData]:
    """All renders that a plan.json tells of, the latest first."""
    return [] if found is None else [found, *filter(_is_whole, found["earlier"])]


def worth_keeping(plan: PlanData) -> bool:
    """Whether a render's clips are still of use when another one is done in its folder."""
    return bool(plan.get("keep_work")) or not plan.get("finished")


def _fingerprints(plan: PlanData) -> list[str]:
    return [clip["fingerprint"] for clip in plan["clips"]]


def _has_clips(folder: Path, plan: PlanData) -> bool:
    """Whether any clip is there, encoded or as a negative."""
    endings = (("fingerprint", ".json"), ("pixels", ".latents.json"))
    return any(
        clip_file(folder, clip["index"], str(clip.get(of)), ending).exists()
        for clip in plan["clips"]
        for of, ending in endings
    )


def read_plan(folder: Path) -> PlanData | None:
    """What plan.json in `folder` says; None where there is none that can be read.

    Raises:
        InputError: it is of a version before 0.2.
    """
    found = _read_json(folder / PLAN_NAME)
    if is_of_earlier_version(folder):
        raise InputError(
            f"{str(folder)!r} was begun by soundreel {found.get('soundreel', '0.1')}, whose clips this version cannot "
            "go on with: finish it with that version, begin anew with --no-resume, or name another --work-dir"
        )
    return found if _is_whole(found) else None


def is_work_folder(folder: Path) -> bool:
    """Whether renders are kept in a folder, by a plan that can be read."""
    return _is_whole(_read_json(folder / PLAN_NAME)) or is_of_earlier_version(folder)


def _is_whole(plan: Any) -> bool:
    if not isinstance(plan, dict) or not all(isinstance(plan.get(name), kind) for name, kind in _KINDS.items()):
        return False
    return all(isinstance(clip, dict) and {"index", "fingerprint", "seed"} <= clip.keys() for clip in plan["clips"])


def is_of_earlier_version(folder: Path) -> bool:
    """Whether a version before 0.2 rendered here: clips were named by their number alone."""
    found = _read_json(folder / PLAN_NAME)
    return isinstance(found, dict) and "asked" not in found and "fingerprint" in found


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None
