"""The layouts that S2V transformers come in, told apart by their tensors: how each is renamed, and its sizes.

official   as Wan-AI, ComfyUI, GGUF files and FastVideo's conversion name them; config.json, if there is one, is Wan's
diffusers  as diffusers' pull request names them, with a config.json of its own
ours       as the class in `models.diffusers_model` saves them
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from soundreel.errors import WeightsError
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.weights import diffusers_keys, transformer_keys
from soundreel.weights.keys import Shapes
from soundreel.weights.load import Rename

OWN_LAYOUT_TENSOR = "audio_encoder.state_weights"
"""Only a transformer that soundreel itself has saved has a tensor of this name."""


@dataclass(frozen=True, kw_only=True)
class TransformerLayout:
    """How a checkpoint becomes ours."""

    sizes: Mapping[str, Any]
    """Arguments of `WanS2VTransformer3DModel`."""

    rename: Rename


def layout_of(shapes: Shapes, config: Mapping[str, Any]) -> TransformerLayout:
    """The layout of a checkpoint with these tensors, under its own names, and this config.json, which may be empty.

    Raises:
        WeightsError: it is no S2V transformer that can be run, or its config.json is missing or of another one.
    """
    if diffusers_keys.is_diffusers_layout(shapes):  # its config.json names the same class as ours
        sizes = diffusers_keys.config_from_diffusers(config, shapes)
        return TransformerLayout(
            sizes=sizes, rename=partial(_from_diffusers, inject_layers=sizes["audio_inject_layers"])
        )
    if config.get("_class_name") == WanS2VTransformer3DModel.__name__:
        ours = {name: value for name, value in config.items() if not name.startswith("_")}
        return TransformerLayout(sizes=ours, rename=str)
    if OWN_LAYOUT_TENSOR in shapes:
        raise WeightsError("this transformer is in soundreel's own layout: expected its config.json beside it")
    official = {transformer_keys.official_name(name): shape for name, shape in shapes.items()}
    sizes = transformer_keys.config_from_official(config or None, official)
    return TransformerLayout(sizes=sizes, rename=partial(_from_official, inject_layers=sizes["audio_inject_layers"]))


def _from_diffusers(name: str, /, *, inject_layers: tuple[int, ...]) -> str:
    return diffusers_keys.to_ours(name, inject_layers)


def _from_official(name: str, /, *, inject_layers: tuple[int, ...]) -> str:
    return transformer_keys.to_ours(transformer_keys.official_name(name), inject_layers)
