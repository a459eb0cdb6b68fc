"""Where the files are that a recipe names.

A recipe comes with a video, and a video may come from anyone. So no path in it is followed unless the user asks for
that: all it says of a file is a name and a digest. A file is looked for in the folders that the user names, where this
user last had one of that digest, beside the video and in the current folder.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from soundreel.disk.digests import data_digest, file_digest
from soundreel.disk.state import recall_path, remember_path
from soundreel.errors import InputError, WeightsError
from soundreel.render.fingerprint import SHOTS
from soundreel.render.prepared import PreparedRender
from soundreel.request import FLAT_NAMES, EngineName, Request, ShotRequest, split_lora
from soundreel.request.fields import Field, fields_of, replaced

KINDS: Final = {
    "audio": "sound",
    "drive": "driving sound",
    "ref_image": "picture",
    "guide.pose_video": "pose video",
    "server.workflow": "workflow",
    "pose_video": "pose video",
}
"""What messages call the files that a request names."""

LORA: Final = re.compile(r"LoRA (\d{1,4}) ")
"""How the name of a LoRA begins among the model files of a render: with its number, from 1."""


def in_shot(number: int, field: Field) -> str:
    """Under which name a recipe notes the digest of a file that a shot has of its own."""
    return f"shots.{number + 1}.{field.leaf}"


def files_of(shot: ShotRequest) -> list[Field]:
    """The fields of a shot that name a file of its own."""
    return [field for field in fields_of(ShotRequest) if field.option.is_file and field.option.is_place(field.of(shot))]


@dataclass(frozen=True, kw_only=True)
class RecipeFiles:
    """The search for the files of one recipe."""

    video: Path
    recipe: Mapping[str, Any]
    folders: Sequence[Path] = ()  # that the user names
    is_trusted: bool = False  # its paths are followed, too

    def find_all(self, request: Request, given: Mapping[str, Any]) -> Request:
        """The recipe's request with paths in place of names.

        Args:
            given: fields that the user has given anew, for which nothing is looked for.

        Raises:
            InputError: a file is nowhere.
            WeightsError: a LoRA is nowhere.
        """
        for field in fields_of(Request):
            if field.option.is_file and field.name not in given and field.option.is_place(field.of(request)):
                request = replaced(request, field.name, self._find(field.name, field, str(field.of(request))))
        if request.shots:
            request = request.replace(shots=[self._shot(number, shot) for number, shot in enumerate(request.shots)])
        if "compute.loras" not in given and given.get("engine", self.recipe.get("engine")) == EngineName.NATIVE:
            loras = [self._find_lora(lora, number) for number, lora in enumerate(request.compute.loras, start=1)]
            request = replaced(request, "compute.loras", loras)
        if request.compute.models is None and self._models:
            request = replaced(request, "compute.models", recall_path(data_digest(self._models)))
        if request.output.weights is None:
            network = next((name for name in self._models if name.startswith(f"{request.output.interpolate} ")), "")
            request = replaced(request, "output.weights", recall_path(self._models.get(network)))
        return request

    def _shot(self, number: int, shot: ShotRequest) -> ShotRequest:
        """A shot with paths in place of names."""
        for field in files_of(shot):
            shot = replaced(shot, field.leaf, self._find(in_shot(number, field), field, str(field.of(shot))))
        return shot

    def _find(self, name: str, field: Field, said: str) -> Path:
        """The file of a field, of which the recipe notes the digest under a name."""
        digest = self._inputs.get(name)
        own = [place for place in self._own_places(said, digest) if place.is_file()]
        near = [place for place in self._near_places(field, file_name(said)) if place.is_file()]
        same = (place for place in own + near if holds(place, digest))
        alike = (place for place in own + near if place in own or not place.is_symlink())
        found = next(same, None) or next(alike, None)
        if found is None:
            raise self._is_nowhere(field, said)
        return found

    def _own_places(self, said: str, digest: Any) -> Iterator[Path]:
        """Places that this user has named, now or before."""
        yield from (folder / file_name(said) for folder in self.folders)
        known = recall_path(digest)
        if known is not None:
            yield known
        if self.is_trusted:
            yield from (Path(said), self.video.parent / said)

    def _near_places(self, field: Field, name: str) -> Iterator[Path]:
        """Places that may have come with the video, and links in them with it."""
        if name and (self.is_trusted or field.name != "server.workflow"):  # a graph runs on the user's server
            yield from (self.video.parent / name, Path(name))

    def _find_lora(self, said: str, number: int) -> str:
        path, strength = _without_strength(said)
        named = next((name for name in self._models if (found := LORA.match(name)) and int(found[1]) == number), "")
        known = recall_path(self._models.get(named))
        places = [*(folder / file_name(path) for folder in self.folders), *([known] if known else [])]
        places += [Path(path), self.video.parent / path] if self.is_trusted else []
        found_at = next((place for place in places if place.exists()), None)
        if found_at is None:
            raise WeightsError(
                f"no such LoRA: {file_name(path)!r}, which the recipe in {str(self.video)!r} names, is not where it "
                "was used before: give it with --lora, or its folder with --inputs",
                field="compute.loras",
            )
        return f"{found_at}{strength}"

    def _is_nowhere(self, field: Field, said: str) -> InputError:
        kind, name = KINDS[field.name], file_name(said)
        option = (field.option.flags or (field.leaf,))[0].replace("_", "-")
        by_option = "" if field in fields_of(ShotRequest) else f"it with --{option}, or "
        cure = f"give {by_option}its folder with --inputs"
        if name != said and not self.is_trusted:
            cure += "; of a video of your own, --trust-recipe follows the path that it holds"
        return InputError(
            f"no such {kind}: {name!r}, which the recipe in {str(self.video)!r} names, is not where it was used "
            f"before, nor beside the video, nor here: {cure}",
            field=field.name,
        )

    @property
    def _inputs(self) -> dict[str, Any]:
        """Digests of the files by field."""
        return {FLAT_NAMES.get(name, name): digest for name, digest in self._table("inputs").items()}

    @property
    def _models(self) -> dict[str, Any]:
        """Digests of the model files by name."""
        return self._table("models")

    def _table(self, name: str) -> dict[str, Any]:
        found = self.recipe.get(name)
        return found if isinstance(found, dict) else {}


def remember_files(render: PreparedRender) -> None:
    """Note where the files of a render are, so that its recipe, if it is to have one, finds them without saying so."""
    request, parts = render.request, render.asked.fingerprint.parts
    if not request.output.write_recipe:
        return
    for field in fields_of(Request):
        if field.option.is_file and field.name in parts and field.option.is_place(field.of(request)):
            remember_path(parts[field.name], field.of(request))
    _remember_files_of_shots(request, parts.get(SHOTS, ()))
    if request.compute.models is not None and render.models:
        remember_path(data_digest(dict(render.models)), Path(request.compute.models).expanduser())
    if request.output.weights is not None:
        for digest in render.networks.values():
            remember_path(digest, Path(request.output.weights).expanduser())
    for name, digest in render.models.items():
        if found := LORA.match(name):
            remember_path(digest, split_lora(request.compute.loras[int(found[1]) - 1])[0])


def _remember_files_of_shots(request: Request, parts: Sequence[Mapping[str, Any]]) -> None:
    files = {
        own[field.leaf]: field.of(shot)
        for shot, own in zip(request.shots, parts, strict=True)
        for field in files_of(shot)
    }
    for digest, path in files.items():
        remember_path(digest, path)


def holds(place: Path, digest: Any) -> bool:
    """Whether a file has this digest; one that cannot be read has none."""
    with suppress(OSError):
        return bool(file_digest(place) == digest)
    return False


def _without_strength(lora: str) -> tuple[str, str]:
    """`FILE:0.8` → `FILE` and `:0.8`."""
    found = re.fullmatch(r"(.+)(:-?[\d.]+(?:e-?\d+)?)", lora)
    return (found[1], found[2]) if found else (lora, "")


def file_name(path: str) -> str:
    """The last part of a path of any system; "" where it is none."""
    name = re.split(r"[/\\]", path)[-1]
    return "" if name in {".", ".."} else name
