"""The causal audio encoder: wav2vec2 states at 16 fps to tokens per latent frame. Float32 throughout.

Legend: A wav2vec2 states (25), C their width, T video frames, T' = ⌈T/4⌉ latent frames, N audio tokens per
latent frame, D model width.
The convolutions are causal: a latent frame depends on its own four video frames and on earlier ones only.
Source: `CausalAudioEncoder` of Wan-Video/Wan2.2 (Apache-2.0).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundreel.models.frame_packing import MOTION_FRAMES, MOTION_LATENTS
from soundreel.models.layers import CausalConv1d, Float32Linear

NORM_EPS = 1e-6


class AudioTokens(NamedTuple):
    """Float32 tokens of each latent frame."""

    local: Tensor  # [T', N + 1, D], for attention; the last is a learned padding token
    global_: Tensor | None  # [T', D], for the adaptive norm; None where the model has none

    def without_lead(self) -> "AudioTokens":
        """Those of the clip's own latent frames, without the ones that `with_lead` put before them."""
        return AudioTokens(self.local[MOTION_LATENTS:], None if self.global_ is None else self.global_[MOTION_LATENTS:])


def with_lead(features: Tensor) -> Tensor:
    """[A, C, T] → [A, C, 73 + T]: the first frame repeated for all motion frames before the clip."""
    return torch.cat([features[..., :1].expand(-1, -1, MOTION_FRAMES), features], dim=-1)


class AudioEncoder(nn.Module):
    """A learned weighted mean of the wav2vec2 states, then causal convolutions that downsample time by 4."""

    def __init__(self, *, states: int, audio_width: int, width: int, tokens: int, has_global: bool) -> None:
        super().__init__()
        self.tokens = tokens
        self.state_weights = nn.Parameter(torch.full((1, states, 1, 1), 0.01))
        self.padding_token = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.conv1_local = CausalConv1d(audio_width, tokens * (width // 4), 3)
        self.conv2 = CausalConv1d(width // 4, width // 2, 3, stride=2)
        self.conv3 = CausalConv1d(width // 2, width, 3, stride=2)
        self.conv1_global = CausalConv1d(audio_width, width // 4, 3) if has_global else None
        self.final_linear = Float32Linear(width, width) if has_global else None

    def forward(self, features: Tensor) -> AudioTokens:
        """[A, C, T] → tokens of T' latent frames."""
        sound = self._mix(features.float()).unsqueeze(0)
        local = self.conv1_local(sound).unflatten(1, (self.tokens, -1)).squeeze(0)
        local = self._downsample(local).transpose(0, 1)
        padding = self.padding_token.float().squeeze(0).expand(local.shape[0], -1, -1)
        return AudioTokens(torch.cat([local, padding], dim=1), self._global(sound))

    def _mix(self, features: Tensor) -> Tensor:
        """[A, C, T] → [C, T]: mean of the states, weighted by SiLU of learned weights."""
        weights = functional.silu(self.state_weights.float()).squeeze(0)
        return (features * weights / weights.sum()).sum(dim=0)

    def _global(self, sound: Tensor) -> Tensor | None:
        if self.conv1_global is None or self.final_linear is None:
            return None
        summary: Tensor = self.final_linear(self._downsample(self.conv1_global(sound)).squeeze(0))
        return summary

    def _downsample(self, x: Tensor) -> Tensor:
        """[N, D/4, T] → [N, T', D]."""
        x = self.conv2(_norm_silu(x).transpose(1, 2))
        x = self.conv3(_norm_silu(x).transpose(1, 2))
        return _norm_silu(x)


def _norm_silu(x: Tensor) -> Tensor:
    """Layer norm over channels, then SiLU: [N, channels, T] → [N, T, channels]."""
    x = x.transpose(1, 2)
    return functional.silu(functional.layer_norm(x, x.shape[-1:], eps=NORM_EPS))
