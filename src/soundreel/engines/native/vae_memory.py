"""What the VAE takes beside its weights: features that are there at the worst moment, and frames that are remembered.

Legend: H × W pixels, F latent frames, a step of s latent frames, B bytes of a number. φ = 4·96·H·W·B is one latent
frame's feature at full size: 4 frames of 96 channels. Stages have C channels at 1/2ᵏ of the size.

The worst moment is the same for decoder and encoder: in a residual block at full size, the first convolution reads
silu(norm(x)) of 4s frames behind the 2 before, and makes its result, while x waits for the sum: (3s + ½)·φ. By then
all convolutions of 3 frames remember their last 2. With bands, pictures have the rows that a stage computes, and what
the whole pictures made at latent size waits, or is made: 384 channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from soundreel.models.vae_areas import SCALE, Extent, decoder_extents, encoder_extents, even_spans
from soundreel.units import FRAMES_PER_LATENT

CHANNELS = 96, 192, 384, 384
"""Of the stages from full size to that of the latents."""

DECODER_REMEMBERS = (7 * 2 * 96, 6 * 2 * 192, (5 * 2 + 2) * 384 + 2 * 192, (6 * 2 + 2) * 384)
"""Channels × frames of each stage from full size on, after the middle block: 6 convolutions of 3 blocks; at full size
the output's; at the two sizes whose frames are doubled that convolution's. One reads what was just enlarged, 192."""

ENCODER_REMEMBERS = (4 * 2 * 96 + 2 * 3, 2 * 96 + 3 * 2 * 192, 192 + 2 * 192 + 3 * 2 * 384)
"""As above, of 2 blocks; where frames are halved only 1 is remembered, after the pictures were."""

MIDDLE_DECODER_REMEMBERS = 4 * 2 * 384
MIDDLE_ENCODER_REMEMBERS = 9 * 2 * 384 + 384
"""Of the whole pictures at latent size: 2 blocks; in the encoder 2 more, the output's and the halved frames'."""

ENCODER_REACHES = (5, 4, 4)
"""Convolutions before the encoder halves its pictures."""

CPU_FACTOR = 2
"""Times what our own kernels take: PyTorch's convolutions on a CPU lay features out anew (1.4 to 1.6, measured)."""

CPU_BANDS = 1, 2, 4, 8
"""Into which a CPU cuts pictures that its memory does not hold."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of what is decoded or encoded."""

    height: int
    width: int
    latents: int  # F
    bytes_each: int  # B


def decode_bytes(sizes: Sizes, step: int, bands: int = 1) -> int:
    """At the peak of a decode."""
    height = sizes.height // SCALE
    waiting = height if bands > 1 else 0
    return max(
        _bytes(sizes, step, decoder_extents(height, band)[::-1], DECODER_REMEMBERS, MIDDLE_DECODER_REMEMBERS, waiting)
        for band in even_spans(height, min(bands, height))
    )


def encode_bytes(sizes: Sizes, step: int, bands: int = 1) -> int:
    """At the peak of an encode, whose bands are made one after the other."""
    height, middle = sizes.height // SCALE, 0 if bands > 1 else MIDDLE_ENCODER_REMEMBERS
    return max(
        _bytes(
            sizes,
            step,
            encoder_extents(sizes.height, band, ENCODER_REACHES),
            ENCODER_REMEMBERS,
            middle,
            waiting=band[1] if bands > 1 else 0,
        )
        for band in even_spans(height, min(bands, height))
    )


def encode_bytes_on_a_cpu(sizes: Sizes, bands: int = 1) -> int:
    """At the peak of an encode, one latent frame at once."""
    return CPU_FACTOR * encode_bytes(sizes, 1, bands)


def decode_bytes_on_a_cpu(sizes: Sizes, bands: int = 1) -> int:
    """The same of a decode, with the pixels that it makes."""
    pixels = 3 * FRAMES_PER_LATENT * sizes.latents * sizes.height * sizes.width * sizes.bytes_each
    return CPU_FACTOR * decode_bytes(sizes, 1, bands) + pixels


def _bytes(sizes: Sizes, step: int, rows: Sequence[Extent], remembers: Sequence[int], middle: int, waiting: int) -> int:
    """While a band goes through the stages, and so many rows of whole pictures at latent size wait."""
    latent_width = sizes.width // SCALE
    computed = [end - first for first, end in (stage.computed for stage in rows)]
    places = [(sizes.width >> k) * count for k, count in enumerate(computed)]
    features = (3 * FRAMES_PER_LATENT * step + 2) * CHANNELS[0] * places[0]
    remembered: int = sum(count * place for count, place in zip(remembers, places, strict=True))
    whole: int = middle * (sizes.height // SCALE) + sizes.latents * CHANNELS[-1] * waiting
    return sizes.bytes_each * (features + remembered + whole * latent_width)
