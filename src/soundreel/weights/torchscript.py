"""Reads the tensors of a TorchScript archive without running or importing any of its code.

The archive's `data.pkl` describes a tree of modules; its tensors are plain bytes in `data/`. The tree is unpickled with
a few harmless stand-ins: a module becomes an object with its attributes, anything else is refused. A tensor's name is
its path through the tree, as in a state dict.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from soundreel.errors import WeightsError

STORAGES: Mapping[str, torch.dtype] = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
"""Element types by the names that archives use."""


def is_torchscript(path: Path) -> bool:
    """Whether a PyTorch zip archive is a TorchScript program."""
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """All tensors by name, on the CPU; `WeightsError` if the archive is damaged or holds other objects."""
    try:
        with zipfile.ZipFile(path) as archive:
            table = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(table) as file:
                tree = _Reader(file, archive, table.removesuffix("data.pkl")).load()
    except (pickle.UnpicklingError, EOFError, KeyError, IndexError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{str(path)!r} is damaged or holds more than tensors ({reason})") from error
    return dict(_tensors(tree, ""))


class _Module:
    """A module of the archive's program: only its attributes are kept."""

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state)


class _Reader(pickle.Unpickler):
    """An unpickler that accepts tensors, plain containers and modules only."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive, self._folder = archive, folder
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Module
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _STAND_INS[module, name]

    def persistent_load(self, key: Any) -> Tensor:
        _, dtype, name, *_ = key
        if name not in self._storages:
            data = bytearray(self._archive.read(f"{self._folder}data/{name}"))
            self._storages[name] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self._storages[name]


def _rebuild(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    return storage.as_strided(tuple(size), tuple(stride), offset)


def _first(value: Any, *_: Any) -> Any:
    return value


_STAND_INS: Mapping[tuple[str, str], Any] = {
    **{("torch", name): dtype for name, dtype in STORAGES.items()},
    **{("torch.jit._pickle", f"build_{kind}list"): list for kind in ("int", "double", "bool", "tensor")},
    ("torch.jit._pickle", "restore_type_tag"): _first,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("collections", "OrderedDict"): OrderedDict,
}
"""All that an archive may name beside its own modules."""


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, _Module):
        for attribute, child in vars(value).items():
            yield from _tensors(child, f"{name}.{attribute}" if name else attribute)
