"""All that stays the same during the steps of a clip: computed once by `condition`, read by every `forward`.

Legend: B guidance branches, S noise tokens, C clean tokens (reference, then motion), D model width, F latent
frames, M text rows, N audio tokens per latent frame, H heads, d head width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from soundreel.models.rope import Rotary


class KeyValue(NamedTuple):
    """What queries attend to, each [B, tokens, H, d]."""

    key: Tensor
    value: Tensor
    bias: Tensor | None = None  # float32 [B, tokens], added to the scores: log(n) for a token that stands for n


class AudioConditioning(NamedTuple):
    """The sound as one block hears it."""

    tokens: KeyValue  # each [B, F, N, H, d]
    shift: Tensor | None  # float32 [B, F, 1, D]; None where the model has no adaptive audio norm
    scale: Tensor | None


class BlockConditioning(NamedTuple):
    """The step-invariant inputs of one block; `audio` is None in blocks without audio injection."""

    text: KeyValue  # each [B, M, H, d]
    audio: AudioConditioning | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditioning:
    """One clip's step-invariant inputs, for one guidance branch or several stacked ones.

    Valid for the weights that computed it: compute it anew after loading or removing a LoRA.
    """

    noise_offset: Tensor  # [B, S or 1, D], added to the noise tokens: pose and segment embedding
    clean_tokens: Tensor  # float32 [B, C, D]
    clean_modulation: Tensor | None  # float32 [1, 6, D]; None: as the noise
    rotary: Rotary  # of all S + C tokens
    blocks: tuple[BlockConditioning, ...]

    @staticmethod
    def stack(branches: Sequence["Conditioning"]) -> "Conditioning":
        """Branches of one clip (same size, same motion or none) as one batch, in the given order."""
        return replace(
            branches[0],
            noise_offset=torch.cat([branch.noise_offset for branch in branches]),
            clean_tokens=torch.cat([branch.clean_tokens for branch in branches]),
            blocks=tuple(_stack_blocks(blocks) for blocks in zip(*(branch.blocks for branch in branches), strict=True)),
        )


def _stack_blocks(blocks: Sequence[BlockConditioning]) -> BlockConditioning:
    audio = [block.audio for block in blocks if block.audio is not None]
    return BlockConditioning(
        text=_stack_tokens([block.text for block in blocks]), audio=_stack_audio(audio) if audio else None
    )


def _stack_audio(branches: Sequence[AudioConditioning]) -> AudioConditioning:
    return AudioConditioning(
        tokens=_stack_tokens([branch.tokens for branch in branches]),
        shift=_stack_optional([branch.shift for branch in branches]),
        scale=_stack_optional([branch.scale for branch in branches]),
    )


def _stack_tokens(branches: Sequence[KeyValue]) -> KeyValue:
    length = max(branch.key.shape[1] for branch in branches)
    padded = [_pad_tokens(branch, length) for branch in branches]
    return KeyValue(
        key=torch.cat([branch.key for branch in padded]),
        value=torch.cat([branch.value for branch in padded]),
        bias=_stack_optional([branch.bias for branch in padded]),
    )


def _pad_tokens(branch: KeyValue, length: int) -> KeyValue:
    """As many tokens as the longest text has; those that are added have no weight."""
    missing = length - branch.key.shape[1]
    if branch.bias is None or missing == 0:
        return branch
    key, value = (functional.pad(x, (0, 0, 0, 0, 0, missing)) for x in branch[:2])
    return KeyValue(key, value, functional.pad(branch.bias, (0, missing), value=-math.inf))


def _stack_optional(branches: Sequence[Tensor | None]) -> Tensor | None:
    present = [branch for branch in branches if branch is not None]
    return torch.cat(present) if present else None
