"""Names of the files that come out."""

import re
from datetime import datetime
from pathlib import Path

from soundreel.types import Plan
from soundreel.units import MODEL_FPS

MAX_NAME_BYTES = 255
"""Longest file name on the file systems that people use, in UTF-8."""

ROOM_FOR_COPIES_BYTES = 8
"""Left free for a `_2` before the ending."""


def output_name(plan: Plan, engine: str, now: datetime) -> str:
    """File name of a video: `{source}_{W}x{H}_{N}f_{seconds}s_{with_ref|no_ref}_{settings}_{time}.mp4`.

    Without a settings tag the engine's name stands in its place; a draft is known by its name in either case.
    """
    return _name(plan, engine, f"{now:%Y%m%d_%H%M%S}.mp4")


def partial_name(plan: Plan, engine: str, fingerprint: str) -> str:
    """The same for what is there of a video before it is finished: a render has one, whenever it goes on."""
    return _name(plan, engine, f"{fingerprint[:8]}.partial.mp4")


def _name(plan: Plan, engine: str, end: str) -> str:
    request = plan.request
    reference = "no_ref" if request.ref_image is None else "with_ref"
    tag = _in_one_name(_tag(request.output.settings, engine))
    ending = f"_{request.width}x{request.height}_{plan.frames}f_{plan.frames / MODEL_FPS:.1f}s_{reference}_{tag}_{end}"
    room = MAX_NAME_BYTES - ROOM_FOR_COPIES_BYTES - len(ending.encode())
    source = Path(request.audio).stem.encode("utf-8", "surrogateescape")[:room]
    return _in_one_name(source.decode("utf-8", "ignore")) + ending


def _tag(settings: str | None, engine: str) -> str:
    if not settings or settings == engine:
        return engine
    return f"{settings}-{engine}" if engine == "draft" else settings


def _in_one_name(text: str) -> str:
    return re.sub(r"[/\\\x00-\x1f\x7f-\x9f]", "-", text)
