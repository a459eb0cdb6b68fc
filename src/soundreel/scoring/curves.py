"""What is asked of curves over time."""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def mean_around(seconds: Values, curve: Values, width: float) -> Values:
    """Mean of a curve over `width` seconds around each of its values [n], which may be unevenly far apart."""
    first = np.searchsorted(seconds, seconds - width / 2)
    last = np.searchsorted(seconds, seconds + width / 2, side="right")
    total = np.concatenate([[0.0], np.cumsum(curve)])
    mean: Values = (total[last] - total[first]) / (last - first)
    return mean


def vertex(at: Values, curve: Values, k: int) -> float:
    """Where the parabola through a maximum, number `k`, and its neighbours is highest, for evenly spaced `at` [n]."""
    left, here, right = curve[k - 1 : k + 2].tolist()
    bend, step = left - 2 * here + right, float(at[k + 1] - at[k])
    return float(at[k]) + (0.5 * (left - right) / bend * step if bend else 0.0)
