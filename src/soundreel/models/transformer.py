"""The Wan 2.2 S2V transformer: noisy latents, a timestep and a `Conditioning` → flow velocity.

Legend: B batch (1), F latent frames, h × w latent size, G = (h/2)(w/2) tokens per latent frame,
S = F·G noise tokens, C clean tokens (reference, then motion), L = S + C, D model width, M text rows.
Architecture and formulas: `WanModel_S2V` of Wan-Video/Wan2.2 (Apache-2.0). Shared parts are named as in
diffusers' `WanTransformer3DModel`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundreel.models.attention import Kernel, SelfAttention, choose_kernel
from soundreel.models.audio_tokens import AudioEncoder, AudioTokens, with_lead
from soundreel.models.block import WanS2VTransformerBlock
from soundreel.models.conditioning import Conditioning
from soundreel.models.config import keeps_config
from soundreel.models.frame_packing import FULL_LEVEL, FramePacker
from soundreel.models.input_shapes import InputShapes
from soundreel.models.layers import Float32LayerNorm, Float32Linear, TimeTextEmbedding
from soundreel.models.residual import Residual
from soundreel.models.rope import Positions, noise_positions, reference_positions, rotary_table

NOISE, REFERENCE, MOTION = range(3)
"""Rows of the segment embedding."""


class WanS2VTransformer3DModel(nn.Module):
    """Sound-to-video transformer.

    Call `condition` once per clip and guidance branch, then `forward` once per step. `forward` is pure and
    compiles with `torch.compile(fullgraph=True)`. Neither switches gradients off: run both without them.

    Args:
        patch_size: latent frames, rows and columns per token.
        num_attention_heads, attention_head_dim: their product is the model width D.
        in_channels, out_channels: of the latents.
        text_dim, text_len: width of the text encoder's rows, and to how many rows they are zero-padded.
        freq_dim: width of the timestep's sinusoid.
        ffn_dim: inner width of the feed-forward layers.
        num_layers: number of blocks.
        eps: of the norms.
        audio_dim, num_audio_states: width and number of the wav2vec2 states.
        num_audio_tokens: per latent frame, without the padding token.
        audio_inject_layers: blocks with audio injection.
        adaptive_audio_norm: whether the sound shifts and scales the norm before the audio attention.
        pose_channels: of the pose latents; 0 for a model without pose input.
        zero_timestep: whether reference and motion are modulated as at timestep 0, or as the noise is.
        frame_pack_drop_mode, frame_pack_level: see `FramePacker`.
    """

    config: Mapping[str, Any]
    """The arguments, by name."""

    @keeps_config
    def __init__(  # noqa: PLR0913 - the signature is the config
        self,
        *,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        text_len: int = 512,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        eps: float = 1e-6,
        audio_dim: int = 1024,
        num_audio_states: int = 25,
        num_audio_tokens: int = 4,
        audio_inject_layers: Sequence[int] = (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39),
        adaptive_audio_norm: bool = True,
        pose_channels: int = 16,
        zero_timestep: bool = True,
        frame_pack_drop_mode: str = "padd",
        frame_pack_level: int = FULL_LEVEL,
    ) -> None:
        super().__init__()
        width = num_attention_heads * attention_head_dim
        self.patch_size = (patch_size[0], patch_size[1], patch_size[2])  # JSON makes a list of it
        self.head_width = attention_head_dim
        self.zero_timestep = zero_timestep
        self.inputs = InputShapes(
            patch_size=self.patch_size,
            channels=in_channels,
            pose_channels=pose_channels,
            text_width=text_dim,
            text_rows=text_len,
            audio_states=num_audio_states,
            audio_width=audio_dim,
        )

        self.patch_embedding = nn.Conv3d(in_channels, width, patch_size, stride=patch_size)
        self.pose_embedding = nn.Conv3d(pose_channels, width, patch_size, stride=patch_size) if pose_channels else None
        self.segment_embedding = nn.Embedding(3, width)
        self.condition_embedder = TimeTextEmbedding(width=width, sinusoid_width=freq_dim, text_width=text_dim)
        self.frame_packer = FramePacker(
            channels=in_channels, width=width, drop_mode=frame_pack_drop_mode, level=frame_pack_level
        )
        self.audio_encoder = AudioEncoder(
            states=num_audio_states,
            audio_width=audio_dim,
            width=width,
            tokens=num_audio_tokens,
            has_global=adaptive_audio_norm,
        )
        self.blocks = nn.ModuleList(
            WanS2VTransformerBlock(
                width=width,
                heads=num_attention_heads,
                ffn_width=ffn_dim,
                eps=eps,
                has_audio=index in audio_inject_layers,
                adaptive_audio=adaptive_audio_norm,
            )
            for index in range(num_layers)
        )
        self.norm_out = Float32LayerNorm(width, eps, elementwise_affine=False)
        self.proj_out = Float32Linear(width, out_channels * math.prod(patch_size))
        self.scale_shift_table = nn.Parameter(torch.empty(1, 2, width))
        nn.init.normal_(self.scale_shift_table, std=width**-0.5)

    def condition(
        self,
        *,
        text: Tensor,
        audio: Tensor,
        frames: int,
        height: int,
        width: int,
        reference: Tensor | None = None,
        motion: Tensor | None = None,
        pose: Tensor | None = None,
    ) -> Conditioning:
        """Compute what all steps of a clip share, for one guidance branch.

        Args:
            text: [n, text_dim] rows of the text encoder, unpadded.
            audio: [wav2vec2 states, audio_dim, 4·frames] features at 16 fps; zeros for the null branch.
            frames, height, width: of the clip's latents.
            reference: [16, 1, h, w] latents of the reference image; None: no reference tokens.
            motion: [16, T, h, w] latents of what came before, any T; None: no motion tokens.
            pose: [16, frames, h, w] latents of the poses; None: no poses (as latents of zeros).

        Raises:
            InputError: a tensor has another shape than this.
        """
        size = (frames, height, width)
        self.inputs.check(size, text=text, audio=audio, reference=reference, motion=motion, pose=pose)
        tokens: AudioTokens = self.audio_encoder(with_lead(audio)).without_lead()
        text_rows, text_bias = self.embed_text(text)
        segments = self.segment_embedding(torch.arange(3, device=text.device))
        clean, clean_positions = self._clean_tokens(reference, motion, segments.float())
        positions = [noise_positions(*self._grid(size)), *clean_positions]
        return Conditioning(
            noise_offset=self._noise_offset(pose, segments[NOISE]),
            clean_tokens=clean,
            clean_modulation=self._clean_modulation(text.device),
            rotary=rotary_table(positions, self.head_width, text.device),
            blocks=tuple(block.condition(text_rows, text_bias, tokens) for block in self._typed_blocks),
        )

    def forward(self, latents: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """Flow velocity of `latents` at timestep `t`, 0…1000, a scalar: float32 [1, 16, F, h, w] → the same shape."""
        return self.forward_branches(latents, t, [conditioning])[0]

    def forward_branches(self, latents: Tensor, t: Tensor, branches: Sequence[Conditioning]) -> list[Tensor]:
        """`forward` for each of `branches`, with the same results: each block runs for all of them before the next one.

        Streamed weights are then copied to the device once for all branches.
        """
        embedding, noise_modulation = self.condition_embedder.time(t.reshape(-1).to(latents.device))
        patches = self.patches(self.patch_embedding, latents).float()
        noise_tokens, last = patches.shape[1], len(self.blocks) - 1
        modulations: list[Tensor] = []
        streams: list[Residual] = []
        for known in branches:
            clean = noise_modulation if known.clean_modulation is None else known.clean_modulation
            modulations.append(torch.stack([noise_modulation, clean], dim=1))
            stream = torch.cat([patches + known.noise_offset.float(), known.clean_tokens], dim=1)
            streams.append(Residual(stream, self.compute_dtype))
        del patches, stream
        for index, block in enumerate(self._typed_blocks):
            live = noise_tokens if index == last else None
            for k, known in enumerate(branches):
                streams[k] = block(streams[k], modulations[k], known.rotary, known.blocks[index], noise_tokens, live)
        grid = self._grid(latents.shape[2:])
        return [self._unpatchify(self.head(stream.sum(), embedding), grid) for stream in streams]

    def use_attention(self, wanted: str) -> Kernel:
        """Compute self-attention with the kernel named `wanted`, or with "auto" with the first exact one that runs.

        Attention to text and audio, which have few keys, always uses PyTorch's. Returns the kernel chosen.

        Raises:
            InputError: there is no such kernel, or it does not run on the model's device.
        """
        device, dtype = self.patch_embedding.weight.device, self.compute_dtype
        chosen = choose_kernel(wanted, device, dtype, self.head_width)
        for module in self.modules():
            if isinstance(module, SelfAttention):
                module.kernel = chosen
        return chosen

    def head(self, noise: Tensor, embedding: Tensor) -> Tensor:
        """Output layer: noise tokens [B, S, D] and the timestep's embedding [B, D] → [B, S, values of a patch]."""
        shift, scale = (self.scale_shift_table.float() + embedding.unsqueeze(1)).chunk(2, dim=1)
        velocity: Tensor = self.proj_out(torch.addcmul(shift, self.norm_out(noise), 1 + scale))
        return velocity

    def _grid(self, size: Sequence[int]) -> tuple[int, int, int]:
        """Tokens in time, rows and columns of latents F × h × w."""
        frames, rows, columns = (length // step for length, step in zip(size, self.patch_size, strict=True))
        return frames, rows, columns

    def patches(self, embedding: nn.Conv3d, latents: Tensor) -> Tensor:
        """[B, 16, F, h, w] → tokens [B, F·G, D] in order of frame, row, column."""
        tokens: Tensor = embedding(latents.to(embedding.weight.dtype))
        return tokens.flatten(2).transpose(1, 2)

    def _unpatchify(self, values: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """[B, S, values of a patch in order of frame, row, column, channel] → [B, 16, F, h, w]."""
        patches = values.reshape(values.shape[0], *grid, *self.patch_size, -1)
        return patches.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def embed_text(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Text rows [n, text_dim] → embedded [1, M, D], and a bias for their attention scores, float32 [1, M].

        The model attends to all rows that pad a text to `text_len`. They are equal, so one is computed for all of
        them, and the logarithm of their number is added to its score.
        """
        padding = self.inputs.text_rows - text.shape[0]
        padded = functional.pad(text, (0, 0, 0, min(padding, 1)))
        rows: Tensor = self.condition_embedder.text_embedder(padded.unsqueeze(0).to(self.compute_dtype))
        bias = torch.zeros(rows.shape[:2], device=rows.device)
        if padding > 1:
            bias[:, -1] = math.log(padding)
        return rows, bias

    def _noise_offset(self, pose: Tensor | None, segment: Tensor) -> Tensor:
        """Embedded poses plus the segment's embedding [D]: [1, S, D]; without poses [1, 1, D] for all tokens."""
        if self.pose_embedding is None:
            return segment.expand(1, 1, -1)
        if pose is None:  # every patch of zeros makes the same token
            pose = segment.new_zeros(self.inputs.pose_channels, *self.patch_size)
        return self.patches(self.pose_embedding, pose.unsqueeze(0)) + segment

    def _clean_tokens(
        self, reference: Tensor | None, motion: Tensor | None, segments: Tensor
    ) -> tuple[Tensor, list[Positions]]:
        """Float32 tokens [1, C, D] of the reference and the motion, and their positions."""
        tokens, positions = [segments.new_zeros(1, 0, segments.shape[1])], list[Positions]()
        if reference is not None:
            patches = self.patches(self.patch_embedding, reference.unsqueeze(0))
            tokens.append(patches.float() + segments[REFERENCE])
            _, rows, columns = self._grid(reference.shape[1:])
            positions.append(reference_positions(rows, columns))
        if motion is not None:
            tokens.append(self.frame_packer(motion).float() + segments[MOTION])
            positions.extend(self.frame_packer.positions(*motion.shape[2:]))
        return torch.cat(tokens, dim=1), positions

    def _clean_modulation(self, device: torch.device) -> Tensor | None:
        """Modulation [1, 6, D] of timestep 0; None if clean tokens are modulated as the noise is."""
        if not self.zero_timestep:
            return None
        _, modulation = self.condition_embedder.time(torch.zeros(1, device=device))
        return modulation

    @property
    def compute_dtype(self) -> torch.dtype:
        """Element type that linear layers and attention compute in, also where weights are quantized."""
        return self._typed_blocks[0].dtype

    @property
    def _typed_blocks(self) -> Sequence[WanS2VTransformerBlock]:
        return cast(Sequence[WanS2VTransformerBlock], self.blocks)
