"""Shapes of the transformer's inputs, checked before a clip's conditioning is computed.

Legend: n text rows, A wav2vec2 states, C their width, F latent frames, T motion latents, h × w latent size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from soundreel.errors import InputError
from soundreel.units import FRAMES_PER_LATENT

Size = tuple[int, int, int]
"""Latent frames, rows and columns."""


@dataclass(frozen=True, kw_only=True)
class InputShapes:
    """Sizes of one model's inputs."""

    patch_size: Size
    channels: int  # of the latents
    pose_channels: int  # 0: no pose input
    text_width: int
    text_rows: int  # at most
    audio_states: int
    audio_width: int

    def check(
        self,
        size: Size,
        *,
        text: Tensor,
        audio: Tensor,
        reference: Tensor | None,
        motion: Tensor | None,
        pose: Tensor | None,
    ) -> None:
        """Raise `InputError` unless `size` is whole patches and all tensors have the shapes it asks for."""
        frames, *area = size
        if any(length < 1 or length % step for length, step in zip(size, self.patch_size, strict=True)):
            raise InputError(f"latents are {size} (frames, rows, columns): expected multiples of {self.patch_size}")
        _expect("text", text, (None, self.text_width))
        if text.shape[0] > self.text_rows:
            raise InputError(f"text has {text.shape[0]} rows: expected at most {self.text_rows}")
        _expect("audio", audio, (self.audio_states, self.audio_width, FRAMES_PER_LATENT * frames))
        _expect("reference", reference, (self.channels, 1, *area))
        _expect("motion", motion, (self.channels, None, *area))
        _expect("pose", pose, (self.pose_channels, frames, *area))


def _expect(name: str, tensor: Tensor | None, expected: Sequence[int | None]) -> None:
    if tensor is None:
        return
    shape = tuple(tensor.shape)
    if len(shape) != len(expected) or any(b not in (None, a) for a, b in zip(shape, expected, strict=True)):
        wanted = ", ".join("any" if length is None else str(length) for length in expected)
        raise InputError(f"{name} has shape {list(shape)}: expected [{wanted}]")
