"""Golden cases of FILM: our network with the public port's weights, read through weights/ as users do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open

from parity.case import Case, Comparison, equal, largest
from soundreel.models.film import Film
from soundreel.weights import film_keys
from soundreel.weights.frame_networks import FILM, load_network

PIXEL_LIMIT = 1e-4


def run_film(case: Case) -> list[Comparison]:
    """The picture between two, not clamped. Loading is strict: every stored tensor has its place, none is empty."""
    network = load_network(FILM, weights_of(case), device="cpu", dtype=torch.float32)
    assert isinstance(network, Film)
    network.sizes = replace(network.sizes, pyramid_levels=case.row.get("pyramid_levels", network.sizes.pyramid_levels))
    x0, x1 = case["in.x0"], case["in.x1"]
    times = case["in.t"].reshape(-1, 1).expand(len(x0), 1)
    return [largest("picture", network(x0, x1, times), case["out.image"], PIXEL_LIMIT)]


def weights_of(case: Case) -> Path:
    """The file that the index names, or the only one that is no case."""
    folder = case.golden / case.folder
    named = case.row.get("weights")
    cases = [file.name for file in folder.glob("*.safetensors") if "out.image" in _names(file)]
    others = sorted(file for file in folder.iterdir() if file.suffix in {".safetensors", ".pt"})
    return folder / named if named else next(file for file in others if file.name not in cases)


def run_film_manifest(case: Case) -> list[Comparison]:
    """Every published key is consumed, and nothing of ours is missing; no memory is taken."""
    shapes = {name: tuple(shape) for name, shape in case.table.items()}
    names = film_keys.renames(shapes)
    with torch.device("meta"):
        network = film_keys.build({names[name]: shape for name, shape in shapes.items() if name in names})
    ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    return [
        equal("unknown keys", [name for name in shapes if name not in names], []),
        equal("shapes", ours, {names.get(name, name): shape for name, shape in shapes.items()}),
    ]


def _names(path: Path) -> list[str]:
    with safe_open(path, "pt") as file:
        return list(file.keys())


RUNNERS: dict[str, Callable[[Case], list[Comparison]]] = {"film": run_film, "film_manifest": run_film_manifest}
