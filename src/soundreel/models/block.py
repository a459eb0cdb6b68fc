"""One transformer block: self-attention, text cross-attention, feed-forward, and in some blocks audio injection.

Legend: B batch, L tokens = S noise tokens, then clean ones (reference, motion), D model width, F latent
frames, G = S/F tokens per latent frame, M text rows.
The residual stream is float32; linear layers and attention run in the weights' dtype.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundreel.models.attention import CrossAttention, SelfAttention
from soundreel.models.audio_tokens import AudioTokens
from soundreel.models.conditioning import AudioConditioning, BlockConditioning, KeyValue
from soundreel.models.kernels.float8_rows import Affine, Gate
from soundreel.models.layers import FusedFeedForward
from soundreel.models.residual import NormedResidual, Residual, ResidualNorm
from soundreel.models.rope import Rotary

AUDIO_EPS = 1e-6
"""eps of the RMS norms in the audio attention and of the layer norm before it, independent of the config."""

ADAPTIVE_NORM_EPS = 1e-5
"""eps of the layer norm before the audio attention where it is adaptive."""


class AudioNorm(nn.Module):
    """Layer norm before the audio attention; where it is adaptive, each latent frame's audio shifts and scales it."""

    def __init__(self, width: int, *, adaptive: bool) -> None:
        super().__init__()
        self.width = width
        self.eps = ADAPTIVE_NORM_EPS if adaptive else AUDIO_EPS
        self.linear = nn.Linear(width, 2 * width) if adaptive else None

    def shift_scale(self, summary: Tensor | None, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        """Global audio tokens, float32 [F, D] → shift and scale [1, F, 1, D]; None for a norm that is not adaptive."""
        if self.linear is None or summary is None:
            return None, None
        both = self.linear(functional.silu(summary).to(dtype)).float()
        shift, scale = both[None, :, None].chunk(2, dim=-1)
        return shift, scale

    def forward(self, x: Residual, audio: AudioConditioning, noise_tokens: int) -> NormedResidual:
        """Norm the noise tokens, the first ones of [B, L, D]: equally many for each latent frame."""
        if audio.shift is None or audio.scale is None:
            ones = audio.tokens.key.new_ones(self.width, dtype=torch.float32)
            affine = Affine.everywhere(ones, torch.zeros_like(ones))
        else:
            frames = audio.tokens.key.shape[1]
            affine = Affine(1 + audio.scale.squeeze(2), audio.shift.squeeze(2), noise_tokens // frames)
        return NormedResidual(x, affine, self.eps, noise_tokens)


class WanS2VTransformerBlock(nn.Module):
    """A Wan block with two segments of tokens (noise and clean), each modulated by its own timestep."""

    def __init__(
        self, *, width: int, heads: int, ffn_width: int, eps: float, has_audio: bool, adaptive_audio: bool
    ) -> None:
        super().__init__()
        self.norm1 = ResidualNorm(width, eps)
        self.attn1 = SelfAttention(width, heads, eps)
        self.norm2 = ResidualNorm(width, eps, affine=True)
        self.attn2 = CrossAttention(width, heads, eps)
        self.norm3 = ResidualNorm(width, eps)
        self.ffn = FusedFeedForward(width, ffn_width)
        self.scale_shift_table = nn.Parameter(torch.empty(1, 6, width))
        nn.init.normal_(self.scale_shift_table, std=width**-0.5)
        self.audio_norm = AudioNorm(width, adaptive=adaptive_audio) if has_audio else None
        self.audio_attn = CrossAttention(width, heads, AUDIO_EPS) if has_audio else None

    @property
    def dtype(self) -> torch.dtype:
        """Element type that linear layers and attention compute in, also where weights are quantized."""
        return self.attn1.norm_q.weight.dtype

    def condition(self, text: Tensor, text_bias: Tensor, audio: AudioTokens) -> BlockConditioning:
        """Keys and values of the audio tokens and of the text rows [1, M, D], whose scores get `text_bias` [1, M]."""
        known = self.attn2.key_value(text)._replace(bias=text_bias)
        return BlockConditioning(text=known, audio=self.condition_audio(audio))

    def condition_audio(self, audio: AudioTokens) -> AudioConditioning | None:
        """Keys, values, shift and scale of the clip's audio tokens; None in a block without audio injection."""
        if self.audio_norm is None or self.audio_attn is None:
            return None
        known = self.audio_attn.key_value(audio.local.to(self.dtype))
        shift, scale = self.audio_norm.shift_scale(audio.global_, self.dtype)
        return AudioConditioning(KeyValue(known.key.unsqueeze(0), known.value.unsqueeze(0)), shift, scale)

    def forward(
        self,
        hidden_states: Tensor | Residual,
        modulation: Tensor,
        rotary: Rotary,
        conditioning: BlockConditioning,
        noise_tokens: int,
        live_tokens: int | None = None,
    ) -> Tensor | Residual:
        """Apply the block to the residual stream, float32 [B, L, D]; returned in the form in which it is given.

        Args:
            hidden_states: the residual stream: noise tokens, then clean ones. As a `Residual` its last sum is left to
                the block after this one.
            modulation: float32 [B or 1, 2, 6, D], of the noise's timestep and of the clean tokens' timestep.
            rotary: of all L tokens.
            conditioning: keys and values of text and audio.
            noise_tokens: S.
            live_tokens: how many tokens to update, the first ones; all are attended to. None: all. The last block
                needs no clean tokens, as nothing reads them: a `Residual` loses them.
        """
        if isinstance(hidden_states, Residual):
            return self._through(hidden_states, modulation, rotary, conditioning, noise_tokens, live_tokens)
        stream = Residual(hidden_states, self.dtype)
        live = self._through(stream, modulation, rotary, conditioning, noise_tokens, live_tokens).sum()
        return live if live_tokens is None else torch.cat([live, hidden_states[:, live_tokens:]], dim=1)

    def _through(
        self,
        x: Residual,
        modulation: Tensor,
        rotary: Rotary,
        conditioning: BlockConditioning,
        noise_tokens: int,
        live_tokens: int | None,
    ) -> Residual:
        table = self.scale_shift_table.float().unsqueeze(1) + modulation
        shift1, scale1, gate1, shift2, scale2, gate2 = table.unbind(dim=2)
        modulated1, modulated3 = Affine(1 + scale1, shift1, noise_tokens), Affine(1 + scale2, shift2, noise_tokens)

        attended = self.attn1(self.norm1(x, modulated1), rotary, live_tokens)
        x = x.first(live_tokens).add(attended, Gate(gate1, noise_tokens))
        x = x.add(self.attn2(self.norm2(x), conditioning.text))
        x = x.add(self.ffn(self.norm3(x, modulated3)), Gate(gate2, noise_tokens))
        return self._with_audio(x, conditioning.audio, noise_tokens)

    def inject_audio(self, hidden_states: Tensor, audio: AudioConditioning | None, noise_tokens: int) -> Tensor:
        """Let each latent frame's noise tokens attend to the audio tokens of that frame: float32 [B, L, D] → the same.

        `audio` is None in blocks without audio injection, which change nothing.
        """
        return self._with_audio(Residual(hidden_states, self.dtype), audio, noise_tokens).sum()

    def _with_audio(self, x: Residual, audio: AudioConditioning | None, noise_tokens: int) -> Residual:
        if audio is None or self.audio_norm is None or self.audio_attn is None:
            return x
        per_frame = KeyValue(audio.tokens.key.flatten(0, 1), audio.tokens.value.flatten(0, 1))
        return x.add(self.audio_attn(self.audio_norm(x, audio, noise_tokens), per_frame))
