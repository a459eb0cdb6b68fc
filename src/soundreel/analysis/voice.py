"""Where a voice is heard."""

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis.song import Span
from soundreel.analysis.song_spectrum import FRAMES_PER_SECOND, SongSpectrum

STEM_RANGE = 0.5
"""A separated voice is heard where its level is within this of its loudest (0.5: 30 dB); below are its leaks."""

STEM_FLOOR = 0.25
"""And nowhere below this level: -45 dB."""

BREATH_SECONDS = 0.4
"""Pauses up to this long belong to what is sung."""

LEAST_SECONDS = 0.15
"""Shorter stretches are no voice."""


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
