"""Wan 2.1 VAE: pixels ↔ latents, with the weights of diffusers' `AutoencoderKLWan`.

Legend: T frames, H × W pixels, F = 1 + ⌊(T − 1)/4⌋ latent frames, h × w = H/8 × W/8, c latent channels (16).
Pixels are float32 [3, T, H, W] from −1 to 1; latents are float32 [c, F, h, w], normalized to about unit variance.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Self

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor, nn

from soundreel.engines.native.network import LibraryNetwork
from soundreel.errors import EngineError
from soundreel.models.vae import LATENT_STEP, decode, encode
from soundreel.types import Check, go_on
from soundreel.weights.catalog import Component


class Vae(LibraryNetwork[AutoencoderKLWan]):
    """Encodes and decodes videos, at most `most_at_once` latent frames at a time, in so many `bands` of rows.

    `check` is called before each of these pieces, and may raise to stop.
    """

    component = Component.VAE
    kind = AutoencoderKLWan

    def __init__(self, network: AutoencoderKLWan) -> None:
        super().__init__(network)
        self._mean = torch.tensor(network.config["latents_mean"]).view(-1, 1, 1, 1)
        self._std = torch.tensor(network.config["latents_std"]).view(-1, 1, 1, 1)
        self.most_at_once = LATENT_STEP
        self.bands = 1
        self.make_room: Callable[[], bool] = _no_room
        self.check: Check = go_on

    @property
    def channels(self) -> int:
        return int(self.network.config["z_dim"])

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns (h, w) of the latents of a picture."""
        stride = self.network.config["scale_factor_spatial"]
        return height // stride, width // stride

    def to(self, device: torch.device | str) -> Self:
        """Move the network; on a GPU its convolution weights become channels-last. Returns itself."""
        super().to(device)
        if self.device.type == "cuda":
            for module in self.network.modules():
                if isinstance(module, nn.Conv2d | nn.Conv3d):
                    layout = torch.channels_last if isinstance(module, nn.Conv2d) else torch.channels_last_3d
                    module.weight.data = module.weight.data.contiguous(memory_format=layout)
        return self

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [3, T, H, W] → latents [c, F, h, w], the posterior's mean; frames after 1 + 4(F − 1) are ignored.

        Pixels may lie in host memory: they come to the device in pieces.
        """
        rows = self.latent_size(*pixels.shape[2:])[0]
        means = self._in_pieces(partial(encode, self.network, pixels, check=self.check), rows)
        return (means.float() - self._mean.to(means.device)) / self._std.to(means.device)

    @torch.no_grad()
    def decode(self, latents: Tensor, keep: int | None = None) -> Tensor:
        """Latents [c, F, h, w] → pixels [3, T, H, W], clamped: the last `keep` of 1 + 4(F − 1) frames, or all.

        They are in host memory.
        """
        moments = latents.float() * self._std.to(latents.device) + self._mean.to(latents.device)
        moments = moments.to(self.device, self.dtype)
        return self._in_pieces(partial(decode, self.network, moments, keep, check=self.check), latents.shape[2])

    def _in_pieces(self, work: Callable[[int, int], Tensor], rows: int) -> Tensor:
        """Work in latent frames at once and bands as planned; where memory runs out, whatever else is there leaves.

        Then one latent frame goes at a time, then in 2, 4, 8, … bands of the latents' `rows`.
        """
        step, bands = self.most_at_once, self.bands
        while True:
            try:
                with chosen_by_shape():
                    return work(step, bands)
            except torch.OutOfMemoryError:
                pass
            torch.cuda.empty_cache()  # out of the handler, whose traceback would keep the tensors
            if self.make_room():
                continue
            if step > 1:
                step = 1
            elif 2 * bands <= rows:
                bands *= 2
            else:
                raise EngineError(
                    "the GPU's memory does not hold one frame of the video for the VAE: what was sampled is kept; go "
                    "on where more is free, or with --device cpu"
                )


def _no_room() -> bool:
    """There is nothing else that could leave."""
    return False


@contextmanager
def chosen_by_shape() -> Iterator[None]:
    """What is left to cuDNN goes by its rules and not by trials, which end differently each time."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
