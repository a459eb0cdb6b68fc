"""Ulysses (arXiv 2309.14509): around self-attention, ranks exchange their tokens of all heads for all tokens of theirs.

What travels is hidden behind what does not need it. Values travel while keys are projected, keys while queries are.
Attention is computed for one half of a rank's heads after the other: queries of the second half travel while the first
half is computed, outputs of the first half while the second is. Half the queries and half the outputs are waited for.

Legend: R ranks, L tokens of a rank (padding included, equally many on all), H heads, η of them on this rank, d head
width. A share is some of the heads of each rank.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from soundreel.models.attention import Exchange, Kernel, attend
from soundreel.models.parallel.ranks import Arrival, Ranks
from soundreel.models.parallel.shares import HeadShare, head_shares


class Attended:
    """Which tokens are no padding, in the pass under way: set before a pass, read by all its layers."""

    tokens: slice | Tensor = slice(None)


class HeadExchange(Exchange):
    """The exchange around the self-attention of one block.

    Args:
        ranks: that share the tokens.
        heads: H, at least as many as there are ranks.
        layer: what errors call the block.
        attended: shared by all blocks.
    """

    def __init__(self, ranks: Ranks, heads: int, layer: str, attended: Attended) -> None:
        self._ranks, self._layer, self._attended = ranks, layer, attended
        self._whole, *self._halves = head_shares(heads, ranks.size)

    def attend(self, value: Tensor, key: Callable[[], Tensor], query: Callable[[], Tensor], kernel: Kernel) -> Tensor:
        """[1, M, H, d], [1, M, H, d], [1, L, H, d] → [1, L, H, d]."""
        self._ranks.place.enter(self._layer)
        values = self.to_heads(value[0], self._whole)
        keys = self.to_heads(key()[0], self._whole)
        queried = query()[0]
        queries = [self.to_heads(queried, half) for half in self._halves]
        real_keys, real_values = keys()[self._attended.tokens], values()[self._attended.tokens]
        returns = list[Arrival]()
        for half, arrival in zip(self._halves, queries, strict=True):
            own = self._whole.among_own(half, self._ranks.rank)
            made = arrival()
            if made.shape[1]:
                made = attend(made[None], real_keys[None, :, own], real_values[None, :, own], kernel)[0]
            returns.append(self.to_tokens(made, half))
        return self._joined(queried, returns)

    def to_heads(self, x: Tensor, share: HeadShare) -> Arrival:
        """Tokens at hand [L, H, d] → what waits for [R·L, heads of the share on this rank, d]."""
        length, _, width = x.shape
        own = share.counts[self._ranks.rank]
        sizes = [length * heads * width for heads in share.counts]
        send = x.new_empty(sum(sizes))
        for span, place in zip(share.spans, torch.split(send, sizes), strict=True):
            part = x[:, span]
            place.view(part.shape).copy_(part)
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
