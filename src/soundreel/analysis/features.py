"""What the sound does, row by row on the video's time base."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis.rhythm import Attacks, find_attacks, find_beats
from soundreel.analysis.spectrum import (
    HOPS_PER_SECOND,
    MARGIN,
    SAMPLE_RATE,
    SLAB_SAMPLES,
    Rows,
    describe,
)
from soundreel.analysis.streaming import Samples, slabs
from soundreel.errors import InputError
from soundreel.media.audio import stream_sound
from soundreel.units import MODEL_FPS, StrPath

CUT_SECONDS = 0.03
"""Before the sound's end nothing is taken for an attack: that it is cut there splatters over the spectrum."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SoundFeatures:
    """What the sound does, on the video's time base.

    Row j describes the sound around j / `MODEL_FPS` seconds of the window. Rows after the sound's end are
    silent. Levels are absolute: 1 is a full-scale sine, 0 is 60 dB below it.
    """

    loudness: NDArray[np.float32]  # [N] 0..1 level as heard (K-weighted); digital silence is exactly 0
    onset: NDArray[np.float32]  # [N] 0..1 strength of the attack in this frame, 0 without one
    low: NDArray[np.float32]  # [N] 0..1 level below 200 Hz
    mid: NDArray[np.float32]  # [N] 0..1 level from 200 Hz to 2 kHz
    high: NDArray[np.float32]  # [N] 0..1 level above 2 kHz
    centroid_hz: NDArray[np.float32]  # [N] spectral centroid, 0 in silence
    chroma: NDArray[np.float32]  # [N, 12] from C; rows sum to 1, or are all 0 in silence and without pitch
    tempo_bpm: float  # 0 when there is no beat
    beat_times: NDArray[np.float64]  # [B] seconds from the window's start, ascending
    onset_times: NDArray[np.float64]  # [K] seconds of the detected attacks, ascending, exact to milliseconds


def analyse(path: StrPath, *, start: float, seconds: float, frames: int) -> SoundFeatures:
    """Analyse `seconds` of sound from `start` seconds on, for a video of `frames` frames.

    The sound is streamed: memory grows only by the rows, about 30 MB per hour. The last few results are kept,
    so that asking again for the same window of an unchanged file costs nothing; their arrays are read-only.

    Raises:
        InputError: there is no such file.
        MediaError: it cannot be decoded as sound.
    """
    try:
        file = Path(path).stat()
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}. Expected a sound file") from error
    window = min(seconds, frames / MODEL_FPS)
    return _analyse(str(Path(path).resolve()), (file.st_mtime_ns, file.st_size), start, window, frames)


@lru_cache(maxsize=4)
def _analyse(path: str, _identity: tuple[int, int], start: float, seconds: float, frames: int) -> SoundFeatures:
    lead = int(min(start * SAMPLE_RATE, MARGIN))  # what was heard just before tells a tone that goes on from an attack
    blocks = stream_sound(
        path,
        start=start - lead / SAMPLE_RATE,
        seconds=seconds + lead / SAMPLE_RATE,
        sample_rate=SAMPLE_RATE,
        mono=True,
    )
    return features_of((block[:, 0] for block in blocks), seconds=seconds, frames=frames, lead=lead)


def features_of(blocks: Iterable[Samples], *, seconds: float, frames: int, lead: int = 0) -> SoundFeatures:
    """Features of `seconds` of sound on `frames` frames.

    The sound is a stream of mono blocks [any length] at `SAMPLE_RATE`, of which the first `lead` samples come
    before the window.
    """
    found = [describe(slab) for slab in slabs(blocks, size=SLAB_SAMPLES, margin=MARGIN, lead=lead)]
    loudness, low, mid, high = _rows([slab.levels for slab in found], frames, 4).T
    hops = max(1, math.ceil((seconds - CUT_SECONDS) * HOPS_PER_SECOND))
    attacks = find_attacks(
        _rows([slab.rise for slab in found], hops), _rows([slab.attack_offset for slab in found], hops)
    )
    beats = find_beats(_rows([slab.accent for slab in found], hops), attacks)
    features = SoundFeatures(
        loudness=loudness,
        onset=_on_frames(attacks, frames),
        low=low,
        mid=mid,
        high=high,
        centroid_hz=_rows([slab.centroid_hz for slab in found], frames),
        chroma=_rows([slab.chroma for slab in found], frames, 12),
        tempo_bpm=beats.tempo_bpm,
        beat_times=beats.seconds,
        onset_times=attacks.seconds,
    )
    for value in vars(features).values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)  # shared by all who ask for the same window
    return features


def _rows(parts: list[Rows], count: int, *width: int) -> Rows:
    """The first `count` rows of the slabs' parts, silence after the last, [count, *width]."""
    return np.concatenate([*parts, np.zeros((count, *width), np.float32)])[:count]


def _on_frames(attacks: Attacks, frames: int) -> Rows:
    """Strength of the strongest attack in each frame, [frames]."""
    onset = np.zeros(frames, np.float32)
    frame = np.minimum(np.round(attacks.seconds * MODEL_FPS).astype(int), frames - 1)
    np.maximum.at(onset, frame, attacks.strength)
    return onset
