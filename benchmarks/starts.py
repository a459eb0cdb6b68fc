"""Where an engine begins when it is run without a work folder."""

from pathlib import Path

from soundreel.engines.base import Start
from soundreel.render.negatives import NegativeStore
from soundreel.types import Plan


def first_start(plan: Plan, folder: Path) -> Start:
    """At the first clip; negatives go into `folder`."""
    return Start(
        index=0, scratch=folder, negatives=NegativeStore(folder, plan, [str(clip.index) for clip in plan.clips])
    )
