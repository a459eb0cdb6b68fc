"""Reads tensors ahead in several threads, while those before them are put in their place.

Reading lets go of Python's lock, so that other threads import, compile and compute meanwhile. They let go of it ten
times as often as usual, since each piece that was read has to wait for it. A large tensor is read in pieces, by all
threads at once. On its way to a GPU a piece goes through a page-locked buffer of its thread, and over a stream of its
own; it is there before the tensor is handed out.
"""

import os
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import torch
from torch import Tensor

from soundreel.disk.durable import uninterrupted
from soundreel.weights.stored import Stored

THREADS: Final = min(8, os.cpu_count() or 1)

PIECE_BYTES: Final = 32 * 2**20
"""That a thread reads at once; for a GPU as much of the host's memory is page-locked for each."""

AHEAD_BYTES: Final = 512 * 2**20
"""Of tensors that are being read, or wait for their turn, at most; a larger one is read alone."""

SHORT_SWITCH_SECONDS: Final = 0.0005
"""That a thread keeps Python's lock while another one wants it, and tensors are read. With Python's 5 ms and one thread
that computes, reading a file out of the page cache took 40 times as long as alone, with this 1.5 times."""

TURN_SECONDS: Final = 0.25
"""Between two looks for a signal while a tensor is waited for."""


class _Switching:
    """How often threads of this process take turns: more often while any reader is at work."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._readers, self._usual = 0, 0.0

    def hasten(self) -> None:
        with uninterrupted(), self._guard:
            if not self._readers:
                self._usual = sys.getswitchinterval()
                sys.setswitchinterval(min(self._usual, SHORT_SWITCH_SECONDS))
            self._readers += 1

    def calm_down(self) -> None:
        with uninterrupted(), self._guard:
            self._readers -= 1
            if not self._readers:
                sys.setswitchinterval(self._usual)


_switching: Final = _Switching()


class TensorReader:
    """The bytes of tensors in a given order, each on the device when its turn has come.

    A context manager: its threads have ended when it is left, whatever was still to be read.

    Args:
        tensors: in the order of their turns.
        device: where they are read to.
    """

    def __init__(self, tensors: Sequence[Stored], device: torch.device) -> None:
        self._device = device
        self._upcoming = deque(tensors)
        self._under_way: deque[_Reading] = deque()
        self._stopped = threading.Event()
        self._pool = futures.ThreadPoolExecutor(THREADS, thread_name_prefix="read-weights")
        self._lane = threading.local()

    def __enter__(self) -> Self:
        _switching.hasten()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with uninterrupted():
            self._stopped.set()
            self._pool.shutdown(wait=True, cancel_futures=True)
            _switching.calm_down()

    def __iter__(self) -> Iterator[Tensor]:
        """Each tensor as it is stored; raises what went wrong with it when its turn has come."""
        while self._upcoming or self._under_way:
            self._read_ahead()
            yield self._under_way.popleft().result()

    def _read_ahead(self) -> None:
        """Begin to read what has room."""
        ahead = sum(reading.size for reading in self._under_way)
        while self._upcoming and (not self._under_way or ahead + self._upcoming[0].header.size_bytes <= AHEAD_BYTES):
            self._under_way.append(self._begin(self._upcoming.popleft()))
            ahead += self._under_way[-1].size

    def _begin(self, tensor: Stored) -> "_Reading":
        data = torch.empty(tensor.header.size_bytes, dtype=torch.uint8, device=self._device)
        is_free = _mark(self._device)
        begins = range(0, len(data), PIECE_BYTES)
        with uninterrupted():
            pieces = [self._pool.submit(self._read, tensor, data, begin, is_free) for begin in begins]
        return _Reading(tensor, data, pieces)

    @torch.inference_mode()
    def _read(self, tensor: Stored, data: Tensor, begin: int, is_free: Any) -> None:
        """One piece, in a thread of its own."""
        if self._stopped.is_set():
            return
        piece = data[begin : begin + PIECE_BYTES]
        if data.device.type != "cuda":
            tensor.file.fill(tensor.name, begin, piece)
            return
        with torch.cuda.device(data.device):
            buffer, stream = self._own_lane()
            tensor.file.fill(tensor.name, begin, buffer[: len(piece)])
            with torch.cuda.stream(stream):
                stream.wait_event(is_free)
                piece.copy_(buffer[: len(piece)], non_blocking=True)
            stream.synchronize()

    def _own_lane(self) -> Any:
        """Buffer and stream of this thread."""
        if not hasattr(self._lane, "value"):
            buffer = torch.empty(PIECE_BYTES, dtype=torch.uint8, pin_memory=True)
            new_stream: Any = torch.cuda.Stream
            self._lane.value = buffer, new_stream(self._device)
        return self._lane.value


@dataclass(frozen=True)
class _Reading:
    """A tensor whose pieces are being read."""

    tensor: Stored
    data: Tensor  # uint8 [bytes], on the device
    pieces: Sequence["futures.Future[None]"]

    @property
    def size(self) -> int:
        return len(self.data)

    def result(self) -> Tensor:
        """The whole tensor, when it is there."""
        missing = set(self.pieces)
        while missing:
            with uninterrupted():
                missing = futures.wait(missing, TURN_SECONDS, futures.FIRST_EXCEPTION).not_done
            for piece in self.pieces:
                if piece.done():
                    piece.result()
        return self.tensor.file.shaped(self.tensor.name, self.data)


def _mark(device: torch.device) -> Any:
    """An event after all that was asked of a GPU: memory that is given out now may be in use until then."""
    if device.type != "cuda":
        return None
    new_event: Any = torch.cuda.Event
    event = new_event()
    event.record(torch.cuda.current_stream(device))
    return event
