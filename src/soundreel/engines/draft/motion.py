"""From the features of a sound to the motion of the picture.

Motion is computed for all N frames of a video at once, so that a renderer can draw frame j from row j alone. An onset
takes full effect in its own frame and decays exponentially; the decay's steps are smaller than the jump, so that the
largest frame difference is at the onset. The factors in the formulas have no source: they were chosen by eye.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis import SoundFeatures
from soundreel.units import MODEL_FPS

Rows = NDArray[np.float32]
"""One value per frame, float32 [N]."""

PUNCH_DECAY = 0.80
"""Factor per frame by which the punch decays: to a third in 0.3 s."""

BURST_DECAY = 0.25
"""Factor per frame by which a burst of speed decays."""

VISIBLE_STEP = 2.2 * (1 - PUNCH_DECAY)
"""Smallest jump of the punch, relative to what is left of earlier ones, that stands out from their decay."""

FULL_PUNCH_FRAMES = 7
"""Onsets that follow faster than this get smaller punches, since quick flashes are unpleasant, but full bursts."""

TONALITY_SECONDS = 1.6
"""Standard deviation of the smoothing of the tonality, so that colours change slowly."""

MIN_GAP_FRAMES = 2
"""Hits closer than this are merged."""

OFF_BEAT = 0.8
"""Weight of an onset that is not on a beat."""

BEAT_REACH_FRAMES = 3
"""A beat within this of an onset is that onset."""

BEAT_LOUDNESS = 0.3
"""Loudness above which a beat without an onset is shown."""

IMPLIED_BEAT = 0.3
"""Strength of a beat without an onset, in full-scale sound."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Motion:
    """Curves that drive the picture, one value per frame. A hit is an onset, or a beat without one."""

    hit_frames: NDArray[np.int64]  # [K] frames of the hits, ascending
    hit_jumps: Rows  # [K] by how much each raises `punch`
    punch: Rows  # 0..about 1.2: envelope that jumps at hits and decays within half a second
    level: Rows  # 0..1 loudness, smoothed over 0.30 s
    low: Rows  # 0..1 level of the low band, smoothed over 0.16 s
    high: Rows  # 0..1 level of the high band, smoothed over 0.10 s
    travel: NDArray[np.float64]  # time of flowing motion: runs faster with loudness and jumps ahead at hits
    sway: NDArray[np.float64]  # phase of swaying motion in radians: runs faster with the low band and at hits
    seconds: NDArray[np.float64]  # since the video began
    tonality: NDArray[np.complex128]  # mean of the chroma on the circle of fifths, |z| ≤ 1, smoothed
    key: complex  # mean of `tonality`


def motion_from_features(features: SoundFeatures) -> Motion:
    """The motion for the features of N frames."""
    frames = features.loudness.size
    hit_frames, strengths = _find_hits(features)
    jumps = _fit_jumps(hit_frames, strengths)
    impulses, pushes = np.zeros(frames), np.zeros(frames)
    impulses[hit_frames] = jumps
    pushes[hit_frames] = strengths
    level = _smooth(features.loudness, seconds=0.30)
    low = _smooth(features.low, seconds=0.16)
    seconds = np.arange(frames) / MODEL_FPS
    tonality = _tonality(features)
    burst = np.cumsum((1 - BURST_DECAY) * _decay(pushes, BURST_DECAY))
    return Motion(
        hit_frames=hit_frames,
        hit_jumps=jumps.astype(np.float32),
        punch=_decay(impulses, PUNCH_DECAY).astype(np.float32),
        level=level.astype(np.float32),
        low=low.astype(np.float32),
        high=_smooth(features.high, seconds=0.10).astype(np.float32),
        travel=0.6 * seconds + 2.4 * np.cumsum(level) / MODEL_FPS + 1.0 * burst,
        sway=0.25 * seconds + 1.2 * np.cumsum(low) / MODEL_FPS + 0.5 * burst,
        seconds=seconds,
        tonality=tonality,
        key=complex(tonality.mean()),
    )


def _find_hits(features: SoundFeatures) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Frames and strengths (0..1) of hits: onsets, and beats without one where the sound is loud enough."""
    hits: list[tuple[int, float]] = []
    for frame, strength in sorted([*_onsets(features), *_implied_beats(features)]):
        if hits and frame - hits[-1][0] < MIN_GAP_FRAMES:
            hits[-1] = (hits[-1][0], max(strength, hits[-1][1]))
        else:
            hits.append((frame, strength))
    return np.array([frame for frame, _ in hits], np.int64), np.array([strength for _, strength in hits])


def _onsets(features: SoundFeatures) -> Iterator[tuple[int, float]]:
    frames = _frames_of(features.onset_times, features)
    strength = (0.30 + 0.70 * _around(features.onset)) * (0.55 + 0.45 * _around(features.loudness))
    off_beat = _distances(frames, features.beat_times * MODEL_FPS) > 1
    weights = np.where(off_beat, OFF_BEAT, 1.0)
    return zip(frames.tolist(), (weights * strength[frames]).tolist(), strict=True)


def _implied_beats(features: SoundFeatures) -> Iterator[tuple[int, float]]:
    """Frames and strengths of beats without an onset."""
    frames = _frames_of(features.beat_times, features)
    loudness = features.loudness[frames]
    implied = _distances(frames, features.onset_times * MODEL_FPS) > BEAT_REACH_FRAMES
    chosen = implied & (loudness > BEAT_LOUDNESS)
    return zip(frames[chosen].tolist(), (IMPLIED_BEAT * loudness[chosen]).tolist(), strict=True)


def _frames_of(times: NDArray[np.float64], features: SoundFeatures) -> NDArray[np.int64]:
    """The frames nearest to `times` in seconds, without those after the video's end."""
    frames = np.rint(times * MODEL_FPS).astype(np.int64)
    return frames[frames < features.loudness.size]


def _around(rows: Rows) -> Rows:
    """Maximum of each value and its two neighbours."""
    padded = np.pad(rows, 1)
    largest: Rows = np.maximum(np.maximum(padded[:-2], padded[2:]), rows)
    return largest


def _distances(points: NDArray[np.int64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each of `points` to the nearest of `others` (ascending); infinite where there are none."""
    ends = np.concatenate([[-np.inf], others, [np.inf]])
    after = np.searchsorted(ends, points)
    nearest: NDArray[np.float64] = np.minimum(points - ends[after - 1], ends[after] - points)
    return nearest


def _fit_jumps(hit_frames: NDArray[np.int64], strengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Jumps of the punch that stand out from the decay of earlier ones, but do not add up in dense music."""
    jumps = np.empty(hit_frames.size)
    left, last = 0.0, 0
    for k, (frame, strength) in enumerate(zip(hit_frames.tolist(), strengths.tolist(), strict=True)):
        gap = frame - last if k else FULL_PUNCH_FRAMES
        left *= PUNCH_DECAY**gap
        room = max(1.0 - left, 0.0) * min(gap / FULL_PUNCH_FRAMES, 1.0)
        jumps[k] = max(strength * room, VISIBLE_STEP * left)
        left, last = left + jumps[k], frame
    return jumps


def _decay(impulses: NDArray[np.float64], decay: float) -> NDArray[np.float64]:
    """Each impulse with exponential decay by `decay` per frame, cut below a thousandth."""
    tail = decay ** np.arange(math.ceil(math.log(1e-3) / math.log(decay)))
    return np.convolve(impulses, tail)[: impulses.size]


def _smooth(rows: NDArray[np.floating[Any]], *, seconds: float) -> NDArray[np.float64]:
    """Smooth by a Gaussian of standard deviation `seconds`; the first and last values are extended."""
    sigma = seconds * MODEL_FPS
    reach = math.ceil(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    held = np.pad(rows.astype(np.float64), reach, mode="edge")
    return np.convolve(held, kernel / kernel.sum(), mode="valid")


def _tonality(features: SoundFeatures) -> NDArray[np.complex128]:
    """Mean of the chroma on the circle of fifths, smoothed, [N]: related keys are at similar angles."""
    angles = math.tau * (7 * np.arange(12) % 12) / 12
    right, up = (np.einsum("fp,p->f", features.chroma, turn(angles)) for turn in (np.cos, np.sin))
    return _smooth(right, seconds=TONALITY_SECONDS) + 1j * _smooth(up, seconds=TONALITY_SECONDS)
