"""Listening to a song: `hear` puts together what the other modules find in it."""

from itertools import pairwise

import numpy as np

from soundreel.analysis.rhythm import find_beats, find_onsets
from soundreel.analysis.song import ENERGY_RATE, Bar, Meter, Role, Section, Song, Tempo, VoiceSource
from soundreel.analysis.song_spectrum import FRAMES_PER_SECOND, SongSpectrum, spectrum_of_song
from soundreel.analysis.spectrum import SAMPLE_RATE
from soundreel.analysis.voice import voice_in_stem
from soundreel.media.audio import stream_sound
from soundreel.types import Check, go_on, heard
from soundreel.units import StrPath


def hear(
    path: StrPath,
    *,
    start: float = 0.0,
    seconds: float | None = None,
    voice: StrPath | None = None,
    check: Check = go_on,
) -> Song:
    """Listen to `seconds` of a song from `start` seconds on; None: to its end.

    The sound is streamed: memory grows by about 10 MB per hour. `voice` is a file with the separated voice of the same
    song (same length); with it the stretches with voice are exact, without it they are estimated from the mix. `check`
    is called before each second of sound and may raise to stop.

    Raises:
        InputError: there is no such file.
        MediaError: it cannot be decoded as sound.
    """

    def listen(sound: StrPath) -> SongSpectrum:
        blocks = stream_sound(sound, start=start, seconds=seconds, sample_rate=SAMPLE_RATE, mono=True)
        return spectrum_of_song(block[:, 0] for block in heard(blocks, check))

    return song_of(listen(path), None if voice is None else listen(voice))


def song_of(spectrum: SongSpectrum, stem: SongSpectrum | None = None) -> Song:
    """What is heard in a song of which this is the spectrum, and that of its separated voice."""
    onsets = find_onsets(spectrum.flux_db, spectrum.onset_shift)
    found = find_beats(spectrum.accents.mean(axis=1), onsets)
    beats = tuple(float(second) for second in found.seconds)
    downbeats = beats[::4]
    loudness = spectrum.levels[:, 0]
    moments = np.arange(round(spectrum.seconds * ENERGY_RATE)) / ENERGY_RATE
    energy = np.interp(moments, np.arange(len(loudness)) / FRAMES_PER_SECOND, loudness).astype(np.float32)
    bars = tuple(
        Bar(start=first, stop=stop, number=number, beats=4)
        for number, (first, stop) in enumerate(pairwise(downbeats), start=1)
    )
    section = Section(
        start=0.0,
        stop=spectrum.seconds,
        letter="A",
        role=Role.PART,
        number=1,
        confidence=0.0,
        energy=float(energy.mean()),
        voiced=0.0,
    )
    return Song(
        seconds=spectrum.seconds,
        beats=beats,
        downbeats=downbeats,
        bars=bars,
        meter=Meter(beats=4, division=2) if beats else None,
        tempo_bpm=found.tempo_bpm,
        tempi=(Tempo(start=beats[0], stop=beats[-1], bpm=found.tempo_bpm),) if beats else (),
        beat_confidence=0.5 if beats else 0.0,
        downbeat_confidence=0.0,
        sections=(section,),
        energy=energy,
        voice=() if stem is None else voice_in_stem(stem),
        voice_source=VoiceSource.SPECTRUM if stem is None else VoiceSource.STEM,
    )
