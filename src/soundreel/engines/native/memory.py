"""What of a render is where on this machine, decided once; and where it does not fit, why not, and what would."""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from soundreel.engines.host_memory import total_memory
from soundreel.engines.native import device as devices
from soundreel.engines.native.demand import Demand, Weights
from soundreel.engines.native.memory_modes import (
    CONTEXT_BYTES,
    SLACK,
    budget_of,
    candidates,
    choose,
    fit,
    weighed,
    with_encoders,
    with_loading_beside,
)
from soundreel.engines.native.memory_plan import Bits, Encoders, MemoryPlan
from soundreel.errors import EngineError
from soundreel.request import Memory, Precision, Request, memory_bytes
from soundreel.weights.quantized import has_float8_products

HOST_RESERVE_BYTES = 6 * 10**9
"""Of the host's memory, for the system and other programs; of a small host half of it."""

NAMED_CURES = 2
"""Ways out that a message names, at most."""

FOUR_BITS = 0.57
"""Bytes of a weight in GGUF's forms of 4 bits, scales included (Q4_0: 18 bytes for 32)."""

SMALLER = "a smaller --width and --height or shorter --infer-frames"
FLOAT8_FILES = "the fp8 weights (soundreel models download s2v-fp8)"
FOUR_BIT_FILES = "a transformer in 4 bits (GGUF)"


def choose_memory(
    weights: Weights,
    asked: Demand,
    request: Request,
    device: torch.device,
    kept: Bits | None = None,
    held: int | None = None,
) -> MemoryPlan:
    """What of a render is on the device and what on the host, by what is free there.

    Args:
        kept: what a render that goes on was begun with.
        held: bytes of the device that networks of renders before hold, and stay for more; None: none do.

    Raises:
        EngineError: the mode, or any, does not fit the device or the host; says what would.
    """
    free, host = devices.free_memory(device, held or 0), host_room()
    found = choose(weights, asked, request, free, kept, host)
    if found is not None:
        budget = budget_of(found.mode, free)
        if held is None:
            return with_loading_beside(weights, asked, found, budget, host)
        found = with_encoders(weights, asked, found, budget, host)
        alone = found.encoders is Encoders.ALONE
        return found if alone else with_loading_beside(weights, asked, found, budget, host)
    modes = [Memory.HIGH, Memory.AUTO] if request.compute.memory == Memory.AUTO else [request.compute.memory]
    ways = [fit(weights, asked, request, mode, budget_of(mode, free), kept) for mode in modes]
    fitting = [way for way in ways if way is not None]
    if not fitting:
        raise EngineError(_too_large_for_device(weights, asked, request, device, free, kept))
    cures = list(_cures(weights, asked, request, device, free, kept, host))
    raise EngineError(_too_large_for_host(min(fitting, key=lambda way: way.host_bytes), request, cures))


def host_room() -> int | None:
    """Bytes of the host's memory that a render may take; None where the system does not tell how much there is."""
    total = total_memory()
    return None if total is None else total - _reserve(total)


def _reserve(total: int) -> int:
    return min(HOST_RESERVE_BYTES, total // 2)


def _too_large_for_device(
    weights: Weights, asked: Demand, request: Request, device: torch.device, free: int | None, kept: Bits | None
) -> str:
    wanted = request.compute.memory
    budget = budget_of(wanted, free)
    *_, least = candidates(weights, asked, request, wanted, budget, kept)
    needed = weighed(weights, asked, least).peak_bytes / (1 - SLACK) + CONTEXT_BYTES
    free_gb = f"{(budget or 0) / 1e9:.1f} GB free"
    limit = f"{device} has {free_gb}" if memory_bytes(wanted) is None else f"--memory is {wanted}"
    anew = ""
    if kept is not None and choose(weights, asked, request, free, host=host_room()) is not None:
        anew = "--no-resume begins anew, with what fits; or "
    return (
        f"{_what(request)} needs at least {needed / 1e9:.1f} GB of the GPU, {limit}: {anew}take --memory "
        f"{math.ceil(needed / 1e8) / 10:g}gb or more, {FLOAT8_FILES}, {SMALLER}"
    )


def _too_large_for_host(memory: MemoryPlan, request: Request, cures: list[str]) -> str:
    total = total_memory()
    assert total is not None, "without a size there is no limit"
    locked = f", {memory.locked_bytes / 1e9:.1f} GB of it locked for the GPU" if memory.locked_bytes else ""
    return (
        f"{_what(request)} takes {memory.host_bytes / 1e9:.1f} GB of this machine's memory ({memory.says()}{locked}); "
        f"it has {total / 1e9:.1f} GB, of which {_reserve(total) / 1e9:.3g} GB stay the system's: "
        f"take {', or '.join([*cures, SMALLER])}"
    )


def _what(request: Request) -> str:
    return f"{request.width}×{request.height} in clips of {request.sampling.infer_frames}"


def _cures(
    weights: Weights,
    asked: Demand,
    request: Request,
    device: torch.device,
    free: int | None,
    kept: Bits | None,
    host: int | None,
) -> Iterator[str]:
    """What to change so that the render fits this machine, in a few words each; nothing that would not do."""
    if kept is not None and choose(weights, asked, request, free, host=host) is not None:
        yield "--no-resume, which begins anew with what fits"
    named: list[str] = []
    for says, files, changed in _ways_out(weights, request, device):
        does_less_do = any(less in says for less in named)
        if not does_less_do and choose(files, asked, changed, free, kept, host) is not None:
            named.append(says)
    yield from named[:NAMED_CURES]


def _ways_out(weights: Weights, request: Request, device: torch.device) -> Iterator[tuple[str, Weights, Request]]:
    """What may help: in words, with the files' bytes then and the request; the least change first."""
    roomy, more = request.replace(memory=Memory.AUTO), "--memory auto"
    ways: list[tuple[str, Weights, Request]] = [("", weights, request)]
    if request.compute.precision is Precision.BF16 and not weights.is_quantized:
        rounded = "--precision fp8" if has_float8_products(device) else "--precision auto"
        ways.append((rounded, weights, request.replace(precision=Precision.AUTO)))
    if not weights.is_quantized:
        ways.append((FLOAT8_FILES, _scaled(weights, 1.0), request))
    ways.append((FOUR_BIT_FILES, _scaled(weights, FOUR_BITS), request))
    for says, files, changed in ways:
        if says:
            yield says, files, changed
        if request.compute.memory != Memory.AUTO:
            with_more = f"{says} with {more}" if says else more
            yield with_more, files, roomy.replace(precision=changed.compute.precision)


def _scaled(weights: Weights, bytes_each: float) -> Weights:
    """About what the transformer takes where its weights are files of so many bytes each."""
    step = tuple(
        min(size, round(bytes_each * float8)) for size, float8 in zip(weights.step, weights.rounded, strict=True)
    )
    share = sum(step) / sum(weights.step)
    return replace(weights, step=step, rounded=step, clip=round(weights.clip * share))
