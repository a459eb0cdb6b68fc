"""What Triton compiles kernels for, by its own keys, without a GPU: a driver that only says that it is an H100.

Nothing is compiled and nothing computed. Says how much of it was not proven, or not known, before; run by
`test_vae_kernels`.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from soundreel.models import vae_kernels
from soundreel.models.kernels import ahead, checks, convolution, float8_attention, float8_travel, fused
from soundreel.models.kernels.convolution_layers import Geometry, Specialization, choose_tiling
from soundreel.models.kernels.float8_shares import Means
from soundreel.models.kernels.projected import Projected
from soundreel.models.parallel.pictures import rank_works
from soundreel.models.parallel.shares import head_spans
from soundreel.models.rope import Rotary
from soundreel.models.vae_network import WanVae
from soundreel.weights.load import WithoutInitialValues

KIND = 9, 0
HALF = torch.bfloat16
HEADS, HEAD = 40, 128
SMALL = 2**20
"""Tensors of so many elements are also tried as real ones: those on the meta device lie at no address."""

keys: dict[str, set[Any]] = defaultdict(set)


def hear(kernel: Any, key: Any, *_: Any) -> None:
    """In place of the compiler."""
    keys[kernel.fn.__name__].add(key)


@contextmanager
def heard() -> Iterator[dict[str, set[Any]]]:
    """What is asked for within, by kernel."""
    keys.clear()
    found: dict[str, set[Any]] = {}
    yield found
    found.update({name: set(of_one) for name, of_one in keys.items()})


def convolutions() -> int:
    """How many specializations Triton has several kernels for."""
    found: dict[Specialization, set[Any]] = defaultdict(set)

    def record(recorder: Any, given: Geometry) -> None:
        tiling = given.fitting(choose_tiling(given.layer, KIND))
        made = [given]
        if max(given.x.numel(), given.out.numel()) < SMALL:
            made.append(given._replace(**{name: real(getattr(given, name)) for name in TENSORS}))
        for one in made:
            with heard() as asked, ahead.compiled_ahead():
                convolution.launch(one, tiling)
            found[given.specialization(tiling)] |= asked["_convolve"]

    with torch.device("meta"), WithoutInitialValues():
        network = WanVae()
    with mock.patch.object(vae_kernels._Recorder, "_record", record):
        for height, width in ((60, 104), (34, 50), (8, 8)):
            for ranks in (1, 3):
                for rank in range(ranks):
                    for work in rank_works(height, width, ranks, rank, bands=1).values():
                        vae_kernels.launches(network, HALF, work, KIND)
    assert found
    return sum(len(of_one) != 1 for of_one in found.values())


TENSORS = "x", "rows", "bias", "residual", "out"


def real(x: Tensor | None) -> Tensor | None:
    return None if x is None else torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cpu")


def travels(tokens: int, ranks: int) -> None:
    """Float8 rows of one rank, as `HeadExchange` rounds, lays out and attends to them."""
    x = torch.empty(tokens, HEADS, HEAD, dtype=HALF)
    statistics = torch.cat([float8_travel.statistics(x[None]), float8_travel.statistics(x[None])])
    means, every = Means.of([statistics], tokens), ranks * tokens
    for own in head_spans(HEADS, ranks):
        heads = own.stop - own.start
        room = torch.empty(tokens, heads, HEAD, dtype=torch.uint8)
        float8_travel.round_rows(x[:, own], means.key[own], means.key_scale[own], room)
        float8_travel.round_queries(x[:, own], room, torch.empty(tokens, heads))
        rows = torch.empty(every, heads, HEAD, dtype=torch.uint8)
        laid_out = float8_travel.lay_out(rows[: every - 1], rows[: every - 1])
        float8_travel.attend_rows(rows, torch.empty(every, heads), laid_out, every - 1, means.of_heads(own), HALF)


def attends(tokens: int) -> None:
    """Float8 attention on one device."""
    rotary = Rotary(torch.empty(tokens, HEAD // 2), torch.empty(tokens, HEAD // 2))
    x = torch.empty(1, tokens, HEADS * HEAD, dtype=HALF)
    given = Projected(x, torch.empty(HEADS * HEAD, dtype=HALF), 1e-6, rotary)
    for float8 in (False, True):
        float8_attention.attend_projected(given, given, x.view(1, tokens, HEADS, HEAD), float8=float8)


def main() -> None:
    cpu = torch.device("cpu")
    with heard() as proven:
        checks.check_travel(float8_travel, cpu, HALF, HEAD)
        checks.check_projected_attention(float8_attention.attend_projected, cpu, HEAD)
        checks.check_rows(fused, cpu)
    with heard() as asked:
        for ranks in (2, 3, 4, 7, 8):
            for tokens in (1024, 1025):
                travels(tokens, ranks)
        for tokens in (1024, 1030):
            attends(tokens)
    missing = {name: len(of_one - proven[name]) for name, of_one in asked.items()}
    assert {"_attend", "_round_queries", "_norm_pack"} <= set(asked)
    print(missing)
    print(f"{sum(missing.values()) + convolutions()} not proven")


if __name__ == "__main__":
    os.environ.pop("TRITON_INTERPRET", None)
    target: Any = SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", 90, 32),
        get_current_device=lambda: 0,
        get_current_stream=lambda _: 0,
    )
    driver.set_active(target)
    JITFunction._do_compile = hear
    JITFunction.__getitem__ = lambda kernel, grid: lambda *given, **named: kernel.warmup(*given, grid=grid, **named)
    checks._refuse = lambda *_: None  # nothing is computed
    assert triton is not None
    main()
