"""Where the native engine computes, in which float type, and what fits there."""

import time
from collections.abc import Mapping
from typing import Any

import torch

from soundreel.engines.native.passes import Saving
from soundreel.errors import EngineError, InputError
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.planning import count_tokens
from soundreel.types import Plan, VaePrecision
from soundreel.weights.catalog import Component
from soundreel.weights.find import ModelFiles
from soundreel.weights.placement import model_bytes
from soundreel.weights.read import open_tensors
from soundreel.weights.scan import Part
from soundreel.weights.stored import collect
from soundreel.weights.transformer_keys import config_from_official, without_prefix

AUTO = "auto"

KEPT_WHILE_SAMPLING = (Component.TRANSFORMER, Component.VAE)
"""Networks that are on the device together; the encoders have it to themselves before."""

WORKING_BYTES_PER_TOKEN = 90 * 5120
"""What a clip takes on the device beside the weights, by the tokens of a forward pass of the 14B model. Measured on an
H200 with 35,074 tokens (480×832, 80 frames): 15.4 GiB, the VAE's decoding and the allocator's reserve included."""

TEXT_ROWS = 512
"""Rows of text that every token attends to."""

GIB = 2**30


def pick_device(name: str) -> torch.device:
    """The device for a `--device` option; with "auto" a CUDA GPU, else Apple's, else the CPU.

    Raises:
        InputError: the name is no device, or there is none of that kind.
    """
    if name == AUTO:
        return torch.device(_best_kind())
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device is {name!r}: expected auto, cpu, cuda, cuda:N or mps ({reason})") from error
    return device


def _best_kind() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 as the reference on GPUs, float32 on the CPU."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def vae_dtype(wanted: VaePrecision, device: torch.device) -> torch.dtype:
    """The VAE's float type: with "auto" half the reference's on GPUs, where that takes a fifth of the time."""
    half = wanted is VaePrecision.BF16 or (wanted is VaePrecision.AUTO and device.type != "cpu")
    return torch.bfloat16 if half else torch.float32


def component_dtypes(device: torch.device, vae: VaePrecision = VaePrecision.AUTO) -> Mapping[Component, torch.dtype]:
    """The float type of each network; the audio encoder stays float32, as in the reference."""
    return {
        Component.TRANSFORMER: compute_dtype(device),
        Component.TEXT_ENCODER: compute_dtype(device),
        Component.VAE: vae_dtype(vae, device),
        Component.AUDIO_ENCODER: torch.float32,
    }


def estimate_memory(files: ModelFiles, plan: Plan, device: torch.device) -> int:
    """Bytes at the peak: the networks that are there together, and what a clip of `plan` takes beside them."""
    weights = model_bytes(files, component_dtypes(device, plan.request.vae_precision))
    sampling = sum(weights[component] for component in KEPT_WHILE_SAMPLING)
    tokens = max(count_tokens(plan, clip).total for clip in plan.clips)
    return max(
        sampling + tokens * WORKING_BYTES_PER_TOKEN, weights[Component.TEXT_ENCODER], weights[Component.AUDIO_ENCODER]
    )


def check_memory(files: ModelFiles, plan: Plan, device: torch.device) -> None:
    """Raise `EngineError` if a GPU has less memory free than `plan` needs."""
    needed, free = estimate_memory(files, plan, device), free_memory(device)
    if free is not None and needed > free:
        request = plan.request
        raise EngineError(
            f"{request.width}×{request.height} in clips of {request.infer_frames} needs about {needed / GIB:.1f} GiB, "
            f"{device} has {free / GIB:.1f} GiB free: take the fp8 weights (soundreel models download s2v-fp8), "
            "a smaller --width and --height or shorter --infer-frames"
        )


def transformer_sizes(part: Part) -> Mapping[str, Any]:
    """The transformer's own configuration, from its config.json or its tensors' shapes."""
    if part.config.get("_class_name") == WanS2VTransformer3DModel.__name__:
        return part.config
    stored = collect([open_tensors(path) for path in part.files])
    shapes = {without_prefix(name): tensor.header.shape for name, tensor in stored.items()}
    return config_from_official(part.config or None, shapes)


def head_width(files: ModelFiles) -> int:
    """Of the transformer's attention."""
    return int(transformer_sizes(files[Component.TRANSFORMER])["attention_head_dim"])


def count_flops(plan: Plan, sizes: Mapping[str, Any]) -> float:
    """Floating-point operations of all forward passes of `plan`: matrix products and attention of every block.

    A multiply-add is 2. Per token and block: 4 projections of self-attention, 2 of text attention, 2 of the inner
    layer; L² scores and sums. The table of the model's specification (§17) is met within 3 %.
    """
    width = sizes["num_attention_heads"] * sizes["attention_head_dim"]
    request = plan.request
    branches = 2 if request.guide_scale > 1 else 1
    passes = Saving(guided=request.cfg_interval).passes(request.steps, branches)
    total = 0.0
    for clip in plan.clips:
        tokens = count_tokens(plan, clip).total
        products = 2 * tokens * (6 * width**2 + 2 * width * sizes["ffn_dim"])
        attention = 4 * tokens * (tokens + TEXT_ROWS) * width
        total += sizes["num_layers"] * (products + attention)
    return passes * total


def measure_flops_per_second(device: torch.device) -> float:
    """What a large matrix product reaches here, right now."""
    size = 256 if device.type == "cpu" else 8192
    factor = torch.randn(size, size, device=device, dtype=compute_dtype(device))
    for _ in range(2):
        _wait(device)
        begun = time.perf_counter()
        for _ in range(4):
            factor @ factor
        _wait(device)
        seconds = time.perf_counter() - begun
    return 4 * 2 * size**3 / seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release_memory(device: torch.device) -> None:
    """Give memory that no tensor uses back to the device: blocks of one network seldom fit the next one's."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a GPU; None for the CPU and where the system does not say."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
