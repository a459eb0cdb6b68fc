"""What a finished video says about how it was made, and how that becomes a request again."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from soundreel.errors import InputError
from soundreel.media.image import cover, load_image
from soundreel.media.video import probe_video
from soundreel.render.colour import measure
from soundreel.render.fingerprint import ROLES, Role, from_data, to_data, value_of
from soundreel.render.prepared import Job
from soundreel.request import Request
from soundreel.units import StrPath
from soundreel.version import __version__

RECIPE_KEY: Final = "soundreel"
"""Metadata key of the recipe in a finished file."""

PACKAGES: Final = ("av", "numpy", "opencv-python-headless", "torch", "diffusers", "transformers")
"""Those whose version can make a difference to the pictures."""

NOT_AGAIN: Final = frozenset({"output", "output_dir", "recipe", "preview"})
"""Fields of a recipe's request that do not make a video another time: nothing is ever replaced by it."""


def write_recipe(job: Job, facts: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """All that is needed to render the video again, ready for JSON; `facts` are what was noted of each clip."""
    clips = [asdict(clip) for clip in job.plan.clips]
    return {
        "soundreel": __version__,
        "engine": job.engine.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": installed_versions(),
        "models": dict(job.models),
        "inputs": {name: job.fingerprint.parts[name] for name in _files(job.request)},
        "request": _public_request(job),
        "plan": {
            "frames": job.plan.frames,
            "audio_seconds": job.plan.audio_seconds,
            "clips": [clip | dict(noted) for clip, noted in zip(clips, facts, strict=True)] if facts else clips,
        },
        "reference_look": _reference_look(job.request),
        "frames": job.frames_written,
        "fps": job.fps,
        "notes": list(job.notes),
    }


def installed_versions() -> dict[str, str]:
    """Versions of the packages that make the pictures, as far as they are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _public_request(job: Job) -> dict[str, Any]:
    """Without secrets, and without a server where none was used."""
    data = to_data(job.request)
    if job.engine.name != "comfyui":
        del data["server"]
    return data


def _files(request: Request) -> Iterator[str]:
    return (name for name, role in ROLES.items() if role is Role.FILE and value_of(request, name) is not None)


def _reference_look(request: Request) -> dict[str, Any] | None:
    if request.ref_image is None:
        return None
    picture = cover(load_image(request.ref_image), request.width, request.height)
    return measure(picture[None]).data


def read_recipe(video: StrPath) -> dict[str, Any]:
    """The recipe in a finished video.

    Raises:
        InputError: there is no such file, or no recipe in it.
        MediaError: it is no video.
    """
    name = os.fspath(video)
    recipe = parse_recipe(probe_video(video).metadata, name)
    if recipe is None:
        raise InputError(f"{name!r} has no recipe in it: expected a video that soundreel has made")
    return recipe


def parse_recipe(metadata: Mapping[str, str], name: str) -> dict[str, Any] | None:
    """The recipe in a video's metadata, None if there is none; `InputError`, naming the video, if it is damaged."""
    text = metadata.get(RECIPE_KEY)
    if text is None:
        return None
    try:
        recipe = json.loads(text)
    except ValueError as error:
        raise InputError(f"the recipe in {name!r} is damaged: {error}") from error
    if not isinstance(recipe, dict) or not isinstance(recipe.get("request"), dict):
        raise InputError(f"the recipe in {name!r} holds no request: expected a video that soundreel has made")
    return recipe


def request_fields(video: StrPath) -> dict[str, Any]:
    """The fields of `Request` that make the video again, under a new name. Files are looked for beside it, too."""
    recipe = read_recipe(video)
    request = from_data({name: value for name, value in recipe["request"].items() if name not in NOT_AGAIN})
    fields = {name: value for name, value in vars(request).items() if name in recipe["request"].keys() - NOT_AGAIN}
    found = {name: _find(fields[name], Path(video).parent) for name in _files(request) if name in fields}
    return fields | found | {"engine": recipe.get("engine", request.engine), "recipe": video}


def _find(path: StrPath, folder: Path) -> StrPath:
    places = (Path(path), folder / path, folder / Path(path).name)
    return next((place for place in places if place.is_file()), path)


def differences(job: Job) -> Iterator[str]:
    """In what this render is not like the video whose recipe it follows, one line each."""
    if job.request.recipe is None:
        return
    recipe = read_recipe(job.request.recipe)
    then = {"soundreel": recipe.get("soundreel"), **recipe.get("versions", {})}
    now = {"soundreel": __version__, **installed_versions()}
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            yield f"the recipe was made with {name} {then.get(name) or 'missing'}, here is {now.get(name) or 'none'}"
    if recipe.get("engine") != job.engine.name:
        yield f"the recipe was rendered by the engine {recipe.get('engine')}, this by {job.engine.name}"
        return
    yield from _changed("model file", recipe.get("models", {}), job.models)
    inputs = {name: job.fingerprint.parts[name] for name in _files(job.request)}
    yield from _changed("input", recipe.get("inputs", {}), inputs)


def _changed(what: str, then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            state = "is gone" if name not in now else "is new" if name not in then else "has another content"
            yield f"since the recipe was made, {what} {name} {state}"
