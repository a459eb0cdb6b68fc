"""What of a render is on the GPU, and when: decided once, from the files' sizes, the plan's tokens and what is free.

Modes with a number are caps: of so many gigabytes (10⁹ bytes) nothing more is taken, the CUDA context included. They
round the transformer's large matrices to float8 unless they are stored in 8 bits or bf16 is asked for, keep as many
blocks on the GPU as fit, and stream the others from host memory.

Legend: D model width, I inner width of the feed-forward layers, L tokens of a pass.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from soundreel.engines.native import device as devices
from soundreel.engines.native.cost import TEXT_ROWS, longest
from soundreel.engines.native.vae_memory import Sizes, decode_bytes, encode_bytes
from soundreel.errors import EngineError
from soundreel.models.attention import Kernel
from soundreel.models.frame_packing import MOTION_LATENTS
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.models.vae import LATENT_STEP
from soundreel.planning import Tokens, count_tokens
from soundreel.request import Memory, Precision, Request, VaePrecision, memory_bytes
from soundreel.types import Plan
from soundreel.units import FRAMES_PER_LATENT
from soundreel.weights.catalog import Component
from soundreel.weights.components import Outline
from soundreel.weights.placement import loaded_bytes
from soundreel.weights.precision import block_layers, clip_layers
from soundreel.weights.quantized import has_float8_products
from soundreel.weights.stored import Stored
from soundreel.weights.streaming import BUFFERS, spread

CONTEXT_BYTES = 600 * 10**6
"""Of them for the CUDA context and the libraries' kernels, which PyTorch does not count."""

SLACK = 0.05
"""Of a budget, for what the allocator cannot use."""

TOKENS_AT_ONCE = 8192
"""Of the feed-forward layers where memory is short: enough to keep a GPU busy."""

TOGETHER_TOKENS = 12_000
"""Below so many tokens a pass over the streamed blocks may be shorter than their copies (H100 on PCIe 4): then the two
branches of guidance share them."""

VAE_STEPS = (LATENT_STEP, 1)
"""Latent frames that the VAE takes at once on a GPU, fastest first; elsewhere always one."""

VAE_BANDS = 2, 4, 8
"""Of rows, that the VAE goes through one after the other where one latent frame at once still takes too much."""

VAE_REST = 250 * 10**6
"""Of an encode or a decode, for what is small beside the features: latents, what products of attention take."""

STEP_REST = 420 * 10**6
"""What a step takes that is not counted piece by piece: workspaces of the products, scales, the latents."""

STEP_SLACK = 0.1
"""Of a step's activations, what it takes more where no block is streamed. Both were fitted to whole commands on an H100
(benchmarks/results/h100_cards.md): four cells, measured 0 to 1 % below the plan."""

SOUND_BYTES = 1.2e9
"""What wav2vec2 takes beside its weights, for a window of sound."""

ROUNDING_BYTES_PER_WEIGHT = 9
"""What rounding takes beside the matrix: it and its quotient in float32, and the result."""


@dataclass(frozen=True, kw_only=True)
class Bits:
    """What of a memory plan changes the pixels: it belongs to a render's identity and is kept when one goes on."""

    rounds: bool  # large matrices are rounded to float8 while they are loaded
    tokens_at_once: int | None  # of the feed-forward layers; None: all
    vae_step: int  # latent frames that the VAE takes at once
    vae_bands: int = 1  # of rows, in the VAE; earlier versions knew none


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What stays on the device, what comes to it, and what is cut in pieces."""

    mode: str = Memory.HIGH
    rounds: bool = False  # large matrices are rounded to float8 while they are loaded
    blocks: int = 0  # of the transformer
    streamed: int = 0  # of them that wait in host memory
    offloads: bool = False  # layers that are used once per clip wait there, too
    text_streamed: bool = False  # the text encoder's blocks wait there
    tokens_at_once: int | None = None  # of the feed-forward layers; None: all
    vae_step: int = VAE_STEPS[0]  # latent frames that the VAE takes at once
    vae_bands: int = 1  # of rows that the VAE goes through one after the other
    together: bool = False  # both branches of guidance go through each block before the next one comes
    peak_bytes: int = 0  # most that is allocated at once
    streamed_bytes: int = 0  # that come to the device for each pass
    cap_bytes: int | None = None  # of PyTorch's allocations

    @property
    def bits(self) -> Bits:
        """What of the plan changes the pixels."""
        return Bits(
            rounds=self.rounds,
            tokens_at_once=self.tokens_at_once,
            vae_step=self.vae_step,
            vae_bands=self.vae_bands,
        )

    def says(self) -> str:
        """In a few words."""
        facts = [
            "fp8 weights" if self.rounds else "",
            f"{self.streamed} of {self.blocks} blocks streamed" if self.streamed else "",
            "text encoder streamed" if self.text_streamed else "",
        ]
        return ", ".join([f"{self.mode}", *filter(None, facts)])

    def notes(self) -> Iterator[str]:
        """What a user should know."""
        if self.rounds:
            yield (
                f"memory {self.mode}: the transformer's large matrices are rounded to fp8; --precision bf16 keeps "
                "them, and streams more of them"
            )
        if self.streamed:
            yield f"memory {self.mode}: {self.streamed} of {self.blocks} blocks are streamed from host memory"


EVERYTHING = MemoryPlan()
"""All on the device, as it is stored."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Bytes of the networks, as loaded."""

    step: tuple[int, ...]  # of each block: matrices that every step uses
    rounded: tuple[int, ...]  # the same, rounded to float8
    clip: int  # layers that are used once per clip
    others: int  # the rest of the transformer
    text: int
    text_streamed: int  # of the text encoder, with room for some of its blocks only
    sound: int
    vae: int

    @property
    def is_quantized(self) -> bool:
        """Whether rounding would gain nothing."""
        return sum(self.rounded) > 0.9 * sum(self.step)


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a render asks for beside weights."""

    tokens: Tokens  # of the longest clip
    width: int
    inner: int
    blocks: int
    audio_blocks: int  # with audio injection
    branches: int  # of guidance
    pixels: int
    height: int
    latents: int  # most latent frames that are decoded at once
    has_pose: bool
    float8_rows: bool  # products take float8 rows
    float8_attention: bool
    vae_dtype: torch.dtype
    vae_steps: tuple[int, ...]  # latent frames that the VAE may take at once, fastest first


def weigh(outlines: Mapping[Component, Outline], device: torch.device, vae: VaePrecision) -> Weights:
    """Bytes of the networks once loaded."""
    dtypes = devices.component_dtypes(device, vae)
    dtype = dtypes[Component.TRANSFORMER]
    network, stored = outlines[Component.TRANSFORMER].network, outlines[Component.TRANSFORMER].stored
    assert isinstance(network, WanS2VTransformer3DModel)
    names = {id(module): name for name, module in network.named_modules()}

    def weight(module: Any) -> Stored | None:
        return stored.get(f"{names[id(module)]}.weight")

    step, rounded, clip = [], [], 0
    for block in network.blocks:
        matrices = [found for holder, leaf in block_layers(block) if (found := weight(getattr(holder, leaf)))]
        step.append(sum(loaded_bytes(matrix, dtype) for matrix in matrices))
        rounded.append(sum(min(_float8_bytes(matrix), loaded_bytes(matrix, dtype)) for matrix in matrices))
        clip += sum(loaded_bytes(found, dtype) for layer in clip_layers(block) if (found := weight(layer)))
    total = sum(loaded_bytes(tensor, dtype) for tensor in stored.values())
    text, text_streamed = _text_bytes(outlines[Component.TEXT_ENCODER], dtypes[Component.TEXT_ENCODER])
    sound, vae_bytes = (
        sum(loaded_bytes(tensor, dtypes[part]) for tensor in outlines[part].stored.values() if tensor.is_float)
        for part in (Component.AUDIO_ENCODER, Component.VAE)
    )
    return Weights(
        step=tuple(step),
        rounded=tuple(rounded),
        clip=clip,
        others=total - sum(step) - clip,
        text=text,
        text_streamed=text_streamed,
        sound=sound,
        vae=vae_bytes,
    )


def _float8_bytes(matrix: Stored) -> int:
    rows, columns = matrix.header.shape
    return rows * (columns + 4)


def _text_bytes(encoder: Outline, dtype: torch.dtype) -> tuple[int, int]:
    """Of the text encoder as a whole, and with room for `BUFFERS` of its blocks."""
    stored = encoder.stored
    blocks: dict[str, int] = {}
    for name, tensor in stored.items():
        if name.startswith("encoder.block."):
            block = name.split(".")[2]
            blocks[block] = blocks.get(block, 0) + loaded_bytes(tensor, dtype)
    total = sum(loaded_bytes(tensor, dtype) for tensor in stored.values())
    room = BUFFERS * max(blocks.values(), default=0)
    return total, min(total, total - sum(blocks.values()) + room)


def demand(plan: Plan, sizes: Mapping[str, Any], device: torch.device, *, kernel: Kernel, vae: VaePrecision) -> Demand:
    """What `plan` asks for beside weights, with a transformer of these sizes."""
    request = plan.request
    continues = any(map(plan.continues, plan.clips)) or request.guide.start_from_ref
    latents = max(clip.size for clip in plan.clips) // FRAMES_PER_LATENT
    return Demand(
        tokens=longest([count_tokens(plan, clip) for clip in plan.clips]),
        width=sizes["num_attention_heads"] * sizes["attention_head_dim"],
        inner=sizes["ffn_dim"],
        blocks=sizes["num_layers"],
        audio_blocks=len(sizes["audio_inject_layers"]),
        branches=2 if request.sampling.guide_scale > 1 else 1,
        pixels=request.width * request.height,
        height=request.height,
        latents=latents + (MOTION_LATENTS if continues else 1),
        has_pose=request.guide.pose_video is not None,
        float8_rows=request.compute.precision is not Precision.BF16 and has_float8_products(device),
        float8_attention=kernel in (Kernel.FP8, Kernel.SAGE),
        vae_dtype=devices.vae_dtype(vae, device),
        vae_steps=VAE_STEPS if device.type == "cuda" else VAE_STEPS[-1:],
    )


def peak_bytes(weights: Weights, asked: Demand, memory: MemoryPlan) -> int:
    """Most that is allocated at once: by an encoder, by a step, or by the VAE."""
    resident = resident_bytes(weights, memory) + weights.vae
    step = conditioning_bytes(asked) + activation_bytes(asked, memory)
    step += STEP_REST + (0 if memory.streamed else int(STEP_SLACK * activation_bytes(asked, memory)))
    rounding = ROUNDING_BYTES_PER_WEIGHT * asked.width * asked.inner + max(weights.step) if memory.rounds else 0
    return int(
        max(
            weights.text_streamed if memory.text_streamed else weights.text,
            weights.sound + SOUND_BYTES,
            resident + max(step, rounding),
            resident + vae_bytes(asked, memory.vae_step, memory.vae_bands),
        )
    )


def resident_bytes(weights: Weights, memory: MemoryPlan) -> int:
    """Of the transformer on the device, buffers for streamed blocks included."""
    step = weights.rounded if memory.rounds else weights.step
    waiting = set(spread(len(step), memory.streamed))
    stays = sum(size for k, size in enumerate(step) if k not in waiting)
    buffers = min(BUFFERS, len(waiting)) * max((step[k] for k in waiting), default=0)
    return weights.others + (0 if memory.offloads else weights.clip) + stays + buffers


def conditioning_bytes(asked: Demand) -> int:
    """What `condition` makes for all branches: clean tokens, poses, keys and values of text and sound."""
    width, clean = asked.width, asked.tokens.reference + asked.tokens.motion
    text = asked.blocks * TEXT_ROWS * 2 * 2 * width
    sound = asked.audio_blocks * asked.latents * (5 * 2 * 2 + 2 * 4) * width
    pose = 2 * width * asked.tokens.noise if asked.has_pose else 0
    return asked.branches * (4 * width * clean + text + sound + pose)


def activation_bytes(asked: Demand, memory: MemoryPlan) -> int:
    """What a pass takes beside weights and conditioning, at the larger of its two peaks.

    Between self-attention and feed-forward: the residual stream (float32) before the block, before the sum and after
    it, the update and the normed rows. In the feed-forward layers: the residual stream before the block and now, the
    normed rows, the inner layer, the output.
    """
    width, tokens = asked.width, asked.tokens.total
    row = 1 if asked.float8_rows else 2
    attention = (4 + 3 * 2 + 2 * 2 + row + (3 if asked.float8_attention else 0)) * width * tokens
    sums = (3 * 4 + 2 + row) * width * tokens
    inner = asked.inner * min(memory.tokens_at_once or tokens, tokens) * (2 + (1 if asked.float8_rows else 0))
    feed_forward = (2 * 4 + row + 2) * width * tokens + inner
    other_branch = 4 * width * tokens if memory.together else 0
    return max(attention, sums, feed_forward) + other_branch


def vae_bytes(asked: Demand, step: int, bands: int = 1) -> int:
    """What a decode, or the encode before it, takes beside weights."""
    sizes = Sizes(
        height=asked.height,
        width=asked.pixels // asked.height,
        latents=asked.latents,
        bytes_each=asked.vae_dtype.itemsize,
    )
    return max(decode_bytes(sizes, step, bands), encode_bytes(sizes, step, bands)) + VAE_REST


def choose_memory(
    weights: Weights, asked: Demand, request: Request, device: torch.device, kept: Bits | None = None
) -> MemoryPlan:
    """What of a render is on the device: as the mode says, or with "auto" by what is free there.

    "auto" is "high" where all fits, else what a size as large as the free memory would be.

    Args:
        kept: what a render that goes on was begun with.

    Raises:
        EngineError: the mode, or any, does not fit; says what would.
    """
    free = devices.free_memory(device)
    found = choose(weights, asked, request, free, kept)
    if found is None:
        raise EngineError(_too_small(weights, asked, request, device, free, kept))
    return found


def choose(
    weights: Weights, asked: Demand, request: Request, free: int | None, kept: Bits | None = None
) -> MemoryPlan | None:
    """`choose_memory` by the figures; None: it does not fit."""
    wanted = request.compute.memory
    if wanted != Memory.AUTO:
        return fit(weights, asked, request, wanted, budget_of(wanted, free), kept)
    everything = fit(weights, asked, request, Memory.HIGH, free, kept)
    if everything is not None or free is None:
        return everything
    return fit(weights, asked, request, Memory.AUTO, free, kept)


def fit(
    weights: Weights,
    asked: Demand,
    request: Request,
    mode: str,
    budget: int | None = None,
    kept: Bits | None = None,
) -> MemoryPlan | None:
    """The way of a mode that is fastest within `budget` bytes, or its cap; None: it does not fit."""
    budget = budget_of(mode, None) if budget is None else budget
    for candidate in _candidates(weights, asked, request, mode, budget, kept):
        found = replace(candidate, peak_bytes=peak_bytes(weights, asked, candidate))
        if budget is None or found.peak_bytes <= budget * (1 - SLACK):
            return found
    return None


def budget_of(mode: str, free: int | None) -> int | None:
    """Bytes that PyTorch may allocate; None: as many as it likes."""
    limits = [limit for limit in (_allocations(mode), free) if limit is not None]
    return min(limits, default=None)


def _allocations(mode: str) -> int | None:
    """What a size leaves for PyTorch's allocations."""
    cap = memory_bytes(mode)
    return None if cap is None else max(0, cap - CONTEXT_BYTES)


def _candidates(
    weights: Weights, asked: Demand, request: Request, mode: str, budget: int | None, kept: Bits | None
) -> Iterator[MemoryPlan]:
    """The ways of a mode, the fastest first: smaller steps and bands of the VAE before one more block is streamed."""
    blocks = len(weights.step)
    ways = _vae_ways(asked) if kept is None else [(kept.vae_step, kept.vae_bands)]
    bits = _usual_bits(weights, asked, request, mode) if kept is None else kept
    if mode == Memory.HIGH:
        common = MemoryPlan(blocks=blocks, rounds=bits.rounds, tokens_at_once=bits.tokens_at_once)
        for step, bands in ways:
            yield replace(common, vae_step=step, vae_bands=bands)
        return
    common = MemoryPlan(
        mode=mode,
        rounds=bits.rounds,
        blocks=blocks,
        offloads=True,
        tokens_at_once=bits.tokens_at_once,
        text_streamed=budget is not None and weights.text > budget * (1 - SLACK),
        cap_bytes=_allocations(mode),
    )
    sizes = weights.rounded if bits.rounds else weights.step
    for streamed in range(blocks + 1):
        together = streamed > 0 and asked.branches > 1 and asked.tokens.total < TOGETHER_TOKENS
        for step, bands in ways:
            yield replace(
                common,
                streamed=streamed,
                vae_step=step,
                vae_bands=bands,
                together=together,
                streamed_bytes=sum(sizes[k] for k in spread(blocks, streamed)),
            )


def _vae_ways(asked: Demand) -> list[tuple[int, int]]:
    """Latent frames at once and bands, fastest first."""
    return [(step, 1) for step in asked.vae_steps] + [(1, bands) for bands in VAE_BANDS]


def _usual_bits(weights: Weights, asked: Demand, request: Request, mode: str) -> Bits:
    """What a mode begins a render with."""
    wanted = request.compute.precision
    rounds = wanted is Precision.FP8 if mode == Memory.HIGH else wanted is not Precision.BF16
    return Bits(
        rounds=rounds and not weights.is_quantized,
        tokens_at_once=None if mode == Memory.HIGH else TOKENS_AT_ONCE,
        vae_step=asked.vae_steps[0],
    )


def _too_small(
    weights: Weights, asked: Demand, request: Request, device: torch.device, free: int | None, kept: Bits | None
) -> str:
    wanted = request.compute.memory
    budget = budget_of(wanted, free)
    *_, least = _candidates(weights, asked, request, wanted, budget, kept)
    needed = peak_bytes(weights, asked, least) / (1 - SLACK) + CONTEXT_BYTES
    free_gb = f"{(budget or 0) / 1e9:.1f} GB free"
    limit = f"{device} has {free_gb}" if memory_bytes(wanted) is None else f"--memory is {wanted}"
    anew = ""
    if kept is not None and choose(weights, asked, request, free) is not None:
        anew = "--no-resume begins anew, with what fits; or "
    return (
        f"{request.width}×{request.height} in clips of {request.sampling.infer_frames} needs at least "
        f"{needed / 1e9:.1f} GB of the GPU, {limit}: {anew}take --memory {math.ceil(needed / 1e8) / 10:g}gb or more, "
        "the fp8 weights (soundreel models download s2v-fp8), a smaller --width and --height or shorter --infer-frames"
    )


@contextmanager
def capped(device: torch.device, memory: MemoryPlan) -> Iterator[None]:
    """Let PyTorch allocate no more than the plan's cap, and make running out of memory an `EngineError`.

    Within, `device` is the current GPU, the one that Triton's kernels run on.
    """
    has_cap = memory.cap_bytes is not None and device.type == "cuda"
    index = (torch.cuda.current_device() if device.index is None else device.index) if has_cap else None
    if has_cap:
        total = torch.cuda.mem_get_info(index)[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, (memory.cap_bytes or total) / total), index)
    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"{device} ran out of memory ({memory.says()}): take a smaller --memory, a smaller --width and --height "
            "or shorter --infer-frames; finished clips are kept"
        ) from error
    finally:
        if has_cap:
            torch.cuda.set_per_process_memory_fraction(1.0, index)
