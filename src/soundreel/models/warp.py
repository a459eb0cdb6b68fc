"""Backward warping of pictures by an optical flow, for the frame interpolation networks.

Axes: B batch, C channels, H rows, W columns; flow [B, 2, H, W] in pixels, to the right and down.
"""

import torch
from torch import Tensor
from torch.nn import functional


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample `image` [B, C, H, W] at p + flow for every pixel p, bilinear; outside, the border's value.

    Computed in float32: half precision cannot distinguish the pixels of a wide picture.
    """
    height, width = flow.shape[2:]
    columns = torch.arange(width, device=flow.device, dtype=torch.float32) + flow[:, 0].float()
    rows = torch.arange(height, device=flow.device, dtype=torch.float32)[:, None] + flow[:, 1].float()
    # as `grid_sample` counts: the picture reaches from -1 to 1, and a pixel's place is its centre
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=3)
    moved = functional.grid_sample(image.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return moved.to(image.dtype)
