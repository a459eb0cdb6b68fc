"""The control of every score: what the same pictures give against the same sound, moved by random times."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundreel.scoring.scores import Measured

Values = NDArray[np.float64]

MOVES = 200
"""Times by which the sound is moved."""

SEED = 18
"""Of the random times: the same video has the same scores."""

LEAST_MOVE = 1.0
"""Seconds that are not near; in videos of less than four times as much, a quarter of the length."""


def moves_for(seconds: float) -> Values:
    """Times [MOVES] in seconds by which a sound of this length is moved; what leaves it at its end comes in again."""
    near = min(LEAST_MOVE, seconds / 4)
    return np.random.default_rng(SEED).uniform(near, seconds - near, MOVES)


def moved(times: Values, move: float, seconds: float) -> Values:
    """Ascending times of a sound, moved."""
    turned: Values = np.sort((times + move) % seconds)
    return turned


def against_moved(measure: Callable[[float], Values], seconds: float) -> list[Measured]:
    """Numbers for a sound of this length as it is, beside what they are for the sound moved.

    `measure` takes the move in seconds and returns the numbers [n], each of some part of the video.
    """
    values = measure(0.0)
    controls = np.stack([measure(move) for move in moves_for(seconds).tolist()])
    as_much = (controls >= values - 1e-9).sum(axis=0)
    return [
        Measured(value=value, control=control, chance=(1 + count) / (1 + MOVES))
        for value, control, count in zip(values.tolist(), controls.mean(axis=0).tolist(), as_much.tolist(), strict=True)
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Parts of a series: its values from `first` to before `last`, [n] each; they may overlap."""

    first: NDArray[np.intp]
    last: NDArray[np.intp]

    @classmethod
    def between(cls, times: Values, edges: Sequence[tuple[float, float]]) -> "Parts":
        """The values whose ascending times lie between two times."""
        starts, stops = np.array(edges, np.float64).reshape(-1, 2).T
        return cls(first=np.searchsorted(times, starts - 1e-6), last=np.searchsorted(times, stops - 1e-6))

    @property
    def counts(self) -> NDArray[np.intp]:
        """How many values each has, [n]."""
        return self.last - self.first

    def sums(self, values: Values) -> Values:
        """Their sums, [n]."""
        total = np.concatenate([[0.0], np.cumsum(values)])
        sums: Values = total[self.last] - total[self.first]
        return sums
