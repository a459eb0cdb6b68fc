"""The networks of transformers and diffusers that ours are named after, with our weights."""

from collections.abc import Mapping
from typing import Any

from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel, Wav2Vec2Config, Wav2Vec2Model

from soundreel.models import diffusers_model
from soundreel.weights import audio_keys, text_keys, vae_keys
from soundreel.weights.catalog import Component

UNMASKED: dict[str, Any] = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}


def library_network(component: Component, ours: nn.Module, config: Mapping[str, Any]) -> Any:
    """The library's network with the weights of ours; `config` is the content of the part's config.json."""
    shapes = {name: tuple(value.shape) for name, value in ours.state_dict().items()}
    weights = dict(ours.state_dict())
    network: Any
    if component is Component.TRANSFORMER:
        assert isinstance(ours.config, dict)
        network = diffusers_model.WanS2VTransformer3DModel(**ours.config)
    elif component is Component.TEXT_ENCODER:
        network = UMT5EncoderModel(UMT5Config(**text_keys.config_from_shapes(shapes)))
        weights["encoder.embed_tokens.weight"] = weights["shared.weight"]
    elif component is Component.VAE:
        network = AutoencoderKLWan(**vae_keys.config_from_shapes(shapes))
    else:
        network = Wav2Vec2Model(Wav2Vec2Config(**audio_keys.config_from_shapes(shapes, config), **UNMASKED))
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)
