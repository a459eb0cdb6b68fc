"""What a render asks of a machine: bytes of its networks once loaded, and the sizes that decide the rest."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from soundreel.engines.native import device as devices
from soundreel.engines.native.cost import longest
from soundreel.engines.native.memory_plan import VAE_STEPS
from soundreel.engines.shot_poses import pose_videos
from soundreel.models.attention import Kernel
from soundreel.models.frame_packing import MOTION_FRAMES, MOTION_LATENTS
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.planning import Tokens, count_tokens
from soundreel.request import Precision, VaePrecision
from soundreel.types import Plan
from soundreel.units import FRAMES_PER_LATENT
from soundreel.weights.catalog import Component
from soundreel.weights.components import Outline
from soundreel.weights.placement import loaded_bytes
from soundreel.weights.precision import block_layers, clip_layers
from soundreel.weights.quantized import has_float8_products
from soundreel.weights.stored import Stored
from soundreel.weights.streaming import BUFFERS


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Bytes of the networks, as loaded."""

    step: tuple[int, ...]  # of each block: matrices that every step uses
    rounded: tuple[int, ...]  # the same, rounded to float8
    clip: int  # layers that are used once per clip
    others: int  # the rest of the transformer
    largest_packed: int = 0  # weights, not bytes, of the largest matrix in GGUF: it is unpacked for every product
    text: int
    text_streamed: int  # of the text encoder, with room for some of its blocks only
    text_loading: int  # beside the text encoder, while it is made in host memory
    sound: int
    vae: int

    @property
    def is_quantized(self) -> bool:
        """Whether rounding would gain nothing."""
        return sum(self.rounded) > 0.9 * sum(self.step)


@dataclass(frozen=True, kw_only=True)
class PixelDemand:
    """What decides how much the VAE takes beside weights, and pixels on the host."""

    pixels: int
    height: int
    frames: int  # most that are decoded at once
    motion_frames: int  # that a clip continues; 0: none does
    latents: int  # most latent frames that are decoded at once
    has_pose: bool
    vae_dtype: torch.dtype
    vae_steps: tuple[int, ...]  # latent frames that the VAE may take at once, fastest first
    vae_binds: bool  # how many changes the pixels
    shares_host: bool  # the device computes in the host's memory, as a CPU does


@dataclass(frozen=True, kw_only=True)
class Demand(PixelDemand):
    """What a render asks for beside weights: of pixels, and of the transformer."""

    tokens: Tokens  # of the longest clip
    width: int
    inner: int
    blocks: int
    audio_blocks: int  # with audio injection
    branches: int  # of guidance
    float8_rows: bool  # products take float8 rows
    float8_attention: bool
    workers: int = 0  # processes beside this one that hold the transformer, too


def weigh(outlines: Mapping[Component, Outline], device: torch.device, vae: VaePrecision) -> Weights:
    """Bytes of the networks once loaded."""
    dtypes = devices.component_dtypes(device, vae)
    dtype = dtypes[Component.TRANSFORMER]
    network, stored = outlines[Component.TRANSFORMER].network, outlines[Component.TRANSFORMER].stored
    assert isinstance(network, WanS2VTransformer3DModel)
    names = {id(module): name for name, module in network.named_modules()}

    def weight(module: Any) -> Stored | None:
        return stored.get(f"{names[id(module)]}.weight")

    step, rounded, clip, largest_packed = [], [], 0, 0
    for block in network.blocks:
        matrices = [found for holder, leaf in block_layers(block) if (found := weight(getattr(holder, leaf)))]
        step.append(sum(loaded_bytes(matrix, dtype) for matrix in matrices))
        rounded.append(sum(min(_float8_bytes(matrix), loaded_bytes(matrix, dtype)) for matrix in matrices))
        packed = (math.prod(matrix.header.shape) for matrix in matrices if matrix.is_quantized_gguf)
        largest_packed = max(largest_packed, *packed, 0)
        clip += sum(loaded_bytes(found, dtype) for layer in clip_layers(block) if (found := weight(layer)))
    total = sum(loaded_bytes(tensor, dtype) for tensor in stored.values())
    return Weights(
        step=tuple(step),
        rounded=tuple(rounded),
        clip=clip,
        others=total - sum(step) - clip,
        largest_packed=largest_packed,
        sound=float_bytes(outlines[Component.AUDIO_ENCODER], dtypes[Component.AUDIO_ENCODER]),
        vae=float_bytes(outlines[Component.VAE], dtypes[Component.VAE]),
        **_text_bytes(outlines[Component.TEXT_ENCODER], dtypes[Component.TEXT_ENCODER]),
    )


def _float8_bytes(matrix: Stored) -> int:
    rows, columns = matrix.header.shape
    return rows * (columns + 4)


def _text_bytes(encoder: Outline, dtype: torch.dtype) -> dict[str, int]:
    """The three figures of the text encoder.

    In host memory it takes once more what is being converted or copied: its largest tensor, or a block on its way into
    the buffer that it is streamed from.
    """
    stored = encoder.stored
    blocks: dict[str, int] = {}
    for name, tensor in stored.items():
        if name.startswith("encoder.block."):
            block = name.split(".")[2]
            blocks[block] = blocks.get(block, 0) + loaded_bytes(tensor, dtype)
    total = sum(loaded_bytes(tensor, dtype) for tensor in stored.values())
    largest = max(blocks.values(), default=0)
    return {
        "text": total,
        "text_streamed": min(total, total - sum(blocks.values()) + BUFFERS * largest),
        "text_loading": max(largest, *(tensor.size_bytes for tensor in stored.values())),
    }


def demand(
    plan: Plan, sizes: Mapping[str, Any], device: torch.device, *, kernel: Kernel, vae: VaePrecision, workers: int = 0
) -> Demand:
    """What `plan` asks for beside weights, with a transformer of these sizes."""
    request = plan.request
    return Demand(
        **vars(pixel_demand(plan, device, devices.vae_dtype(vae, device))),
        tokens=longest([count_tokens(plan, clip) for clip in plan.clips]),
        width=sizes["num_attention_heads"] * sizes["attention_head_dim"],
        inner=sizes["ffn_dim"],
        blocks=sizes["num_layers"],
        audio_blocks=len(sizes["audio_inject_layers"]),
        branches=2 if request.sampling.guide_scale > 1 else 1,
        float8_rows=request.compute.precision is not Precision.BF16 and has_float8_products(device),
        float8_attention=kernel in (Kernel.FP8, Kernel.SAGE),
        workers=workers,
    )


def pixel_demand(plan: Plan, device: torch.device, vae_dtype: torch.dtype) -> PixelDemand:
    """What the pixels of `plan` ask for."""
    request = plan.request
    continues = any(map(plan.continues, plan.clips)) or request.guide.start_from_ref
    frames = max(clip.size for clip in plan.clips)
    return PixelDemand(
        pixels=request.width * request.height,
        height=request.height,
        frames=frames,
        motion_frames=MOTION_FRAMES if continues else 0,
        latents=frames // FRAMES_PER_LATENT + (MOTION_LATENTS if continues else 1),
        has_pose=bool(pose_videos(plan)),
        vae_dtype=vae_dtype,
        vae_steps=VAE_STEPS if device.type == "cuda" else VAE_STEPS[-1:],
        vae_binds=not devices.has_own_convolutions(device, vae_dtype),
        shares_host=device.type != "cuda",
    )


def float_bytes(network: Outline, dtype: torch.dtype) -> int:
    """Of a network's weights once loaded."""
    return sum(loaded_bytes(tensor, dtype) for tensor in network.stored.values() if tensor.is_float)
