"""Reads tensors of weight files one at a time, straight to their device.

No file is held in host memory as a whole: safetensors and GGUF files are read tensor by tensor (to a GPU through two
small pinned buffers), PyTorch archives are memory-mapped.
"""

import pickle
from collections.abc import Callable, Iterable, Mapping
from io import BufferedReader
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from soundreel.errors import WeightsError
from soundreel.weights.headers import (
    GGUF,
    SAFETENSORS,
    FileHeader,
    TensorHeader,
    check_torch_file,
    open_weights,
    read_header,
)
from soundreel.weights.torchscript import is_torchscript, read_torchscript

STAGING_BYTES = 64 * 2**20

TORCH_DTYPE: Mapping[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
"""PyTorch's element types by the names that safetensors headers use."""

NAME_OF_DTYPE: Mapping[torch.dtype, str] = {dtype: name for name, dtype in TORCH_DTYPE.items()}


class TensorFile(Protocol):
    """The tensors of one file."""

    @property
    def header(self) -> FileHeader:
        """What the file holds."""
        ...

    def read(self, name: str, device: torch.device) -> Tensor:
        """One tensor as it is stored; a quantized GGUF tensor as its bytes, uint8 [rows, bytes per row]."""
        ...

    def fill(self, name: str, begin: int, into: Tensor) -> None:
        """Fill `into`, uint8 on the CPU, with the tensor's bytes from `begin` on; from any thread."""
        ...

    def shaped(self, name: str, data: Tensor) -> Tensor:
        """All bytes of a tensor as `read` gives it."""
        ...


def open_tensors(path: Path) -> TensorFile:
    """Open a .safetensors, .gguf or PyTorch file; `WeightsError` where it is damaged."""
    if path.suffix.lower() in {SAFETENSORS, GGUF}:
        return ByteFile(read_header(path))
    return TorchFile(path)


class ByteFile:
    """A safetensors or GGUF file: tensors lie in it as plain bytes."""

    def __init__(self, header: FileHeader) -> None:
        self.header = header

    def read(self, name: str, device: torch.device) -> Tensor:
        """Read the bytes of `name` once, into memory of `device`."""
        tensor = self.header.tensors[name]
        with open_weights(self.header.path) as file:
            return self.shaped(name, _read_bytes(file, tensor, device))

    def fill(self, name: str, begin: int, into: Tensor) -> None:
        """From the file, which is opened anew."""
        with open_weights(self.header.path) as file:
            file.seek(self.header.tensors[name].offset + begin)
            _fill(file, into)

    def shaped(self, name: str, data: Tensor) -> Tensor:
        """Of the type and shape that the header says."""
        tensor = self.header.tensors[name]
        dtype = TORCH_DTYPE.get(tensor.dtype)
        if dtype is None:
            return data.view(*_rows(tensor))
        return data.view(dtype).view(tensor.shape)


class TorchFile:
    """A flat dictionary of tensors written by `torch.save`, memory-mapped, or the tensors of a TorchScript archive."""

    def __init__(self, path: Path) -> None:
        self._tensors = _load_table(path)
        self.header = FileHeader(path, {name: _describe(tensor) for name, tensor in self._tensors.items()})

    def __reduce__(self) -> tuple[type["TorchFile"], tuple[Path]]:
        """Another process maps the file itself."""
        return TorchFile, (self.header.path,)

    def read(self, name: str, device: torch.device) -> Tensor:
        """Copy `name` out of the mapped file."""
        return self._tensors[name].to(device, copy=True)

    def fill(self, name: str, begin: int, into: Tensor) -> None:
        """Out of the mapped file."""
        stored = self._tensors[name].contiguous().flatten().view(torch.uint8).numpy()
        np.copyto(into.numpy(), stored[begin : begin + len(into)])  # unlike PyTorch's it takes this thread alone

    def shaped(self, name: str, data: Tensor) -> Tensor:
        """Of the type and shape that it has there."""
        tensor = self._tensors[name]
        return data.view(tensor.dtype).view(tensor.shape)


def read_all(files: Iterable[TensorFile]) -> Mapping[str, tuple[TensorFile, TensorHeader]]:
    """Tensors of all files by name; `WeightsError` if two files have a tensor of the same name."""
    found: dict[str, tuple[TensorFile, TensorHeader]] = {}
    for file in files:
        for name, header in file.header.tensors.items():
            if name in found:
                first, second = found[name][0].header.path.name, file.header.path.name
                raise WeightsError(f"tensor {name!r} is in both {first!r} and {second!r}: expected it once")
            found[name] = (file, header)
    return found


def _load_table(path: Path) -> Mapping[str, Tensor]:
    check_torch_file(path)
    if is_torchscript(path):
        return read_torchscript(path)
    try:
        table = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{str(path)!r} is damaged or holds more than tensors ({reason})") from error
    if not isinstance(table, dict) or not all(isinstance(value, Tensor) for value in table.values()):
        raise WeightsError(f"{str(path)!r} holds something else than a flat table of tensors")
    return table


def _describe(tensor: Tensor) -> TensorHeader:
    return TensorHeader(
        dtype=NAME_OF_DTYPE.get(tensor.dtype, str(tensor.dtype)),
        shape=tuple(tensor.shape),
        offset=0,
        size_bytes=tensor.nbytes,
    )


def _rows(tensor: TensorHeader) -> tuple[int, int]:
    rows = tensor.shape[0]
    return rows, tensor.size_bytes // rows


def _read_bytes(file: BufferedReader, tensor: TensorHeader, device: torch.device) -> Tensor:
    """The tensor's bytes, uint8 [size_bytes], on `device`."""
    file.seek(tensor.offset)
    if device.type != "cuda":
        data = torch.empty(tensor.size_bytes, dtype=torch.uint8)
        _fill(file, data)
        return data.to(device)
    data = torch.empty(tensor.size_bytes, dtype=torch.uint8, device=device)
    _stream_to_gpu(file, data)
    return data


def _stream_to_gpu(file: BufferedReader, data: Tensor) -> None:
    """Fill `data` on a GPU through two pinned buffers: one is read into while the other is copied."""
    size = min(STAGING_BYTES, max(len(data), 1))
    new_event: Callable[[], Any] = torch.cuda.Event
    turns = cycle((torch.empty(size, dtype=torch.uint8, pin_memory=True), new_event()) for _ in range(2))
    for part, (buffer, copied) in zip(torch.split(data, size), turns, strict=False):
        copied.synchronize()
        _fill(file, buffer[: len(part)])
        part.copy_(buffer[: len(part)], non_blocking=True)
        copied.record(torch.cuda.current_stream(data.device))


def _fill(file: BufferedReader, data: Tensor) -> None:
    """Fill `data` (uint8 on the CPU) from the file."""
    room = memoryview(data.numpy().data)
    done = 0
    while done < len(room):
        count = file.readinto(room[done:])
        if not count:
            raise WeightsError(f"{file.name!r} ended while it was read: was it replaced or cut off?")
        done += count
