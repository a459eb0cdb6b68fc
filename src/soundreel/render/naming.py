"""Names of the files that come out, and where they go."""

import hashlib
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Final

from soundreel.disk.outputs import ROOM_FOR_COPIES_BYTES, Inputs, check_name, fitting, is_folder, longest_name
from soundreel.errors import InputError
from soundreel.request import Request
from soundreel.types import Plan
from soundreel.units import MODEL_FPS

PARTIAL: Final = ".partial.mp4"
"""Ending of what is there of a video before it is finished."""


def output_folder(request: Request) -> Path:
    """Where the video goes."""
    output = request.output
    return Path(output.dir) if output.path is None else Path(output.path).absolute().parent


def check_output(request: Request, inputs: Inputs) -> None:
    """Raise `InputError` for a name that the video cannot get: no file's, a folder's, or of something it is made from.

    What there is of the video so far has a name of its own, and replaces nothing that it is made from either.
    """
    if request.output.path is None:
        _check_folder(Path(request.output.dir), "--output-dir", "output.dir")
        return
    output, field = Path(request.output.path), "output.path"
    says = f"--output is {str(output)!r}"
    if output.suffix.lower() != ".mp4":
        raise InputError(f"{says}: expected a name that ends in .mp4", field=field)
    if output.name.lower().endswith(PARTIAL):
        raise InputError(f"{says}: what ends in {PARTIAL} is not finished yet, choose another name", field=field)
    check_name(output, field=field)
    if is_folder(output):
        raise InputError(f"{says}, which is a folder: name a file, or use --output-dir", field=field)
    _check_folder(output.absolute().parent, "--output", field)
    inputs.refuse(output, f"{says}, which", field=field)
    so_far = partial_path(output)
    inputs.refuse(so_far, f"{says}, and what there is of it so far goes to {so_far.name!r}, which", field=field)


def _check_folder(folder: Path, option: str, field: str) -> None:
    """Raise `InputError` where there is no such folder and none can be made; what may not be written is found later."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise InputError(f"{option} is {str(folder)!r}: {str(there)!r} is a file, expected a folder", field=field)


def check_settings(plan: Plan, engine: str) -> None:
    """Raise `InputError` for a settings tag that leaves no room in the automatic names."""
    partial_name(plan, engine, "")  # the longer one first: it says how much is too much
    output_name(plan, engine, datetime.now())


def output_name(plan: Plan, engine: str, now: datetime) -> str:
    """File name of a video: `{source}_{W}x{H}_{N}f_{seconds}s_{with_ref|no_ref}_{settings}_{time}.mp4`.

    Without a settings tag the engine's name stands in its place; a draft is known by its name in either case.

    Raises:
        InputError: the settings tag leaves no room for the rest.
    """
    return _name(plan, engine, f"{now:%Y%m%d_%H%M%S}.mp4")


def partial_name(plan: Plan, engine: str, fingerprint: str) -> str:
    """The same for what is there of a video before it is finished: a render has one, whenever it goes on."""
    return _name(plan, engine, f"{fingerprint[:8]:8}{PARTIAL}")


def partial_path(output: Path) -> Path:
    """The same for a video whose name was asked for; a long one is cut, and told apart from others by its digest."""
    name, longest = output.stem + PARTIAL, longest_name(output.parent)
    if len(os.fsencode(name)) > longest:
        name = fitting(output.stem, f"_{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:8]}{PARTIAL}", longest)
    return output.with_name(name)


def _name(plan: Plan, engine: str, end: str) -> str:
    request = plan.request
    has_reference = request.ref_image is not None or any(shot.asked.ref_image is not None for shot in plan.shots)
    reference = "with_ref" if has_reference else "no_ref"
    tag = _in_one_name(_tag(request.output.settings, engine))
    ending = f"_{request.width}x{request.height}_{plan.frames}f_{plan.frames / MODEL_FPS:.1f}s_{reference}_{tag}_{end}"
    longest = longest_name(output_folder(request)) - ROOM_FOR_COPIES_BYTES
    over = len(ending.encode()) - longest
    if over > 0:
        size = len(_in_one_name(request.output.settings or "").encode())
        raise InputError(
            f"settings has {size} bytes: expected at most {size - over}, or the video's name gets too long",
            field="output.settings",
        )
    return fitting(_in_one_name(Path(request.audio).stem), ending, longest)


def _tag(settings: str | None, engine: str) -> str:
    if not settings or settings == engine:
        return engine
    return f"{settings}-{engine}" if engine == "draft" else settings


def _in_one_name(text: str) -> str:
    return re.sub(r"[/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]", "-", text)
