"""Decoded pixels as the pictures that are written."""

from torch import Tensor

from soundreel.models.vae import quantize
from soundreel.units import Frames


def to_uint8(pixels: Tensor) -> Frames:
    """float [3, T, H, W] → uint8 [T, H, W, 3]."""
    made: Frames = quantize(pixels.float().clamp(-1.0, 1.0)).permute(1, 2, 3, 0).cpu().numpy()
    return made
