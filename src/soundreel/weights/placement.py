"""Memory that weights take once loaded, computed from the headers of their files."""

import math

import torch

from soundreel.weights.stored import Stored


def loaded_bytes(tensor: Stored, dtype: torch.dtype) -> int:
    """Bytes of one tensor loaded for `dtype`; float8 and GGUF matrices stay as they are stored."""
    is_matrix = len(tensor.header.shape) == 2  # of a linear layer; the embeddings are not stored quantized
    if is_matrix and (tensor.is_float8 or tensor.is_quantized_gguf):
        return tensor.size_bytes
    return math.prod(tensor.header.shape) * dtype.itemsize
