"""The tiny checkpoint on disk: the official folder, and the same numbers as ComfyUI's single files, fp8 forms too."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from references.folder import Folder
from references.networks import AUDIO_ENCODER, TRANSFORMER, Networks, linear_weights, to_fp8
from references.tokenizer import write_tokenizer

Tensors = dict[str, Tensor]

SHARD = "diffusion_pytorch_model-0000{}-of-00002.safetensors"
TEXT_FILE, VAE_FILE = "models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth"
TOKENIZER, AUDIO_FOLDER = "google/umt5-xxl", "wav2vec2-large-xlsr-53-english"

FP8_TRANSFORMER = "diffusion_models/wan2.2_s2v_14B_fp8_scaled.safetensors"
FP8_TEXT = "text_encoders/umt5_xxl_fp8_e4m3fn_scaled"
BLOCKS = "blocks."
"""ComfyUI's fp8 text encoders hold the matrices of the blocks in fp8."""

_TEXT_NAMES = {
    "attn": "layer.0.SelfAttention",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm1": "layer.0.layer_norm",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}
"""Parts of the official text encoder's names and what transformers, and so ComfyUI's files, call them."""


def write_checkpoints(folder: Folder, networks: Networks, texts: list[str]) -> None:
    """Write both layouts; the tokenizer is learned from `texts`."""
    pieces = write_tokenizer(folder.official / TOKENIZER, texts)
    _write_official(folder.official, networks)
    _write_comfy(folder.comfy, networks, torch.frombuffer(bytearray(pieces), dtype=torch.uint8))


def _write_official(root: Path, networks: Networks) -> None:
    _json(root / "config.json", {"_class_name": "WanModel_S2V", "_diffusers_version": "0.34.0"} | TRANSFORMER)
    _json(root / "configuration.json", {"framework": "pytorch", "task": "speech-to-video"})
    tensors = _stored(networks.transformer, torch.bfloat16)
    shards = {
        SHARD.format(1): {name: value for name, value in tensors.items() if name.startswith("blocks.")},
        SHARD.format(2): {name: value for name, value in tensors.items() if not name.startswith("blocks.")},
    }
    for name, shard in shards.items():
        save_file(shard, root / name, {"format": "pt"})
    total = sum(value.nbytes for value in tensors.values())
    weight_map = {tensor: name for name, shard in shards.items() for tensor in shard}
    _json(
        root / "diffusion_pytorch_model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": weight_map},
    )
    torch.save(_stored(networks.text_encoder, torch.bfloat16), root / TEXT_FILE)
    torch.save(_stored(networks.vae, torch.float32), root / VAE_FILE)
    _write_audio_encoder(root / AUDIO_FOLDER, networks.audio_encoder)


def _write_audio_encoder(folder: Path, network: nn.Module) -> None:
    """As transformers reads it: weights, config, and what its processor needs."""
    folder.mkdir()
    save_file(_audio_named(_stored(network, torch.float32)), folder / "model.safetensors", {"format": "pt"})
    config = {"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"], "pad_token_id": 0}
    _json(folder / "config.json", config | AUDIO_ENCODER)
    characters = ["<pad>", "<s>", "</s>", "<unk>", "|", "'", "-", *"abcdefghijklmnopqrstuvwxyz"]
    _json(folder / "vocab.json", {character: number for number, character in enumerate(characters)})
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    _json(folder / "special_tokens_map.json", special)
    extractor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1, "sampling_rate": 16000}
    rules = {"do_normalize": True, "return_attention_mask": True, "padding_side": "right", "padding_value": 0.0}
    _json(folder / "preprocessor_config.json", extractor | rules)


def _write_comfy(root: Path, networks: Networks, pieces: Tensor) -> None:
    transformer = _stored(networks.transformer, torch.bfloat16)
    _save(transformer, root / "diffusion_models/wan2.2_s2v_14B_bf16.safetensors")
    full_precision = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    matrices = linear_weights(networks.transformer)
    _save(_with_scales(transformer, matrices, _old_scale) | full_precision, root / FP8_TRANSFORMER)

    text = _stored(networks.text_encoder, torch.float16)
    matrices = linear_weights(networks.text_encoder, BLOCKS)
    extra = {"spiece_model": pieces}
    _save(_text_named(text) | extra, root / "text_encoders/umt5_xxl_fp16.safetensors")
    marked = extra | {"scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}
    _save(_text_named(_with_scales(text, matrices, _old_scale)) | marked, root / f"{FP8_TEXT}.safetensors")
    newer = _text_named(_with_scales(text, matrices, _new_scale))
    _save(newer | extra, root / f"{FP8_TEXT}_newstyle.safetensors")

    _save(_stored(networks.vae, torch.bfloat16), root / "vae/wan_2.1_vae.safetensors")
    audio = _audio_named(_stored(networks.audio_encoder, torch.float16))
    _save(audio, root / "audio_encoders/wav2vec2_large_english_fp16.safetensors")


def _with_scales(tensors: Tensors, matrices: list[str], scales: Callable[[str, Tensor], Tensors]) -> Tensors:
    """Matrices in fp8, each with what `scales` stores of its scale."""
    made = dict(tensors)
    for name in matrices:
        made[name], scale = to_fp8(tensors[name])
        made |= scales(name.removesuffix(".weight"), scale)
    return made


def _old_scale(layer: str, scale: Tensor) -> Tensors:
    return {f"{layer}.scale_weight": scale}


def _new_scale(layer: str, scale: Tensor) -> Tensors:
    form = json.dumps({"format": "float8_e4m3fn"}).encode()
    return {
        f"{layer}.weight_scale": scale,
        f"{layer}.comfy_quant": torch.frombuffer(bytearray(form), dtype=torch.uint8),
    }


def _text_named(tensors: Tensors) -> Tensors:
    return {_text_name(name): value for name, value in tensors.items()}


def _text_name(name: str) -> str:
    if name.startswith(BLOCKS):
        block, rest = name.removeprefix(BLOCKS).split(".", 1)
        ours = next(part for part in _TEXT_NAMES if rest.startswith(f"{part}."))
        return f"encoder.block.{block}.{_TEXT_NAMES[ours]}{rest.removeprefix(ours)}"
    return name.replace("token_embedding.", "shared.").replace("norm.", "encoder.final_layer_norm.")


def old_audio_name(name: str) -> str:
    """As the published file has it, which is older than torch's parametrizations."""
    name = name.replace("parametrizations.weight.original0", "weight_g")
    return name.replace("parametrizations.weight.original1", "weight_v")


def _audio_named(tensors: Tensors) -> Tensors:
    return {old_audio_name(name): value for name, value in tensors.items()}


def _stored(network: nn.Module, dtype: torch.dtype) -> Tensors:
    return {name: value.to(dtype).contiguous() for name, value in network.state_dict().items()}


def _save(tensors: Tensors, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def _json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2))
