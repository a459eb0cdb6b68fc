"""The official VAE and text encoder (package `wan22`, dev-only) on the CPU, with fresh random weights."""

from typing import Any

import torch
from torch import Tensor, nn

from official_package import official_module


def official_vae(seed: int, **sizes: Any) -> nn.Module:
    """`WanVAE_` of other widths than the published one."""
    vae: nn.Module = official_module("modules.vae2_1").WanVAE_(
        z_dim=16, num_res_blocks=2, attn_scales=[], temperal_downsample=[False, True, True], dropout=0.0, **sizes
    )
    return _randomize(vae, seed)


def official_text_encoder(seed: int, **sizes: Any) -> nn.Module:
    """`T5Encoder` of other widths than the published one."""
    return _randomize(official_module("modules.t5").T5Encoder(shared_pos=False, dropout=0.0, **sizes), seed)


def encode_padded(encoder: nn.Module, ids: Tensor, length: int = 512) -> Tensor:
    """Rows of token ids [n] as the official pipeline gets them: padded, masked, cut."""
    padded = torch.zeros(1, length, dtype=torch.long)
    padded[0, : len(ids)] = ids
    rows: Tensor = encoder(padded, (torch.arange(length) < len(ids)).long()[None])[0, : len(ids)]
    return rows


def _randomize(network: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            is_norm = "gamma" in name or "norm" in name
            fan_in = 4 if parameter.ndim < 2 or is_norm else parameter[0].numel()
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5 * fan_in**-0.5 + is_norm)
    return network.eval().requires_grad_(False)
