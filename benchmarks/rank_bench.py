"""One of several processes that measure together, each on a GPU of its own."""

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from soundreel.engines.native.device import wait
from soundreel.engines.native.shared_work import shared_memory
from soundreel.models.parallel.pictures import Room, RoomSize
from soundreel.models.parallel.ranks import Mesh

Work = Callable[[], list[Tensor]]


@dataclass(frozen=True)
class Bench:
    """One process of them."""

    rank: int
    device: torch.device
    store: Any
    guidance: Mesh
    tokens: Mesh
    options: argparse.Namespace
    ends: float  # by the monotonic clock, which all processes share

    def say(self, text: str) -> None:
        """Print, once."""
        if self.rank == 0:
            print(f"{self.options.limit - (self.ends - time.monotonic()):6.0f} s  {text}", flush=True)

    def agree(self, name: str, decide: Callable[[], bool]) -> bool:
        """What the first process decides; the others wait for it, without a GPU."""
        if self.rank == 0:
            self.store.set(name, "yes" if decide() else "no")
        return bool(self.store.get(name) == b"yes")

    def gathered(self, name: str, found: Any) -> list[Any]:
        """What every process has found, in order of ranks."""
        self.store.set(f"{name} of {self.rank}", json.dumps(found))
        return [json.loads(self.store.get(f"{name} of {rank}")) for rank in range(self.guidance.everyone.size)]

    def room(self, size: RoomSize, name: str = "") -> Room:
        """Of all processes, in memory of the kind that a render takes; another one for each name."""
        name = f"room {name} {size}"
        if self.rank > 0:
            with Path(self.store.get(name).decode()).open("r+b") as file:
                room = Room.mapped(file.fileno(), size)
            self.gathered(f"{name} is there", found=True)
            return room
        with shared_memory(size.bytes) as descriptor:
            room = Room.mapped(descriptor, size)
            self.store.set(name, f"/proc/{os.getpid()}/fd/{descriptor}")
            self.gathered(f"{name} is there", found=True)  # no message: one between GPUs would not be waited for here
        return room

    def alone(self, name: str, work: Work, repeat: int) -> tuple[float, list[Tensor]]:
        """Seconds and results of `work` on the first GPU; the others wait idle."""
        result: tuple[float, list[Tensor]] = (0.0, [])
        if self.rank == 0:
            result = self._best(work, repeat)
        self.agree(name, lambda: True)
        return result

    def together(self, work: Work, repeat: int) -> tuple[float, list[Tensor]]:
        """Seconds and results of `work` on all."""

        def step() -> list[Tensor]:
            self.guidance.everyone.from_first(torch.zeros(1, device=self.device))  # all begin now
            return work()

        return self._best(step, repeat)

    def in_turn(self, name: str, work: Work, repeat: int) -> float:
        """Seconds of `work` on this GPU, while all others wait idle."""
        seconds = 0.0
        for rank in range(self.guidance.everyone.size):
            if rank == self.rank:
                seconds, _ = self._best(work, repeat)
                self.store.set(f"{name} turn {rank}", "over")
            self.store.get(f"{name} turn {rank}")
        return seconds

    def _best(self, work: Work, repeat: int) -> tuple[float, list[Tensor]]:
        seconds, made = [], list[Tensor]()
        for _ in range(repeat):
            wait(self.device)
            begun = time.perf_counter()
            made = work()
            wait(self.device)
            seconds.append(time.perf_counter() - begun)
        return min(seconds), made
