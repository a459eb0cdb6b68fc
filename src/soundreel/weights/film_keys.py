"""FILM: the names of the public PyTorch port (film_net) → our `Film`, and its widths from the shapes.

The port counts the levels of the fusion, and of the flow predictors that serve one level each, from coarse to fine;
we count from fine to coarse. Its `predict_flow._predictor` serves all coarser levels and is our last one.
"""

from collections.abc import Iterable, Iterator, Mapping

from torch import nn

from soundreel.models.film import Film, FilmSizes
from soundreel.weights.keys import Shapes, count_layers, without_prefix

PREFIXES = ("module.", "model.")
"""Prefixes that some files put before every name."""

_FUSION_PARTS = ("enlarge", "mix.0", "mix.2")


def renames(names: Iterable[str]) -> Mapping[str, str]:
    """Published name → ours, for all `names` that are tensors of the port."""
    plain = {name: without_prefix(name, PREFIXES) for name in names}
    places = dict(_places(list(plain.values())))
    found = {}
    for name, word in plain.items():
        place, _, leaf = word.rpartition(".")
        if place in places:
            found[name] = f"{places[place]}.{leaf}"
    return found


def build(shapes: Shapes) -> nn.Module:
    """The network with the widths of tensors under our names; `KeyError` if one is missing."""
    return Film(sizes_from_shapes(shapes))


def sizes_from_shapes(shapes: Shapes) -> FilmSizes:
    """All widths, from tensors under our names; `KeyError` if one is missing."""
    scales = count_layers(shapes, r"extract\.scales\.(\d+)\..*")
    predictors = count_layers(shapes, r"predict_flow\.(\d+)\..*")
    fused = count_layers(shapes, r"fuse\.levels\.(\d+)\..*")
    layers = count_layers(shapes, r"predict_flow\.0\.(\d+)\..*")
    return FilmSizes(
        features=tuple(shapes[f"extract.scales.{scale}.0.weight"][0] for scale in range(max(scales, 1))),
        flow_hidden=tuple(shapes[f"predict_flow.{index}.0.weight"][0] for index in range(max(predictors, 1))),
        flow_convs=(layers - 1) // 2 - 1,  # a rectifier after each but the last, and two 1×1 layers
        fusion=tuple(shapes[f"fuse.levels.{level}.enlarge.weight"][0] for level in range(max(fused, 1))),
    )


def _places(names: list[str]) -> Iterator[tuple[str, str]]:
    """Pairs of a layer's name in the port and ours."""
    for scale in range(count_layers(names, r"extract\.extract_sublevels\.convs\.(\d+)\..*")):
        for conv in range(2):
            yield f"extract.extract_sublevels.convs.{scale}.{conv}.0", f"extract.scales.{scale}.{2 * conv}"
    single = count_layers(names, r"predict_flow\._predictors\.(\d+)\..*")
    for conv in range(count_layers(names, r"predict_flow\._predictor\._convs\.(\d+)\..*")):
        yield f"predict_flow._predictor._convs.{conv}.0", f"predict_flow.{single}.{2 * conv}"
        for index in range(single):
            yield f"predict_flow._predictors.{index}._convs.{conv}.0", f"predict_flow.{single - 1 - index}.{2 * conv}"
    fused = count_layers(names, r"fuse\.convs\.(\d+)\..*")
    for level in range(fused):
        for conv, part in enumerate(_FUSION_PARTS):
            yield f"fuse.convs.{level}.{conv}.0", f"fuse.levels.{fused - 1 - level}.{part}"
    yield "fuse.output_conv", "fuse.to_rgb"
