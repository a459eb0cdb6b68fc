"""Ulysses (arXiv 2309.14509): around self-attention, ranks exchange their tokens of all heads for all tokens of theirs.

Values begin to travel while keys are projected, keys while queries are. Queries and outputs are waited for: to let some
attend while others travel gained nothing on two H200, for messages and attention want the same multiprocessors.

Where attention is in float8, queries, keys and values are rounded before they travel, and are half as many bytes. What
that needs of all tokens, means and ranges of each channel, is gathered when keys and values are there: these travel
while queries are projected.

Legend: R ranks, L tokens of a rank (padding included, equally many on all), H heads, η of them on this rank, d head
width.
"""

from collections.abc import Callable
from types import ModuleType
from typing import TypeAlias

import torch
from torch import Tensor

from soundreel.models.attention import Exchange, Kernel, attend
from soundreel.models.kernels.dispatch import float8_travel
from soundreel.models.kernels.float8_shares import Means
from soundreel.models.parallel.ranks import Arrival, Ranks
from soundreel.models.parallel.shares import head_spans

Write: TypeAlias = Callable[[Tensor, slice, Tensor], object]
"""Some heads of what is to travel, which ones they are, and the bytes to be sent in their place."""


WIDEST = torch.complex128
"""Of PyTorch's element types; its numbers are only moved."""


def lay(x: Tensor, place: Tensor) -> None:
    """Copy rows of heads [.., d] to where they are wanted, 16 bytes at a time where that is possible.

    Of what has gaps PyTorch copies one element after the other: in bfloat16 at a third of the memory's speed.
    """
    tensors = (x, place)
    rows = [each.shape[-1] for each in tensors]
    steps = [step for each in tensors for step in (each.storage_offset(), *each.stride()[:-1])]
    if all(number * x.element_size() % WIDEST.itemsize == 0 for number in rows + steps):
        x, place = x.view(WIDEST), place.view(WIDEST)
    place.copy_(x)


class Agreed:
    """What the exchanges of all blocks have in common, on all ranks."""

    tokens: slice | Tensor = slice(None)
    """Which are no padding, in the pass under way: set before it."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._travel: list[ModuleType | None] = []  # one, once it is known

    def travel(self, like: Tensor) -> ModuleType | None:
        """How float8 rows are rounded before they travel; None where one rank cannot do it."""
        if not self._travel:
            found = float8_travel(like)
            can = self._ranks.all_gather(torch.tensor([found is not None], device=like.device, dtype=torch.uint8))
            self._travel.append(found if all(map(bool, can)) else None)
        return self._travel[0]


class HeadExchange(Exchange):
    """The exchange around the self-attention of one block.

    Args:
        ranks: that share the tokens.
        heads: H, at least as many as there are ranks.
        layer: what errors call the block.
        agreed: shared by all blocks.
    """

    travels = True

    def __init__(self, ranks: Ranks, heads: int, layer: str, agreed: Agreed) -> None:
        self._ranks, self._layer, self._agreed = ranks, layer, agreed
        self._heads = head_spans(heads, ranks.size)
        self._own = self._heads[ranks.rank]

    def attend(self, value: Tensor, key: Callable[[], Tensor], query: Callable[[], Tensor], kernel: Kernel) -> Tensor:
        """[1, M, H, d], [1, M, H, d], [1, L, H, d] → [1, L, H, d]."""
        self._ranks.place.enter(self._layer)
        if kernel is Kernel.FP8 and (travel := self._agreed.travel(value)) is not None:
            return self._attend_in_float8(travel, value, key, query)
        values = self._to_heads(value[0])
        keys = self._to_heads(key()[0])
        queries = self._to_heads(query()[0])
        attended = attend(queries()[None], self._real(keys())[None], self._real(values())[None], kernel)
        return self._to_tokens(attended[0])

    def _attend_in_float8(
        self, travel: ModuleType, value: Tensor, key: Callable[[], Tensor], query: Callable[[], Tensor]
    ) -> Tensor:
        """The same with bytes that travel: rows in float8, rounded as all ranks agree."""
        keyed = key()
        means = self._means(travel, keyed, value)

        def rounded(mean: Tensor, scale: Tensor) -> Write:
            return lambda part, heads, place: travel.round_rows(part, mean[heads], scale[heads], place)

        values = self._to_heads(value[0], rounded(means.value, means.value_scale))
        keys = self._to_heads(keyed[0], rounded(means.key, means.key_scale))
        queried = query()[0]
        rows, scale = self._rounded_queries(travel, queried)
        real_keys, real_values = self._real(keys()), self._real(values())
        laid_out = travel.lay_out(real_keys, real_values)
        own_means = means.of_heads(self._own)
        attended: Tensor = travel.attend_rows(
            rows(), scale()[..., 0], laid_out, real_keys.shape[0], own_means, queried.dtype
        )
        return self._to_tokens(attended)

    def _means(self, travel: ModuleType, key: Tensor, value: Tensor) -> Means:
        """Of the tokens of all ranks; padding counts like others, which changes no result."""
        found = self._ranks.all_gather(torch.cat([travel.statistics(key), travel.statistics(value)]))
        return Means.of(found, self._ranks.size * key.shape[1])

    def _rounded_queries(self, travel: ModuleType, x: Tensor) -> tuple[Arrival, Arrival]:
        """Queries [L, H, d] as bytes, and the scale of each row of a head, [R·L, η, 1]."""
        scale = x.new_empty(*x.shape[:2], 1, dtype=torch.float32)

        def write(part: Tensor, heads: slice, place: Tensor) -> None:
            own = scale.new_empty(part.shape[:2])
            travel.round_queries(part, place, own)
            scale[:, heads, 0] = own

        rows = self._to_heads(x, write)
        return rows, self._to_heads(scale)

    def _real(self, x: Tensor) -> Tensor:
        """What of all ranks' tokens is no padding."""
        return x[self._agreed.tokens]

    def _to_heads(self, x: Tensor, write: Write | None = None) -> Arrival:
        """Tokens at hand [L, H, d] → what waits for [R·L, η, d].

        Args:
            write: makes bytes of some heads, which travel in their place: from [L, heads, d], into [L, heads, d].
        """
        length, _, width = x.shape
        own = self._own.stop - self._own.start
        sizes = self._sizes(length * width)
        send = x.new_empty(x.numel(), dtype=x.dtype if write is None else torch.uint8)
        for heads, place in zip(self._heads, torch.split(send, sizes), strict=True):
            part = x[:, heads]
            if write is None:
                lay(part, place.view(part.shape))
            else:
                write(part, heads, place.view(part.shape))
        arrival = self._ranks.all_to_all(send, sizes, [length * own * width] * self._ranks.size)
        return lambda: arrival().view(-1, own, width)

    def _to_tokens(self, attended: Tensor) -> Tensor:
        """[R·L, η, d] → [1, L, H, d]."""
        total, own, width = attended.shape
        length = total // self._ranks.size
        sizes = self._sizes(length * width)
        arrived = self._ranks.all_to_all(
            attended.contiguous().view(-1), [length * own * width] * self._ranks.size, sizes
        )()
        return torch.cat([part.view(1, length, -1, width) for part in torch.split(arrived, sizes)], dim=2)

    def _sizes(self, each: int) -> list[int]:
        """Elements of each rank's heads, of so many for a head."""
        return [(heads.stop - heads.start) * each for heads in self._heads]
