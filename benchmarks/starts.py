"""What an engine is to render when it is run without a work folder."""

from pathlib import Path

from soundreel.engines.base import Start
from soundreel.render.negatives import NegativeStore
from soundreel.types import Plan


def all_starts(plan: Plan, folder: Path) -> list[Start]:
    """All clips; negatives go into `folder`."""
    negatives = NegativeStore(folder, plan, [str(clip.index) for clip in plan.clips])
    return [Start(index=clip.index, carry=None, scratch=folder, negatives=negatives) for clip in plan.clips]
