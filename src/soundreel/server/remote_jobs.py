"""A server's jobs and errors, as a render here would tell of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import httpx

from soundreel.errors import Cancelled, EngineError, InputError, MediaError, SoundreelError, WeightsError
from soundreel.request import NOTHING_OF_ITS_OWN, Cut, Request
from soundreel.types import Clip, Plan, Progress, Shot, Stage

ERRORS: Final[Mapping[str, type[SoundreelError]]] = {
    "invalid_request": InputError,
    "unreadable_file": MediaError,
    "media_error": MediaError,
    "weights_error": WeightsError,
    "cancelled": Cancelled,
    "unauthorized": InputError,
    "too_large": InputError,
}
"""What this side raises for the codes of answers; `EngineError` for all others."""


class BusyError(Exception):
    """The server cannot answer at this moment."""


def progress_of(job: Mapping[str, Any], seconds: float) -> Progress:
    """How a job goes, as a render here tells of it."""
    live = job["live"]
    if live is None:
        before = job["position"]
        return Progress(stage=Stage.QUEUE, what=f"{before} before it" if before else "", seconds=seconds)
    known = {name: live[name] for name in ("what", "clip", "clips", "step", "steps", "done", "total") if live[name]}
    return Progress(
        stage=Stage(live["stage"]), **known, seconds=seconds, eta_seconds=live["eta_seconds"], share=live["share"]
    )


def plan_of(request: Request, recipe: Mapping[str, Any]) -> Plan:
    """The plan that a video was made by, from its recipe."""
    clips = [Clip(**{f.name: clip[f.name] for f in dataclasses.fields(Clip)}) for clip in recipe["plan"]["clips"]]
    numbers = sorted({clip.shot for clip in clips})
    shots = tuple(_shot(request, k, tuple(clip for clip in clips if clip.shot == k)) for k in numbers)
    return Plan(request=request, shots=shots, audio_seconds=recipe["plan"]["audio_seconds"])


def _shot(request: Request, index: int, clips: tuple[Clip, ...]) -> Shot:
    asked = request.shots[index] if index < len(request.shots) else NOTHING_OF_ITS_OWN
    return Shot(index=index, clips=clips, asked=asked, continues=asked.cut is Cut.CONTINUE and index > 0)


def error_of(answer: httpx.Response) -> SoundreelError | BusyError:
    """What an answer refuses, as an error of this side."""
    try:
        failure = answer.json()["error"]
        code, message, field = str(failure["code"]), str(failure["message"]), failure.get("field")
    except (ValueError, KeyError, TypeError):
        return EngineError(f"the server answers with status {answer.status_code}: is it a soundreel server?")
    if code == "busy":
        return BusyError(message)
    if code == "unauthorized":
        message = "the server asks for a token: give the file that it is in with --token-file"
    return made_error(code, message, field)


def made_error(code: str, message: str, field: str | None) -> SoundreelError:
    """The error for a code."""
    return ERRORS.get(code, EngineError)(message, field=field)
