"""The VAE's convolutions in plain PyTorch: what runs on CPUs, and what the kernels are held against.

Legend: features are [1, C, t, H, W]; N channels that are made. Pictures stay as large as they are: zeros surround them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, residual: Tensor | None = None, time_stride: int = 1
) -> Tensor:
    """Weights [N, C, k, r, s] over x, whose first k − 1 frames are looked back at, and `residual` added."""
    padding = (0, weight.shape[3] // 2, weight.shape[4] // 2)
    made = functional.conv3d(x, weight, bias, (time_stride, 1, 1), padding)
    return made if residual is None else made.add_(residual)


def double(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Two frames from each, beyond those that are looked back at: weights [2N, C, k, 1, 1], first half, second half."""
    made = convolve(x, weight, bias)
    pairs = torch.unflatten(made, 1, (2, -1)).permute(0, 2, 3, 1, 4, 5)  # [1, N, t, 2, H, W]
    return pairs.flatten(2, 3).contiguous(memory_format=_layout(x))


def halve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Pictures of half the size: weights [N, C, 3, 3] at every second place, a row and a column of zeros at the end."""
    return _per_frame(functional.conv2d(functional.pad(_pictures(x), (0, 1, 0, 1)), weight, bias, 2), x)


def enlarge(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Pictures of twice the size, each pixel four times, and weights [N, C, 3, 3] over them."""
    larger = nn.functional.interpolate(_pictures(x), scale_factor=2.0, mode="nearest")
    return _per_frame(functional.conv2d(larger, weight, bias, padding=1), x)


def _pictures(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1)


def _per_frame(pictures: Tensor, x: Tensor) -> Tensor:
    made = torch.unflatten(pictures, 0, (x.shape[0], -1)).transpose(1, 2)
    return made.contiguous(memory_format=_layout(x))


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last_3d if x.is_cuda else torch.contiguous_format
