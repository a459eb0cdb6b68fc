"""Where a voice is heard."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis.accents import mean_around
from soundreel.analysis.runs import bridged, runs_of
from soundreel.analysis.song import Span, VoiceSource
from soundreel.analysis.song_spectrum import FRAMES_PER_SECOND, SongSpectrum
from soundreel.analysis.spectrum import Rows
from soundreel.analysis.voice_network import NETWORK_RATE, WINDOW
from soundreel.analysis.wavering import WAVERINGS_PER_SECOND

STEM_RANGE = 0.5
"""A separated voice is heard where its level is within this of its loudest (0.5: 30 dB); below are its leaks."""

STEM_FLOOR = 0.25
"""And nowhere below this level: -45 dB."""

BREATH_SECONDS = 0.4
"""Pauses up to this long belong to what is sung."""

LEAST_SECONDS = 0.15
"""Shorter stretches are no voice."""


WAVERING_REACH = 12
"""Wavering is averaged over 0.8 s: so many moments on either side."""

WAVERS = 0.11
"""Mean share of wavering bands from which on there is a voice; in instruments it is 0.03, in noise 0.07."""

AUDIBLE = 0.15
"""Level of loudness below which no voice is looked for: -51 dB."""


def voice_in_mix(spectrum: SongSpectrum) -> tuple[Span, ...]:
    """Stretches in which a voice is heard, estimated from how pitches waver in the mix.

    Strings, slide guitars and synthesizers that waver as a voice does are taken for one.
    """
    mean = mean_around(spectrum.wavering, WAVERING_REACH)
    frames = np.arange(len(spectrum.levels)) / FRAMES_PER_SECOND
    at_frames = np.interp(frames, np.arange(len(mean)) / WAVERINGS_PER_SECOND, mean)
    return spans_of((at_frames > WAVERS) & (spectrum.levels[:, 0] > AUDIBLE), spectrum.seconds)


PROBABLE = 0.3
"""Mean probability over 0.5 s, by the network, from which on what is loud in a stem is a voice and no leak."""

PROBABLE_REACH = 8
"""Windows on either side."""

LEAST_KNOWN = 0.1
"""Share of what is loud that the network has to take for a voice; if it is less, it does not know this voice."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stem:
    """A separated voice, on the time line of its song."""

    spectrum: SongSpectrum
    probability: Rows | None = None  # [windows] of a voice, by the network of `voice_network`; None: not asked


def voice_in_stem(stem: Stem) -> tuple[tuple[Span, ...], VoiceSource]:
    """Stretches in which a separated voice is heard, and how that is known: by level, and by the network."""
    loudness = stem.spectrum.levels[:, 0]
    if not len(loudness):  # it is shorter than the song
        return (), VoiceSource.STEM
    loud = loudness > max(STEM_FLOOR, float(np.percentile(loudness, 98)) - STEM_RANGE)
    if stem.probability is not None:
        mean = mean_around(stem.probability, PROBABLE_REACH)
        middles = (np.arange(len(mean)) + 0.5) * WINDOW / NETWORK_RATE
        known = known_to_be_voice(loud, np.interp(np.arange(len(loud)) / FRAMES_PER_SECOND, middles, mean))
        if known is not None:
            return spans_of(known, stem.spectrum.seconds), VoiceSource.SILERO
    return spans_of(loud, stem.spectrum.seconds), VoiceSource.STEM


def known_to_be_voice(loud: NDArray[np.bool_], probability: NDArray[np.floating[Any]]) -> NDArray[np.bool_] | None:
    """What of the `loud` moments [n] of a stem is a voice by the network; None where it does not know this voice."""
    known: NDArray[np.bool_] = loud & (probability > PROBABLE)
    return known if known.sum() > LEAST_KNOWN * loud.sum() else None


def spans_of(voiced: NDArray[np.bool_], seconds: float) -> tuple[Span, ...]:
    """Stretches of frames [F] that are voiced; pauses for breath are closed, single frames dropped."""
    times = (runs_of(voiced) - 0.5).clip(0) / FRAMES_PER_SECOND
    spans = bridged(times, BREATH_SECONDS).tolist()
    return tuple(Span(start=start, stop=min(stop, seconds)) for start, stop in spans if stop - start >= LEAST_SECONDS)
