"""Full-size checkpoints with random weights in the forms that people have: written fast, drawn on the GPU.

`comfy_fp8` is ComfyUI's `models` folder with the files of the users' document, `comfy_q8_0` and `comfy_q4_0` the same
with a GGUF transformer, `official_bf16` the official folder.
Random weights cost what trained ones cost and give noise as video.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import gguf
import numpy as np
import torch
from torch import Tensor

from benchmarks.checkpoints import (
    AUDIO,
    DEVICE,
    TEXT,
    TRANSFORMER,
    VAE,
    Part,
    draw,
    read_manifest,
    write_checkpoint,
)
from soundreel.weights import text_keys

NAMES = {
    torch.float8_e4m3fn: "F8_E4M3",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float32: "F32",
    torch.uint8: "U8",
}

FP8_SPREAD = 64.0
"""Standard deviation of the stored float8 values; their scale brings a layer's weights to 1/√(fan-in)."""

QUANTIZATIONS = {
    "comfy_q8_0": gguf.GGMLQuantizationType.Q8_0,
    "comfy_q4_0": gguf.GGMLQuantizationType.Q4_0,
}
QUANTIZED_SPREAD = {gguf.GGMLQuantizationType.Q8_0: 74.0, gguf.GGMLQuantizationType.Q4_0: 4.6}
"""Standard deviation of random stored values: all of a byte's, or of four bits'."""

Planned = tuple[str, Sequence[int], torch.dtype, Callable[[], Tensor]]
"""A tensor to write: name, shape, type, and what draws it."""


def write_form(form: str, folder: Path, manifest: Path, tokenizer: Path) -> None:
    """Write the files of a form into `folder`."""
    parts = read_manifest(manifest)
    if form == "official_bf16":
        write_checkpoint(folder, parts, tokenizer)
    elif form == "comfy_fp8":
        name = "diffusion_models/wan2.2_s2v_14B_fp8_scaled.safetensors"
        transformer = [*_transformer(parts[TRANSFORMER].shapes)]
        _write_comfy(folder, parts, tokenizer / "spiece.model", partial(_write, folder / name, transformer))
    elif form in QUANTIZATIONS:
        quantization = QUANTIZATIONS[form]
        path = folder / f"diffusion_models/Wan2.2-S2V-14B-{quantization.name}.gguf"
        writes = partial(_write_gguf, path, parts[TRANSFORMER].shapes, quantization)
        _write_comfy(folder, parts, tokenizer / "spiece.model", writes)
    else:
        raise SystemExit(f"there is no form {form!r}: {', '.join(('comfy_fp8', 'official_bf16', *QUANTIZATIONS))}")
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


def _write_comfy(folder: Path, parts: Mapping[str, Part], spiece: Path, write_transformer: Callable[[], None]) -> None:
    audio = list(_plain(parts[AUDIO].shapes, torch.float16))
    vae = list(_plain(parts[VAE].shapes, torch.bfloat16))
    files = {
        "text_encoders/umt5_xxl_fp8_e4m3fn_scaled": [*_text_encoder(parts[TEXT].shapes, spiece)],
        "audio_encoders/wav2vec2_large_english_fp16": audio,
        "vae/wan_2.1_vae": vae,
    }
    with ThreadPoolExecutor(len(files) + 1) as pool:
        jobs = [pool.submit(write_transformer)]
        jobs += [pool.submit(_write, folder / f"{name}.safetensors", planned) for name, planned in files.items()]
        for job in jobs:
            job.result()


def _transformer(shapes: Mapping[str, Sequence[int]]) -> Iterator[Planned]:
    for name, shape in shapes.items():
        if len(shape) == 2 and name.endswith(".weight") and not name.startswith("trainable_cond_mask"):
            yield from _scaled(name, shape)
        else:
            yield from _plain({name: shape}, torch.bfloat16)
    yield "scaled_fp8", (2,), torch.float8_e4m3fn, lambda: torch.zeros(2).to(torch.float8_e4m3fn)


def _text_encoder(shapes: Mapping[str, Sequence[int]], spiece: Path) -> Iterator[Planned]:
    for official, shape in shapes.items():
        name = text_keys.rename(official) or official
        is_scaled = len(shape) == 2 and ".layer." in name and "relative_attention_bias" not in name
        yield from _scaled(name, shape) if is_scaled else _plain({name: shape}, torch.float16)
    yield "scaled_fp8", (0,), torch.float8_e4m3fn, lambda: torch.zeros(0).to(torch.float8_e4m3fn)
    model = torch.frombuffer(bytearray(spiece.read_bytes()), dtype=torch.uint8)
    yield "spiece_model", tuple(model.shape), torch.uint8, lambda: model


def _scaled(name: str, shape: Sequence[int]) -> Iterator[Planned]:
    def values() -> Tensor:
        drawn = torch.randn(*shape, dtype=torch.bfloat16, device=DEVICE, generator=_generator(name))
        return (drawn * FP8_SPREAD).clamp(-448, 448).to(torch.float8_e4m3fn)

    scale = 1 / math.sqrt(shape[1]) / FP8_SPREAD
    yield name, shape, torch.float8_e4m3fn, values
    yield f"{name.removesuffix('weight')}scale_weight", (), torch.float32, lambda: torch.tensor(scale)


def _plain(shapes: Mapping[str, Sequence[int]], dtype: torch.dtype) -> Iterator[Planned]:
    for name, shape in shapes.items():
        yield name, shape, dtype, lambda name=name, shape=shape: draw(name, shape, dtype, _generator(name))  # type: ignore[misc]


def _generator(name: str) -> torch.Generator:
    return torch.Generator(DEVICE).manual_seed(int.from_bytes(name.encode()[-6:], "big"))


def _write(path: Path, planned: Sequence[Planned]) -> None:
    """Header, then tensor after tensor: never more than one of them in memory."""
    table, end = {}, 0
    for name, shape, dtype, _ in planned:
        begin, end = end, end + dtype.itemsize * math.prod(shape)
        table[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    header = json.dumps(table).encode()
    header += b" " * (-len(header) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _, _, _, values in planned:
            tensor = values().cpu().contiguous().flatten()
            if tensor.numel():
                file.write(tensor.view(torch.uint8).numpy().data)


def _write_gguf(path: Path, shapes: Mapping[str, Sequence[int]], quantization: gguf.GGMLQuantizationType) -> None:
    """As ComfyUI's converter does it: matrices quantized, five axes merged to four with the shape beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "wan")
    block, block_bytes = gguf.GGML_QUANT_SIZES[quantization]
    quantized = {name for name, shape in shapes.items() if len(shape) == 2 and shape[1] % block == 0}
    for name, shape in shapes.items():
        if name in quantized:
            packed = (shape[0], shape[1] // block * block_bytes)
            writer.add_tensor_info(name, packed, np.dtype(np.uint8), math.prod(packed), raw_dtype=quantization)
            continue
        merged = shape if len(shape) <= 4 else (shape[0] * shape[1], *shape[2:])
        if len(shape) > 4:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(shape))
        writer.add_tensor_info(name, merged, np.dtype(np.float32), 4 * math.prod(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, shape in shapes.items():
        if name in quantized:
            values = _packed_blocks(name, shape, quantization)
        else:
            values = draw(name, shape, torch.float32, _generator(name)).cpu()
        writer.write_tensor_data(values.numpy())
    writer.close()


def _packed_blocks(name: str, shape: Sequence[int], quantization: gguf.GGMLQuantizationType) -> Tensor:
    """Blocks of a float16 scale and random stored values: uint8 [rows, bytes]."""
    block, block_bytes = gguf.GGML_QUANT_SIZES[quantization]
    blocks = math.prod(shape) // block
    packed = torch.randint(0, 256, (blocks, block_bytes), dtype=torch.uint8, device=DEVICE, generator=_generator(name))
    scale = torch.tensor([1 / math.sqrt(shape[1]) / QUANTIZED_SPREAD[quantization]], dtype=torch.float16)
    packed[:, :2] = scale.view(torch.uint8).to(DEVICE)
    return packed.view(shape[0], -1).cpu()
