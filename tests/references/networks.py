"""The official networks, tiny, with random weights that hide nothing: no parameter is zero or one."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from references.folder import Normal, normal
from references.official import official, quiet

TRANSFORMER: dict[str, Any] = {
    "model_type": "s2v",
    "text_len": 512,
    "in_dim": 16,
    "out_dim": 16,
    "freq_dim": 256,
    "eps": 1e-06,
    "num_audio_token": 4,
    "cond_dim": 16,
    "enable_adain": True,
    "adain_mode": "attn_norm",
    "zero_init": True,
    "zero_timestep": True,
    "enable_motioner": False,
    "add_last_motion": True,
    "enable_tsm": False,
    "trainable_token_pos_emb": False,
    "motion_token_num": 1024,
    "enable_framepack": True,
    "framepack_drop_mode": "padd",
    "dim": 256,
    "ffn_dim": 144,
    "num_heads": 2,
    "num_layers": 5,
    "audio_dim": 32,
    "audio_inject_layers": [0, 2, 4],
    "text_dim": 64,
}
"""config.json of the transformer; `text_dim` is not in the published one, whose text has the default width."""

TEXT_ENCODER: dict[str, Any] = {
    "dim": 64,
    "dim_attn": 64,
    "dim_ffn": 144,
    "num_heads": 4,
    "num_layers": 3,
    "num_buckets": 32,
    "shared_pos": False,
    "dropout": 0.0,
}
VOCABULARY = 1280
"""Rows of the text encoder's embedding: more than the tokenizer has pieces, as in the published one."""

VAE: dict[str, Any] = {
    "dim": 6,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
    "dropout": 0.0,
}
AUDIO_ENCODER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 72,
    "num_attention_heads": 4,
    "num_hidden_layers": 24,
    "conv_dim": [32] * 7,
    "conv_bias": True,
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "vocab_size": 33,
}
"""24 layers, as the published one has: the transformer mixes all 25 states."""

_BY_NAME = {
    "encoder.weights": (0.3, 0.15),  # of the mix of the sound's states, divided by their sum
    "original0": (0.8, 0.1),  # lengths of the positional convolution's weights
    "token_embedding": (0.0, 1.0),
    "pos_embedding": (0.0, 0.5),
    "padding_tokens": (0.0, 0.7),
    "modulation": (0.0, 0.3),
    "cond_mask": (0.0, 0.3),
}
"""Mean and standard deviation of parameters whose shape does not tell it."""

_GENTLE = ("time_projection", "adain")
"""Layers whose output scales and shifts others: half as strong, so that neighbouring steps have similar velocities."""

_FP8_LARGEST = 448.0


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The transformer, the text encoder and the VAE in float32; their values fit bfloat16, the sound's float16."""

    transformer: nn.Module
    text_encoder: nn.Module
    vae: nn.Module
    audio_encoder: nn.Module


def build_networks(seed: int) -> Networks:
    """Fresh weights."""
    with quiet():
        transformer = official("modules.s2v.model_s2v").WanModel_S2V(**TRANSFORMER)
        text_encoder = official("modules.t5").T5Encoder(vocab=VOCABULARY, **TEXT_ENCODER)
        vae = official("modules.vae2_1").WanVAE_(**VAE)
        audio_encoder = Wav2Vec2ForCTC(Wav2Vec2Config(**AUDIO_ENCODER))
    return Networks(
        transformer=randomize(transformer, normal(seed, "transformer"), torch.bfloat16),
        text_encoder=randomize(text_encoder, normal(seed, "text encoder"), torch.bfloat16),
        vae=randomize(vae, normal(seed, "vae"), torch.bfloat16),
        audio_encoder=randomize(audio_encoder, normal(seed, "audio encoder"), torch.float16),
    )


def randomize(network: nn.Module, numbers: Normal, fits: torch.dtype) -> nn.Module:
    """Draw every parameter so that activations stay near 1, rounded to what `fits` holds."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            mean, spread = _distribution(name, parameter)
            parameter.copy_((mean + spread * numbers(*parameter.shape)).to(fits))
    return network.eval().requires_grad_(False)


def _distribution(name: str, parameter: Tensor) -> tuple[float, float]:
    """Mean and standard deviation."""
    for part, known in _BY_NAME.items():
        if part in name:
            return known
    if parameter.ndim == 1 or "gamma" in name:
        scales = ("norm" in name or "gamma" in name) and not name.endswith("bias")
        return (1.0, 0.2) if scales else (0.0, 0.1)
    spread = parameter[0].numel() ** -0.5
    if any(part in name for part in _GENTLE):
        spread /= 2
    if ".attn.q." in name:  # the text encoder does not divide by √(head width)
        spread *= (TEXT_ENCODER["dim_attn"] / TEXT_ENCODER["num_heads"]) ** -0.5
    return 0.0, spread


def linear_weights(network: nn.Module, within: str = "") -> list[str]:
    """Names of the matrices that fp8 files hold in fp8."""
    modules = network.named_modules()
    return [f"{name}.weight" for name, part in modules if isinstance(part, nn.Linear) and name.startswith(within)]


def to_fp8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The weight in float8_e4m3fn, and the scale that it must be multiplied by."""
    scale = weight.float().abs().max() / _FP8_LARGEST
    return (weight.float() / scale).to(torch.float8_e4m3fn), scale


def through_fp8(network: nn.Module, within: str = "") -> nn.Module:
    """A copy in float32 that computes with what a scaled fp8 file holds."""
    rounded = deepcopy(network)
    for name in linear_weights(rounded, within):
        parameter = rounded.get_parameter(name)
        stored, scale = to_fp8(parameter)
        parameter.copy_(stored.float() * scale)
    return rounded
