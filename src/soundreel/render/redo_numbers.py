"""Which clips are drawn again where a clip, a shot or a section is named."""

from typing import Final

from soundreel.errors import InputError
from soundreel.request import WorkOptions
from soundreel.types import Plan

MOST_NAMED: Final = 12
"""Shots that a message lists."""


def redo_numbers(plan: Plan, options: WorkOptions) -> list[int]:
    """Numbers, from 1, of the clips that `options` name: one clip, those of a shot, or those of a section's shots.

    Raises:
        InputError: the plan has no such clip or shot.
    """
    total = len(plan.clips)
    if options.redo_clip is not None:
        if not 1 <= options.redo_clip <= total:
            raise InputError(
                f"clip is {options.redo_clip}: expected 1 to {total}, the clips of this render", field="clip_seeds"
            )
        return [options.redo_clip]
    name = options.redo_shot
    shots = [shot for shot in plan.shots if shot.name == name] or [shot for shot in plan.shots if shot.section == name]
    if not shots:
        known = [shot.name for shot in plan.shots]
        more = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
        said = ", ".join(known[:MOST_NAMED]) + more
        raise InputError(f"there is no shot {name!r}: expected a clip's number, or one of {said}", field="clip_seeds")
    return [clip.index + 1 for shot in shots for clip in shot.clips]
