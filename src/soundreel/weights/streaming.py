"""Weights in host memory that are copied to the device when they are needed, by hooks on the networks' modules.

The matrices of a block's linear layers are nearly all of its bytes; only these are streamed, other tensors stay on the
device. Each block's matrices lie in one flat host buffer, which is copied into one of a few device buffers on a CUDA
stream of its own while earlier blocks compute. A block's parameters are views of its device buffer from the beginning,
so that no parameter is exchanged during a step, and the host waits for no copy.
"""

import logging
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

ALIGNMENT_BYTES = 256
"""Alignment of every tensor in a flat buffer, that of cudaMalloc, which kernels may expect."""

BUFFERS = 2
"""Device buffers: one block computes while the next one is copied."""

CPU = torch.device("cpu")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """A parameter or buffer of a module."""

    holder: nn.Module
    leaf: str

    @property
    def tensor(self) -> Tensor:
        value = getattr(self.holder, self.leaf)
        assert isinstance(value, Tensor)
        return value

    def put(self, values: Tensor) -> None:
        """Replace the tensor by `values`, as a parameter or buffer of the same kind, quantized or not."""
        before: Any = self.tensor
        if is_packed(before):
            values = type(before)(values, quant_type=before.quant_type)
        elif isinstance(before, nn.Parameter):
            values = nn.Parameter(values, requires_grad=False)
        setattr(self.holder, self.leaf, values)


def places(module: nn.Module) -> Iterator[Place]:
    """Every parameter and buffer of a module and its submodules."""
    for holder in module.modules():
        for leaf, tensor in (*holder._parameters.items(), *holder._buffers.items()):
            if tensor is not None:
                yield Place(holder, leaf)


def matrices(block: nn.Module, apart: Iterable[nn.Module] = ()) -> list[Place]:
    """The weight matrices of a block, adapters included, except those of the layers `apart`."""
    elsewhere = {id(module) for layer in apart for module in layer.modules()}
    return [
        place
        for place in places(block)
        if place.leaf == "weight" and place.tensor.ndim > 1 and id(place.holder) not in elsewhere
    ]


def to_host(found: Iterable[Place]) -> None:
    for place in found:
        place.put(plain(place.tensor).to(CPU))


def plain(tensor: Tensor) -> Tensor:
    """The tensor as a plain one, detached, not a parameter."""
    packed: Any = tensor
    values: Tensor = packed.as_tensor() if is_packed(tensor) else tensor
    return values.detach()


def is_packed(tensor: Tensor) -> bool:
    """Whether it is diffusers' `GGUFParameter`, told by what it has: to import that takes seconds."""
    return hasattr(tensor, "quant_type")


def spread(count: int, streamed: int) -> list[int]:
    """Indices of `streamed` blocks out of `count`, evenly spread, so that copies overlap with the blocks between."""
    return [k for k in range(count) if (k + 1) * streamed // count > k * streamed // count]


class BlockStream:
    """Streams the matrices of blocks to the device for each use.

    Keep the object as long as the blocks are used. Calling the blocks in the given order is fast, any other order works
    too. Without a GPU the copies are synchronous.

    Args:
        blocks: of one network, in the order of their use, their other tensors on `device` already.
        device: where they compute.
        apart: layers in them whose weights are not streamed.
        uses: calls of a block in a row, before the next block is called.
        buffers: blocks that have room on the device at once.
        pinned: whether to page-lock the host memory, which takes time and pays off after a few uses.
    """

    def __init__(
        self,
        blocks: Iterable[nn.Module],
        device: torch.device,
        *,
        apart: Iterable[nn.Module] = (),
        uses: int = 1,
        buffers: int = BUFFERS,
        pinned: bool = True,
    ) -> None:
        self._uses, self._calls = uses, 0
        self._at: int | None = None
        blocks, apart = list(blocks), list(apart)
        self._blocks = [_Flat(matrices(block, apart)) for block in blocks]
        room = max((flat.size for flat in self._blocks), default=0)
        self._timeline = _GpuTimeline(device) if device.type == "cuda" else _HostTimeline()
        count = min(buffers, len(self._blocks))
        self._buffers = [_Buffer(room, device, self._timeline) for _ in range(count)]
        for number, flat in enumerate(self._blocks):
            flat.settle(self._buffers[number % count].memory)
        if pinned and device.type == "cuda":
            self._locked = LockedMemory(flat.memory for flat in self._blocks if flat.size)
        self._handles = [handle for number, block in enumerate(blocks) for handle in self._hook(number, block)]
        for number in range(count):
            self._load(number)

    def _hook(self, number: int, block: nn.Module) -> Iterator[Any]:
        yield block.register_forward_pre_hook(lambda *_: self._before(number))
        yield block.register_forward_hook(lambda *_: self._after(number))

    def _before(self, number: int) -> None:
        if self._at != number:
            self._leave()
            self._at, self._calls = number, 0
        if self._buffer(number).holds != number:
            self._load(number)
        self._timeline.await_copy(self._buffer(number))

    def _after(self, number: int) -> None:
        self._timeline.mark_used(self._buffer(number))
        self._calls += 1
        if self._calls == self._uses:
            self._leave()

    def _leave(self) -> None:
        """The block is finished: copy the block that has its buffer next."""
        number, self._at = self._at, None
        if number is None:
            return
        following = number + len(self._buffers)
        following = following if following < len(self._blocks) else number % len(self._buffers)
        if following != number:
            self._load(following)

    def _load(self, number: int) -> None:
        buffer = self._buffer(number)
        buffer.holds = number
        self._timeline.copy(self._blocks[number].memory, buffer)

    def _buffer(self, number: int) -> "_Buffer":
        return self._buffers[number % len(self._buffers)]


class _Flat:
    """The matrices of one block in one host buffer."""

    def __init__(self, found: Sequence[Place]) -> None:
        spans = [-(-place.tensor.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES for place in found]
        self.size = sum(spans)
        self.memory = torch.empty(self.size, dtype=torch.uint8)
        self._matrices = [
            _Matrix(place, end - span) for place, span, end in zip(found, spans, accumulate(spans), strict=True)
        ]
        for matrix in self._matrices:
            matrix.pack(self.memory)

    def settle(self, memory: Tensor) -> None:
        """Make the parameters views of a device buffer."""
        for matrix in self._matrices:
            matrix.settle(memory)


class _Matrix:
    """One matrix in a flat buffer."""

    def __init__(self, place: Place, begin: int) -> None:
        values = plain(place.tensor)
        self._place, self._span = place, slice(begin, begin + values.nbytes)
        self._shape, self._dtype = values.shape, values.dtype

    def pack(self, memory: Tensor) -> None:
        values = plain(self._place.tensor)
        memory[self._span].copy_(values.contiguous().flatten().view(torch.uint8))
        self._place.put(values.new_empty(self._shape[0], 0))  # or host memory would hold the values twice

    def settle(self, memory: Tensor) -> None:
        self._place.put(memory[self._span].view(self._dtype).view(self._shape))


class _Buffer:
    """Device memory for one block at a time."""

    def __init__(self, size: int, device: torch.device, timeline: "_GpuTimeline | _HostTimeline") -> None:
        self.memory = torch.empty(size, dtype=torch.uint8, device=device)
        self.holds: int | None = None
        self.copied, self.used = timeline.new_marks()


class _HostTimeline:
    """Synchronous copies."""

    def new_marks(self) -> tuple[Any, Any]:
        return None, None

    def copy(self, source: Tensor, buffer: _Buffer) -> None:
        buffer.memory[: len(source)].copy_(source)

    def await_copy(self, buffer: _Buffer) -> None:
        """It was there when `copy` returned."""

    def mark_used(self, buffer: _Buffer) -> None:
        """It was used when the block returned."""


class _GpuTimeline:
    """Copies on a CUDA stream of their own; events order them with the computation."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        new_stream: Any = torch.cuda.Stream
        self._copies = new_stream(device)

    def new_marks(self) -> tuple[Any, Any]:
        new_event: Any = torch.cuda.Event
        used = new_event()
        used.record(torch.cuda.current_stream(self._device))  # the memory may have been another tensor's
        return new_event(), used

    def copy(self, source: Tensor, buffer: _Buffer) -> None:
        buffer.memory.record_stream(self._copies)
        with torch.cuda.stream(self._copies):
            self._copies.wait_event(buffer.used)
            buffer.memory[: len(source)].copy_(source, non_blocking=True)
            buffer.copied.record(self._copies)

    def await_copy(self, buffer: _Buffer) -> None:
        torch.cuda.current_stream(self._device).wait_event(buffer.copied)

    def mark_used(self, buffer: _Buffer) -> None:
        buffer.used.record(torch.cuda.current_stream(self._device))


class OffloadedLayers:
    """Layers that are used once per clip: their tensors are on the device while they compute, else in host memory."""

    def __init__(self, layers: Iterable[nn.Module], device: torch.device) -> None:
        self._device = device
        self._waiting: dict[nn.Module, list[Tensor]] = {}
        for layer in layers:
            to_host(places(layer))
            layer.register_forward_pre_hook(self._fetch)
            layer.register_forward_hook(self._offload)

    def _fetch(self, layer: nn.Module, _: Any) -> None:
        found = list(places(layer))
        self._waiting[layer] = [plain(place.tensor) for place in found]
        for place in found:
            place.put(plain(place.tensor).to(self._device))

    def _offload(self, layer: nn.Module, *_: Any) -> None:
        for place, values in zip(list(places(layer)), self._waiting.pop(layer), strict=True):
            place.put(values)


class LockedMemory:
    """Page-locks host memory until this object is deleted, so that copies overlap with computation.

    The memory is locked in place, as PyTorch's pinned memory is rounded up to powers of two. Where the system refuses,
    a warning is logged, and copies are slower. `nbytes` are locked.
    """

    def __init__(self, buffers: Iterable[Tensor]) -> None:
        find_runtime: Any = torch.cuda.cudart
        runtime = find_runtime()
        locked: list[Tensor] = []
        for buffer in buffers:
            status = runtime.cudaHostRegister(buffer.data_ptr(), buffer.nbytes, 0)
            if status != runtime.cudaError.success:
                log.warning("host memory cannot be locked for the GPU (%s): streaming weights is slower", status)
                with suppress(RuntimeError):  # the next kernel would be blamed for it
                    torch.zeros(1, device="cuda")
                break
            locked.append(buffer)
        self.nbytes = sum(buffer.nbytes for buffer in locked)
        self._finalizer = weakref.finalize(self, _unlock, runtime, locked)


def _unlock(runtime: Any, buffers: Sequence[Tensor]) -> None:
    torch.cuda.synchronize()  # a copy may still read it
    for buffer in buffers:
        runtime.cudaHostUnregister(buffer.data_ptr())
