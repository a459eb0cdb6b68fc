"""Small pictures of what is being sampled: by a tiny decoder where its weights are there, else in false colours.

False colours are the three main components of the clip's own latents (principal component analysis over its places and
frames): the first one as brightness, the others as colours. Nothing of it was fitted to pictures, so shapes and their
movement can be told, but which of them are light, dark or red in the video cannot.

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

GREY_AND_COLOURS: Final = ((3**-0.5, 3**-0.5, 3**-0.5), (2**-0.5, -(2**-0.5), 0.0), (6**-0.5, 6**-0.5, -2 * 6**-0.5))
"""Red, green and blue of three axes at right angles: dark to light, green to red, blue to yellow."""

SHOWN_SPREADS: Final = 2.5
"""Standard deviations of the first component from grey to white."""


class Previewer:
    """Writes previews into a folder, each in place of the one before.

    Args:
        decoder: of the latents; None: false colours.
    """

    def __init__(self, folder: Path, decoder: TinyDecoder | None = None) -> None:
        self.path = folder / NAME
        self._decoder = decoder
        self._axes: Tensor | None = None

    @torch.inference_mode()
    def show(self, latents: Tensor) -> Path:
        """The picture in the middle of latents [c, F, h, w]."""
        middle = latents.shape[1] // 2
        if self._decoder is None:
            self._axes = main_axes(latents, self._axes)
            pixels = false_colours(latents, self._axes)[:, middle]
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


def main_axes(latents: Tensor, before: Tensor | None = None) -> Tensor:
    """The directions in which latents [c, F, h, w] vary most, [3, c] with the main one first; fewer channels: as many.

    A direction has no sign of its own: each is turned as it was `before`, or so that its largest part is positive.
    """
    values = latents.detach().flatten(1).double().cpu()
    _, vectors = torch.linalg.eigh(values.cov().view(len(values), -1))  # in columns, the main one last
    axes: Tensor = vectors.T.flip(0)[: len(GREY_AND_COLOURS)]
    along = axes.gather(1, axes.abs().argmax(1, keepdim=True))[:, 0] if before is None else (axes * before).sum(1)
    return axes * torch.where(along < 0, -1.0, 1.0)[:, None]


def false_colours(latents: Tensor, axes: Tensor) -> Tensor:
    """Latents [c, F, h, w] along `axes` → [3, F, h, w], about 0 to 1; what does not vary is grey."""
    values = latents.detach().double().cpu()
    parts = torch.einsum("ac,cfhw->afhw", axes, values - values.mean((1, 2, 3), keepdim=True))
    spread = parts[0].std(correction=0).clamp(min=1e-6)
    colours = torch.tensor(GREY_AND_COLOURS, dtype=torch.float64)[: len(axes)]
    white = GREY_AND_COLOURS[0][0] * SHOWN_SPREADS * spread
    return (0.5 + 0.5 * torch.einsum("afhw,ar->rfhw", parts, colours) / white).float()


def open_previewer(models: StrPath | None, folder: Path, device: torch.device) -> Previewer:
    """With the decoder where its weights are there."""
    path = find_decoder(models)
    return Previewer(folder, None if path is None else load_decoder(path, device, compute_dtype(device)))


def preview_note(models: StrPath | None) -> str | None:
    """What to say to someone whose previews will be rough."""
    if find_decoder(models) is not None:
        return None
    command = download_command("tae", default_folder() if models is None else Path(models))
    missing = "there is no tiny decoder (vae_approx/taew2_1.pth)"
    return f"previews are rough, in false colours: {missing}; get it with: {command}"
