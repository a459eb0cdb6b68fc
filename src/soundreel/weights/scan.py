"""Lists the networks in a folder of any known layout.

Only headers are read. A file is recognized by its tensors, whatever its name; PyTorch files, which have no readable
header, by their names.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundreel.disk.plain_json import read_json
from soundreel.errors import WeightsError
from soundreel.weights.catalog import Component
from soundreel.weights.headers import (
    GGUF,
    SAFETENSORS,
    WEIGHT_SUFFIXES,
    check_torch_file,
    read_header,
)
from soundreel.weights.identify import Identity, Storage, identify, storage_of

PART_FOLDERS = (
    "diffusion_models", "unet", "transformer", "text_encoders", "clip", "text_encoder", "vae", "audio_encoders",
    "audio_encoder", "wav2vec2-large-xlsr-53-english", "high_noise_model", "low_noise_model",
)  # fmt: skip
"""Folders that are searched to any depth; the last two are those of other Wan models, to name them in messages."""

LAYOUT_MARKS = ("config.json", "model_index.json")
"""Files that mark a folder as a checkpoint of its own."""

NESTED_FOLDERS = ("split_files", "models", "snapshots")
"""Folders that may hold a whole layout again."""

SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")

TORCH_FILES = {"umt5": Component.TEXT_ENCODER, "vae": Component.VAE}
"""Component by a part of a PyTorch file's name."""

HINTS: Mapping[Component, tuple[str, ...]] = {
    Component.TRANSFORMER: ("diffusion_models", "unet", "transformer", "diffusion_pytorch_model", "s2v"),
    Component.TEXT_ENCODER: ("text_encoder", "clip", "umt5"),
    Component.VAE: ("vae",),
    Component.AUDIO_ENCODER: ("audio_encoder", "wav2vec2"),
}
"""Component that an unreadable file was probably meant to be, by parts of its name or folder."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A network that was found: its files and how they are stored."""

    component: Component
    files: tuple[Path, ...]  # one, or all shards
    storage: Storage
    identity: Identity

    @property
    def config(self) -> Mapping[str, Any]:
        """The config.json beside the files, empty if there is none."""
        path = self.files[0].with_name("config.json")
        if not path.is_file():
            return {}
        try:
            content = read_json(path)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{str(path)!r} is not readable as JSON: download it again") from error
        return content if isinstance(content, dict) else {}

    def __str__(self) -> str:
        return f"{self.files[0].name} is {self.identity.what}"


@dataclass(frozen=True)
class Fault:
    """A file that cannot be used, with the reason."""

    path: Path
    error: WeightsError

    def concerns(self, component: Component) -> bool:
        """Whether the file was probably meant to be this component."""
        name = f"{self.path.parent.name}/{self.path.name}".lower()
        return any(hint in name for hint in HINTS[component])


@dataclass(frozen=True)
class Scan:
    """What was found in one place."""

    parts: tuple[Part, ...]
    faults: tuple[Fault, ...]


def scan(place: Path) -> Scan:
    """All networks of Wan models in a folder, or in a file and its shards, and all damaged files."""
    parts, faults = [], []
    for files in group_shards(weight_files_in(place)):
        try:
            _check_shards(files)
            part = inspect_files(files)
        except WeightsError as error:
            faults.append(Fault(files[0], error))
        else:
            parts += [part] if part is not None else []
    return Scan(tuple(parts), tuple(faults))


def inspect_files(files: Sequence[Path]) -> Part | None:
    """The network in a weight file or its shards; None if it belongs to no Wan model.

    Raises:
        WeightsError: a file is damaged.
    """
    if files[0].suffix.lower() not in {SAFETENSORS, GGUF}:
        return _inspect_torch_file(files[0])
    headers = [read_header(path) for path in files]
    tensors = {name: tensor for header in headers for name, tensor in header.tensors.items()}
    identity = identify(tensors)
    if identity.component is None:
        return None
    return Part(
        component=identity.component,
        files=tuple(files),
        storage=storage_of(files[0], tensors),
        identity=identity,
    )


def group_shards(paths: Iterable[Path]) -> list[tuple[Path, ...]]:
    """Group the shards of each model; every other file is a group of its own. Duplicates are dropped."""
    groups: dict[tuple[Path, str], dict[Path, Path]] = {}
    for path in paths:
        match = SHARD.fullmatch(path.name)
        key = (path.parent.resolve(), path.name if match is None else f"{match[1]}-of-{match[3]}")
        groups.setdefault(key, {}).setdefault(path.resolve(), path)
    return [tuple(sorted(files.values())) for files in groups.values()]


def layouts_in(folder: Path) -> Iterator[Path]:
    """The folder itself, and folders below it that may be checkpoints of their own."""
    yield folder
    for child in _children(folder):
        if child.name in NESTED_FOLDERS:
            yield from layouts_in(child)
        elif folder.name == "snapshots" or any((child / mark).is_file() for mark in LAYOUT_MARKS):
            yield child


def _inspect_torch_file(path: Path) -> Part | None:
    component = next((part for hint, part in TORCH_FILES.items() if hint in path.name.lower()), None)
    if component is None:
        return None
    check_torch_file(path)
    identity = Identity(f"a {component}", component, suits=True)
    return Part(component=component, files=(path,), storage=Storage.HALF, identity=identity)


def _check_shards(files: Sequence[Path]) -> None:
    match = SHARD.fullmatch(files[0].name)
    if match is None:
        return
    names = {f"{match[1]}-{k:05d}-of-{match[3]}.safetensors" for k in range(1, int(match[3]) + 1)}
    lacking = sorted(names - {path.name for path in files})
    if lacking:
        raise WeightsError(
            f"{', '.join(lacking)} is missing in {str(files[0].parent)!r}, where its other shards are: download it"
        )


def weight_files_in(place: Path) -> Iterator[Path]:
    """Weight files in a folder of any known layout, or a file with its shards; may repeat files."""
    if place.is_file():
        match = SHARD.fullmatch(place.name)
        yield from ([place] if match is None else place.parent.glob(f"{match[1]}-?????-of-{match[3]}.safetensors"))
        return
    for layout in layouts_in(place):
        yield from _weight_files(layout.glob("*"))
        for name in PART_FOLDERS:
            yield from _weight_files((layout / name).rglob("*"))


def _weight_files(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in WEIGHT_SUFFIXES and path.is_file())


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir())
    except OSError as error:
        raise WeightsError(f"cannot look into {str(folder)!r}: {error.strerror}") from error
