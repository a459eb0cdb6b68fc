"""Memory modes: the ways in which a render can be computed, and the fastest of them that fits device and host.

Modes with a number are caps: of so many gigabytes (10⁹ bytes) nothing more is taken, the CUDA context included. They
round the transformer's large matrices to float8 unless they are stored in 8 bits or bf16 is asked for, keep as many
blocks on the GPU as fit, and stream the others from host memory.
"""

from collections.abc import Iterator
from dataclasses import replace

from soundreel.engines.native.demand import Demand, PixelDemand, Weights
from soundreel.engines.native.ledger import device_peak, host_peak, print_moment, streamed_bytes
from soundreel.engines.native.memory_plan import Bits, Encoders, MemoryPlan
from soundreel.request import Memory, Precision, Request, memory_bytes

CONTEXT_BYTES = 600 * 10**6
"""Of a cap, for the CUDA context and the libraries' kernels, which PyTorch does not count."""

SLACK = 0.05
"""Of a budget, for what the allocator cannot use."""

TOKENS_AT_ONCE = 8192
"""Of the feed-forward layers where memory is short: enough to keep a GPU busy."""

TOGETHER_TOKENS = 12_000
"""Below so many tokens a pass over the streamed blocks may be shorter than their copies (H100 on PCIe 4): then the two
branches of guidance share them."""

VAE_BANDS = 2, 4, 8
"""Of rows, that the VAE goes through one after the other where one latent frame at once still takes too much."""


def choose(
    weights: Weights,
    asked: Demand,
    request: Request,
    free: int | None,
    kept: Bits | None = None,
    host: int | None = None,
) -> MemoryPlan | None:
    """The memory plan of a request: as its mode says, or with "auto" by what there is.

    "auto" is "high" where all fits, else what a size as large as the free memory would be.

    Args:
        free: bytes of the device; None: it is not known, or the host's.
        kept: what a render that goes on was begun with.
        host: bytes of the host's memory that may be taken; None: as many as it likes.

    Returns:
        None where the mode, or any, does not fit.
    """
    wanted = request.compute.memory
    if wanted != Memory.AUTO:
        return fit(weights, asked, request, wanted, budget_of(wanted, free), kept, host)
    everything = fit(weights, asked, request, Memory.HIGH, free, kept, host)
    if everything is not None or (free is None and host is None):
        return everything
    return fit(weights, asked, request, Memory.AUTO, free, kept, host)


def fit(
    weights: Weights,
    asked: Demand,
    request: Request,
    mode: str,
    budget: int | None = None,
    kept: Bits | None = None,
    host: int | None = None,
) -> MemoryPlan | None:
    """The way of a mode that is fastest within `budget` bytes of the device, or its cap, and `host` bytes of the host.

    None: none fits.
    """
    budget = budget_of(mode, None) if budget is None else budget
    for candidate in candidates(weights, asked, request, mode, budget, kept):
        found = weighed(weights, asked, candidate)
        if _has_room(found, budget, host):
            return found
    return None


def with_encoders(
    weights: Weights, asked: Demand, memory: MemoryPlan, budget: int | None, host: int | None
) -> MemoryPlan:
    """A plan for more renders than one: with the encoders as near to the transformer as there is room."""
    ways = (weighed(weights, asked, replace(memory, encoders=encoders)) for encoders in Encoders)
    return next((way for way in ways if _has_room(way, budget, host)), memory)


def with_loading_beside(
    weights: Weights, asked: Demand, memory: MemoryPlan, budget: int | None, host: int | None
) -> MemoryPlan:
    """A plan in which text and sound are encoded while the transformer is loaded, if there is room."""
    found = weighed(weights, asked, replace(memory, loads_beside=True))
    return found if _has_room(found, budget, host) else memory


def _has_room(memory: MemoryPlan, budget: int | None, host: int | None) -> bool:
    on_device = budget is None or memory.peak_bytes <= budget * (1 - SLACK)
    return on_device and (host is None or memory.host_bytes <= host)


def fit_print(vae: int, asked: PixelDemand, mode: str, free: int | None, kept: Bits | None = None) -> MemoryPlan:
    """The fastest way to decode alone that fits, or the smallest: a VAE whose memory runs out finds smaller ones yet.

    Args:
        vae: bytes of its weights.
        kept: what the render was begun with.
    """
    budget = budget_of(mode, free)
    plan = MemoryPlan(mode=mode, vae_binds=asked.vae_binds, cap_bytes=_allocations(mode))
    for step, bands in _vae_ways(asked, kept):
        plan = replace(plan, vae_step=step, vae_bands=bands)
        there = print_moment(vae, asked, plan)
        host = there.host + (there.device if asked.shares_host else 0)
        plan = replace(plan, peak_bytes=there.device, host_bytes=host)
        if budget is None or plan.peak_bytes <= budget * (1 - SLACK):
            break
    return plan


def weighed(weights: Weights, asked: Demand, memory: MemoryPlan) -> MemoryPlan:
    """A memory plan, with the bytes that it takes."""
    streamed = streamed_bytes(weights, memory)
    return replace(
        memory,
        streamed_bytes=streamed,
        peak_bytes=device_peak(weights, asked, memory),
        host_bytes=host_peak(weights, asked, memory),
        locked_bytes=0 if asked.shares_host else (1 + asked.workers) * streamed,
    )


def budget_of(mode: str, free: int | None) -> int | None:
    """Bytes that PyTorch may allocate; None: as many as it likes."""
    limits = [limit for limit in (_allocations(mode), free) if limit is not None]
    return min(limits, default=None)


def _allocations(mode: str) -> int | None:
    """What a size leaves for PyTorch's allocations."""
    cap = memory_bytes(mode)
    return None if cap is None else max(0, cap - CONTEXT_BYTES)


def candidates(
    weights: Weights, asked: Demand, request: Request, mode: str, budget: int | None, kept: Bits | None
) -> Iterator[MemoryPlan]:
    """The ways of a mode, the fastest first: smaller steps and bands of the VAE before one more block is streamed."""
    blocks = len(weights.step)
    ways = _vae_ways(asked, kept)
    bits = _usual_bits(weights, asked, request, mode) if kept is None else kept
    if mode == Memory.HIGH:
        common = MemoryPlan(
            blocks=blocks, rounds=bits.rounds, tokens_at_once=bits.tokens_at_once, vae_binds=asked.vae_binds
        )
        for step, bands in ways:
            yield replace(common, vae_step=step, vae_bands=bands)
        return
    common = MemoryPlan(
        mode=mode,
        rounds=bits.rounds,
        blocks=blocks,
        offloads=True,
        tokens_at_once=bits.tokens_at_once,
        vae_binds=asked.vae_binds,
        text_streamed=budget is not None and weights.text > budget * (1 - SLACK),
        cap_bytes=_allocations(mode),
    )
    for streamed in range(blocks + 1):
        together = streamed > 0 and asked.branches > 1 and asked.tokens.total < TOGETHER_TOKENS
        for step, bands in ways:
            yield replace(common, streamed=streamed, vae_step=step, vae_bands=bands, together=together)


def _vae_ways(asked: PixelDemand, kept: Bits | None) -> list[tuple[int, int]]:
    """Latent frames at once and bands, fastest first; one way alone, where a render that goes on is bound to it."""
    bound = None if kept is None else kept.vae_ways
    return bound or [(step, 1) for step in asked.vae_steps] + [(1, bands) for bands in VAE_BANDS]


def _usual_bits(weights: Weights, asked: Demand, request: Request, mode: str) -> Bits:
    """What a mode begins a render with."""
    wanted = request.compute.precision
    rounds = wanted is Precision.FP8 if mode == Memory.HIGH else wanted is not Precision.BF16
    return Bits(
        rounds=rounds and not weights.is_quantized,
        tokens_at_once=None if mode == Memory.HIGH else TOKENS_AT_ONCE,
        vae_step=asked.vae_steps[0],
    )
