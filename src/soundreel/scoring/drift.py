"""How the picture changes where nothing asks it to: from clip to clip, and where it is frozen, black or flickers."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis.runs import runs_of
from soundreel.scoring.listening import NOTHING, Heard
from soundreel.scoring.looking import Seen
from soundreel.scoring.scores import Drifted, DriftScore, Stretch
from soundreel.scoring.shots import ShotSpan

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

FROZEN_LEVELS, FROZEN_SECONDS = 1.5, 1.0
"""Change from frame to frame where it is greatest, of 255, below which a picture stands still, and for how long at
least."""

BLACK_LEVEL, BLACK_SECONDS = 24.0, 0.2
"""Brightest pixel of a black picture, and for how long at least."""

SILENT_LEVEL, SILENT_SECONDS = 0.05, 0.5
"""Loudness below which there is silence (57 dB below full scale), and for how long at least."""

LEAST_LOOKS: Final = 2
"""Frames of a clip that have to be looked at."""

TINY: Final = 1e-3
"""Keeps multiples of a flat picture's contrast finite."""

SEEN_COLOUR: Final = 10.0
"""ΔE that counts as a drift in full."""


def drift_of(shot: ShotSpan, seen: Seen) -> DriftScore | None:
    """Of the clip that is furthest from the first; None where a shot is too short to have two clips, or halves."""
    edges = [*shot.clips, shot.stop]
    if len(edges) < 3:
        edges = [shot.start, (shot.start + shot.stop) / 2, shot.stop]
    middle = (edges[0] + edges[1]) / 2
    first, *others = (_look(seen, start, stop) for start, stop in pairwise(edges))
    halves = _look(seen, edges[0], middle), _look(seen, middle, edges[1])
    known = [look for look in others if look is not None]
    if first is None or halves[0] is None or halves[1] is None or not known:
        return None
    return DriftScore(
        colour=Drifted(value=max(look.far(first) for look in known), control=halves[1].far(halves[0])),
        contrast=_furthest([look.contrast / first.contrast for look in known], halves[1].contrast / halves[0].contrast),
        sharpness=_furthest(
            [look.sharpness / first.sharpness for look in known], halves[1].sharpness / halves[0].sharpness
        ),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Look:
    """How some frames look on the whole."""

    colour: Values  # [3] mean in CIE L*a*b*
    contrast: float
    sharpness: float

    def far(self, other: "_Look") -> float:
        """Distance of the colours, ΔE (CIE 1976)."""
        return float(np.linalg.norm(self.colour - other.colour))


def _look(seen: Seen, start: float, stop: float) -> _Look | None:
    """Of the frames between two times; None of too few that were looked at."""
    first, last = np.searchsorted(seen.seconds, [start - 1e-6, stop - 1e-6])
    colours, sharpness = seen.colour[first:last], seen.sharpness[first:last]
    colours, sharpness = colours[np.isfinite(colours[:, 0])], sharpness[np.isfinite(sharpness)]
    if len(colours) < LEAST_LOOKS:
        return None
    return _Look(
        colour=colours.mean(axis=0),
        contrast=float(seen.contrast[first:last].mean()) + TINY,
        sharpness=float(sharpness.mean()) + TINY if len(sharpness) else 1.0,
    )


def _furthest(ratios: list[float], control: float) -> Drifted:
    return Drifted(value=max(ratios, key=lambda ratio: abs(np.log(ratio))), control=control)


def severity(drift: DriftScore) -> float:
    """0..1 how far a drift goes beyond what its first clip does by itself."""
    colour = max(0.0, drift.colour.value - drift.colour.control) / SEEN_COLOUR
    ratios = [
        max(0.0, abs(np.log2(part.value)) - abs(np.log2(part.control))) for part in (drift.contrast, drift.sharpness)
    ]
    return float(min(1.0, max(colour, *ratios)))


def frozen_stretches(seen: Seen, heard: Heard) -> tuple[Stretch, ...]:
    """Where the picture stands still while there is sound."""
    level = heard.level_at(seen.seconds)
    still = (seen.change < FROZEN_LEVELS) & ~seen.is_cut & ~_is_black(seen)
    runs = _runs(still, seen, FROZEN_SECONDS)
    return _stretches([(first, last) for first, last in runs if level[first:last].max() >= SILENT_LEVEL], seen)


def black_stretches(seen: Seen) -> tuple[Stretch, ...]:
    """Where nothing is seen."""
    return _stretches(_runs(_is_black(seen), seen, BLACK_SECONDS), seen)


def _is_black(seen: Seen) -> Mask:
    black: Mask = seen.brightest < BLACK_LEVEL
    return black


def _runs(frames: Mask, seen: Seen, least: float) -> list[tuple[int, int]]:
    """Runs of frames [F], at least so many seconds long: their first frame, and the one after the last."""
    edges = runs_of(frames)
    times = np.append(seen.seconds, seen.stop)
    is_long = times[edges[:, 1]] - times[edges[:, 0]] >= least - 1e-6
    return [(first, last) for first, last in edges[is_long].tolist()]


def _stretches(runs: list[tuple[int, int]], seen: Seen) -> tuple[Stretch, ...]:
    times = np.append(seen.seconds, seen.stop).tolist()
    return tuple(Stretch(start=times[first], stop=times[last]) for first, last in runs)


def flicker_of(seen: Seen, heard: Heard) -> Drifted | None:
    """How the brightness jitters in silence, and elsewhere; None where it is never silent.

    Jitter is the mean difference of a frame's brightness from that of its two neighbours: what goes one way has none.
    """
    if heard is NOTHING:
        return None
    silent = np.zeros(len(seen.seconds), bool)
    for first, last in _runs(heard.level_at(seen.seconds) < SILENT_LEVEL, seen, SILENT_SECONDS):
        silent[first:last] = True
    jitter = np.zeros(len(seen.seconds))
    jitter[1:-1] = np.abs(seen.brightness[1:-1] - (seen.brightness[:-2] + seen.brightness[2:]) / 2)
    cuts = seen.is_cut | np.append(seen.is_cut[1:], False)
    inside, outside = silent & ~cuts, ~silent & ~cuts
    if inside.sum() < LEAST_LOOKS:
        return None
    return Drifted(value=float(jitter[inside].mean()), control=float(jitter[outside].mean()) if outside.any() else 0.0)
