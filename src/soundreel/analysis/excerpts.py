"""The strongest part of a song, to begin with."""

from dataclasses import dataclass

import numpy as np

from soundreel.analysis.song import ENERGY_RATE, Song


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """A stretch of a song, as `--audio-start` and `--audio-duration` take it."""

    start: float  # seconds
    duration: float  # seconds
    energy: float  # 0..1 mean of `Song.energy` in it


def strongest_part(song: Song, seconds: float) -> Excerpt:
    """The stretch of `seconds` with the most energy; it begins on a downbeat, where there are any.

    Of a shorter song it is all of it.
    """
    duration = min(seconds, song.seconds)
    latest = song.seconds - duration
    starts = [start for start in song.downbeats or song.beats if start <= latest]
    candidates = np.array(starts or np.arange(0.0, latest + 1e-9, 1 / ENERGY_RATE))
    total = np.concatenate([[0.0], np.cumsum(song.energy, dtype=np.float64)])
    first = np.round(candidates * ENERGY_RATE).astype(int).clip(0, len(song.energy))
    stop = np.round((candidates + duration) * ENERGY_RATE).astype(int).clip(0, len(song.energy))
    energy = (total[stop] - total[first]) / np.maximum(stop - first, 1)
    best = int(energy.argmax())
    return Excerpt(start=float(candidates[best]), duration=duration, energy=float(energy[best]))
