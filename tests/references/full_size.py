"""Names and shapes of all tensors of the published model: the official networks at full size, without their memory."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from references.layouts import old_audio_name
from references.networks import AUDIO_ENCODER, VAE
from references.official import official, official_config, quiet

MANIFEST = "s2v_14b_manifest.json"

_AUDIO_SIZES = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "conv_dim": [512] * 7}
"""Of wav2vec2-large-xlsr-53-english."""


def write_manifest(folder: Path) -> None:
    """Write `s2v_14b_manifest.json`: per component the shapes by name and the number of parameters."""
    config = dict(official_config().transformer)
    with quiet(), torch.device("meta"):
        components = {
            "transformer": _entry(official("modules.s2v.model_s2v").WanModel_S2V(**config)) | {"config": config},
            "text_encoder": _entry(official("modules.t5").umt5_xxl(encoder_only=True, device="meta")),
            "vae": _entry(official("modules.vae2_1").WanVAE_(**VAE | {"dim": 96})),
            "audio_encoder": _entry(Wav2Vec2ForCTC(Wav2Vec2Config(**AUDIO_ENCODER | _AUDIO_SIZES))),
        }
    (folder / MANIFEST).write_text(json.dumps({"format": 1, "components": components}))


def _entry(network: nn.Module) -> dict[str, Any]:
    shapes = {old_audio_name(name): list(tensor.shape) for name, tensor in network.state_dict().items()}
    return {"keys": shapes, "parameters": sum(parameter.numel() for parameter in network.parameters())}
