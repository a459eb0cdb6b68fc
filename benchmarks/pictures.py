"""How alike two pictures are."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from soundreel.media.motion import Picture


def psnr(one: NDArray[Any], other: Picture) -> float:
    """dB, of 8-bit pictures."""
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float(10 * np.log10(255**2 / max(float(error), 1e-10)))


def ssim(one: NDArray[Any], other: Picture) -> float:
    """Structural similarity of luma (Wang et al. 2004): Gaussian windows of σ 1.5, 11 wide."""
    x, y = (cv2.cvtColor(picture.astype(np.uint8), cv2.COLOR_RGB2GRAY).astype(float) for picture in (one, other))

    def smooth(picture: NDArray[Any]) -> NDArray[Any]:
        return cv2.GaussianBlur(picture, (11, 11), 1.5)

    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    both = smooth(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similar = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(similar.mean())
