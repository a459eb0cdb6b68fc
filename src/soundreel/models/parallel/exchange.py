"""Ulysses (arXiv 2309.14509): around self-attention, ranks exchange their tokens of all heads for all tokens of theirs.

What travels is hidden behind what does not need it. Values travel while keys are projected, keys while queries are.
Attention is computed for one half of a rank's heads after the other: queries of the second half travel while the first
half is computed, outputs of the first half while the second is. Half the queries and half the outputs are waited for.

Where attention is in float8, queries, keys and values are rounded before they travel, and are half as many bytes. What
that needs of all tokens, means and ranges of each channel, is gathered when keys and values are there.

Legend: R ranks, L tokens of a rank (padding included, equally many on all), H heads, η of them on this rank, d head
width. A share is some of the heads of each rank.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TypeAlias

import torch
from torch import Tensor

from soundreel.models.attention import Exchange, Kernel, attend
from soundreel.models.kernels.dispatch import float8_travel
from soundreel.models.kernels.float8_shares import Means
from soundreel.models.parallel.ranks import Arrival, Ranks
from soundreel.models.parallel.shares import HeadShare, head_shares

Write: TypeAlias = Callable[[Tensor, slice, Tensor], object]
"""Some heads of what is to travel, which ones they are, and the bytes to be sent in their place."""


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

    def __init__(self, ranks: Ranks, heads: int, layer: str, agreed: Agreed) -> None:
        self._ranks, self._layer, self._agreed = ranks, layer, agreed
        self._whole, *self._halves = head_shares(heads, ranks.size)

    def attend(self, value: Tensor, key: Callable[[], Tensor], query: Callable[[], Tensor], kernel: Kernel) -> Tensor:
        """[1, M, H, d], [1, M, H, d], [1, L, H, d] → [1, L, H, d]."""
        self._ranks.place.enter(self._layer)
        if kernel is Kernel.FP8 and (travel := self._agreed.travel(value)) is not None:
            return self._attend_in_float8(travel, value, key, query)
        values = self.to_heads(value[0], self._whole)
        keys = self.to_heads(key()[0], self._whole)
        queried = query()[0]
        queries = [self.to_heads(queried, half) for half in self._halves]
        real_keys, real_values = self._real(keys()), self._real(values())

        def attended(half: int, own: slice) -> Tensor:
            return attend(queries[half]()[None], real_keys[None, :, own], real_values[None, :, own], kernel)[0]

        return self._in_halves(queried, attended)

    def _attend_in_float8(
        self, travel: ModuleType, value: Tensor, key: Callable[[], Tensor], query: Callable[[], Tensor]
    ) -> Tensor:
        """The same with bytes that travel: rows in float8, rounded as all ranks agree."""
        keyed = key()
        means = self._means(travel, keyed, value)

        def rounded(mean: Tensor, scale: Tensor) -> Write:
            return lambda part, heads, place: travel.round_rows(part, mean[heads], scale[heads], place)

        values = self.to_heads(value[0], self._whole, rounded(means.value, means.value_scale))
        keys = self.to_heads(keyed[0], self._whole, rounded(means.key, means.key_scale))
        queried = query()[0]
        queries = [self._rounded_queries(travel, queried, half) for half in self._halves]
        real_keys, real_values = self._real(keys()), self._real(values())
        laid_out = travel.lay_out(real_keys, real_values)
        own_means = means.of_heads(self._whole.spans[self._ranks.rank])

        def attended(half: int, own: slice) -> Tensor:
            rows, scale = (arrival() for arrival in queries[half])
            there = laid_out[0][own], laid_out[1][own]
            made: Tensor = travel.attend_rows(
                rows, scale[..., 0], there, real_keys.shape[0], own_means.of_heads(own), queried.dtype
            )
            return made

        return self._in_halves(queried, attended)

    def _means(self, travel: ModuleType, key: Tensor, value: Tensor) -> Means:
        """Of the tokens of all ranks; padding counts like others, which changes no result."""
        found = self._ranks.all_gather(torch.cat([travel.statistics(key), travel.statistics(value)]))
        return Means.of(found, self._ranks.size * key.shape[1])

    def _rounded_queries(self, travel: ModuleType, x: Tensor, half: HeadShare) -> tuple[Arrival, Arrival]:
        """Queries [L, H, d] as bytes, and the scale of each row of a head, [R·L, heads of the half on this rank, 1]."""
        scale = x.new_empty(*x.shape[:2], 1, dtype=torch.float32)

        def write(part: Tensor, heads: slice, place: Tensor) -> None:
            own = scale.new_empty(part.shape[:2])
            travel.round_queries(part, place, own)
            scale[:, heads, 0] = own

        rows = self.to_heads(x, half, write)
        return rows, self.to_heads(scale, half)

    def _real(self, x: Tensor) -> Tensor:
        """What of all ranks' tokens is no padding."""
        return x[self._agreed.tokens]

    def _in_halves(self, queried: Tensor, attended: Callable[[int, slice], Tensor]) -> Tensor:
        """[1, L, H, d] of what is computed for one half of this rank's heads after the other.

        Args:
            queried: the queries of the tokens at hand, [L, H, d].
            attended: makes [R·L, heads of a half on this rank, d], from its number and where they are among the rank's.
        """
        returns = list[Arrival]()
        for number, half in enumerate(self._halves):
            own = self._whole.among_own(half, self._ranks.rank)
            if own.start < own.stop:
                made = attended(number, own)
            else:
                made = queried.new_empty(self._ranks.size * queried.shape[0], 0, queried.shape[2])
            returns.append(self.to_tokens(made, half))
        return self._joined(queried, returns)

    def to_heads(self, x: Tensor, share: HeadShare, write: Write | None = None) -> Arrival:
        """Tokens at hand [L, H, d] → what waits for [R·L, heads of the share on this rank, d].

        Args:
            write: makes bytes of some heads, which travel in their place: from [L, heads, d], into [L, heads, d].
        """
        length, _, width = x.shape
        own = share.counts[self._ranks.rank]
        sizes = [length * heads * width for heads in share.counts]
        send = x.new_empty(sum(sizes), dtype=x.dtype if write is None else torch.uint8)
        for heads, place in zip(share.spans, torch.split(send, sizes), strict=True):
            part = x[:, heads]
            if write is None:
                place.view(part.shape).copy_(part)
            elif part.shape[1]:
                write(part, heads, place.view(part.shape))
        arrival = self._ranks.all_to_all(send, sizes, [length * own * width] * self._ranks.size)
        return lambda: arrival().view(self._ranks.size * length, own, width)

    def to_tokens(self, attended: Tensor, share: HeadShare) -> Arrival:
        """[R·L, heads of the share on this rank, d] → what waits for [L·heads·d] of each rank, one after the other."""
        total, own, width = attended.shape
        length = total // self._ranks.size
        return self._ranks.all_to_all(
            attended.contiguous().view(-1),
            [length * own * width] * self._ranks.size,
            [length * heads * width for heads in share.counts],
        )

    def _joined(self, like: Tensor, returns: Sequence[Arrival]) -> Tensor:
        """The halves of all heads: [1, L, H, d]."""
        joined = torch.empty_like(like, memory_format=torch.contiguous_format)
        length, _, width = like.shape
        for half, arrival in zip(self._halves, returns, strict=True):
            parts = torch.split(arrival(), [length * heads * width for heads in half.counts])
            for span, part in zip(half.spans, parts, strict=True):
                place = joined[:, span]
                place.copy_(part.view(place.shape))
        return joined[None]
