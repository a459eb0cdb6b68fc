"""Build a network on the meta device, check its weights strictly, and read them straight to their device."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from soundreel.errors import WeightsError
from soundreel.weights.keys import Shapes, name_some
from soundreel.weights.quantized import Fp8Linear
from soundreel.weights.read import TORCH_DTYPE, TensorFile, open_tensors
from soundreel.weights.reading import TensorReader
from soundreel.weights.stored import Stored, collect

GGUF_AXES = 4
"""Axes that a tensor in a GGUF file can have."""

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class LoadProgress:
    """Bytes read of a component."""

    component: str
    done_bytes: int
    total_bytes: int


OnLoad: TypeAlias = Callable[[LoadProgress], None]
"""Called after every tensor; may raise `Cancelled`."""


OnPart: TypeAlias = Callable[[str, nn.Module], None]
"""Called with name and module of every block of a network when its last tensor has been read, to change or move it."""

PART_NAME = re.compile(r"(?:.*?\.)??\w+\.\d+(?=\.)")
"""`blocks.3` of `blocks.3.ffn.net.2.weight`."""


class Rename(Protocol):
    """From a stored tensor's name to ours; None for a known tensor that is not needed."""

    def __call__(self, name: str, /) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """How to build a network for one checkpoint, and how to rename its tensors."""

    rename: Rename
    build: Callable[[Shapes], nn.Module]
    """Shapes under our names → the module, on the default device. `KeyError` if a tensor that decides a size is
    missing."""

    tied: frozenset[str] = frozenset()
    """Tensors by our names that a checkpoint may hold twice, under two names of its own."""


@dataclass(frozen=True, kw_only=True)
class ComponentSpec:
    """How to load one kind of network."""

    name: str  # as messages call it
    blueprint: Callable[[Shapes, Mapping[str, Any]], Blueprint]
    """From the shapes in a checkpoint, under its own names, and the content of its config.json (may be empty)."""


def load_component(
    spec: ComponentSpec,
    paths: Sequence[Path],
    *,
    config: Mapping[str, Any] | None = None,
    device: torch.device | str = CPU,
    dtype: torch.dtype = torch.float32,
    on_load: OnLoad | None = None,
    on_part: OnPart | None = None,
) -> nn.Module:
    """Load a network from one file or its shards, ready to compute in `dtype` on `device`.

    Each byte is read once; with `on_part` block after block, so that a network whose blocks are moved elsewhere need
    not fit on `device`. Float8 and GGUF weights of linear layers stay quantized; all other tensors are converted to
    `dtype`.

    Raises:
        WeightsError: tensors are missing, unexpected or of another shape; names them.
    """
    module, stored = _build(spec, [open_tensors(path) for path in paths], config or {})
    target = _Target(torch.device(device), dtype)
    _keep_quantized(module, stored, target)
    slots = _slots(module)
    _check(spec, slots, stored)
    _fill(spec, slots, stored, target, on_load, _Parts(module, slots, on_part))
    assert not any(tensor.is_meta for tensor in module.buffers()), "a buffer outside the state dict has no value"
    return module.eval()


def outline_component(
    spec: ComponentSpec, paths: Sequence[Path], config: Mapping[str, Any] | None = None
) -> tuple[nn.Module, Mapping[str, Stored]]:
    """The network on the meta device, and its stored tensors by our names; only headers are read.

    Raises:
        WeightsError: for all that loading would refuse.
    """
    module, stored = _build(spec, [open_tensors(path) for path in paths], config or {})
    _check(spec, _slots(module), stored)
    return module, stored


def _build(
    spec: ComponentSpec, files: Sequence[TensorFile], config: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Stored]]:
    """The module on the meta device, and its stored tensors by our names."""
    found = collect(files)
    shapes = {name: tensor.header.shape for name, tensor in found.items()}
    try:
        blueprint = spec.blueprint(shapes, config)
        stored = _renamed(found, blueprint)
        with torch.device("meta"), WithoutInitialValues():
            module = blueprint.build({name: tensor.header.shape for name, tensor in stored.items()})
    except KeyError as error:
        raise WeightsError(f"{_names(files)} is no whole {spec.name}: {error.args[0]!r} is missing") from error
    except (IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        raise WeightsError(f"{_names(files)} is no {spec.name} that soundreel knows ({error})") from error
    return module, stored


class WithoutInitialValues(TorchFunctionMode):
    """Within, layers draw no initial values, which nobody reads.

    To draw them on the meta device imports torch._dynamo and a thousand modules more, which takes seconds.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called for every function of PyTorch; those of `torch.nn.init` return the tensor as it is."""
        del types
        given = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def _renamed(found: Mapping[str, Stored], blueprint: Blueprint) -> dict[str, Stored]:
    ours: dict[str, Stored] = {}
    for name, tensor in found.items():
        new_name = blueprint.rename(name)
        if new_name is None:
            continue
        first = ours.setdefault(new_name, tensor)
        if first is not tensor and new_name not in blueprint.tied:
            raise WeightsError(
                f"{tensor.file.header.path.name} holds one tensor twice, as {first.name!r} and as {name!r}: "
                "download the model again"
            )
    return ours


def _names(files: Sequence[TensorFile]) -> str:
    return ", ".join(file.header.path.name for file in files)


@dataclass(frozen=True)
class _Slot:
    """A parameter or buffer of the module, with all the names that share it (tied weights)."""

    names: tuple[str, ...]
    value: Tensor
    holders: tuple[tuple[nn.Module, str], ...]

    def put(self, value: Tensor) -> None:
        for holder, leaf in self.holders:
            setattr(holder, leaf, value)


@dataclass(frozen=True)
class _Target:
    device: torch.device
    dtype: torch.dtype

    @property
    def read_on(self) -> torch.device:
        """Where tensors are read and unpacked: Apple's GPUs have neither float8 nor float64."""
        return CPU if self.device.type == "mps" else self.device

    @property
    def keeps_float8(self) -> bool:
        """Whether the device can hold and widen float8 weights."""
        return self.device.type != "mps"


def _slots(module: nn.Module) -> list[_Slot]:
    names: dict[int, list[str]] = {}
    values: dict[int, Tensor] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        names.setdefault(id(value), []).append(name)
        values[id(value)] = value
    return [
        _Slot(tuple(tied), values[key], tuple(_holder(module, name) for name in tied)) for key, tied in names.items()
    ]


def _holder(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def _keep_quantized(module: nn.Module, stored: Mapping[str, Stored], target: _Target) -> None:
    """Replace linear layers whose weights are stored quantized by layers that compute with those."""
    for name, layer in list(module.named_modules()):
        weight = stored.get(f"{name}.weight")
        if not isinstance(layer, nn.Linear) or weight is None:
            continue
        replacement = _quantized_linear(layer, weight, target)
        if replacement is not None:
            path, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(path), leaf, replacement)


def _quantized_linear(layer: nn.Linear, weight: Stored, target: _Target) -> nn.Module | None:
    if weight.is_float8 and target.keeps_float8:
        return Fp8Linear(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            float8=TORCH_DTYPE[weight.header.dtype],
            scale_shape=weight.scale_shape,
            device="meta",
        )
    if weight.is_quantized_gguf and type(layer) is nn.Linear:  # others compute in a type of their own
        made: nn.Module = _packed().packed_linear(layer, target.dtype)
        return made
    return None


def _check(spec: ComponentSpec, slots: Sequence[_Slot], stored: Mapping[str, Stored]) -> None:
    """Raise `WeightsError` naming tensors that are missing, unexpected, of another shape, or no floats."""
    ours = {name for slot in slots for name in slot.names}
    faults = {
        "missing": [slot.names[0] for slot in slots if not any(name in stored for name in slot.names)],
        "unexpected": [tensor.name for name, tensor in stored.items() if name not in ours],
        "misshapen": [
            f"{tensor.name} {list(tensor.header.shape)} instead of {list(slot.value.shape)}"
            for slot in slots
            if (tensor := _value_of(slot, stored)) and not _fits(tensor, slot)
        ],
        "of a type that is no float": [
            f"{tensor.name} {tensor.header.dtype}"
            for slot in slots
            if (tensor := _value_of(slot, stored)) and not tensor.is_float
        ],
    }
    found = "; ".join(
        f"{len(names)} tensor{'s' * (len(names) > 1)} {kind}: {name_some(names)}"
        for kind, names in faults.items()
        if names
    )
    if found:
        names = ", ".join(sorted({tensor.file.header.path.name for tensor in stored.values()}))
        raise WeightsError(f"{names} does not fit the {spec.name}: {found}")


def _value_of(slot: _Slot, stored: Mapping[str, Stored]) -> Stored | None:
    return next((stored[name] for name in slot.names if name in stored), None)


def _fits(tensor: Stored, slot: _Slot) -> bool:
    """Whether the shapes are equal; GGUF, with four axes at most, may have merged some."""
    expected = tuple(slot.value.shape)
    if len(expected) > GGUF_AXES and tensor.is_gguf:
        return math.prod(tensor.header.shape) == math.prod(expected)
    return tensor.header.shape == expected


class _Parts:
    """Calls `on_part` when the last tensor of a block has been read."""

    def __init__(self, module: nn.Module, slots: Sequence[_Slot], on_part: OnPart | None) -> None:
        self._module, self._on_part = module, on_part
        self._missing = Counter(part for slot in slots if (part := _part_name(slot)))
        self._turns = {part: number for number, part in enumerate(self._missing, start=1)}

    def turn(self, slot: _Slot) -> int:
        """Sort key of a tensor for reading: block after block, after the tensors that are in no block."""
        return self._turns.get(_part_name(slot) or "", 0) if self._on_part is not None else 0

    def arrived(self, slot: _Slot) -> None:
        part = _part_name(slot)
        if part is None or self._on_part is None:
            return
        self._missing[part] -= 1
        if self._missing[part] == 0:
            self._on_part(part, self._module.get_submodule(part))


def _part_name(slot: _Slot) -> str | None:
    found = PART_NAME.match(slot.names[0])
    return found.group() if found else None


def _fill(
    spec: ComponentSpec,
    slots: Sequence[_Slot],
    stored: Mapping[str, Stored],
    target: _Target,
    on_load: OnLoad | None,
    parts: _Parts,
) -> None:
    """Read every tensor once, in the order of the files, or block after block where `on_part` is called."""
    work = [(tensor, slot) for slot in slots if (tensor := _value_of(slot, stored))]
    work.sort(key=lambda pair: (parts.turn(pair[1]), str(pair[0].file.header.path), pair[0].header.offset))
    total = sum(tensor.size_bytes for tensor, _ in work)
    done = 0
    with TensorReader([tensor for tensor, _ in work], target.read_on) as reader:
        values = iter(reader)
        for tensor, slot in work:
            _put(next(values), tensor, slot, target)
            parts.arrived(slot)
            done += tensor.size_bytes
            if on_load is not None:
                on_load(LoadProgress(component=spec.name, done_bytes=done, total_bytes=total))


def _put(value: Tensor, tensor: Stored, slot: _Slot, target: _Target) -> None:
    layer, leaf = slot.holders[0]
    if isinstance(layer, Fp8Linear) and leaf == "weight":
        layer.scale = _read_scale(tensor, target.device)
        slot.put(nn.Parameter(value.view(torch.int8), requires_grad=False))
    elif tensor.is_quantized_gguf:
        slot.put(_gguf_value(tensor, slot, value, target))
    else:
        if tensor.is_float8:
            value = value.to(torch.float32) * _read_scale(tensor, target.read_on)
        value = value.to(target.dtype).to(target.device)
        slot.put(_like(slot.value, value.reshape(slot.value.shape)))


def _read_scale(weight: Stored, device: torch.device) -> Tensor:
    if weight.scale is None:
        return torch.ones((), device=device)
    return weight.scale.read(device).to(torch.float32).reshape(weight.scale_shape)


def _gguf_value(tensor: Stored, slot: _Slot, value: Tensor, target: _Target) -> Tensor:
    """Packed values for a linear layer that unpacks them for every use, else unpacked ones."""
    gguf, kind = _packed(), tensor.header.dtype
    if gguf.takes_packed(slot.holders[0][0]):
        held: Tensor = gguf.packed(value.to(target.device), kind)
        return held
    numbers = gguf.unpacked(value, kind).to(target.dtype).to(target.device)
    return _like(slot.value, numbers.reshape(slot.value.shape))


def _packed() -> ModuleType:
    """What only GGUF files need."""
    return import_module("soundreel.weights.packed")


def _like(empty: Tensor, value: Tensor) -> Tensor:
    """`value` as a parameter where the module has one, else as a plain tensor for a buffer."""
    return nn.Parameter(value, requires_grad=False) if isinstance(empty, nn.Parameter) else value
