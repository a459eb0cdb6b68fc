"""What stays the same during the steps of a clip: computed once by `condition`, read by every `forward`.

Legend: S noise tokens, C clean tokens (reference, then motion), D model width, F latent frames, M text rows, N audio
tokens per latent frame, H heads, d head width.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from soundreel.models.rope import Rotary


class KeyValue(NamedTuple):
    """Keys and values of an attention, each [batch, tokens, H, d]."""

    key: Tensor
    value: Tensor
    bias: Tensor | None = None  # float32 [batch, tokens], added to the scores: log(n) for a token that stands for n


class AudioConditioning(NamedTuple):
    """Audio conditioning of one block: keys and values of the audio attention, and the adaptive norm before it."""

    tokens: KeyValue  # each [1, F, N, H, d]
    shift: Tensor | None  # float32 [1, F, 1, D]; None where the model has no adaptive audio norm
    scale: Tensor | None


class BlockConditioning(NamedTuple):
    """The step-invariant inputs of one block; `audio` is None in blocks without audio injection."""

    text: KeyValue  # each [1, M, H, d]
    audio: AudioConditioning | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditioning:
    """One clip's step-invariant inputs, for one guidance branch.

    Valid for the weights that computed it: compute it anew after loading or removing a LoRA.
    """

    noise_offset: Tensor  # [1, S or 1, D], added to the noise tokens: pose and segment embedding
    clean_tokens: Tensor  # float32 [1, C, D]
    clean_modulation: Tensor | None  # float32 [1, 6, D]; None: that of the noise
    rotary: Rotary  # of all S + C tokens
    blocks: tuple[BlockConditioning, ...]
