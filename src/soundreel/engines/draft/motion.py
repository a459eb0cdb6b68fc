"""From what the sound does to how the picture moves.

Everything is computed for all N frames of a video at once, so that any frame can be drawn alone: a look reads
row j and needs no frame before it. An attack acts at once, in the frame it falls on, and eases out after;
the steps of easing stay smaller than the jump, so the eye (and a frame difference) sees the attack itself.
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
"""Part of a punch that is left one frame later: down to a third in 0.3 s."""

LURCH_DECAY = 0.25
"""Part of the speed of a lurch that is left one frame later."""

VISIBLE_STEP = 2.2 * (1 - PUNCH_DECAY)
"""Least jump of a punch, as a part of what is left of those before: it has to stand out of their easing."""

FULL_PUNCH_FRAMES = 7
"""Attacks that follow each other faster punch more weakly (quick flashes hurt) and show as lurches instead."""

TONALITY_SECONDS = 1.6
"""Standard deviation of the smoothing of harmony: colours turn slowly."""

MIN_GAP_FRAMES = 2
"""Attacks closer than this are one to the eye."""

OFF_BEAT = 0.8
"""Weight of an attack that is not on the beat."""

BEAT_REACH_FRAMES = 3
"""A beat this near to an attack is that attack."""

BEAT_LOUDNESS = 0.3
"""Beats in softer sound are not shown unless they are struck."""

UNSTRUCK_BEAT = 0.3
"""Strength of a beat that is felt but not struck, in full-scale sound."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Motion:
    """How the picture moves: one row per frame."""

    hit_frames: NDArray[np.int64]  # [K] frames that attacks fall on, ascending
    hit_jumps: Rows  # [K] how far each lifts `punch`
    punch: Rows  # 0..about 1.2: jumps on attacks, gone half a second later
    level: Rows  # 0..1 loudness without its flutter
    low: Rows  # 0..1 bass, smoothed to swells
    high: Rows  # 0..1 treble, smoothed to shimmer
    travel: NDArray[np.float64]  # seconds of flow so far: faster in loud sound, lurching on attacks
    sway: NDArray[np.float64]  # radians of swell so far: faster in deep sound, lurching on attacks
    clock: NDArray[np.float64]  # seconds since the video began
    tonality: NDArray[np.complex128]  # the chroma as a point in the circle of fifths, |z| ≤ 1, smoothed
    key: complex  # mean of `tonality`


def choreograph(features: SoundFeatures) -> Motion:
    """Plan the motion for sound of N rows."""
    frames = features.loudness.size
    hit_frames, strengths = _find_hits(features)
    jumps = _fit_jumps(hit_frames, strengths)
    impulses, pushes = np.zeros(frames), np.zeros(frames)
    impulses[hit_frames] = jumps
    pushes[hit_frames] = strengths
    level = _smooth(features.loudness, seconds=0.30)
    low = _smooth(features.low, seconds=0.16)
    clock = np.arange(frames) / MODEL_FPS
    tonality = _tonality(features)
    lurch = np.cumsum((1 - LURCH_DECAY) * _decay(pushes, LURCH_DECAY))
    return Motion(
        hit_frames=hit_frames,
        hit_jumps=jumps.astype(np.float32),
        punch=_decay(impulses, PUNCH_DECAY).astype(np.float32),
        level=level.astype(np.float32),
        low=low.astype(np.float32),
        high=_smooth(features.high, seconds=0.10).astype(np.float32),
        travel=0.6 * clock + 2.4 * np.cumsum(level) / MODEL_FPS + 1.0 * lurch,
        sway=0.25 * clock + 1.2 * np.cumsum(low) / MODEL_FPS + 0.5 * lurch,
        clock=clock,
        tonality=tonality,
        key=complex(tonality.mean()),
    )


def _find_hits(features: SoundFeatures) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Frames and strengths (0..1) of attacks, and of beats in sounding music that no attack marks."""
    hits: list[tuple[int, float]] = []
    for frame, strength in sorted([*_attacks(features), *_unstruck_beats(features)]):
        if hits and frame - hits[-1][0] < MIN_GAP_FRAMES:
            hits[-1] = (hits[-1][0], max(strength, hits[-1][1]))
        else:
            hits.append((frame, strength))
    return np.array([frame for frame, _ in hits], np.int64), np.array([strength for _, strength in hits])


def _attacks(features: SoundFeatures) -> Iterator[tuple[int, float]]:
    frames = _frames_of(features.onset_times, features)
    strength = (0.30 + 0.70 * _around(features.onset)) * (0.55 + 0.45 * _around(features.loudness))
    off_beat = _distances(frames, features.beat_times * MODEL_FPS) > 1
    weights = np.where(off_beat, OFF_BEAT, 1.0)
    return zip(frames.tolist(), (weights * strength[frames]).tolist(), strict=True)


def _unstruck_beats(features: SoundFeatures) -> Iterator[tuple[int, float]]:
    """Beats that the music implies but does not strike."""
    frames = _frames_of(features.beat_times, features)
    loudness = features.loudness[frames]
    unstruck = _distances(frames, features.onset_times * MODEL_FPS) > BEAT_REACH_FRAMES
    chosen = unstruck & (loudness > BEAT_LOUDNESS)
    return zip(frames[chosen].tolist(), (UNSTRUCK_BEAT * loudness[chosen]).tolist(), strict=True)


def _frames_of(times: NDArray[np.float64], features: SoundFeatures) -> NDArray[np.int64]:
    """The frames that `times` (seconds) fall on, without those after the video's end."""
    frames = np.rint(times * MODEL_FPS).astype(np.int64)
    return frames[frames < features.loudness.size]


def _around(rows: Rows) -> Rows:
    """The largest of each row and its two neighbours."""
    padded = np.pad(rows, 1)
    largest: Rows = np.maximum(np.maximum(padded[:-2], padded[2:]), rows)
    return largest


def _distances(points: NDArray[np.int64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each of `points` is from the nearest of `others` (ascending); infinite where there are none."""
    ends = np.concatenate([[-np.inf], others, [np.inf]])
    after = np.searchsorted(ends, points)
    nearest: NDArray[np.float64] = np.minimum(points - ends[after - 1], ends[after] - points)
    return nearest


def _fit_jumps(hit_frames: NDArray[np.int64], strengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Jumps that stand out of what is left of earlier ones, yet do not pile up in dense music."""
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
    """Each impulse followed by its exponential tail, cut where it is below a thousandth."""
    tail = decay ** np.arange(math.ceil(math.log(1e-3) / math.log(decay)))
    return np.convolve(impulses, tail)[: impulses.size]


def _smooth(rows: NDArray[np.floating[Any]], *, seconds: float) -> NDArray[np.float64]:
    """Gaussian of standard deviation `seconds` along time; the ends are held."""
    sigma = seconds * MODEL_FPS
    reach = math.ceil(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    held = np.pad(rows.astype(np.float64), reach, mode="edge")
    return np.convolve(held, kernel / kernel.sum(), mode="valid")


def _tonality(features: SoundFeatures) -> NDArray[np.complex128]:
    """Pitch classes placed on the circle of fifths: related keys lie side by side, as related hues do."""
    angles = math.tau * (7 * np.arange(12) % 12) / 12
    right, up = features.chroma @ np.cos(angles), features.chroma @ np.sin(angles)
    return _smooth(right, seconds=TONALITY_SECONDS) + 1j * _smooth(up, seconds=TONALITY_SECONDS)
