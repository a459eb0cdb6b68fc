"""Where a voice is heard."""

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis.song import Span
from soundreel.analysis.song_spectrum import FRAMES_PER_SECOND, SongSpectrum
from soundreel.analysis.wavering import WAVERINGS_PER_SECOND

STEM_RANGE = 0.5
"""A separated voice is heard where its level is within this of its loudest (0.5: 30 dB); below are its leaks."""

STEM_FLOOR = 0.25
"""And nowhere below this level: -45 dB."""

BREATH_SECONDS = 0.4
"""Pauses up to this long belong to what is sung."""

LEAST_SECONDS = 0.15
"""Shorter stretches are no voice."""


WAVERING_HOPS = 25
"""Wavering is averaged over 0.8 s."""

WAVERS = 0.11
"""Mean share of wavering bands from which on there is a voice; in instruments it is 0.03, in noise 0.07."""

AUDIBLE = 0.15
"""Level of loudness below which no voice is looked for: -51 dB."""


def voice_in_mix(spectrum: SongSpectrum) -> tuple[Span, ...]:
    """Stretches in which a voice is heard, estimated from how pitches waver in the mix.

    Strings, slide guitars and synthesizers that waver as a voice does are taken for one.
    """
    window = np.full(WAVERING_HOPS, 1 / WAVERING_HOPS)
    mean = np.convolve(spectrum.wavering, window, "same")[: len(spectrum.wavering)]
    frames = np.arange(len(spectrum.levels)) / FRAMES_PER_SECOND
    at_frames = np.interp(frames, np.arange(len(mean)) / WAVERINGS_PER_SECOND, mean) if len(mean) else frames
    return spans_of((at_frames > WAVERS) & (spectrum.levels[:, 0] > AUDIBLE), spectrum.seconds)


def voice_in_stem(stem: SongSpectrum) -> tuple[Span, ...]:
    """Stretches in which a separated voice is heard, by its level."""
    loudness = stem.levels[:, 0]
    if not len(loudness):
        return ()
    return spans_of(loudness > max(STEM_FLOOR, float(np.percentile(loudness, 98)) - STEM_RANGE), stem.seconds)


def spans_of(voiced: NDArray[np.bool_], seconds: float) -> tuple[Span, ...]:
    """Stretches of frames [F] that are voiced; pauses for breath are closed, single frames dropped."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], voiced, [False]]))).reshape(-1, 2)
    times = (edges - 0.5).clip(0) / FRAMES_PER_SECOND
    spans: list[tuple[float, float]] = []
    for start, stop in times.tolist():
        if spans and start - spans[-1][1] <= BREATH_SECONDS:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((start, stop))
    return tuple(Span(start=start, stop=min(stop, seconds)) for start, stop in spans if stop - start >= LEAST_SECONDS)
