"""What the official pipeline needs of packages that nothing else here does: torchvision, decord, easydict, imageio.

Each is the published behaviour of the few functions that the pipeline calls, and none is used where the package itself
is installed.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional


class Resize:
    """torchvision's `Resize` of the shorter side: antialiased bilinear, the longer side cut to whole pixels."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __call__(self, picture: Image.Image | Tensor) -> Image.Image | Tensor:
        width, height = _size(picture)
        shorter, longer = sorted((width, height))
        scaled = int(self._size * longer / shorter)
        width, height = (self._size, scaled) if width <= height else (scaled, self._size)
        if isinstance(picture, Image.Image):
            return picture.resize((width, height), Image.Resampling.BILINEAR)
        return functional.interpolate(picture, (height, width), mode="bilinear", antialias=True)


class CenterCrop:
    """torchvision's `CenterCrop`: a picture that is too small is first padded with zeros."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._height, self._width = size

    def __call__(self, picture: Image.Image | Tensor) -> Image.Image | Tensor:
        padded = self._padded(picture)
        width, height = _size(padded)
        left, top = round((width - self._width) / 2), round((height - self._height) / 2)
        if isinstance(padded, Image.Image):
            return padded.crop((left, top, left + self._width, top + self._height))
        return padded[..., top : top + self._height, left : left + self._width]

    def _padded(self, picture: Image.Image | Tensor) -> Image.Image | Tensor:
        width, height = _size(picture)
        missing = max(self._width - width, 0), max(self._height - height, 0)
        left, top = (pixels // 2 for pixels in missing)
        if isinstance(picture, Image.Image):
            canvas = Image.new(picture.mode, (width + missing[0], height + missing[1]))
            canvas.paste(picture, (left, top))
            return canvas
        return functional.pad(picture, (left, missing[0] - left, top, missing[1] - top))


class ToTensor:
    """torchvision's `ToTensor`: [H, W, 3] of bytes → [3, H, W] in 0…1."""

    def __call__(self, picture: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def make_grid(picture: Tensor, *, nrow: int, normalize: bool, value_range: tuple[float, float]) -> Tensor:
    """torchvision's `make_grid` of a single picture [1, 3, H, W], which is the picture in 0…1."""
    assert len(picture) == nrow == 1
    assert normalize
    low, high = value_range
    return (picture[0].clamp(low, high) - low) / (high - low)


class Frames:
    """A batch of decord's."""

    def __init__(self, frames: Sequence[np.ndarray]) -> None:
        self._frames = frames

    def asnumpy(self) -> np.ndarray:
        """[n, H, W, 3] of bytes."""
        return np.stack(self._frames)


class VideoReader:
    """decord's, by PyAV: all frames of a small video."""

    def __init__(self, path: str | Path) -> None:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            self._rate = float(stream.average_rate or 0)
            self._frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]

    def __len__(self) -> int:
        return len(self._frames)

    def get_avg_fps(self) -> float:
        """Frames per second."""
        return self._rate

    def get_batch(self, indices: Sequence[int]) -> Frames:
        """Frames by number."""
        return Frames([self._frames[index] for index in indices])


class EasyDict(dict[str, Any]):
    """A dictionary whose keys are attributes."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


def torchvision() -> list[ModuleType]:
    """The package and the modules of it that the pipeline imports."""
    functional_module = ModuleType("torchvision.transforms.functional")
    transforms = _module("torchvision.transforms", functional=functional_module, Resize=Resize, CenterCrop=CenterCrop)
    transforms.ToTensor = ToTensor  # type: ignore[attr-defined]
    grids = _module("torchvision.utils", make_grid=make_grid)
    return [_module("torchvision", transforms=transforms, utils=grids), transforms, functional_module, grids]


PACKAGES: dict[str, Callable[[], list[ModuleType]]] = {
    "torchvision": torchvision,
    "decord": lambda: [_module("decord", VideoReader=VideoReader)],
    "imageio": lambda: [_module("imageio", get_writer=None)],
    "easydict": lambda: [_module("easydict", EasyDict=EasyDict)],
}
"""Package → the modules that stand in for it."""


def _module(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module


def _size(picture: Image.Image | Tensor) -> tuple[int, int]:
    if isinstance(picture, Image.Image):
        return picture.size
    return picture.shape[-1], picture.shape[-2]
