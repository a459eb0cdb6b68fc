"""Where an engine begins in a test: with a store of negatives in a folder, as in a work folder."""

from pathlib import Path

from soundreel.engines.base import Start
from soundreel.render.negatives import NegativeStore
from soundreel.types import Carry, Plan


def start_at(plan: Plan, folder: Path, index: int = 0, carry: Carry | None = None) -> Start:
    """At the clip with an index; what `folder` holds of negatives of the plan counts."""
    negatives = NegativeStore(folder, plan, [f"{clip.index:08x}" for clip in plan.clips])
    return Start(index=index, carry=carry or Carry(), scratch=folder, negatives=negatives)
