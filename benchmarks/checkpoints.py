"""Checkpoints of Wan 2.2 S2V in the official layout, with random weights: written fast, drawn on the GPU.

Random weights cost what trained ones cost and give noise as video.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import safe_open
from torch import Tensor

Shapes: TypeAlias = Mapping[str, Sequence[int]]

GIB = 2**30
SHARD_BYTES = 9_970_000_000
SAFETENSORS_NAMES = {torch.bfloat16: "BF16", torch.float32: "F32"}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

AUDIO_FOLDER = "wav2vec2-large-xlsr-53-english"
TOKENIZER_FOLDER = "google/umt5-xxl"
TRANSFORMER, TEXT, VAE, AUDIO = "transformer", "text_encoder", "vae", "audio_encoder"

CONFIG = {
    "_class_name": "WanModel_S2V",
    "model_type": "s2v",
    "text_len": 512,
    "in_dim": 16,
    "out_dim": 16,
    "num_audio_token": 4,
    "trainable_token_pos_emb": False,
    "motion_token_num": 1024,
}
"""What the published config.json says beside the manifest's configuration."""

AUDIO_CONFIG = {
    "model_type": "wav2vec2",
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
    "layer_norm_eps": 1e-5,
}
"""Of the published wav2vec2 encoder, where the manifest has no configuration of it."""


@dataclass(frozen=True)
class Part:
    """One network of a manifest."""

    shapes: Shapes
    config: Mapping[str, Any]


def read_manifest(place: Path) -> dict[str, Part]:
    """Shapes by component, from a manifest or from a checkpoint in the official layout."""
    if place.is_dir():
        return {
            TRANSFORMER: Part(_safetensors_shapes(place), _json(place / "config.json")),
            TEXT: Part(_torch_shapes(next(place.glob("models_t5*.pth"))), {}),
            VAE: Part(_torch_shapes(place / "Wan2.1_VAE.pth"), {}),
            AUDIO: Part(_safetensors_shapes(place / AUDIO_FOLDER), _json(place / AUDIO_FOLDER / "config.json")),
        }
    return {
        name: Part(component["keys"], component.get("config", {}))
        for name, component in _json(place)["components"].items()
    }


def write_checkpoint(folder: Path, manifest: Mapping[str, Part], tokenizer: Path) -> dict[str, Any]:
    """Write all files, several at a time; returns seconds and bytes."""
    begun = time.perf_counter()
    (folder / AUDIO_FOLDER).mkdir(parents=True, exist_ok=True)
    shutil.copytree(tokenizer, folder / TOKENIZER_FOLDER, dirs_exist_ok=True, copy_function=shutil.copyfile)
    transformer, audio = manifest[TRANSFORMER], manifest[AUDIO]
    (folder / "config.json").write_text(json.dumps(CONFIG | dict(transformer.config)))
    (folder / AUDIO_FOLDER / "config.json").write_text(json.dumps(AUDIO_CONFIG | dict(audio.config)))
    jobs: list[Callable[[], None]] = [
        lambda: write_torch_file(folder / "models_t5_umt5-xxl-enc-bf16.pth", manifest[TEXT].shapes, torch.bfloat16),
        *_shard_jobs(folder, transformer.shapes),
        lambda: write_safetensors(folder / AUDIO_FOLDER / "model.safetensors", audio.shapes, torch.float32),
        lambda: write_torch_file(folder / "Wan2.1_VAE.pth", manifest[VAE].shapes, torch.float32),
    ]
    with ThreadPoolExecutor(max_workers=len(jobs)) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"seconds": time.perf_counter() - begun, "bytes": size}


def _shard_jobs(folder: Path, shapes: Shapes) -> Iterator[Callable[[], None]]:
    """One job for each shard of the transformer; writes the index at once."""
    shards = split_shards(shapes, 2)
    names = [f"diffusion_pytorch_model-{k:05d}-of-{len(shards):05d}.safetensors" for k in range(1, len(shards) + 1)]
    places = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    total = 2 * sum(math.prod(shape) for shape in shapes.values())
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}))
    for name, shard in zip(names, shards, strict=True):
        yield partial(write_safetensors, folder / name, shard, torch.bfloat16)


def split_shards(shapes: Shapes, width: int) -> list[dict[str, Sequence[int]]]:
    """Tensors in order, in groups of at most `SHARD_BYTES`; `width` bytes per number."""
    shards: list[dict[str, Sequence[int]]] = [{}]
    filled = 0
    for name, shape in shapes.items():
        size = width * math.prod(shape)
        if shards[-1] and filled + size > SHARD_BYTES:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += size
    return shards


def write_safetensors(path: Path, shapes: Shapes, dtype: torch.dtype) -> None:
    """Header, then tensor after tensor: never more than one of them in memory."""
    table, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + dtype.itemsize * math.prod(shape)
        table[name] = {"dtype": SAFETENSORS_NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    header = json.dumps(table).encode()
    header += b" " * (-len(header) % 8)
    generator = _generator(path)
    with path.open("wb", buffering=0) as file:
        _write_all(file.fileno(), memoryview(len(header).to_bytes(8, "little") + header))
        for name, shape in shapes.items():
            values = draw(name, shape, dtype, generator).cpu().flatten()
            _write_all(file.fileno(), values.view(torch.uint8).numpy().data)


def write_torch_file(path: Path, shapes: Shapes, dtype: torch.dtype) -> None:
    """A flat dict as PyTorch saves it; the text encoder's 11 GB are in memory at once."""
    generator = _generator(path)
    torch.save({name: draw(name, shape, dtype, generator).cpu() for name, shape in shapes.items()}, path)


def draw(name: str, shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Random values that keep every network finite in bfloat16: 1/√(fan-in) deep, norms 1, biases small.

    Each layer then passes on about the scale it gets, and 40 residual blocks grow like a square root.
    """
    is_norm = len(shape) == 1 and name.endswith(".weight")
    if is_norm or name.endswith((".gamma", ".weight_g", ".original0", ".weights")):
        return torch.ones(*shape, dtype=dtype, device=DEVICE)
    scale = 0.02 if len(shape) == 1 else 1 / math.sqrt(math.prod(shape[1:]))
    values = torch.randn(*shape, dtype=dtype, device=DEVICE, generator=generator)
    return values.mul_(scale)


def _generator(path: Path) -> torch.Generator:
    return torch.Generator(DEVICE).manual_seed(int.from_bytes(path.name.encode()[-6:], "big"))


def _write_all(descriptor: int, data: memoryview) -> None:
    """`os.write` writes 2 GiB at most."""
    while data:
        data = data[os.write(descriptor, data[:GIB]) :]


def _safetensors_shapes(folder: Path) -> Shapes:
    shapes: dict[str, Sequence[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    return shapes


def _torch_shapes(path: Path) -> Shapes:
    return {name: list(tensor.shape) for name, tensor in torch.load(path, weights_only=True, mmap=True).items()}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
