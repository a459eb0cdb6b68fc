"""The native engine on the tiny golden checkpoint: requests, decisions and clips, without the pipeline around them."""

from pathlib import Path
from typing import Any

from soundreel.engines.base import Identity, Prepared, Start
from soundreel.engines.native import NativeEngine
from soundreel.pipeline import plan
from soundreel.request import Request
from soundreel.types import Carry, Plan, Progress, RenderedClip, Report
from weight_files import GOLDEN, OFFICIAL

SPEECH = GOLDEN / "inputs" / "speech_2s.wav"

CHAIN: dict[str, Any] = {"width": 64, "height": 64, "frames": 9, "infer_frames": 8, "steps": 1}
"""Two clips, 5 + 4 frames: motion frames need 64 pixels each way."""


def native_request(**fields: Any) -> Request:
    """On the CPU and the checkpoint in the official layout, unless `fields` say otherwise."""
    given = {"audio": SPEECH, "engine": "native", "device": "cpu", "models": OFFICIAL, "seed": 3}
    return Request(**(given | fields))


def native_plan(**fields: Any) -> Plan:
    """The plan of `native_request`."""
    return plan(native_request(**fields))


def prepared(planned: Plan, kept: Identity | None = None) -> Prepared:
    """What the engine decides."""
    return NativeEngine().prepare(planned, kept)


def ignore(_: Progress) -> None:
    """No display."""


def rendered(
    what: Plan | Prepared, start: int = 0, carry: Carry | None = None, report: Report = ignore, scratch: Path = Path()
) -> list[RenderedClip]:
    """The clips from index `start` on."""
    decided = prepared(what) if isinstance(what, Plan) else what
    with NativeEngine() as engine:
        begin = Start(index=start, carry=carry or Carry(), scratch=scratch)
        return list(engine.render(decided, begin, report))
