"""What an engine is to render in a test: with a store of negatives in a folder, as in a work folder."""

from pathlib import Path

from soundreel.engines.base import Start
from soundreel.render.negatives import NegativeStore
from soundreel.types import Carry, Plan


def starts_from(plan: Plan, folder: Path, index: int = 0, carry: Carry | None = None) -> list[Start]:
    """The clips from an index on; what `folder` holds of negatives of the plan counts."""
    negatives = NegativeStore(folder, plan, [f"{clip.index:08x}" for clip in plan.clips])
    begin = Start(index=index, carry=carry or Carry(), scratch=folder, negatives=negatives)
    following = (
        Start(index=clip.index, carry=None, scratch=folder, negatives=negatives) for clip in plan.clips[index + 1 :]
    )
    return [begin, *following]
