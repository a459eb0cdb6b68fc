"""Ulysses (arXiv 2309.14509): around self-attention, ranks exchange their tokens of all heads for all tokens of theirs.

Values begin to travel while keys are projected, keys while queries are; each lands where attention reads it, without
another copy.

Legend: R ranks, L tokens of a rank (padding included, equally many on all), H heads, η of them on this rank, d head
width.
"""

import torch
from torch import Tensor

from soundreel.models.attention import Exchange
from soundreel.models.parallel.ranks import Arrival, Ranks
from soundreel.models.parallel.shares import head_counts


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

    travels = True

    def __init__(self, ranks: Ranks, heads: int, layer: str, attended: Attended) -> None:
        self._ranks, self._layer, self._attended = ranks, layer, attended
        self._heads = head_counts(heads, ranks.size)

    def queries(self, x: Tensor) -> Arrival:
        """[1, L, H, d] → [1, R·L, η, d]."""
        arrival = self._to_heads(x)
        return lambda: arrival().unsqueeze(0)

    def keys(self, x: Tensor) -> Arrival:
        """[1, L, H, d] → [1, tokens that are no padding, η, d]."""
        arrival = self._to_heads(x)
        return lambda: arrival()[self._attended.tokens].unsqueeze(0)

    def outputs(self, attended: Tensor) -> Tensor:
        """[1, R·L, η, d] → [1, L, H, d]."""
        _, total, own, width = attended.shape
        length = total // self._ranks.size
        counts = [length * heads * width for heads in self._heads]
        arrived = self._ranks.all_to_all(
            attended.contiguous().view(-1), [length * own * width] * self._ranks.size, counts
        )()
        parts = torch.split(arrived, counts)
        return torch.cat([part.view(1, length, -1, width) for part in parts], dim=2)

    def _to_heads(self, x: Tensor) -> Arrival:
        """[1, L, H, d] → what waits for [R·L, η, d]."""
        self._ranks.place.enter(self._layer)
        _, length, _, width = x.shape
        own = self._heads[self._ranks.rank]
        counts = [length * heads * width for heads in self._heads]
        send = x.new_empty(x.numel())
        for part, place in zip(torch.split(x[0], self._heads, dim=1), torch.split(send, counts), strict=True):
            place.view(part.shape).copy_(part)
        arrival = self._ranks.all_to_all(send, counts, [length * own * width] * self._ranks.size)
        return lambda: arrival().view(-1, own, width)
