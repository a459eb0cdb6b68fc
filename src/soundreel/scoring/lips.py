"""How a mouth opens against the envelope of the sound. Letters: F frames, L lags, E values of the envelope."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from soundreel.scoring.curves import mean_around, vertex
from soundreel.scoring.listening import ENVELOPE_RATE
from soundreel.scoring.looking import Seen
from soundreel.scoring.moved_sound import Parts, against_moved
from soundreel.scoring.scores import LipsScore, Measured

Values = NDArray[np.float64]

LEAST_SECONDS: Final = 2.0
"""A face has to be seen for so long, all in all."""

SEARCH: Final = 0.5
"""Seconds on either side within which the lag is searched."""

STEP: Final = 1 / ENVELOPE_RATE
COARSE: Final = 3
"""The control is searched in steps of so many: envelopes are smooth."""

USUAL_SECONDS: Final = 4.0
"""Opening and envelope are taken against their mean over so much: a face that turns away is no open mouth."""

BLUR: Final = 0.04
"""Seconds over which the envelope is smoothed: a frame shows what a mouth does in one, and lips are no quicker."""

STILL: Final = 1e-4
"""Deviation of an opening or an envelope that does not move."""

LEAST_CORRELATION: Final = 0.2
"""Below, no lag is told."""


class MouthAndVoice:
    """The opening of a mouth at the frames that have a face, and the envelope of the sound around them."""

    def __init__(self, seen: Seen, envelope: Values) -> None:
        found = np.isfinite(seen.opening)
        self.seconds = seen.seconds[found]
        self._opening = _against_usual(self.seconds, seen.opening[found])
        self._times: Values = np.arange(len(envelope), dtype=np.float64) * STEP
        self._envelope = _against_usual(self._times, _blurred(envelope))
        self.length = len(envelope) * STEP
        """Seconds of the sound."""
        self.frame = (seen.stop - float(seen.seconds[0])) / len(seen.seconds)
        """Seconds from one frame to the next."""
        self.faces = float(found.mean())
        """Share of the frames with a face."""

    @property
    def is_seen(self) -> bool:
        """Whether a face is seen for long enough."""
        return len(self.seconds) * self.frame >= LEAST_SECONDS

    @property
    def is_comparable(self) -> bool:
        """Whether there is enough of both, and either moves at all."""
        return self.is_seen and all(len(curve) and curve.std() > STILL for curve in (self._opening, self._envelope))

    def correlations(self, lag: float, move: float, parts: Parts) -> Values:
        """Pearson's correlation of opening and envelope `lag` seconds later, [n] of parts of the frames with a face."""
        at = (self.seconds + lag - move) % self.length if move else self.seconds + lag
        heard = np.interp(at, self._times, self._envelope, left=0.0, right=0.0)
        count = np.maximum(parts.counts, 1)
        sums, sums_heard = parts.sums(self._opening), parts.sums(heard)
        both = parts.sums(self._opening * heard) - sums * sums_heard / count
        spread = parts.sums(self._opening**2) - sums**2 / count
        spread_heard = parts.sums(heard**2) - sums_heard**2 / count
        size = np.sqrt(np.maximum(spread * spread_heard, 0.0))
        found: Values = np.where(size > 1e-12, both / np.maximum(size, 1e-12), 0.0)
        return found


def score_lips(pair: MouthAndVoice) -> LipsScore:
    """Correlation at the best lag; the control's is at its own best."""
    if not pair.is_comparable:
        return LipsScore(faces=pair.faces, correlation=None, lag_ms=None)
    everywhere = Parts.between(pair.seconds, [(0.0, np.inf)])
    lags: Values = np.arange(-round(SEARCH / STEP), round(SEARCH / STEP) + 1, dtype=np.float64) * STEP

    def curve(lags: Values, move: float = 0.0) -> Values:
        return np.array([pair.correlations(lag, move, everywhere)[0] for lag in lags.tolist()])

    found = curve(lags)
    inner = found[1:-1]
    is_peak = (inner > found[:-2]) & (inner >= found[2:])  # at the ends of the search there is none
    best = int(np.where(is_peak, inner, -1.0).argmax()) + 1
    coarse = lags[::COARSE]
    (measured,) = against_moved(
        lambda move: np.array([curve(coarse, move).max() if move else found[best]]), pair.length
    )
    lag = 1000 * vertex(lags, found, best) if found[best] >= LEAST_CORRELATION else None
    return LipsScore(faces=pair.faces, correlation=measured, lag_ms=lag)


def lips_of_shots(
    pair: MouthAndVoice, lag_ms: float | None, edges: Sequence[tuple[float, float]]
) -> list[Measured | None]:
    """Correlations between `edges` at the video's lag; None where a face is hardly seen."""
    if not pair.is_comparable:
        return [None] * len(edges)
    parts = Parts.between(pair.seconds, edges)
    measured = against_moved(lambda move: pair.correlations((lag_ms or 0.0) / 1000, move, parts), pair.length)
    is_enough = parts.counts * pair.frame >= LEAST_SECONDS
    return [found if enough else None for found, enough in zip(measured, is_enough.tolist(), strict=True)]


def _blurred(envelope: Values) -> Values:
    reach = round(3 * BLUR * ENVELOPE_RATE)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (BLUR * ENVELOPE_RATE)) ** 2)
    if len(envelope) <= 2 * reach:
        return envelope
    blurred: Values = np.convolve(envelope, bell / bell.sum(), mode="same")
    return blurred


def _against_usual(seconds: Values, curve: Values) -> Values:
    """A curve less its mean over `USUAL_SECONDS` around each of its values."""
    return curve - mean_around(seconds, curve, USUAL_SECONDS)
