"""Wan 2.2 S2V 14B as it is, by its sizes alone: bytes of its files once loaded, and plans of renders with it."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from soundreel.engines.native.demand import Demand, Weights, demand
from soundreel.engines.native.memory_plan import VAE_STEPS
from soundreel.models.attention import Kernel
from soundreel.planning import plan as plan_clips
from soundreel.request import Precision, Request, VaePrecision
from soundreel.types import Plan
from soundreel.weights.catalog import Component
from weight_files import OFFICIAL, shape_only_file

MB, GB = 10**6, 10**9

FULL_SIZES: dict[str, Any] = {
    "num_attention_heads": 40, "attention_head_dim": 128, "ffn_dim": 13824, "num_layers": 40,
    "audio_inject_layers": (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39),
}  # fmt: skip


def full_weights() -> Weights:
    """Of the bf16 files, by the shapes: 26.2 M in a projection, 70.8 M in a feed-forward layer."""
    projection, feed_forward = 5120**2, 5120 * 13824
    injects = [k in FULL_SIZES["audio_inject_layers"] for k in range(40)]
    matrices = [(8 if has_audio else 6) * projection + 2 * feed_forward for has_audio in injects]
    return Weights(
        step=tuple(2 * count for count in matrices),
        rounded=tuple(count + 300_000 for count in matrices),
        clip=6_712 * MB,
        others=713 * MB,
        text=11_361 * MB,
        text_streamed=2_900 * MB,
        text_loading=2_100 * MB,
        sound=1_260 * MB,
        vae=254 * MB,
    )


def float8_weights() -> Weights:
    """Of the files in fp8."""
    half = full_weights()
    return replace(half, step=half.rounded, clip=3_356 * MB, text=6_731 * MB)


def full_plan(**fields: Any) -> Plan:
    return plan_clips(Request(**{"audio": "a.wav", "ref_image": "a.png", "frames": 157, **fields}), 20.0)


def full_demand(planned: Plan) -> Demand:
    """As on a GPU with float8 products."""
    float8 = planned.request.compute.precision is not Precision.BF16
    asked = demand(planned, FULL_SIZES, torch.device("cpu"), kernel=Kernel.SDPA, vae=VaePrecision.BF16)
    return replace(asked, float8_rows=float8, vae_steps=VAE_STEPS, shares_host=False)


def _is_large(component: Component, named: tuple[str, tuple[int, ...]]) -> bool:
    """Whether files in fp8 have a tensor in it."""
    name, shape = named
    if component is Component.TEXT_ENCODER:
        return len(shape) == 2 and name.startswith("blocks.") and "pos_embedding" not in name
    return component is Component.TRANSFORMER and len(shape) == 2 and name.endswith(".weight")


def write_full_size(folder: Path, manifest: Path, *, float8: bool) -> Path:
    """A models folder of full size, in 16 bits or with the large matrices in fp8: its files are holes without room."""
    rows = json.loads(manifest.read_text())["components"]
    for component in Component:
        shapes = {name: tuple(shape) for name, shape in rows[component.name.lower()]["keys"].items()}
        large = filter(partial(_is_large, component), shapes.items()) if float8 else ()
        kinds = {name: "F8_E4M3" for name, _ in large}
        shape_only_file(folder / f"{component.name.lower()}.safetensors", shapes, others=kinds)
    shutil.copytree(OFFICIAL / "google", folder / "google", copy_function=shutil.copyfile)
    return folder
