"""Ulysses (arXiv 2309.14509): around self-attention, ranks exchange their tokens of all heads for all tokens of theirs.

Values begin to travel while keys are projected, keys while queries are. The queries of a rank's own tokens and heads
need no travel: they attend first, while those of other ranks come. Then these attend, and only their outputs travel
back, which is waited for. What a rank keeps is in no message: it is laid where it is wanted while others are on their
way.

Messages and kernels want the same multiprocessors: to compute one half of the heads while the other travelled was
slower on two H200, when messages had no priority (`group_options`).

Where attention is in float8, queries, keys and values are rounded before they travel, and are half as many bytes. What
that needs of all tokens, means and ranges of each channel, is gathered when keys and values are there: these travel
while queries are projected.

Legend: R ranks, M tokens of a rank (padding included, equally many on all), L of them that attend, H heads, η of them
on this rank, d head width.
"""

import math
from collections.abc import Callable
from types import ModuleType
from typing import TypeAlias

import torch
from torch import Tensor

from soundreel.models.attention import Exchange, Kernel, attend
from soundreel.models.kernels.dispatch import float8_travel
from soundreel.models.kernels.float8_shares import Means
from soundreel.models.parallel.ranks import Arrival, Ranks
from soundreel.models.parallel.shares import head_spans, own_tokens_first

WIDEST = torch.complex128
"""Of PyTorch's element types; its numbers are only moved."""

Write: TypeAlias = Callable[[Tensor, slice, Tensor], object]
"""Puts some heads [M, heads, d], which ones they are, into [M, heads, d] of what travels."""

Queries: TypeAlias = tuple[Tensor, ...]
"""Of some tokens, [tokens, η, …] each: as one kind of attention takes them."""


def whole(x: Tensor, heads: slice, place: Tensor) -> None:
    """`Write` as it is."""
    del heads
    lay(x, place)


def lay(x: Tensor, place: Tensor) -> None:
    """Copy [.., d] to where it is wanted, of which either may be some heads of all: a head's row is 16 bytes at a time.

    PyTorch copies what has gaps one element after the other: in bfloat16 at a third of the memory's speed.
    """
    is_even = all(each.shape[-1] * each.element_size() % WIDEST.itemsize == 0 for each in (x, place))
    starts = [each.storage_offset() * each.element_size() for each in (x, place)]
    steps = [step * each.element_size() for each in (x, place) for step in each.stride()[:-1]]
    if is_even and not any(number % WIDEST.itemsize for number in starts + steps):
        x, place = x.view(WIDEST), place.view(WIDEST)
    place.copy_(x)


class Agreed:
    """What the exchanges of all blocks have in common, on all ranks."""

    tokens: slice | Tensor = slice(None)
    """Which are no padding (`TokenShares.attended`), in the pass under way: set before it."""

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
        spans = head_spans(heads, ranks.size)
        self._heads, self._own = heads, spans[ranks.rank]
        self._own_heads = self._own.stop - self._own.start
        self._others = [span for span in spans if span != self._own]
        self._theirs = [0 if span == self._own else span.stop - span.start for span in spans]  # heads, by rank
        self._ours = [0 if span == self._own else self._own_heads for span in spans]

    def attend(self, value: Tensor, key: Callable[[], Tensor], query: Callable[[], Tensor], kernel: Kernel) -> Tensor:
        """[1, M, H, d], [1, M, H, d], [1, L, H, d] → [1, L, H, d]."""
        self._ranks.place.enter(self._layer)
        if kernel is Kernel.FP8 and (travel := self._agreed.travel(value)) is not None:
            return self._attend_in_float8(travel, value, key, query)
        values = self._to_heads(value[0])
        keys = self._to_heads(key()[0])
        queried = query()[0]
        length, _, width = queried.shape
        others = self._from_others(self._packed(queried), length, width)
        real_keys, real_values = self._real(keys())[None], self._real(values())[None]

        def attended(queries: Tensor) -> Tensor:
            return attend(queries[None], real_keys, real_values, kernel)[0]

        return self._in_turn(attended, (queried[:, self._own],), lambda: (others(),))

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
        others = self._rounded_of_others(travel, queried)
        own = self._rounded(travel, queried)
        real_keys, real_values = self._real(keys()), self._real(values())
        laid_out, own_means = travel.lay_out(real_keys, real_values), means.of_heads(self._own)

        def attended(rows: Tensor, scale: Tensor) -> Tensor:
            made: Tensor = travel.attend_rows(rows, scale, laid_out, len(real_keys), own_means, queried.dtype)
            return made

        return self._in_turn(attended, own, others)

    def _means(self, travel: ModuleType, key: Tensor, value: Tensor) -> Means:
        """Of the tokens of all ranks; padding counts like others, which changes no result."""
        found = self._ranks.all_gather(torch.cat([travel.statistics(key), travel.statistics(value)]))
        return Means.of(found, self._ranks.size * key.shape[1])

    def _rounded(self, travel: ModuleType, x: Tensor) -> Queries:
        """Queries at hand [L, H, d], of the heads at hand: bytes [L, η, d] and the scale of each row, [L, η]."""
        own = x[:, self._own]
        rows, scale = x.new_empty(own.shape, dtype=torch.uint8), x.new_empty(own.shape[:2], dtype=torch.float32)
        travel.round_queries(own, rows, scale)
        return rows, scale

    def _rounded_of_others(self, travel: ModuleType, x: Tensor) -> Callable[[], Queries]:
        """Queries at hand [L, H, d] → what waits for those of the others: [(R−1)·L, η, d] and [(R−1)·L, η]."""
        length, _, width = x.shape
        scales = [x.new_empty(0, dtype=torch.float32)]

        def write(part: Tensor, heads: slice, place: Tensor) -> None:
            del heads
            scales.append(scales[0].new_empty(part.shape[:2]))  # not a part of one: kernels expect aligned addresses
            travel.round_queries(part, place, scales[-1])

        rows = self._from_others(self._packed(x, write), length, width)
        scale = self._from_others(torch.cat([one.view(-1) for one in scales]), length)
        return lambda: (rows(), scale())

    def _in_turn(self, attended: Callable[..., Tensor], own: Queries, others: Callable[[], Queries]) -> Tensor:
        """The output [1, L, H, d] of `attended`, for the queries at hand and then for those that come."""
        at_home = attended(*own)
        return self._to_tokens(at_home, self._send_back(attended(*others())))

    def _real(self, x: Tensor) -> Tensor:
        """What of all ranks' tokens is no padding."""
        return x[self._agreed.tokens]

    def _to_heads(self, x: Tensor, write: Write = whole) -> Arrival:
        """Tokens at hand [M, H, d] → what waits for those of all ranks, [R·M, η, d], as `own_tokens_first` has them."""
        length, _, width = x.shape
        send = self._packed(x, write)
        room = send.new_empty(self._ranks.size * length, self._own_heads, width)
        is_first = own_tokens_first(self._ranks.rank, self._ranks.size)
        own, others = (room[:length], room[length:]) if is_first else (room[-length:], room[:-length])
        arrival = self._from_others(send, length, width, room=others)
        write(x[:, self._own], self._own, own)
        return lambda: (arrival(), room)[1]

    def _packed(self, x: Tensor, write: Write = whole) -> Tensor:
        """Tokens at hand [M, H, d] as they are sent: those heads of all that the first of the others has, and so on."""
        length, _, width = x.shape
        sizes = [length * width * count for count in self._theirs if count]
        send = x.new_empty(sum(sizes), dtype=x.dtype if write is whole else torch.uint8)
        for heads, place in zip(self._others, torch.split(send, sizes), strict=True):
            write(x[:, heads], heads, place.view(length, -1, width))
        return send

    def _from_others(self, send: Tensor, length: int, *width: int, room: Tensor | None = None) -> Arrival:
        """Send what was `_packed` → what waits for the same of the others, [(R−1)·length, η, *width], in `room`."""
        if room is None:
            room = send.new_empty((self._ranks.size - 1) * length, self._own_heads, *width)
        arrival = self._begin(send, self._theirs, room.view(-1), self._ours, length * math.prod(width))
        return lambda: arrival().view(room.shape)

    def _send_back(self, attended: Tensor) -> Arrival:
        """The output of the others' tokens, [(R−1)·L, η, d] → what waits for that of the tokens at hand, flat."""
        each = attended.numel() // max(1, sum(self._ours))
        room = attended.new_empty(each * sum(self._theirs))
        return self._begin(attended.contiguous().view(-1), self._ours, room, self._theirs, each)

    def _begin(self, send: Tensor, leaving: list[int], room: Tensor, coming: list[int], each: int) -> Arrival:
        """So many heads of `each` elements go to each rank, so many come into `room`."""
        sizes = [each * heads for heads in leaving], [each * heads for heads in coming]
        return self._ranks.all_to_all_into(room, send, *sizes)

    def _to_tokens(self, own: Tensor, others: Arrival) -> Tensor:
        """What heads at hand made of the tokens at hand, [L, η, d], and what the others' heads did → [1, L, H, d]."""
        length, _, width = own.shape
        made = own.new_empty(1, length, self._heads, width)
        lay(own, made[0, :, self._own])
        parts = torch.split(others(), [length * width * count for count in self._theirs if count])
        for heads, part in zip(self._others, parts, strict=True):
            lay(part.view(length, -1, width), made[0, :, heads])
        return made
