"""The size of a video for a reference image and an area, by the rule of the official pipeline."""

import math

from soundreel.errors import InputError

AREA_MULTIPLE = 64
"""Pixels: sides by the reference's size rule (`size_for_area`) are multiples of this."""

_TRIED_SCALES = 100
_SMALLEST_SCALE = 0.1
"""Constants of the reference's size rule."""


def size_for_area(height: int, width: int, area: int) -> tuple[int, int]:
    """Height and width of the video for an image of `height` × `width` pixels, by the reference's size rule.

    Both are multiples of `AREA_MULTIPLE`, their product is at most `area` pixels, and their proportions are near the
    image's; the video is not larger than the image, except by rounding up. Source: `get_size_less_than_area` of the
    official pipeline.

    Raises:
        InputError: there is no such size, because the image is very narrow or the area below 64 × 64.
    """
    smallest, largest = _scale_range(height, width, area)
    scales = (largest - (largest - smallest) * i / _TRIED_SCALES for i in range(_TRIED_SCALES))
    sizes = ((_round_up(int(height * scale)), _round_up(int(width * scale))) for scale in scales)
    fitting = next((size for size in sizes if math.prod(size) <= area), None)
    rows, columns = fitting or _size_without_padding(height, width, area)
    if not rows or not columns:
        raise InputError(
            f"a {width}×{height} picture fits no video of at most {area} pixels in sides of {AREA_MULTIPLE}: "
            "take another picture, a larger area, or an exact width and height"
        )
    return rows, columns


def _scale_range(height: int, width: int, area: int) -> tuple[float, float]:
    """The smallest and largest scale to try, so that both sides, rounded up to 64, may fit into `area`.

    The largest ignores the rounding.
    """
    if height * width <= area:
        return _SMALLEST_SCALE, 1.0
    most = AREA_MULTIPLE - 1  # pixels that rounding up may add
    a, b, c = height * width, most * (height + width), most**2 - area
    # (h·s + 63)·(w·s + 63) = area solved for s, with the reference's 2 in place of 4 under the root
    return (-b + math.sqrt(b**2 - 2 * a * c)) / (2 * a), math.sqrt(area / a)


def _round_up(side: int) -> int:
    return -(-side // AREA_MULTIPLE) * AREA_MULTIPLE


def _size_without_padding(height: int, width: int, area: int) -> tuple[int, int]:
    """The reference's fallback: the sides of `area` at the image's proportions, rounded down to 64."""
    aspect = width / height
    rows = int((area / aspect) ** 0.5 // AREA_MULTIPLE * AREA_MULTIPLE)
    columns = int((area * aspect) ** 0.5 // AREA_MULTIPLE * AREA_MULTIPLE)
    if columns >= width or rows >= height:
        return height // AREA_MULTIPLE * AREA_MULTIPLE, width // AREA_MULTIPLE * AREA_MULTIPLE
    return rows, columns
