"""What a finished video says about how it was made, and how that becomes a request again."""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from soundreel.engines.base import DECODED, ENCODED, OTHERWISE
from soundreel.errors import InputError, SoundreelError
from soundreel.media.image import cover, load_image
from soundreel.media.video import read_metadata
from soundreel.render.colour import measure
from soundreel.render.fingerprint import SHOTS, folder_digest
from soundreel.render.named_places import places_in
from soundreel.render.prepared import PreparedRender
from soundreel.render.recipe_files import RecipeFiles, files_of, in_shot
from soundreel.render.recipe_form import read_recipe_text
from soundreel.render.remarks import made_otherwise
from soundreel.request import FLAT_NAMES, Output, Request
from soundreel.request.data import from_data
from soundreel.request.fields import Paths, fields_of, to_data
from soundreel.units import StrPath
from soundreel.version import __version__

RECIPE_KEY: Final = "soundreel"
"""Metadata key of the recipe in a finished file."""

JOIN_KEY: Final = "soundreel_join"
"""Metadata key of what a joined video is made of: its pieces with their recipes."""

PACKAGES: Final = ("av", "numpy", "opencv-python-headless", "torch", "diffusers", "transformers")
"""Those whose version can make a difference to the pictures."""

NOT_AGAIN: Final = frozenset({"path", "dir", "preview", "write_recipe", "recipe_paths"})
"""Fields of `Output` that are not taken from a recipe: nothing is ever replaced by it, or told of this user."""


def write_recipe(
    render: PreparedRender, facts: Sequence[Mapping[str, Any]] = (), said: Sequence[str] = ()
) -> dict[str, Any]:
    """All that is needed to render the video again, ready for JSON.

    Args:
        facts: what was noted of each clip.
        said: notes that came while it was rendered, without any place in them.
    """
    clips = [asdict(clip) for clip in render.plan.clips]
    return {
        "soundreel": __version__,
        "engine": render.engine.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": installed_versions(),
        "models": dict(render.models),
        "identity": dict(render.identity),
        "fingerprint": render.asked.fingerprint.digest,
        "folder": folder_digest(render.asked.fingerprint),
        "inputs": _inputs(render),
        "request": _public_request(render),
        "plan": {
            "frames": render.plan.frames,
            "audio_seconds": render.plan.audio_seconds,
            "shots": [{"name": shot.name, "section": shot.section} for shot in render.plan.shots],
            "clips": [clip | dict(noted) for clip, noted in zip(clips, facts, strict=True)] if facts else clips,
        },
        "reference_look": _reference_colours(render.request),
        "frames": render.frames_written,
        "fps": render.fps,
        "notes": [*_public_notes(render), *said, *what_was_made_otherwise(facts)],
    }


def what_was_made_otherwise(clips: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the facts of clips, in order, say of what was not made as the render was begun; they may be a stranger's."""

    def numbers(fact: str) -> dict[str, list[int]]:
        made = {how: [k for k, clip in enumerate(clips, start=1) if clip.get(fact) == how] for how in OTHERWISE}
        return {how: found for how, found in made.items() if found}

    return made_otherwise(encoded=numbers(ENCODED), decoded=numbers(DECODED))


def installed_versions() -> dict[str, str]:
    """Versions of the packages that make the pictures, as far as they are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _public_request(render: PreparedRender) -> dict[str, Any]:
    """Without secrets, without a server where none was used, and of files their names, unless more is asked for."""
    data = to_data(render.request, Paths.ABSOLUTE if render.request.output.recipe_paths else Paths.NAMES)
    if render.engine.name != "comfyui":
        del data["server"]
    return data


def _public_notes(render: PreparedRender) -> list[str]:
    """What the user was told, but for what says where something is, unless that is asked for."""
    if render.request.output.recipe_paths:
        return list(render.notes)
    places = [place for _, place in places_in(render.request) if "/" in place or os.sep in place]
    return [note for note in render.notes if not any(place in note for place in places)]


def _inputs(render: PreparedRender) -> dict[str, str]:
    """Digests of the files that the pictures depend on, by field."""
    parts = render.asked.fingerprint.parts
    of_all = {
        field.name: parts[field.name]
        for field in fields_of(Request)
        if field.option.is_file and field.name in parts and field.option.is_place(field.of(render.request))
    }
    return of_all | {
        in_shot(number, field): own[field.leaf]
        for number, (shot, own) in enumerate(zip(render.request.shots, parts.get(SHOTS, ()), strict=True))
        for field in files_of(shot)
    }


def _reference_colours(request: Request) -> dict[str, Any] | None:
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
    metadata = read_metadata(video)
    recipe = parse_recipe(metadata, name)
    if recipe is None and JOIN_KEY in metadata:
        raise InputError(
            f"{name!r} was joined from several videos, each with a recipe of its own: give one of them "
            f"(soundreel info {name} tells which)"
        )
    if recipe is None:
        raise InputError(
            f"{name!r} has no recipe in it: expected a video that soundreel has made, and not with --no-recipe"
        )
    return recipe


def parse_recipe(metadata: Mapping[str, str], name: str) -> dict[str, Any] | None:
    """The recipe in a video's metadata, None if there is none; `InputError`, naming the video, if it is damaged."""
    text = metadata.get(RECIPE_KEY)
    return None if text is None else read_recipe_text(text, name)


def request_fields(
    video: StrPath,
    *,
    given: Mapping[str, Any] = MappingProxyType({}),
    folders: Sequence[StrPath] = (),
    is_trusted: bool = False,
) -> dict[str, Any]:
    """The fields of `Request` that make the video again, under a new name.

    Args:
        given: fields that the user has given anew, by their names.
        folders: where the recipe's files are looked for first.
        is_trusted: the recipe is the user's own, or of someone whom the user trusts: where it says that files and
            servers are is followed, too. Never where the new video goes, and never a header.

    Raises:
        InputError: there is no recipe, or a file is nowhere.
    """
    recipe = read_recipe(video)
    request = stated_request(recipe, is_trusted=is_trusted)
    files = RecipeFiles(
        video=Path(video), recipe=recipe, folders=[Path(folder) for folder in folders], is_trusted=is_trusted
    )
    request = files.find_all(request, given)
    fields = {field.name: getattr(request, field.name) for field in dataclasses.fields(Request)}
    kept = {field.leaf: field.of(request.output) for field in fields_of(Output) if field.name not in NOT_AGAIN}
    return fields | {"output": Output(**kept), "recipe": video, "engine": recipe.get("engine", request.engine)}


def stated_request(recipe: Mapping[str, Any], *, is_trusted: bool) -> Request:
    """The request in a recipe, files in it by what it calls them; where things are only if that is to be followed."""
    return from_data(
        recipe["request"], leave_out=lambda option: option.is_secret or (option.is_local and not is_trusted)
    )


def differences(render: PreparedRender) -> Iterator[str]:
    """In what this render is not like the video whose recipe it follows, one line each."""
    if render.request.recipe is None:
        return
    try:
        recipe = read_recipe(render.request.recipe)
    except SoundreelError as error:  # it was there when the render was begun, and is needed for nothing else
        yield f"what differs from the recipe cannot be told: {error}"
        return
    then = {"soundreel": recipe.get("soundreel"), **recipe.get("versions", {})}
    now = {"soundreel": __version__, **installed_versions()}
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            yield f"the recipe was made with {name} {then.get(name) or 'missing'}, here is {now.get(name) or 'none'}"
    if recipe.get("engine") != render.engine.name:
        yield f"the recipe was rendered by the engine {recipe.get('engine')}, this by {render.engine.name}"
        return
    yield from _changed("model file", recipe.get("models", {}), render.models)
    yield from what_was_made_otherwise(recipe["plan"]["clips"])
    inputs = {FLAT_NAMES.get(name, name): digest for name, digest in recipe.get("inputs", {}).items()}  # 0.1.0: flat
    yield from _changed("input", inputs, _inputs(render))
    before = recipe.get("identity")
    if before is not None and dict(before) != json.loads(json.dumps(dict(render.identity))):
        names = [name for name in {**before, **render.identity} if before.get(name) != render.identity.get(name)]
        yield f"the recipe was computed otherwise: {', '.join(f'{name} {before.get(name)}' for name in names)}"


def _changed(what: str, then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            state = "is gone" if name not in now else "is new" if name not in then else "has another content"
            yield f"since the recipe was made, {what} {name} {state}"
