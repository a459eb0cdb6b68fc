"""Weight files for tests: real safetensors, PyTorch and GGUF files, as small or (sparse) as large as needed."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from conftest import GOLDEN
from soundreel.weights.placement import loaded_bytes
from soundreel.weights.read import open_tensors
from soundreel.weights.scan import Part
from soundreel.weights.stored import collect

OFFICIAL, COMFY = GOLDEN / "tiny_official", GOLDEN / "tiny_comfy"

needs_golden = pytest.mark.usefixtures("golden")


def official_transformer_tensors() -> dict[str, Tensor]:
    """Of the tiny checkpoint in the official layout, by official names."""
    shards = sorted(OFFICIAL.glob("diffusion_pytorch_model*.safetensors"))
    return {name: tensor for shard in shards for name, tensor in load_file(shard).items()}


def writable_copy(folder: Path, target: Path) -> Path:
    """A copy of a checkpoint that a test may damage."""
    shutil.copytree(folder, target, copy_function=shutil.copyfile)
    return target


def shape_only_file(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str = "BF16", others: Mapping[str, str] = {}
) -> Path:
    """A safetensors file of any size that takes no room: the tensors are a hole in the file.

    Args:
        others: types of single tensors, by name.
    """
    widths = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1}
    table, end = {}, 0
    for name, shape in shapes.items():
        kind = others.get(name, dtype)
        begin, end = end, end + int(np.prod(shape, dtype=np.int64)) * widths[kind]
        table[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
    header = json.dumps(table).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)
    return path


def rewrite(path: Path, change: "dict[str, Tensor | None]", target: Path | None = None) -> Path:
    """Save a safetensors file anew with tensors replaced, added, or (None) left out."""
    tensors = load_file(path) | change
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    target = target or path
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(kept, target)
    return target


def write_gguf(path: Path, tensors: Mapping[str, Tensor], quantization: gguf.GGMLQuantizationType) -> Path:
    """As ComfyUI's converter does it: matrices quantized, five axes merged to four with the shape beside them."""
    writer = gguf.GGUFWriter(path, "wan")
    block = gguf.GGML_QUANT_SIZES[quantization][0]
    for name, tensor in tensors.items():
        values = tensor.float().numpy()
        if values.ndim == 2 and values.shape[1] % block == 0:
            writer.add_tensor(name, gguf.quants.quantize(values, quantization), raw_dtype=quantization)
            continue
        if values.ndim > 4:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(values.shape))
            values = values.reshape(-1, *values.shape[2:])
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def relative_error(ours: Tensor, expected: Tensor) -> float:
    """‖ours − expected‖ / ‖expected‖, in double precision."""
    difference = (ours.double() - expected.double()).norm()
    return float(difference / expected.double().norm())


def bytes_loaded(part: Part, dtype: torch.dtype) -> int:
    """What the weights of a part of the model are said to take once loaded for `dtype`."""
    stored = collect([open_tensors(path) for path in part.files])
    return sum(loaded_bytes(tensor, dtype) for tensor in stored.values() if tensor.is_float)


def random_floats(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal values from a generator of their own."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
