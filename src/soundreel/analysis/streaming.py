"""Cutting a stream of sound into chunks that overlap by a margin."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def chunks(blocks: Iterable[Samples], *, size: int, margin: int, lead: int = 0) -> Iterator[Samples]:
    """Cut a stream of mono blocks [any length] into chunks of [margin + size + margin] samples.

    Time 0 is sample `lead` of the stream (at most `margin`); the samples before it are in the first chunk's margin.
    Chunk k holds the samples k·size - margin … (k + 1)·size + margin from time 0, with zeros where the stream has none.
    Whatever is computed for the `size` samples in the middle, from no more than `margin` around them, does not depend
    on the lengths of the blocks. Memory holds one chunk and one block.
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
