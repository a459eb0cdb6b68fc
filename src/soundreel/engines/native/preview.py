"""Small pictures of what is being sampled: a tiny decoder where its weights are there, else a mix of the latents.

Legend: c latent channels, F latent frames, h × w latent size.
"""

from pathlib import Path
from typing import Final

import torch
from PIL import Image
from torch import Tensor

from soundreel.disk.durable import write_whole
from soundreel.engines.native.device import compute_dtype
from soundreel.models.tiny_decoder import TinyDecoder
from soundreel.units import StrPath
from soundreel.weights.catalog import default_folder, download_command
from soundreel.weights.preview_decoder import find_decoder, load_decoder

NAME: Final = "preview.png"
LARGEST_SIDE: Final = 512
"""Pixels of a preview."""

STEPS_BETWEEN: Final = 4
"""A preview every so many steps, and one of the finished clip."""

RGB: Final = (
    (-0.1299, -0.1692, 0.2932), (0.0671, 0.0406, 0.0442), (0.3568, 0.2548, 0.1747), (0.0372, 0.2344, 0.1420),
    (0.0313, 0.0189, -0.0328), (0.0296, -0.0956, -0.0665), (-0.3477, -0.4059, -0.2925), (0.0166, 0.1902, 0.1975),
    (-0.0412, 0.0267, -0.1364), (-0.1293, 0.0740, 0.1636), (0.0680, 0.3019, 0.1128), (0.0032, 0.0581, 0.0639),
    (-0.1251, 0.0927, 0.1699), (0.0060, -0.0633, 0.0005), (0.3477, 0.2275, 0.2950), (0.1984, 0.0913, 0.1861),
)  # fmt: skip
"""Red, green and blue (−1 to 1) of each channel of Wan 2.1's latents, about; as ComfyUI has them."""

RGB_OFFSET: Final = (-0.1835, -0.0868, -0.3360)


class Previewer:
    """Writes previews into a folder, each in place of the one before.

    Args:
        decoder: of the latents; None: their channels are mixed.
    """

    def __init__(self, folder: Path, decoder: TinyDecoder | None = None) -> None:
        self.path = folder / NAME
        self._decoder = decoder

    @torch.inference_mode()
    def show(self, latents: Tensor) -> Path:
        """The picture in the middle of latents [c, F, h, w]."""
        middle = latents.shape[1] // 2
        if self._decoder is None:
            pixels = mix(latents[:, middle])
        else:
            parameter = next(self._decoder.parameters())
            around = latents[:, max(0, middle - 1) : middle + 1].to(parameter.device, parameter.dtype)
            pixels = self._decoder(around)[-1].float()
        levels = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        picture = Image.fromarray(levels)
        scale = LARGEST_SIDE / max(picture.size)
        small = picture.resize((round(picture.width * scale), round(picture.height * scale)))
        write_whole(self.path, lambda new: small.save(new, format="png"))
        return self.path


def mix(latents: Tensor) -> Tensor:
    """Normalised latents [c, h, w] → [3, h, w], about 0 to 1; channels that are not Wan 2.1's count for nothing."""
    factors, offset = (torch.tensor(values, device=latents.device) for values in (RGB, RGB_OFFSET))
    known = min(len(factors), len(latents))
    return (torch.einsum("chw,cr->rhw", latents[:known].float(), factors[:known]) + offset[:, None, None] + 1) / 2


def open_previewer(models: StrPath | None, folder: Path, device: torch.device) -> Previewer:
    """With the decoder where its weights are there."""
    path = find_decoder(models)
    return Previewer(folder, None if path is None else load_decoder(path, device, compute_dtype(device)))


def preview_note(models: StrPath | None) -> str | None:
    """What to say to someone whose previews will be rough."""
    if find_decoder(models) is not None:
        return None
    command = download_command("tae", default_folder() if models is None else Path(models))
    return f"previews are rough: there is no tiny decoder (vae_approx/taew2_1.pth); get it with: {command}"
