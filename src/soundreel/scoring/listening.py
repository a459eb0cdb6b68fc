"""What the sound of a video does: onsets with their strengths, beats, level; and its envelope, which lips follow."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis.hearing import song_of
from soundreel.analysis.rhythm import find_onsets
from soundreel.analysis.song_spectrum import FRAMES_PER_SECOND, spectrum_of_song
from soundreel.analysis.spectrum import HOPS_PER_SECOND, SAMPLE_RATE
from soundreel.media.audio import stream_sound
from soundreel.types import Check, heard
from soundreel.units import StrPath

Values = NDArray[np.float64]

CUT_SECONDS: Final = 0.03
"""No onsets this near to the end: where the sound is cut, its spectrum spreads as at an onset."""

ENVELOPE_RATE: Final = 100
"""Values of the envelope per second."""

ENVELOPE_SAMPLE_RATE: Final = 8000
"""Hz: formants that tell an open mouth lie below half of it."""

LOUDNESS_EXPONENT: Final = 0.6
"""Loudness is proportional to this power of the amplitude (Stevens's power law)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Heard:
    """The accents and the level of a sound; all empty where there is none."""

    seconds: float
    onsets: Values  # [K] seconds, ascending
    strengths: Values  # [K] 0..1
    beats: Values  # [B] seconds, ascending
    level: Values  # [16 per second] 0..1 loudness, 0 is 60 dB below full scale

    def level_at(self, seconds: Values) -> Values:
        """Level at these times; after the end of the sound 0."""
        if not len(self.level):
            return np.zeros(len(seconds))
        return np.interp(seconds, np.arange(len(self.level)) / FRAMES_PER_SECOND, self.level, right=0.0)


NOTHING: Final = Heard(seconds=0.0, onsets=np.empty(0), strengths=np.empty(0), beats=np.empty(0), level=np.empty(0))


def listen(video: StrPath, seconds: float, check: Check) -> Heard:
    """Hear at most so many seconds of a video's sound; a few numbers are kept for each moment."""
    blocks = stream_sound(video, seconds=seconds, sample_rate=SAMPLE_RATE, mono=True)
    spectrum = spectrum_of_song(block[:, 0] for block in heard(blocks, check))
    if spectrum.seconds == 0:
        return NOTHING
    hops = max(1, round((spectrum.seconds - CUT_SECONDS) * HOPS_PER_SECOND))
    onsets = find_onsets(spectrum.flux_db[:hops], spectrum.onset_shift[:hops])
    return Heard(
        seconds=spectrum.seconds,
        onsets=onsets.seconds,
        strengths=onsets.strength.astype(np.float64),
        beats=np.array(song_of(spectrum).beats),
        level=spectrum.levels[:, 0].astype(np.float64),
    )


def envelope_of(video: StrPath, seconds: float, check: Check) -> Values:
    """Loudness of a video's sound between 200 Hz and 4 kHz or so, [`ENVELOPE_RATE` per second]."""
    hop = ENVELOPE_SAMPLE_RATE // ENVELOPE_RATE
    blocks = stream_sound(video, seconds=seconds, sample_rate=ENVELOPE_SAMPLE_RATE, mono=True)

    def amplitudes() -> Iterator[Values]:
        last = np.zeros(1, np.float32)
        for block in heard(blocks, check):  # a second each: whole hops, but for the last one
            sound = block[:, 0]
            differences = np.diff(sound, prepend=last)  # bass is softened, and drums with it
            last = sound[-1:]
            padded = np.pad(differences, (0, -len(sound) % hop)).reshape(-1, hop)
            yield np.sqrt(np.mean(np.square(padded, dtype=np.float64), axis=1))

    envelope: Values = np.concatenate([np.empty(0), *amplitudes()]) ** LOUDNESS_EXPONENT
    return envelope
