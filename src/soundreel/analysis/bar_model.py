"""How well beats fit a song: what each beat of a bar is expected to sound like, as a table of weights.

A model of bars (N. Whiteley, A. Cemgil, S. Godsill, Bayesian modelling of temporal structure in musical audio, ISMIR
2006; F. Krebs, S. Böck, G. Widmer, An efficient state-space model for joint tempo and meter tracking, ISMIR 2015) whose
states are whole beats. Letters: P places (a beat's place in its bar, in any of the meters), T intervals between beats,
X kinds of accent.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis.accents import KINDS
from soundreel.analysis.song import Meter
from soundreel.analysis.spectrum import Rows

METERS = (Meter(beats=4, division=2), Meter(beats=3, division=2), Meter(beats=2, division=3))

METER_OF = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
"""[P] Index in `METERS`."""

BEFORE = np.array([3, 0, 1, 2, 6, 4, 5, 8, 7])
"""[P] The place before each: of a first beat the last of its bar."""

FIRSTS = (0, 4, 7)
"""Places of downbeats."""

ALIKE = np.array([0, 1, 2, 1, 3, 4, 4, 5, 6])
"""[P] Places with the same number are expected to sound alike: the second and fourth of four, the last two of three."""

INTERVALS = np.concatenate([np.arange(28, 64), np.arange(64, 141, 2)])
"""[T] Hops between two beats: 214 to 43 beats per minute."""

USUAL_INTERVAL = 50

OCTAVES = np.log2(INTERVALS / USUAL_INTERVAL)


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """What a beat is worth; all worths are added up over a song, and the beats with the most are taken."""

    place: NDArray[np.float64]  # [7, 1 + X] of `ALIKE` places: a constant, and per accent of each kind
    middle: NDArray[np.float64]  # [3] of each meter: per accent half a beat before
    thirds: NDArray[np.float64]  # [3] of each meter: per accent a third of a beat before and after the one before
    tempo: NDArray[np.float64]  # [2, 2] division 2 and 3: per octave slower than 120 per minute, and per its square
    change: float  # per octave by which the interval changes
    surprise: float  # per bar that does not end where it should

    def to_vector(self) -> NDArray[np.float64]:
        """All weights, one after another."""
        parts = (self.place, self.middle, self.thirds, self.tempo, self.change, self.surprise)
        return np.concatenate([np.ravel(part) for part in parts])

    @classmethod
    def from_vector(cls, values: NDArray[np.float64]) -> "Weights":
        """The inverse of `to_vector`."""
        place, middle, thirds, tempo, rest = np.split(values, np.cumsum([7 * (1 + KINDS), 3, 3, 4]))
        return cls(
            place=place.reshape(7, 1 + KINDS),
            middle=middle,
            thirds=thirds,
            tempo=tempo.reshape(2, 2),
            change=float(rest[0]),
            surprise=float(rest[1]),
        )

    def of_places(self, accents: Rows) -> Rows:
        """What a beat is worth at each hop and place, by accents [H, X] alone, [H, P]."""
        worth: Rows = (accents @ self.place[:, 1:].T.astype(np.float32) + self.place[:, 0].astype(np.float32))[:, ALIKE]
        return worth

    def of_intervals(self) -> NDArray[np.float64]:
        """What each interval is worth in each meter, [meters, T]."""
        powers = np.stack([OCTAVES, OCTAVES**2])
        return np.stack([self.tempo[meter.division - 2] @ powers for meter in METERS])


WEIGHTS: Final = Weights(
    place=np.array(
        [
            [-1.00, 1.46, 0.22, 0.13, 0.05, 0.46, 0.46],  # first of four
            [-0.69, 0.11, 0.59, 0.59, 0.05, -0.02, -0.03],  # second and fourth
            [-0.63, 0.89, 0.14, -0.01, -0.04, -0.13, -0.14],  # third of four
            [-1.02, 1.38, 0.16, 0.02, -0.02, 0.37, 0.37],  # first of three
            [-0.66, -0.05, 0.70, 0.58, 0.13, -0.10, -0.10],  # second and third of three
            [-1.15, 1.16, 0.10, -0.07, -0.12, 0.35, 0.35],  # first of two (compound)
            [-0.57, -0.09, 0.76, 0.55, 0.04, -0.22, -0.22],  # second of two
        ]
    ),
    middle=np.array([0.24, 0.17, -0.88]),
    thirds=np.array([-0.26, -0.37, 0.81]),
    tempo=np.array([[0.35, -0.05], [0.47, 0.10]]),
    change=9.90,
    surprise=6.01,
)
"""Fitted to songs of `examples/make_song.py`, which say where their beats are (`python -m benchmarks.fit_bars`). They
read as a musician would put it: bass drum, bass and new harmonies on the first beat, snare and chords on the second and
fourth."""
