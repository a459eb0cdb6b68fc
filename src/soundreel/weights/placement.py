"""Memory that weights take once loaded, computed from the headers of their files."""

import math

import torch

from soundreel.weights.read import open_tensors
from soundreel.weights.scan import Part
from soundreel.weights.stored import Stored, collect


def weight_bytes(part: Part, dtype: torch.dtype) -> int:
    """Bytes of a part's weights loaded for `dtype`; float8 and GGUF matrices stay as they are stored."""
    stored = collect([open_tensors(path) for path in part.files])
    return sum(loaded_bytes(tensor, dtype) for tensor in stored.values() if tensor.is_float)


def loaded_bytes(tensor: Stored, dtype: torch.dtype) -> int:
    """Bytes of one tensor loaded for `dtype`."""
    is_matrix = len(tensor.header.shape) == 2  # of a linear layer; the embeddings are not stored quantized
    if is_matrix and (tensor.is_float8 or tensor.is_quantized_gguf):
        return tensor.size_bytes
    return math.prod(tensor.header.shape) * dtype.itemsize
