"""Recognizes networks by the names and shapes of their tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from soundreel.weights import diffusers_keys
from soundreel.weights.catalog import Component
from soundreel.weights.headers import GGUF, TensorHeader
from soundreel.weights.keys import Shapes, without_prefix

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.", "wav2vec2.")
"""Prefixes that some files put before every name."""

WAN_21_LATENT_CHANNELS = 16


class Storage(StrEnum):
    """How the weights in a file are stored."""

    FULL = "32-bit"
    HALF = "16-bit"
    FP8 = "fp8"
    GGUF = "gguf"


@dataclass(frozen=True)
class Identity:
    """What network a file holds, and whether it is a part of Wan 2.2 S2V."""

    what: str  # for messages: "a Wan I2V transformer"
    component: Component | None = None
    suits: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Sizes that two parts must share, by a name of our own: `text width`, `audio width`, `audio states`."""


UNKNOWN = Identity("a file of another kind")


def identify(tensors: Mapping[str, TensorHeader]) -> Identity:
    """Recognize a network by its tensors; `UNKNOWN` for one that belongs to no Wan model."""
    shapes = {without_prefix(name, PREFIXES): header.shape for name, header in tensors.items()}
    if any(".lora_" in name for name in shapes):
        return Identity("a LoRA")
    for recognize in (_transformer, _text_encoder, _vae, _audio_encoder):
        identity = recognize(shapes)
        if identity is not None:
            return identity
    return UNKNOWN


def storage_of(path: Path, tensors: Mapping[str, TensorHeader]) -> Storage:
    """GGUF by the file's suffix, fp8 if any tensor is, else by the element type with the most bytes."""
    if path.suffix.lower() == GGUF:
        return Storage.GGUF
    size_of: dict[str, int] = {}
    for tensor in tensors.values():
        size_of[tensor.dtype] = size_of.get(tensor.dtype, 0) + tensor.size_bytes
    if any(dtype.startswith("F8") for dtype in size_of):
        return Storage.FP8
    most = max(size_of, key=size_of.__getitem__, default="")
    return Storage.FULL if most in {"F32", "F64"} else Storage.HALF


_OTHER_WAN_MODELS = {
    "vace_blocks.": "VACE",
    "face_adapter.": "Animate",
    "motion_encoder.": "Animate",
    "control_adapter.": "Fun Control",
    "audio_proj.": "InfiniteTalk or HuMo",
    "img_emb.": "I2V",
    "condition_embedder.image_embedder.": "I2V",
}
"""Other Wan transformers by prefixes of tensors that only they have."""

_WAN_BY_CHANNELS = {16: "T2V", 36: "I2V", 48: "TI2V"}


_AUDIO_STATES = ("casual_audio_encoder.weights", *diffusers_keys.AUDIO_STATES, "audio_encoder.state_weights")
_AUDIO_CONV = (
    "casual_audio_encoder.encoder.conv1_local.conv.weight",
    diffusers_keys.AUDIO_CONV,
    "audio_encoder.conv1_local.weight",
)
"""Tensors of S2V's audio encoder in the official layout, in that of diffusers' pull request and in ours."""


def _transformer(shapes: Shapes) -> Identity | None:
    if "head.modulation" not in shapes and "condition_embedder.time_proj.weight" not in shapes:
        return None
    if any(name in shapes for name in _AUDIO_STATES):
        sizes = {
            "text width": _size(
                shapes, 1, "text_embedding.0.weight", "condition_embedder.text_embedder.linear_1.weight"
            ),
            "audio width": _size(shapes, 1, *_AUDIO_CONV),
            "audio states": _size(shapes, 1, *_AUDIO_STATES),
        }
        return Identity("a Wan S2V transformer", Component.TRANSFORMER, suits=True, sizes=sizes)
    return Identity(f"a Wan {_other_kind(shapes)} transformer, not S2V", Component.TRANSFORMER)


def _other_kind(shapes: Shapes) -> str:
    for prefix, kind in _OTHER_WAN_MODELS.items():
        if any(name.startswith(prefix) for name in shapes):
            return kind
    channels = _size(shapes, 1, "patch_embedding.weight")
    return _WAN_BY_CHANNELS.get(channels, f"{channels}-channel")


def _text_encoder(shapes: Shapes) -> Identity | None:
    if "blocks.0.pos_embedding.embedding.weight" in shapes:
        return _umt5(_size(shapes, 1, "token_embedding.weight"))
    bias = "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight"
    if bias.format(0) not in shapes:
        return None
    has_second_layer = "encoder.block.1.layer.0.layer_norm.weight" in shapes
    if has_second_layer and bias.format(1) not in shapes:
        return Identity("a T5 text encoder, not UMT5", Component.TEXT_ENCODER)
    return _umt5(_size(shapes, 1, "shared.weight", "encoder.embed_tokens.weight"))


def _umt5(width: int) -> Identity:
    return Identity("a UMT5 text encoder", Component.TEXT_ENCODER, suits=True, sizes={"text width": width})


def _vae(shapes: Shapes) -> Identity | None:
    projection = shapes.get("conv2.weight") or shapes.get("post_quant_conv.weight")
    decoder = shapes.get("decoder.conv1.weight") or shapes.get("decoder.conv_in.weight")
    if projection is None or decoder is None or len(decoder) != 5:
        return None
    if projection[0] == WAN_21_LATENT_CHANNELS and len(projection) == 5:
        return Identity("the Wan 2.1 VAE", Component.VAE, suits=True)
    return Identity(f"a video VAE with {projection[0]} channels, not the Wan 2.1 VAE", Component.VAE)


def _audio_encoder(shapes: Shapes) -> Identity | None:
    if "feature_extractor.conv_layers.0.conv.weight" not in shapes:
        return None
    layers = {name.split(".")[2] for name in shapes if name.startswith("encoder.layers.")}
    sizes = {"audio width": _size(shapes, 0, "encoder.layer_norm.weight"), "audio states": len(layers) + 1}
    return Identity("a wav2vec2 audio encoder", Component.AUDIO_ENCODER, suits=True, sizes=sizes)


def _size(shapes: Shapes, axis: int, *names: str) -> int:
    """Size along an axis of the first of `names` that is there; 0 without tensor or axis, which loading reports."""
    shape = next((shapes[name] for name in names if name in shapes), ())
    return shape[axis] if axis < len(shape) else 0
