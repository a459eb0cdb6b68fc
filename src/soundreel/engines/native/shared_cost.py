"""What several devices take for what one would do, as `cost` has it: their shares, and what travels between them.

Legend: R ranks, D model width.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from soundreel.engines.native.cost import STAGE_SHARES, PassCost, Share, Speeds, pass_seconds
from soundreel.engines.native.links import Links
from soundreel.models.parallel.pictures import rank_windows
from soundreel.models.vae_areas import Window, decoder_areas

BF16_BYTES, FLOAT8_BYTES = 2, 1

COPIED_BYTES = 24
"""Per token and unit of D that is exchanged: queries, keys, values and outputs are each read and written before they
travel, and outputs and half of the rest after it."""

SMALLER_PIECES = 1.03
"""How many times longer the same arithmetic takes in pieces for several devices, measured with two."""

PROJECTION = 0.085
"""Of a block's products: keys, or queries. Values travel behind both, keys behind queries; in float8, which begins with
means of values and keys, both travel behind queries."""

WHOLE_ENCODE, WHOLE_DECODE = 0.2, 0.05
"""Of the seconds of one device, what is not divided, measured with two. An encode: pictures that come from the host,
and the first rank's work after the encoder's stages. A decode: every rank's before the decoder's middle block."""

USUAL_LATENTS: Final = 60, 104
"""Of pictures of 480×832, for whose windows shares are computed: larger ones have less halo."""


def share_of(sizes: Mapping[str, Any], *, guidance: int, tokens: int, links: Links, float8_attention: bool) -> Share:
    """What each of guidance × tokens devices has to do."""
    ranks = guidance * tokens
    return Share(
        guidance=guidance,
        one_pass=partial(
            shared_pass_seconds, sizes=sizes, ranks=tokens, links=links, float8_attention=float8_attention
        ),
        encode=pictures_share(ranks, WHOLE_ENCODE),
        decode=pictures_share(ranks, WHOLE_DECODE),
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
    waited = _waited(own, speeds, sent, is_float8=float8_attention)
    return SMALLER_PIECES * pass_seconds(own, speeds) + copies + waited


def _waited(own: PassCost, speeds: Speeds, sent: float, *, is_float8: bool) -> float:
    """What nothing hides: queries and outputs, and of the rest what takes longer than the projections that hide it.

    Args:
        sent: seconds in which a byte of every channel of every token travels.
        is_float8: queries, keys and values are.
    """
    width, projections = (FLOAT8_BYTES, 1) if is_float8 else (BF16_BYTES, 2)
    hides = projections * PROJECTION * own.products / speeds.products
    return sent * (width + BF16_BYTES) + max(0.0, sent * 2 * width - hides)


def pictures_share(ranks: int, of_whole: float) -> float:
    """Of one device's seconds, what an encode or a decode takes on so many ranks.

    Args:
        of_whole: what is not divided.
    """
    windows = rank_windows(*USUAL_LATENTS, ranks)
    return of_whole + (1 - of_whole) * max(map(_window_share, windows))


def _window_share(window: Window) -> float:
    """Of a decode's operations in its stages, those of a window and its halo."""
    height, width = USUAL_LATENTS
    done = 0.0
    for share, area in zip(STAGE_SHARES, decoder_areas(height, width, window), strict=True):
        rows, columns = area.computed.shape
        done += share * rows * columns / (height * width)
        height, width = 2 * height, 2 * width
    return done
