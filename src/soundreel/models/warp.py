"""Pictures moved along a flow, for the networks that make pictures between pictures.

Axes: B batch, C channels, H rows, W columns; flow [B, 2, H, W] in pixels, to the right and down.
"""

import torch
from torch import Tensor
from torch.nn import functional


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """At every pixel p what `image` [B, C, H, W] shows at p + flow, bilinear; outside it is as at its border.

    Computed in float32 whatever the inputs are: half precision cannot tell the pixels of a wide picture apart.
    """
    height, width = flow.shape[2:]
    columns = torch.arange(width, device=flow.device, dtype=torch.float32) + flow[:, 0].float()
    rows = torch.arange(height, device=flow.device, dtype=torch.float32)[:, None] + flow[:, 1].float()
    # as `grid_sample` counts: the picture reaches from -1 to 1, and a pixel's place is its centre
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=3)
    moved = functional.grid_sample(image.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return moved.to(image.dtype)
