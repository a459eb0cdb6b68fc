"""What several devices take for what one would do, as `cost` has it: their shares, and what travels between them.

Legend: R ranks, D model width.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from soundreel.engines.native.cost import (
    FULL_SHARE,
    HALF_RATE_SHARE,
    HALF_SIZE_SHARE,
    LATENT_SHARE,
    PassCost,
    Share,
    Speeds,
    pass_seconds,
)
from soundreel.engines.native.links import Links
from soundreel.models.vae_bands import DECODER_REACHES, SCALE, decoder_rows, encoder_rows, even_spans

BF16_BYTES, FLOAT8_BYTES = 2, 1

COPIED_BYTES = 24
"""Per token and unit of D that is exchanged: queries, keys, values and outputs are each read and written before they
travel, and outputs and half of the rest after it."""

SMALLER_PIECES = 1.03
"""How many times longer the same arithmetic takes in pieces for several devices, measured with two."""

PROJECTIONS = 0.17
"""Of a block's products: those of keys and queries, behind which values and keys travel."""

UNDIVIDED = 0.5
"""Of the stage as large as the latents: its middle block, which sees whole pictures."""

STAGES = LATENT_SHARE, HALF_RATE_SHARE, HALF_SIZE_SHARE, FULL_SHARE
"""Of a decode's operations, from the latents on; an encode's are about the same."""

ENCODER_REACHES = 5, 4, 4
"""Convolutions of each encoder stage before it halves the picture, from full size on."""


def share_of(
    sizes: Mapping[str, Any], height: int, *, guidance: int, tokens: int, links: Links, float8_attention: bool
) -> Share:
    """What each of guidance × tokens devices has to do, for pictures of `height` pixels."""
    ranks, rows = guidance * tokens, height // SCALE
    return Share(
        guidance=guidance,
        one_pass=partial(
            shared_pass_seconds, sizes=sizes, ranks=tokens, links=links, float8_attention=float8_attention
        ),
        encode=shared_encode(rows, ranks),
        decode=shared_decode(rows, ranks),
    )


def shared_pass_seconds(
    cost: PassCost, speeds: Speeds, *, sizes: Mapping[str, Any], ranks: int, links: Links, float8_attention: bool
) -> float:
    """Of a forward pass whose tokens are divided among so many ranks."""
    if ranks == 1:
        return pass_seconds(cost, speeds)
    heads, blocks = sizes["num_attention_heads"], sizes["num_layers"]
    own = replace(
        cost,
        products=cost.products / ranks,
        attention=cost.attention * math.ceil(heads / ranks) / heads,
        row_bytes=cost.row_bytes / ranks,
    )
    exchanged: float = blocks * math.ceil(cost.tokens / ranks) * heads * sizes["attention_head_dim"]
    copies = exchanged * COPIED_BYTES / speeds.rows
    sent = exchanged * (ranks - 1) / ranks / links.speed
    waited = _waited(own, speeds, sent, FLOAT8_BYTES if float8_attention else BF16_BYTES)
    return SMALLER_PIECES * pass_seconds(own, speeds) + copies + waited


def _waited(own: PassCost, speeds: Speeds, sent: float, width: int) -> float:
    """What nothing hides: queries and outputs, and of the rest what takes longer than the projections that hide it.

    Args:
        sent: seconds in which a byte of every channel of every token travels.
        width: bytes of queries, keys and values.
    """
    hides = PROJECTIONS * own.products / speeds.products
    return sent * (width + BF16_BYTES) + max(0.0, sent * 2 * width - hides)


def shared_decode(latent_rows: int, ranks: int) -> float:
    """Share of a decode that the busiest of R ranks does."""
    if ranks == 1:
        return 1.0
    reach = [decoder_rows(latent_rows, band) for band in even_spans(latent_rows, min(ranks, latent_rows))]
    parts = [
        max((rows[level].computed[1] - rows[level].computed[0]) / (latent_rows << level) for rows in reach)
        for level in range(len(DECODER_REACHES))
    ]
    parts[0] = UNDIVIDED + (1 - UNDIVIDED) * parts[0]
    return sum(share * part for share, part in zip(STAGES, parts, strict=True))


def shared_encode(latent_rows: int, ranks: int) -> float:
    """The same of an encode: what is as large as the latents is the first rank's alone."""
    if ranks == 1:
        return 1.0
    height = SCALE * latent_rows
    bands = even_spans(latent_rows, min(ranks, latent_rows))
    reach = [encoder_rows(height, band, ENCODER_REACHES) for band in bands]
    parts = [
        max((rows[level].computed[1] - rows[level].computed[0]) / (height >> level) for rows in reach)
        for level in range(len(ENCODER_REACHES))
    ]
    return sum(share * part for share, part in zip(STAGES[::-1], [*parts, 1.0], strict=True))
