"""One transformer block: self-attention, text, feed-forward, and in some blocks the sound.

Legend: B batch, L tokens = S noise tokens, then clean ones (reference, motion), D model width, F latent
frames, G = S/F tokens per latent frame, M text rows.
The residual stream is float32; linear layers and attention run in the weights' dtype.
"""

import torch
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn
from torch.nn import functional

from soundreel.models.attention import CrossAttention, SelfAttention
from soundreel.models.audio_tokens import AudioTokens
from soundreel.models.conditioning import AudioConditioning, BlockConditioning, KeyValue
from soundreel.models.kernels.dispatch import operations
from soundreel.models.kernels.float8_rows import Affine, Gate
from soundreel.models.layers import FusedFeedForward, takes_float8
from soundreel.models.rope import Rotary

AUDIO_EPS = 1e-6
"""Of the norms around the audio attention, whatever the config says of the others."""

ADAPTIVE_NORM_EPS = 1e-5
"""Of the layer norm before the audio attention where the sound shifts and scales it."""


class AudioNorm(nn.Module):
    """Layer norm before the audio attention; where it is adaptive, the frame's sound shifts and scales it."""

    def __init__(self, width: int, *, adaptive: bool) -> None:
        super().__init__()
        self.eps = ADAPTIVE_NORM_EPS if adaptive else AUDIO_EPS
        self.linear = nn.Linear(width, 2 * width) if adaptive else None

    def shift_scale(self, summary: Tensor | None, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        """Float32 [F, D] → shift and scale [1, F, 1, D]; None for a norm that does not adapt."""
        if self.linear is None or summary is None:
            return None, None
        both = self.linear(functional.silu(summary).to(dtype)).float()
        shift, scale = both[None, :, None].chunk(2, dim=-1)
        return shift, scale

    def affine(self, audio: AudioConditioning, frame_tokens: int, width: int) -> Affine:
        """What follows the norm: for each frame its own where the norm is adaptive."""
        if audio.shift is None or audio.scale is None:
            ones = audio.tokens.key.new_ones(width, dtype=torch.float32)
            return Affine.everywhere(ones, torch.zeros_like(ones))
        return Affine(1 + audio.scale.squeeze(2), audio.shift.squeeze(2), frame_tokens)


class WanS2VTransformerBlock(nn.Module):
    """A Wan block with two segments of tokens (noise and clean), each modulated by its own timestep."""

    def __init__(
        self, *, width: int, heads: int, ffn_width: int, eps: float, has_audio: bool, adaptive_audio: bool
    ) -> None:
        super().__init__()
        self.norm1 = FP32LayerNorm(width, eps, elementwise_affine=False)
        self.attn1 = SelfAttention(width, heads, eps)
        self.norm2 = FP32LayerNorm(width, eps, elementwise_affine=True)
        self.attn2 = CrossAttention(width, heads, eps)
        self.norm3 = FP32LayerNorm(width, eps, elementwise_affine=False)
        self.ffn = FusedFeedForward(width, inner_dim=ffn_width, activation_fn="gelu-approximate")
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, width) / width**0.5)
        self.audio_norm = AudioNorm(width, adaptive=adaptive_audio) if has_audio else None
        self.audio_attn = CrossAttention(width, heads, AUDIO_EPS) if has_audio else None

    @property
    def dtype(self) -> torch.dtype:
        """What linear layers and attention run in: the norms keep it where linear layers are quantized."""
        return self.attn1.norm_q.weight.dtype

    def condition(self, text: Tensor, text_bias: Tensor, audio: AudioTokens) -> BlockConditioning:
        """Keys and values of text rows [1, M, D], whose scores get [1, M], and of the clip's sound."""
        known = self.attn2.key_value(text)._replace(bias=text_bias)
        return BlockConditioning(text=known, audio=self.condition_audio(audio))

    def condition_audio(self, audio: AudioTokens) -> AudioConditioning | None:
        """Keys, values, shift and scale of the clip's sound; None where the block hears none."""
        if self.audio_norm is None or self.audio_attn is None:
            return None
        known = self.audio_attn.key_value(audio.local.to(self.dtype))
        shift, scale = self.audio_norm.shift_scale(audio.global_, self.dtype)
        return AudioConditioning(KeyValue(known.key.unsqueeze(0), known.value.unsqueeze(0)), shift, scale)

    def forward(
        self,
        hidden_states: Tensor,
        modulation: Tensor,
        rotary: Rotary,
        conditioning: BlockConditioning,
        noise_tokens: int,
        live_tokens: int | None = None,
    ) -> Tensor:
        """One step of the residual stream, float32 [B, L, D] → [B, L, D].

        `modulation` is float32 [B or 1, 2, 6, D]: of the noise's timestep and of the clean tokens'. With
        `live_tokens` only the first so many tokens change, though all are attended to: nobody reads the clean
        tokens that the last block would make.
        """
        ops, dtype = operations(hidden_states), self.dtype
        table = self.scale_shift_table.float().unsqueeze(1) + modulation
        shift1, scale1, gate1, shift2, scale2, gate2 = table.unbind(dim=2)
        eps = self.norm1.eps

        float8 = takes_float8(self.attn1.to_q, self.attn1.to_k, self.attn1.to_v)
        normed = ops.norm(hidden_states, Affine(1 + scale1, shift1, noise_tokens), eps, dtype, float8=float8)
        update = self.attn1(normed, rotary, live_tokens)
        live, normed = ops.add_norm(
            hidden_states[:, :live_tokens],
            update,
            Gate(gate1, noise_tokens),
            Affine.everywhere(self.norm2.weight, self.norm2.bias),
            eps,
            dtype,
            float8=takes_float8(self.attn2.to_q),
        )
        update = self.attn2(normed, conditioning.text)
        affine = Affine(1 + scale2, shift2, noise_tokens)
        float8 = takes_float8(self.ffn.net[0].proj)
        live, normed = ops.add_norm(live, update, None, affine, eps, dtype, float8=float8)
        live = ops.add(live, self.ffn(normed), Gate(gate2, noise_tokens))
        live = self.inject_audio(live, conditioning.audio, noise_tokens)
        return live if live_tokens is None else torch.cat([live, hidden_states[:, live_tokens:]], dim=1)

    def inject_audio(self, hidden_states: Tensor, audio: AudioConditioning | None, noise_tokens: int) -> Tensor:
        """Let each latent frame's noise tokens attend to the sound of that frame."""
        if audio is None or self.audio_norm is None or self.audio_attn is None:
            return hidden_states
        ops, frames = operations(hidden_states), audio.tokens.key.shape[1]
        affine = self.audio_norm.affine(audio, noise_tokens // frames, hidden_states.shape[-1])
        float8 = takes_float8(self.audio_attn.to_q)
        noise = hidden_states[:, :noise_tokens]
        normed = ops.norm(noise, affine, self.audio_norm.eps, self.dtype, float8=float8)
        per_frame = KeyValue(audio.tokens.key.flatten(0, 1), audio.tokens.value.flatten(0, 1))
        changed: Tensor = ops.add(hidden_states, self.audio_attn(normed, per_frame))
        return changed
