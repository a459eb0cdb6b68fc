"""Songs of known truth for benchmarks, made by `examples/make_song.py`, and measures of what is heard in them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[1] / "examples"))

from song_band import play
from song_composer import write_song
from song_score import KINDS, Wish
from soundreel.analysis import Song
from soundreel.analysis.song_spectrum import SongSpectrum, spectrum_of_song
from soundreel.analysis.spectrum import SAMPLE_RATE

__all__ = ["KINDS", "Mono", "Wish", "listen", "matched", "paired", "play", "same_time", "synthesize", "write_song"]

BEAT_SECONDS = 0.07
"""A beat or downbeat is hit if it is so near."""

BOUNDARY_SECONDS = 0.5
"""A section boundary is hit if it is so near."""

STEP = 0.25
"""Seconds: labels and voice are compared so often."""


Mono = NDArray[np.float32]
"""Sound [n] at `SAMPLE_RATE`."""


def synthesize(kind: str, seed: int, seconds: float, voice: bool = True) -> tuple[dict[str, Any], Mono]:
    """Truth of a song, and the song."""
    score = write_song(Wish(seed=seed, kind=kind, seconds=seconds, voice=voice))
    return score.truth(), play(score, SAMPLE_RATE).mean(axis=1)


def listen(sound: Mono) -> SongSpectrum:
    """What `hear` keeps of a song."""
    return spectrum_of_song(sound[first : first + SAMPLE_RATE] for first in range(0, len(sound), SAMPLE_RATE))


def matched(truth: Sequence[float], found: Sequence[float], within: float) -> float:
    """F-measure: the harmonic mean of the share of `truth` that is found and the share of `found` that is true.

    Each of either is matched once, as in mir_eval (C. Raffel et al., ISMIR 2014).
    """
    if not len(truth) or not len(found):
        return float(len(truth) == len(found))
    hits = i = j = 0
    while i < len(truth) and j < len(found):
        late = found[j] - truth[i]
        if abs(late) <= within:
            hits, i, j = hits + 1, i + 1, j + 1
        elif late < 0:
            j += 1
        else:
            i += 1
    return 2 * hits / (len(truth) + len(found))


def paired(truth: dict[str, Any], song: Song) -> float:
    """Pairwise F-measure of the letters of sections (M. Levy and M. Sandler, 2008): are the same moments alike?"""
    moments = np.arange(0, truth["seconds"], STEP)
    starts = [section["start"] for section in truth["sections"]]
    mine = np.array([truth["sections"][k]["letter"] for k in np.searchsorted(starts, moments, side="right") - 1])
    theirs = np.array([song.section_at(moment).letter for moment in moments])
    upper = np.triu_indices(len(moments), 1)
    alike, found = (mine[:, None] == mine)[upper], (theirs[:, None] == theirs)[upper]
    return float(2 * (alike & found).sum() / max(1, alike.sum() + found.sum()))


def same_time(truth: Sequence[Sequence[float]], song: Song) -> float:
    """Share of the time in which voice is rightly heard or rightly not."""
    moments = np.arange(0, song.seconds, STEP)
    true, found = np.zeros(len(moments), bool), np.zeros(len(moments), bool)
    for start, stop in truth:
        true |= (start <= moments) & (moments < stop)
    for span in song.voice:
        found |= (span.start <= moments) & (moments < span.stop)
    return float((true == found).mean())
