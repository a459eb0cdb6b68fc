"""FILM with random weights, in a file as the public port names them: for tests that do not look at its numbers."""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from soundreel.models.film import Film, FilmSizes
from soundreel.weights.film_keys import renames

SIZES = FilmSizes(features=(8, 16, 32, 64), flow_hidden=(8, 12, 16, 24), flow_convs=3, fusion=(8, 16, 32, 64))


def write_film(path: Path) -> Path:
    """The file, whose tensors are `Film`'s as it is born."""
    torch.manual_seed(0)
    ours = Film(SIZES).state_dict()
    places = renames([f"{layer}.{leaf}" for layer in port_layers() for leaf in ("weight", "bias")])
    assert sorted(places.values()) == sorted(ours)
    save_file({name: ours[place] for name, place in places.items()}, path)
    return path


def port_layers() -> Iterator[str]:
    """The port's layers for these sizes."""
    for scale in range(len(SIZES.features)):
        yield from (f"extract.extract_sublevels.convs.{scale}.{conv}.0" for conv in range(2))
    for conv in range(SIZES.flow_convs + 2):
        yield f"predict_flow._predictor._convs.{conv}.0"
        single = range(len(SIZES.flow_hidden) - 1)
        yield from (f"predict_flow._predictors.{index}._convs.{conv}.0" for index in single)
    for level in range(len(SIZES.fusion)):
        yield from (f"fuse.convs.{level}.{conv}.0" for conv in range(3))
    yield "fuse.output_conv"
