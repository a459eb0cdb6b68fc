"""How each network of Wan 2.2 S2V is loaded: its table of tensor names and how it is built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from soundreel.models.text_encoder import UMT5Encoder
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.models.vae_network import WanVae
from soundreel.models.wav2vec2 import Wav2Vec2
from soundreel.weights import audio_keys, text_keys, vae_keys
from soundreel.weights.catalog import Component
from soundreel.weights.find import ModelFiles
from soundreel.weights.keys import Shapes
from soundreel.weights.load import (
    Blueprint,
    ComponentSpec,
    OnLoad,
    OnPart,
    Rename,
    load_component,
    outline_component,
)
from soundreel.weights.scan import Part
from soundreel.weights.stored import Stored
from soundreel.weights.transformer_layouts import layout_of

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def _fixed(
    rename: Rename, build: Callable[[Shapes, Mapping[str, Any]], nn.Module], tied: frozenset[str] = frozenset()
) -> Callable[[Shapes, Mapping[str, Any]], Blueprint]:
    """A blueprint whose key table is the same for every checkpoint."""
    return lambda _shapes, config: Blueprint(rename=rename, build=lambda shapes: build(shapes, config), tied=tied)


def _build_text_encoder(shapes: Shapes, _config: Mapping[str, Any]) -> nn.Module:
    return UMT5Encoder(**text_keys.config_from_shapes(shapes))


def _build_vae(shapes: Shapes, _config: Mapping[str, Any]) -> nn.Module:
    return WanVae(**vae_keys.config_from_shapes(shapes))


def _build_audio_encoder(shapes: Shapes, config: Mapping[str, Any]) -> nn.Module:
    return Wav2Vec2(**audio_keys.config_from_shapes(shapes, config))


def _transformer_blueprint(shapes: Shapes, config: Mapping[str, Any]) -> Blueprint:
    layout = layout_of(shapes, config)
    return Blueprint(rename=layout.rename, build=lambda _: WanS2VTransformer3DModel(**layout.sizes))


SPECS: Mapping[Component, ComponentSpec] = {
    Component.TRANSFORMER: ComponentSpec(name="S2V transformer", blueprint=_transformer_blueprint),
    Component.TEXT_ENCODER: ComponentSpec(
        name="UMT5 text encoder", blueprint=_fixed(text_keys.rename, _build_text_encoder, text_keys.TIED)
    ),
    Component.VAE: ComponentSpec(name="Wan VAE", blueprint=_fixed(vae_keys.rename, _build_vae)),
    Component.AUDIO_ENCODER: ComponentSpec(
        name="wav2vec2 audio encoder", blueprint=_fixed(audio_keys.rename, _build_audio_encoder)
    ),
}


def load_part(
    part: Part,
    kind: type[NetworkT],
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    on_load: OnLoad | None = None,
    on_part: OnPart | None = None,
) -> NetworkT:
    """Load a part of the model as `kind`, to compute in `dtype` on `device`; raises `WeightsError`."""
    network = load_component(
        SPECS[part.component],
        part.files,
        config=part.config,
        device=device,
        dtype=dtype,
        on_load=on_load,
        on_part=on_part,
    )
    assert isinstance(network, kind)
    return network


@dataclass(frozen=True)
class Outline:
    """A network without memory, and by our names where its tensors lie."""

    network: nn.Module
    stored: Mapping[str, Stored]


def outline_part(part: Part) -> Outline:
    """A part of the model before it is loaded: headers are read; raises `WeightsError` for all loading would refuse."""
    return Outline(*outline_component(SPECS[part.component], part.files, part.config))


def outline_model(model: ModelFiles) -> Mapping[Component, Outline]:
    """`outline_part` of every part."""
    return {component: outline_part(part) for component, part in model.parts.items()}
