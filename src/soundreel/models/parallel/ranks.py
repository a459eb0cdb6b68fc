"""The processes that compute one render together, and how they are arranged.

Each process is a rank and has one device. A `Mesh` gives them two axes: along `guidance` the branches of
classifier-free guidance are divided, along `tokens` the tokens of each branch.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from soundreel.errors import EngineError

KEPT_MARKS = 256
"""Of a pass: one for each block."""

Arrival = Callable[[], Tensor]
"""Waits for what was asked of others."""


class NoAnswerError(EngineError):
    """Others did not answer: something happened to one of them, or in between."""


class Place:
    """Where a rank is in its work: what an error names, and what is told when nobody goes on."""

    def __init__(self, rank: int, device: torch.device | None = None) -> None:
        self._rank, self._on_gpu = rank, device is not None and device.type == "cuda"
        self._stage = self._layer = ""
        self._marks: deque[tuple[str, Any]] = deque(maxlen=KEPT_MARKS)

    def begin(self, stage: str) -> None:
        """A stage of the work begins."""
        self._stage, self._layer = stage, ""
        self._marks.clear()

    def enter(self, layer: str) -> None:
        """A layer of the stage begins. A GPU comes there later than the program that tells it to: it is marked."""
        if layer == self._layer:
            return
        self._layer = layer
        if self._on_gpu:
            new_event: Any = torch.cuda.Event
            mark = new_event()
            mark.record()
            self._marks.append((layer, mark))

    def __str__(self) -> str:
        reached = [layer for layer, mark in tuple(self._marks) if mark.query()]
        layer = reached[-1] if reached else self._layer
        return ", ".join([f"rank {self._rank}", *filter(None, (self._stage, layer))])


@dataclass(frozen=True)
class Ranks:
    """The ranks of one axis, as one of them sees them. Every one has to make the same calls in the same order."""

    rank: int
    size: int
    place: Place
    group: "dist.ProcessGroup | None" = None  # None where it is alone

    def all_to_all(self, send: Tensor, counts: list[int], received: list[int]) -> Arrival:
        """Begin to send consecutive elements of `send`, `counts[k]` of them to rank k; `received[k]` come from it.

        What the `Arrival` returns lies in order of ranks.
        """
        arrived = send.new_empty(sum(received))
        with self._named():
            work: Any = dist.all_to_all_single(arrived, send, received, counts, group=self.group, async_op=True)

        def arrival() -> Tensor:
            with self._named():
                work.wait()
            return arrived

        return arrival

    def all_gather(self, x: Tensor) -> list[Tensor]:
        """The tensor of every rank, in order; all have one shape."""
        if self.size == 1:
            return [x]
        found = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(self.size)]
        with self._named():
            dist.all_gather(found, x.contiguous(), group=self.group)
        return found

    def from_first(self, x: Tensor) -> None:
        """Give `x` the values that it has on the first rank."""
        if self.size > 1:
            with self._named():
                dist.broadcast(x, group=self.group, group_src=0)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say where it was when others did not answer."""
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise NoAnswerError(
                f"{self.place}: the other ranks do not answer ({str(error).splitlines()[0]})"
            ) from error


@dataclass(frozen=True)
class Mesh:
    """All ranks, and the axes that this one is on. Rank g·T + t is number g along guidance and t along T tokens."""

    everyone: Ranks
    guidance: Ranks
    tokens: Ranks


def connect(rank: int, guidance: int, tokens: int, device: torch.device | None = None) -> Mesh:
    """The mesh of `guidance` × `tokens` ranks; `torch.distributed` is set up for all of them.

    Every rank makes the groups of all, in one order, as `torch.distributed` wants it.
    """
    place = Place(rank, device)

    def axis(members: list[list[int]]) -> Ranks:
        groups = [(ranks, dist.new_group(ranks) if len(ranks) > 1 else None) for ranks in members]
        ranks, group = next((ranks, group) for ranks, group in groups if rank in ranks)
        return Ranks(ranks.index(rank), len(ranks), place, group)

    every = range(guidance * tokens)
    return Mesh(
        everyone=axis([list(every)]),
        guidance=axis([list(every[t::tokens]) for t in range(tokens)]),
        tokens=axis([list(every[g * tokens : (g + 1) * tokens]) for g in range(guidance)]),
    )
