"""Headers of weight files: names, shapes and types of their tensors, read without tensor data and without torch.

A file that is cut off or is not of the kind that its name says raises `WeightsError` here.
"""

import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

from soundreel.disk.plain_json import parse_json
from soundreel.errors import INSTALL_NATIVE, WeightsError

SAFETENSORS, TORCH, GGUF = ".safetensors", ".pth", ".gguf"
TORCH_SUFFIXES = frozenset({TORCH, ".pt", ".bin"})
WEIGHT_SUFFIXES = frozenset({SAFETENSORS, GGUF, *TORCH_SUFFIXES})

MAX_HEADER_BYTES = 100_000_000
"""Limit of the safetensors format itself."""

BITS_OF_DTYPE = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "I8": 8, "U8": 8, "BOOL": 8,
}  # fmt: skip
"""Width of the element types of safetensors files."""

GIT_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class TensorHeader:
    """One tensor of a file: its element type by name, its shape, and where its bytes are."""

    dtype: str  # as safetensors writes it (BF16, F8_E4M3 …), or GGUF's quantization (Q4_K …)
    shape: tuple[int, ...]
    offset: int  # of the first byte in the file
    size_bytes: int


@dataclass(frozen=True)
class FileHeader:
    """Names and shapes of all tensors in a file, and its metadata."""

    path: Path
    tensors: Mapping[str, TensorHeader]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_header(path: Path) -> FileHeader:
    """The header of a safetensors or GGUF file; `WeightsError` if the file is damaged or something else."""
    with open_weights(path) as file:
        size = os.fstat(file.fileno()).st_size
        _refuse_pointer(path, file)
        if path.suffix.lower() == GGUF:
            return _read_gguf_header(path, size)
        return _read_safetensors_header(path, file, size)


def open_weights(path: Path) -> BufferedReader:
    """Open for reading; `WeightsError` with the system's reason if that fails."""
    try:
        return path.open("rb")
    except OSError as error:
        raise WeightsError(f"cannot read {str(path)!r}: {error.strerror}") from error


def check_torch_file(path: Path) -> None:
    """Raise `WeightsError` unless `path` is a whole PyTorch zip archive; its content is not unpickled."""
    with open_weights(path) as file:
        _refuse_pointer(path, file)
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile as error:
            size = os.fstat(file.fileno()).st_size
            raise WeightsError(
                f"{str(path)!r} ({size:,} bytes) is cut off or not a PyTorch file: download it again"
            ) from error
    if not any(name.endswith("/data.pkl") for name in names):
        raise WeightsError(f"{str(path)!r} is a zip archive, but not one that PyTorch saved")


def _refuse_pointer(path: Path, file: BufferedReader) -> None:
    start = file.read(len(GIT_LFS_POINTER))
    file.seek(0)
    if start == GIT_LFS_POINTER:
        raise WeightsError(f"{str(path)!r} is a Git LFS pointer, not the weights: run `git lfs pull`")
    if not start:
        raise WeightsError(f"{str(path)!r} is empty: download it again")


def _read_safetensors_header(path: Path, file: BufferedReader, size: int) -> FileHeader:
    """Layout: 8 bytes little-endian header length, JSON header, tensor data."""
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise _not_safetensors(path)
    begin = 8 + length
    if begin > size:
        raise _cut_off(path, size, begin)
    try:
        table = parse_json(file.read(length))
        metadata = table.pop("__metadata__", {})
        tensors = {name: _tensor_header(entry, begin) for name, entry in table.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_safetensors(path) from error
    end = max((tensor.offset + tensor.size_bytes for tensor in tensors.values()), default=begin)
    if end > size:
        raise _cut_off(path, size, end)
    return FileHeader(path=path, tensors=tensors, metadata=metadata)


def _tensor_header(entry: Mapping[str, Any], begin: int) -> TensorHeader:
    start, stop = entry["data_offsets"]
    if not 0 <= start <= stop:
        raise ValueError(f"no tensor lies from byte {start} to {stop}")
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    bits = BITS_OF_DTYPE.get(dtype)
    if bits is not None and math.prod(shape) * bits != 8 * (stop - start):
        raise ValueError(f"{dtype} {shape} does not take {stop - start} bytes")
    return TensorHeader(dtype=dtype, shape=shape, offset=begin + start, size_bytes=stop - start)


def _read_gguf_header(path: Path, size: int) -> FileHeader:
    """Shapes outermost axis first, as in PyTorch; quantized tensors have their logical shape."""
    try:
        from gguf import GGUFReader  # noqa: PLC0415 - part of the native engine, and only GGUF files need it
    except ModuleNotFoundError as error:
        raise WeightsError(
            f"{str(path)!r} is a GGUF file: reading it needs the package gguf: {INSTALL_NATIVE}"
        ) from error
    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError, KeyError) as error:  # IndexError: the table runs past the end
        raise WeightsError(
            f"{str(path)!r} ({size:,} bytes) is cut off or not a GGUF file: download it again"
        ) from error
    tensors = {
        tensor.name: TensorHeader(
            dtype=tensor.tensor_type.name,
            shape=_gguf_shape(reader, tensor),
            offset=int(tensor.data_offset),
            size_bytes=int(tensor.n_bytes),
        )
        for tensor in reader.tensors
    }
    architecture = reader.get_field("general.architecture")
    return FileHeader(
        path=path,
        tensors=tensors,
        metadata={} if architecture is None else {"general.architecture": architecture.contents()},
    )


def _gguf_shape(reader: Any, tensor: Any) -> tuple[int, ...]:
    """GGUF has at most four axes: ComfyUI's converter stores the shape of larger tensors as metadata."""
    original = reader.get_field(f"comfy.gguf.orig_shape.{tensor.name}")
    if original is not None:
        return tuple(original.contents())
    return tuple(int(length) for length in reversed(tensor.shape))


def _not_safetensors(path: Path) -> WeightsError:
    return WeightsError(f"{str(path)!r} is not a safetensors file, or its header is damaged: download it again")


def _cut_off(path: Path, size: int, expected: int) -> WeightsError:
    return WeightsError(f"{str(path)!r} is cut off: {size:,} of {expected:,} bytes: download it again")
