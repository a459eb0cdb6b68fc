"""The movement of the picture against onsets and beats.

Movement between two frames is seen when the second one appears, and belongs to its time: a jump that a draft makes in
the frame nearest to a click is 0 ms off. Letters: F frames, A accents of the movement, K onsets.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from soundreel.scoring.curves import mean_around, vertex
from soundreel.scoring.listening import Heard
from soundreel.scoring.moved_sound import Parts, against_moved, moved
from soundreel.scoring.scores import BeatScore, Measured

Values = NDArray[np.float64]

SIGMA: Final = 0.05
"""Seconds: how near is on the beat."""

USUAL_SECONDS: Final = 1.0
"""An accent of the movement exceeds the mean movement over so much."""

LEAST_SPEED: Final = 0.008
"""In picture sides per second: slower movement has no accents; a picture that stands still, encoded, stays below."""

LEAST_ACCENTS: Final = 4
"""With fewer, of movement or sound, there is nothing to compare."""

SEARCH: Final = 0.5
"""Seconds on either side within which the offset is searched."""

ONSET_ERROR, NEARLY_ALL = 0.005, 0.9
"""Seconds by which onsets are found early or late; share of the strength of accents."""

STEP: Final = 0.005
BLUR: Final = 0.035
"""Seconds: accents of the picture fall on frames, up to half a frame from those of the sound."""

LEAST_CONFIDENCE, NOISE_CONFIDENCE = 0.05, 1.2
"""No offset is told below the first, nor below the second over the root of the number of accents, which noise against
noise may reach."""

RIVAL_SHARE: Final = 0.85
"""Another peak so high is a rival."""

TINY: Final = 1e-9

NEARER: Final = 0.1
"""So much less a second away counts a peak: of offsets that fit as well, as with a steady beat, the least is told."""


class Accents:
    """Moments at which the movement jumps up."""

    def __init__(self, seconds: Values, speed: Values) -> None:
        """Find them in the speed [F] of what is seen at frames [F]; across cuts it is not a number."""
        known = np.isfinite(speed)
        curve = np.where(known, speed, 0.0)
        above = np.maximum(curve - mean_around(seconds, curve, USUAL_SECONDS), 0.0)
        padded = np.pad(above, 1)
        highest = (above > padded[:-2]) & (above >= padded[2:])
        found = known & highest & (above > LEAST_SPEED)
        self.seconds = seconds[found]
        """[A] ascending."""
        self.strengths = above[found]
        """[A] in picture sides per second, above the usual."""
        self.half_frame = float(np.median(np.diff(seconds))) / 2 if len(seconds) > 1 else 0.0
        """Seconds that a picture may come before or after what it shows, and yet no other is nearer."""

    def __len__(self) -> int:
        return len(self.seconds)


def score_beat(accents: Accents, heard: Heard) -> BeatScore | None:
    """How accents of the movement follow the sound; None where either has too few."""
    if min(len(accents), len(heard.onsets)) < LEAST_ACCENTS:
        return None
    offset, confidence, rival = _find_offset(accents, heard)
    everywhere = [(0.0, np.inf)]
    (onsets,) = alignments(accents, heard.onsets, heard.seconds, everywhere)
    (beats,) = alignments(accents, heard.beats, heard.seconds, everywhere) if len(heard.beats) else (None,)
    return BeatScore(
        onsets=onsets,
        beats=beats,
        offset_ms=offset,
        confidence=confidence,
        rival_ms=rival,
        accents=len(accents),
    )


def alignments(accents: Accents, times: Values, seconds: float, edges: Sequence[tuple[float, float]]) -> list[Measured]:
    """How near the accents between `edges` are to `times` of a sound of this length; of none 0."""
    parts = Parts.between(accents.seconds, edges)
    weights = np.maximum(parts.sums(accents.strengths), TINY)

    def measure(move: float) -> Values:
        distances = _distances(accents.seconds, moved(times, move, seconds) if move else times)
        nearness: Values = parts.sums(accents.strengths * np.exp(-0.5 * (distances / SIGMA) ** 2)) / weights
        return nearness

    return against_moved(measure, seconds)


def accents_between(accents: Accents, heard: Heard, edges: Sequence[tuple[float, float]]) -> list[int]:
    """How many accents picture or sound have between two times, whichever has fewer."""
    seen, sound = Parts.between(accents.seconds, edges), Parts.between(heard.onsets, edges)
    fewest: list[int] = np.minimum(seen.counts, sound.counts).tolist()
    return fewest


def _distances(at: Values, times: Values) -> Values:
    """Distance of each of `at` to the nearest of `times`, ascending."""
    ends = np.concatenate([[-np.inf], times, [np.inf]])
    after = np.searchsorted(ends, at)
    nearest: Values = np.minimum(at - ends[after - 1], ends[after] - at)
    return nearest


def _find_offset(accents: Accents, heard: Heard) -> tuple[float | None, float, float | None]:
    """Offset in ms, its confidence, and a rival in ms.

    The weighted differences of all times of picture and sound are a cross-correlation of the two trains of accents.
    """
    strengths = np.minimum(accents.strengths, 2 * np.median(accents.strengths))  # one flash is not the whole video
    seen, sound = (accents.seconds, strengths), (heard.onsets, heard.strengths)
    lags: Values = np.arange(-round(SEARCH / STEP), round(SEARCH / STEP) + 1, dtype=np.float64) * STEP
    of_itself = np.sqrt(_correlation(seen, seen, np.zeros(1)) * _correlation(sound, sound, np.zeros(1)))
    length = max(heard.seconds, float(accents.seconds[-1]))
    by_chance = strengths.sum() * heard.strengths.sum() / length  # of trains that know nothing of each other
    likeness = (_correlation(seen, sound, lags) - by_chance) / np.maximum(of_itself - by_chance, TINY)
    weighed = likeness - NEARER * np.abs(lags) * np.maximum(likeness, 0)
    peaks = [int(k) for k in _peaks(weighed)]
    if not peaks:
        return None, 0.0, None
    best = max(peaks, key=lambda k: weighed[k])
    confidence = float(np.clip(likeness[best], 0, 1))
    by_noise = NOISE_CONFIDENCE / np.sqrt(min(len(accents), len(heard.onsets)))
    if confidence < max(LEAST_CONFIDENCE, by_noise):
        return None, confidence, None
    others = [k for k in peaks if abs(lags[k] - lags[best]) > 2 * SIGMA and likeness[k] > RIVAL_SHARE * likeness[best]]
    rival = max(others, key=lambda k: likeness[k], default=None)
    told = None if rival is None else 1000 * vertex(lags, likeness, rival)
    if abs(lags[best]) <= accents.half_frame + ONSET_ERROR and _is_as_near_as_frames(accents, heard.onsets):
        return 0.0, confidence, told
    return 1000 * vertex(lags, likeness, best), confidence, told


def _is_as_near_as_frames(accents: Accents, onsets: Values) -> bool:
    """Whether accents that have an onset within a frame have it, nearly all, in the nearest frame: none is nearer."""
    distances = _distances(accents.seconds, onsets)
    paired = distances <= 2 * accents.half_frame + ONSET_ERROR
    near = distances <= accents.half_frame + ONSET_ERROR
    weight = float(accents.strengths[paired].sum())
    return weight > 0 and float(accents.strengths[near].sum()) >= NEARLY_ALL * weight


def _correlation(seen: tuple[Values, Values], sound: tuple[Values, Values], lags: Values) -> Values:
    """Cross-correlation per second of two trains of times and strengths, both ascending, blurred, at the lags of the
    second behind the first."""
    (at, weights), (times, strengths) = seen, sound
    reach = float(np.abs(lags).max()) + 4 * BLUR
    found = np.zeros(len(lags))
    first, last = np.searchsorted(times, at - reach), np.searchsorted(times, at + reach)
    for k in range(len(at)):
        differences = times[first[k] : last[k]] - at[k]
        bells = np.exp(-0.5 * ((differences - lags[:, None]) / BLUR) ** 2) @ strengths[first[k] : last[k]]
        found += weights[k] * bells
    correlation: Values = found / (BLUR * np.sqrt(2 * np.pi))
    return correlation


def _peaks(curve: Values) -> NDArray[np.intp]:
    """Indices of local maxima, not those at the ends."""
    inner = sliding_window_view(curve, 3)
    return np.flatnonzero((inner[:, 1] > inner[:, 0]) & (inner[:, 1] >= inner[:, 2])) + 1
