"""Wan 2.1 VAE: pixels to latents and back, through diffusers' `AutoencoderKLWan`.

Legend: T frames, H × W pixels, F = 1 + ⌊(T − 1)/4⌋ latent frames, h × w = H/8 × W/8, c latent channels (16).
Pixels are float32 [3, T, H, W] from −1 to 1; latents are float32 [c, F, h, w], normalised to about unit variance.
"""

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor

from soundreel.engines.native.network import Placed
from soundreel.weights.catalog import Component
from soundreel.weights.components import load_part
from soundreel.weights.find import ModelFiles
from soundreel.weights.load import OnLoad


class Vae(Placed[AutoencoderKLWan]):
    """Encodes and decodes videos."""

    def __init__(self, network: AutoencoderKLWan) -> None:
        super().__init__(network)
        self._mean = torch.tensor(network.config["latents_mean"]).view(-1, 1, 1, 1)
        self._std = torch.tensor(network.config["latents_std"]).view(-1, 1, 1, 1)

    @classmethod
    def load(
        cls,
        model: ModelFiles,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        on_load: OnLoad | None = None,
    ) -> "Vae":
        """Load the model's VAE; raises `WeightsError`."""
        return cls(load_part(model[Component.VAE], AutoencoderKLWan, device=device, dtype=dtype, on_load=on_load))

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return int(self.network.config["z_dim"])

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the latents of a picture."""
        stride = self.network.config["scale_factor_spatial"]
        return height // stride, width // stride

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """[3, T, H, W] → the distribution's mean, [c, F, h, w]; frames beyond 1 + 4(F − 1) are ignored."""
        moments: Tensor = self.network.encode(self._batch(pixels)).latent_dist.mean[0]
        return (moments.float() - self._mean.to(moments.device)) / self._std.to(moments.device)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """[c, F, h, w] → [3, 1 + 4(F − 1), H, W], clamped to −1..1."""
        moments = latents.float() * self._std.to(latents.device) + self._mean.to(latents.device)
        pixels: Tensor = self.network.decode(self._batch(moments)).sample[0]
        return pixels.float()

    def _batch(self, tensor: Tensor) -> Tensor:
        return tensor.unsqueeze(0).to(self.device, self.dtype)
