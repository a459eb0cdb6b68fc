"""The tiny decoder for previews: finding and loading its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from soundreel.models.tiny_decoder import BLOCKS, TinyDecoder
from soundreel.units import StrPath
from soundreel.weights.catalog import default_folder
from soundreel.weights.keys import KeyTable, Shapes
from soundreel.weights.load import Blueprint, ComponentSpec, load_component

FILE_NAMES: Final = ("taew2_1.safetensors", "taew2_1.pth")
FOLDERS: Final = ("vae_approx", "", "tae", "vae")
"""Subfolders of a models folder that are searched; the first is ComfyUI's."""

_STAGE: Final = BLOCKS + 3
"""Layers per stage in the published list: blocks, upsampling in space and time, convolution to the next width."""

_rename = KeyTable([(r"(decoder\..*)", r"\1"), (r"encoder\..*", None)])


def find_decoder(models: StrPath | None) -> Path | None:
    """The weight file in the models folder or the default one; None if there is none."""
    folders = [default_folder()] if models is None else [Path(models).expanduser(), default_folder()]
    places = (folder / place / name for folder in folders for place in FOLDERS for name in FILE_NAMES)
    return next((path for path in places if path.is_file()), None)


def load_decoder(path: Path, device: torch.device, dtype: torch.dtype) -> TinyDecoder:
    """The decoder with the weights at `path`, of the widths that their shapes tell; `WeightsError` for other files."""
    spec = ComponentSpec(name="preview decoder", blueprint=_blueprint)
    decoder = load_component(spec, [path], device=device, dtype=dtype)
    assert isinstance(decoder, TinyDecoder)
    return decoder


def _blueprint(_: Shapes, __: Mapping[str, Any]) -> Blueprint:
    return Blueprint(rename=_rename, build=_build)


def _build(shapes: Shapes) -> nn.Module:
    """Build the decoder with the widths of the shapes; `KeyError` if one is missing."""
    stages = [3 + _STAGE * stage for stage in range(3)]
    widths = [shapes[f"decoder.{first}.conv.0.weight"][0] for first in stages]
    last = stages[-1] + _STAGE - 1
    times = [
        shapes[f"decoder.{first + BLOCKS + 1}.conv.weight"][0] // width
        for first, width in zip(stages, widths, strict=True)
    ]
    return TinyDecoder(
        channels=shapes["decoder.1.weight"][1], widths=[*widths, shapes[f"decoder.{last}.weight"][0]], times=times
    )
