"""RIFE 4.14: the names of Practical-RIFE's checkpoints → our `Rife`, and its widths from the shapes."""

from torch import nn

from soundreel.models.rife import Rife, RifeSizes
from soundreel.weights.keys import KeyTable, Shapes, count_layers

rename = KeyTable(
    [
        (r"encode\.cnn0\.(\w+)", r"encode.layers.0.\1"),
        (r"encode\.cnn1\.(\w+)", r"encode.layers.2.\1"),
        (r"encode\.cnn2\.(\w+)", r"encode.layers.4.\1"),
        (r"encode\.cnn3\.(\w+)", r"encode.layers.6.\1"),
        (r"block(\d+)\.conv0\.0\.0\.(\w+)", r"blocks.\1.shrink.0.\2"),
        (r"block(\d+)\.conv0\.1\.0\.(\w+)", r"blocks.\1.shrink.2.\2"),
        (r"block(\d+)\.convblock\.(\d+)\.beta", r"blocks.\1.residuals.\2.share"),
        (r"block(\d+)\.convblock\.(\d+)\.conv\.(\w+)", r"blocks.\1.residuals.\2.conv.\3"),
        (r"block(\d+)\.lastconv\.0\.(\w+)", r"blocks.\1.enlarge.0.\2"),
        (r"teacher\..*", None),  # only of use in training
        (r"caltime\..*", None),
    ],
    prefixes=("module.",),
)
"""Published name → ours."""


def build(shapes: Shapes) -> nn.Module:
    """The network with the widths of tensors under our names; `KeyError` if one is missing."""
    return Rife(sizes_from_shapes(shapes))


def sizes_from_shapes(shapes: Shapes) -> RifeSizes:
    """All widths, from tensors under our names; `KeyError` if one is missing."""
    blocks = count_layers(shapes, r"blocks\.(\d+)\..*")
    return RifeSizes(
        encoder=shapes["encode.layers.0.weight"][0],
        features=shapes["encode.layers.6.weight"][1],
        blocks=tuple(shapes[f"blocks.{index}.shrink.2.weight"][0] for index in range(max(blocks, 1))),
        depth=count_layers(shapes, r"blocks\.0\.residuals\.(\d+)\..*"),
        outputs=shapes["blocks.0.enlarge.0.weight"][1] // 4,
    )
