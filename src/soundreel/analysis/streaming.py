"""Endless sound through a small window: samples are cut into slabs that know their neighbours."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def slabs(blocks: Iterable[Samples], *, size: int, margin: int, lead: int = 0) -> Iterator[Samples]:
    """Cut a stream of mono blocks [any length] into slabs of [margin + size + margin] samples.

    Time 0 is sample `lead` of the stream (at most `margin`): what comes before is only seen as a neighbour.
    Slab k holds samples k·size - margin … (k + 1)·size + margin from there, zeros where the stream has none.
    What is computed for the `size` samples in the middle, looking no further than `margin`, is therefore the
    same whatever the lengths of the incoming blocks, and no more than a slab and a block are ever held.
    """
    whole = margin + size + margin
    held = np.zeros(margin - lead, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= whole:
            yield held[:whole]
            held = held[size:]
    while len(held) > margin:
        yield np.pad(held, (0, max(0, whole - len(held))))[:whole]
        held = held[size:]
