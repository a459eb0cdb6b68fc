"""What several devices take for what one would do, as `cost` has it: their shares, and what travels between them.

Legend: R ranks, D model width.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from soundreel.engines.native.cost import PassCost, Share, Speeds, pass_seconds
from soundreel.engines.native.links import Links

BF16_BYTES, FLOAT8_BYTES = 2, 1

COPIED_BYTES = 24
"""Per token and unit of D that is exchanged: queries, keys, values and outputs are each read and written before they
travel, and outputs and half of the rest after it."""

SMALLER_PIECES = 1.03
"""How many times longer the same arithmetic takes in pieces for several devices, measured with two."""

PROJECTION = 0.085
"""Of a block's products: keys, or queries. Values travel behind both, keys behind queries; in float8, which begins with
means of values and keys, both travel behind queries."""

ENCODE: Final[Mapping[int, float]] = {1: 1.0, 2: 0.70, 4: 0.60}
DECODE: Final[Mapping[int, float]] = {1: 1.0, 2: 0.81, 4: 1.0}
"""Of the seconds of one device, by the number of those that have rows: measured on H200 at 480×832 and by no means what
the arithmetic of their rows would be. Of another number it is what the next smaller one was measured to take."""


def share_of(sizes: Mapping[str, Any], *, guidance: int, tokens: int, links: Links, float8_attention: bool) -> Share:
    """What each of guidance × tokens devices has to do."""
    ranks = guidance * tokens
    return Share(
        guidance=guidance,
        one_pass=partial(
            shared_pass_seconds, sizes=sizes, ranks=tokens, links=links, float8_attention=float8_attention
        ),
        encode=rows_share(ENCODE, ranks),
        decode=rows_share(DECODE, ranks),
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


def rows_share(measured: Mapping[int, float], ranks: int) -> float:
    """Of `ENCODE` or `DECODE`, for so many ranks."""
    return measured[max(count for count in measured if count <= ranks)]
