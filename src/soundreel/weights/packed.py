"""GGUF's packed weights in memory: a linear layer that unpacks them for each use, and unpacked tensors.

Imports diffusers, which has them and takes seconds to import: only where a GGUF file is loaded.
"""

from typing import Any

import torch
from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter, dequantize_gguf_tensor
from gguf import GGMLQuantizationType
from torch import Tensor, nn


def packed_linear(layer: nn.Linear, dtype: torch.dtype) -> nn.Module:
    """On the meta device, to take the place of `layer` and compute in `dtype`."""
    with torch.device("meta"):
        made: nn.Module = GGUFLinear(layer.in_features, layer.out_features, layer.bias is not None, compute_dtype=dtype)
        return made


def takes_packed(layer: nn.Module) -> bool:
    """Whether a layer is one that `packed_linear` made."""
    return isinstance(layer, GGUFLinear)


def packed(values: Tensor, kind: str) -> Any:
    """A parameter of packed bytes, uint8 [rows, bytes per row]; `kind` as GGUF names it."""
    return GGUFParameter(values, quant_type=GGMLQuantizationType[kind])


def unpacked(values: Tensor, kind: str) -> Tensor:
    """The numbers that packed bytes stand for."""
    numbers: Tensor = dequantize_gguf_tensor(packed(values, kind))
    return numbers
