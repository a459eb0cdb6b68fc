"""What each part of the exchange around self-attention gains: the same steps with some of them left out.

As a render does it: messages go before kernels that wait for multiprocessors, the queries that a rank keeps attend
while others travel, and what a rank keeps is in no message. Each variant says what it does otherwise. The last two are
not what a render does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final, NamedTuple, TypeAlias
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu import relative
from benchmarks.rank_bench import Bench
from soundreel.models.attention import Kernel, attend
from soundreel.models.parallel import ranks as ranks_module
from soundreel.models.parallel import tokens as tokens_module
from soundreel.models.parallel.exchange import HeadExchange, Queries, Write, whole
from soundreel.models.parallel.ranks import Arrival, Mesh, connect, group_options
from soundreel.models.parallel.shares import TokenShares, head_counts, head_spans

Divided: TypeAlias = Callable[[Mesh, int], tuple[float, list[Tensor]]]
"""Seconds of a step of so many branches, and its velocities."""


class OwnTravels(HeadExchange):
    """Keys and values that a rank keeps are in its messages, which NCCL copies, and lie in order of ranks."""

    def _to_heads(self, x: Tensor, write: Write = whole) -> Arrival:
        length, _, width = x.shape
        sizes, ranks = self._sizes(length * width), self._ranks.size
        send = x.new_empty(x.numel(), dtype=x.dtype if write is whole else torch.uint8)
        for heads, place in zip(head_spans(self._heads, ranks), torch.split(send, sizes), strict=True):
            write(x[:, heads], heads, place.view(length, -1, width))
        arrival = self._ranks.all_to_all(send, sizes, [length * self._own_heads * width] * ranks)
        return lambda: arrival().view(-1, self._own_heads, width)

    def _sizes(self, each: int) -> list[int]:
        return [heads * each for heads in head_counts(self._heads, self._ranks.size)]


class QueriesTogether(OwnTravels):
    """All queries are waited for, and all outputs travel."""

    def attend(self, value: Tensor, key: Callable[[], Tensor], query: Callable[[], Tensor], kernel: Kernel) -> Tensor:
        self._ranks.place.enter(self._layer)
        if kernel is Kernel.FP8 and (travel := self._agreed.travel(value)) is not None:
            return self._attend_in_float8(travel, value, key, query)
        values, keys = self._to_heads(value[0]), self._to_heads(key()[0])
        queries = self._to_heads(query()[0])
        return self._all_to_tokens(
            attend(queries()[None], self._real(keys())[None], self._real(values())[None], kernel)[0]
        )

    def _attend_in_float8(
        self, travel: ModuleType, value: Tensor, key: Callable[[], Tensor], query: Callable[[], Tensor]
    ) -> Tensor:
        keyed = key()
        means = self._means(travel, keyed, value)

        def rounded(mean: Tensor, scale: Tensor) -> Write:
            return lambda part, heads, place: travel.round_rows(part, mean[heads], scale[heads], place)

        values = self._to_heads(value[0], rounded(means.value, means.value_scale))
        keys = self._to_heads(keyed[0], rounded(means.key, means.key_scale))
        queried = query()[0]
        scale = queried.new_empty(*queried.shape[:2], 1, dtype=torch.float32)

        def write(part: Tensor, heads: slice, place: Tensor) -> None:
            own = scale.new_empty(part.shape[:2])
            travel.round_queries(part, place, own)
            scale[:, heads, 0] = own

        rows = self._to_heads(queried, write)
        scales = self._to_heads(scale)
        real_keys, real_values = self._real(keys()), self._real(values())
        laid_out, own_means = travel.lay_out(real_keys, real_values), means.of_heads(self._own)
        return self._all_to_tokens(
            travel.attend_rows(rows(), scales()[..., 0], laid_out, len(real_keys), own_means, queried.dtype)
        )

    def _all_to_tokens(self, attended: Tensor) -> Tensor:
        """[R·L, η, d] → [1, L, H, d]."""
        total, own, width = attended.shape
        length = total // self._ranks.size
        sizes = self._sizes(length * width)
        ours = [length * own * width] * self._ranks.size
        arrived = self._ranks.all_to_all(attended.contiguous().view(-1), ours, sizes)()
        return torch.cat([part.view(1, length, -1, width) for part in torch.split(arrived, sizes)], dim=2)


class OwnLast(HeadExchange):
    """Half of the queries that a rank keeps attend while the others' outputs travel back."""

    def _in_turn(self, attended: Callable[..., Tensor], own: Queries, others: Callable[[], Queries]) -> Tensor:
        half = own[0].shape[0] // 2
        first = attended(*(x[:half] for x in own))
        arrival = self._send_back(attended(*others()))
        return self._to_tokens(torch.cat([first, attended(*(x[half:] for x in own))]), arrival)


def without_priority(device: torch.device | None) -> Any:
    """Groups as `torch.distributed` makes them by itself."""
    del device


def without_clusters(device: torch.device | None) -> Any:
    """Blocks of a message that need not find multiprocessors next to each other, four at once."""
    options = group_options(device)
    if options is not None:
        options.config.cga_cluster_size = 1
    return options


class Variant(NamedTuple):
    """What differs from a render."""

    name: str
    exchange: type[HeadExchange]
    options: Callable[[torch.device | None], Any]


VARIANTS: Final = (
    Variant("all travels, no priority", QueriesTogether, without_priority),
    Variant("all travels, priority", QueriesTogether, group_options),
    Variant("own queries first, own keys and values travel", OwnTravels, group_options),
    Variant("as a render", HeadExchange, group_options),
    Variant("half of the own queries last", OwnLast, group_options),
    Variant("no clusters of blocks", HeadExchange, without_clusters),
)


def measure_exchanges(
    bench: Bench, name: str, divided: Divided, alone: tuple[float, float], expected: list[Tensor]
) -> None:
    """A line for each variant.

    Args:
        alone: seconds of a pass and of a guided step on one GPU.
        expected: the velocities of the guided step on the first rank, none on others.
    """
    meshes: dict[Any, tuple[Mesh, Mesh]] = {group_options: (bench.tokens, bench.guidance)}
    for variant in VARIANTS:
        if variant.options not in meshes:
            meshes[variant.options] = _connected(bench, variant.options)
        told = []
        for count, mesh in enumerate(meshes[variant.options], start=1):
            if mesh.tokens.size > 1:  # two GPUs: guidance apart exchanges nothing in a pass
                with in_use(variant):
                    seconds, made = divided(mesh, count)
                error = max(map(relative, made, expected[:count]), default=0.0)
                told.append(f"{seconds:.3f} s, {alone[count - 1] / seconds:.3f} ×, error {error:.2e}")
        bench.say(f"{name}: {variant.name}: {'; guidance × tokens '.join(['tokens alone ' + told[0], *told[1:]])}")


def _connected(bench: Bench, options: Callable[[torch.device | None], Any]) -> tuple[Mesh, Mesh]:
    """The meshes of `bench`, in groups of their own."""
    with mock.patch.object(ranks_module, "group_options", options):
        tokens, guidance = (
            connect(bench.rank, mesh.guidance.size, mesh.tokens.size, bench.device)
            for mesh in (bench.tokens, bench.guidance)
        )
    return tokens, guidance


@contextmanager
def in_use(variant: Variant) -> Iterator[None]:
    """Within, tokens are divided with its exchange."""
    attended = TokenShares.attended

    def in_order(shares: TokenShares, rank: int, device: torch.device | None = None) -> slice | Tensor:
        del rank
        return attended(shares, shares.ranks - 1, device)

    is_in_order = issubclass(variant.exchange, OwnTravels)
    with (
        mock.patch.object(tokens_module, "HeadExchange", variant.exchange),
        mock.patch.object(TokenShares, "attended", in_order if is_in_order else attended),
    ):
        yield
