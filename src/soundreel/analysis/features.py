"""Features of a sound for each frame of a video."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis.rhythm import Onsets, find_beats, find_onsets
from soundreel.analysis.spectrum import (
    CHUNK_SAMPLES,
    HOPS_PER_SECOND,
    MARGIN,
    SAMPLE_RATE,
    Rows,
    analyse_chunk,
)
from soundreel.analysis.streaming import Samples, chunks
from soundreel.errors import InputError
from soundreel.media.audio import stream_sound
from soundreel.types import Check, go_on, heard
from soundreel.units import MODEL_FPS, StrPath

CUT_SECONDS = 0.03
"""No onsets are detected this near to the end: where the sound is cut, its spectrum spreads as at an onset."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SoundFeatures:
    """Features of a sound for N frames of a video.

    Row j describes the sound around j / `MODEL_FPS` seconds of the window. Rows after the sound's end are
    silent. Levels are absolute: 1 is a full-scale sine, 0 is 60 dB below it.
    """

    loudness: NDArray[np.float32]  # [N] 0..1 K-weighted level (ITU-R BS.1770); digital silence is exactly 0
    onset: NDArray[np.float32]  # [N] 0..1 strength of the strongest onset in the frame, 0 without one
    low: NDArray[np.float32]  # [N] 0..1 level below 200 Hz
    mid: NDArray[np.float32]  # [N] 0..1 level from 200 Hz to 2 kHz
    high: NDArray[np.float32]  # [N] 0..1 level above 2 kHz
    centroid_hz: NDArray[np.float32]  # [N] spectral centroid, 0 in silence
    chroma: NDArray[np.float32]  # [N, 12] from C; rows sum to 1, or are all 0 in silence and without pitch
    tempo_bpm: float  # 0 when there is no beat
    beat_times: NDArray[np.float64]  # [B] seconds from the window's start, ascending
    onset_times: NDArray[np.float64]  # [K] seconds from the window's start, ascending, exact to milliseconds


def analyse(path: StrPath, *, start: float, seconds: float, frames: int, check: Check = go_on) -> SoundFeatures:
    """Analyse `seconds` of sound from `start` seconds on, for a video of `frames` frames.

    The sound is streamed: memory grows by the result alone, about 30 MB per hour. The last few results are cached for
    unchanged files; their arrays are read-only. `check` is called before each second of sound and may raise to stop.

    Raises:
        InputError: there is no such file.
        MediaError: it cannot be decoded as sound.
    """
    try:
        file = Path(path).stat()
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}. Expected a sound file") from error
    window = min(seconds, frames / MODEL_FPS)
    sound = _Window(
        path=Path(path).resolve(),
        identity=(file.st_mtime_ns, file.st_size),
        start=start,
        seconds=window,
        frames=frames,
        check=check,
    )
    return _analyse(sound)


@dataclass(frozen=True, kw_only=True)
class _Window:
    """What features depend on."""

    path: Path
    identity: tuple[int, int]
    start: float
    seconds: float
    frames: int
    check: Check = field(compare=False)  # they do not


@lru_cache(maxsize=4)
def _analyse(window: _Window) -> SoundFeatures:
    lead = int(min(window.start * SAMPLE_RATE, MARGIN))  # sound before it: a tone that began there is no onset
    blocks = stream_sound(
        window.path,
        start=window.start - lead / SAMPLE_RATE,
        seconds=window.seconds + lead / SAMPLE_RATE,
        sample_rate=SAMPLE_RATE,
        mono=True,
    )
    samples = (block[:, 0] for block in heard(blocks, window.check))
    return features_of(samples, seconds=window.seconds, frames=window.frames, lead=lead)


def features_of(blocks: Iterable[Samples], *, seconds: float, frames: int, lead: int = 0) -> SoundFeatures:
    """Features of `seconds` of sound for `frames` frames.

    The sound is a stream of mono blocks [any length] at `SAMPLE_RATE`, of which the first `lead` samples come
    before the window.
    """
    found = [analyse_chunk(chunk) for chunk in chunks(blocks, size=CHUNK_SAMPLES, margin=MARGIN, lead=lead)]
    loudness, low, mid, high = _rows([chunk.levels for chunk in found], frames, 4).T
    hops = max(1, math.ceil((seconds - CUT_SECONDS) * HOPS_PER_SECOND))
    onsets = find_onsets(
        _rows([chunk.flux_db for chunk in found], hops), _rows([chunk.onset_shift for chunk in found], hops)
    )
    beats = find_beats(_rows([chunk.flux_loudness for chunk in found], hops), onsets)
    features = SoundFeatures(
        loudness=loudness,
        onset=_on_frames(onsets, frames),
        low=low,
        mid=mid,
        high=high,
        centroid_hz=_rows([chunk.centroid_hz for chunk in found], frames),
        chroma=_rows([chunk.chroma for chunk in found], frames, 12),
        tempo_bpm=beats.tempo_bpm,
        beat_times=beats.seconds,
        onset_times=onsets.seconds,
    )
    for value in vars(features).values():
        if isinstance(value, np.ndarray):
            assert np.isfinite(value).all(), "sound has only numbers, and none that its power overflows for"
            value.setflags(write=False)  # cached results are shared
    return features


def _rows(parts: list[Rows], count: int, *width: int) -> Rows:
    """The rows of all chunks joined, cut or padded with 0 to [count, *width]."""
    return np.concatenate([*parts, np.zeros((count, *width), np.float32)])[:count]


def _on_frames(onsets: Onsets, frames: int) -> Rows:
    """Strength of the strongest onset in each frame, [frames]."""
    onset = np.zeros(frames, np.float32)
    frame = np.minimum(np.round(onsets.seconds * MODEL_FPS).astype(int), frames - 1)
    np.maximum.at(onset, frame, onsets.strength)
    return onset
