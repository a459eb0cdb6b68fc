"""The weights of a checkpoint by the names used there, each with the scale that it is stored with.

Float8 comes in four forms, told apart tensor by tensor: `X.weight` with `X.scale_weight` (and one marker tensor
`scaled_fp8`), with `X.weight_scale` and `X.comfy_quant` (JSON in a uint8 tensor), with `X.weight_scale` and the
format in the header's metadata, or without any scale. The weight's value is float8 value × scale.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from soundreel.disk.plain_json import parse_json
from soundreel.errors import WeightsError
from soundreel.weights.headers import GGUF, FileHeader, TensorHeader
from soundreel.weights.read import TORCH_DTYPE, TensorFile, read_all

FLOAT8_FORMATS = ("float8_e4m3fn", "float8_e5m2")
FLOAT8_NAMES = ("F8_E4M3", "F8_E5M2")

SCALE_SUFFIXES = (".scale_weight", ".weight_scale")
UNUSED_SUFFIXES = (".scale_input", ".input_scale")
"""Scales of activations, which are not used: activations are scaled by their own values."""

FORMAT_SUFFIX = ".comfy_quant"
METADATA_KEY = "_quantization_metadata"
MARKER = "scaled_fp8"


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, with its scale."""

    file: TensorFile
    name: str  # in the file
    header: TensorHeader
    scale: "Stored | None" = None

    @property
    def is_float8(self) -> bool:
        """Whether the values are float8, with or without a scale."""
        return self.header.dtype in FLOAT8_NAMES

    @property
    def is_gguf(self) -> bool:
        """Whether it is from a GGUF file, quantized or not."""
        return self.file.header.path.suffix.lower() == GGUF

    @property
    def is_quantized_gguf(self) -> bool:
        """Whether it is quantized by GGUF, to be unpacked for every use."""
        return self.is_gguf and self.header.dtype not in TORCH_DTYPE

    @property
    def is_float(self) -> bool:
        """Whether the values are floats of some kind, as all our weights are."""
        dtype = TORCH_DTYPE.get(self.header.dtype)
        return self.is_gguf if dtype is None else dtype.is_floating_point

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """[] for one scale, [O, 1, …] for one per row of the weight; `WeightsError` for any other number."""
        count = 1 if self.scale is None else math.prod(self.scale.header.shape)
        rows, *others = self.header.shape or (1,)
        if count == 1:
            return ()
        if count == rows and self.scale is not None and self.scale.header.shape[0] == rows:
            return (rows, *[1] * len(others))
        raise WeightsError(f"tensor {self.name!r} has {count} scales: expected one, or one for each of {rows} rows")

    @property
    def size_bytes(self) -> int:
        """Bytes to read, scale included."""
        return self.header.size_bytes + (self.scale.header.size_bytes if self.scale else 0)

    def read(self, device: torch.device) -> Tensor:
        return self.file.read(self.name, device)


@dataclass(frozen=True)
class _Scales:
    """Tensors of a component that describe how others are stored."""

    scale_of: Mapping[str, str]  # weight → its scale
    format_of: Mapping[str, str]  # weight → the tensor with its format as JSON
    others: frozenset[str]  # formats, markers and scales of activations: read for no weight


def collect(files: Sequence[TensorFile]) -> dict[str, Stored]:
    """The weights by their names in the files, each with its scale; `WeightsError` for an unknown quantization."""
    found = read_all(files)
    scales = _find_scales(found)
    _check_formats(found, scales, files)
    stored = {name: Stored(file, name, header) for name, (file, header) in found.items() if name not in scales.others}
    for weight, name in scales.scale_of.items():
        if stored[weight].is_float8:  # a scale of anything else stays, and is unexpected
            stored[weight] = replace(stored[weight], scale=stored.pop(name))
    return stored


def _check_formats(
    found: Mapping[str, tuple[TensorFile, TensorHeader]], scales: _Scales, files: Sequence[TensorFile]
) -> None:
    for file in files:
        _check_metadata(file.header)
    for weight, name in scales.format_of.items():
        stated = found[name][0].read(name, torch.device("cpu"))
        _check_format(weight, bytes(stated.tolist()).decode("utf-8", errors="replace"))


def _find_scales(names: Iterable[str]) -> _Scales:
    """Find scales, formats and markers among the tensors of a component, by their names."""
    names = frozenset(names)
    scale_of, format_of, others = {}, {}, set()
    for name in names:
        layer, _, suffix = name.rpartition(".")
        weight = f"{layer}.weight"
        if name == MARKER or name.endswith(f".{MARKER}"):
            others.add(name)
        elif weight not in names:
            continue
        elif f".{suffix}" in SCALE_SUFFIXES:
            scale_of[weight] = name
        elif f".{suffix}" == FORMAT_SUFFIX:
            format_of[weight] = name
            others.add(name)
        elif f".{suffix}" in UNUSED_SUFFIXES:
            others.add(name)
    return _Scales(scale_of=scale_of, format_of=format_of, others=frozenset(others))


def _check_format(weight: str, stated: str) -> None:
    """Raise `WeightsError` unless the format stated for `weight` (JSON) is a plain float8."""
    try:
        name = parse_json(stated)["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"the quantization of tensor {weight!r} is not readable: {stated[:80]!r}") from error
    if name not in FLOAT8_FORMATS:
        raise WeightsError(
            f"tensor {weight!r} is stored as {name!r}: expected one of {', '.join(FLOAT8_FORMATS)}; "
            "take the fp8_scaled, bf16 or GGUF file of this model"
        )


def _check_metadata(header: FileHeader) -> None:
    """Raise `WeightsError` if the header names a quantization other than plain float8 for any layer."""
    stated = header.metadata.get(METADATA_KEY)
    if stated is None:
        return
    try:
        layers = parse_json(stated)["layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"the quantization table in {str(header.path)!r} is not readable") from error
    for layer, entry in layers.items():
        _check_format(f"{layer}.weight", json.dumps(entry))
