"""Runs of moments at which something holds."""

import numpy as np
from numpy.typing import NDArray


def runs_of(holds: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Where it holds [n], as runs [R, 2]: the first index of each, and the one after its last."""
    return np.flatnonzero(np.diff(holds, prepend=False, append=False)).reshape(-1, 2)


def bridged(runs: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Runs [R, 2] in seconds, ascending; those with at most `gap` between them as one."""
    if not len(runs):
        return runs
    is_apart = runs[1:, 0] - runs[:-1, 1] > gap
    return np.stack([runs[np.append(True, is_apart), 0], runs[np.append(is_apart, True), 1]], axis=1)
