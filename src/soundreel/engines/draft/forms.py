"""Forms of the abstract pattern: how the picture's plane is folded before waves bend it.

Each form gives every cell of a grid coordinates (u, v) of its own, and the direction in them that leads away from the
picture's focus, for ripples. Plane forms spread out; radial ones gather around the focus and look bigger.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from soundreel.engines.draft.grid import Field, Grid

SOFT_CENTRE: Final = 0.03
"""Squared radius around the focus within which ripples have no clear direction."""

LOG_CENTRE: Final = 0.10
"""Added to the radius before its logarithm is taken, so that a tunnel has an end."""


ROUND_FOLD: Final = 0.99
"""1 would be a sharp crease."""


class Form(StrEnum):
    """A way to fold the plane."""

    PLAIN = "plain"  # as it is
    CURTAIN = "curtain"  # stretched upwards: veils of light
    DUNES = "dunes"  # stretched sideways: layers of a landscape
    SWIRL = "swirl"  # turned the more, the farther from the focus
    MANDALA = "mandala"  # mirrored around the focus
    TUNNEL = "tunnel"  # radius as depth


PLANE: Final = (Form.PLAIN, Form.CURTAIN, Form.DUNES)
RADIAL: Final = (Form.SWIRL, Form.MANDALA, Form.TUNNEL)


@dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """Coordinates of a grid's cells, [h, w] each, in units (see `Grid.unit`)."""

    u: Field
    v: Field
    out_u: Field  # direction away from the focus; length about 1, less near it
    out_v: Field


def fold(form: Form, grid: Grid, x: float, y: float, rng: np.random.Generator) -> Space:
    """The plane folded around the focus (`x`, `y`)."""
    plane = _Plane.around(grid, x, y)
    u, v, out_u, out_v = (np.asarray(part, np.float32) for part in _FOLDS[form](plane, rng))
    sure = plane.radius**2 / (plane.radius**2 + np.float32(SOFT_CENTRE))
    return Space(u=u, v=v, out_u=out_u * sure, out_v=out_v * sure)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plane:
    """Coordinates of a grid's cells from the focus, [h, w] each."""

    x: Field
    y: Field
    radius: Field
    angle: Field  # radians

    @classmethod
    def around(cls, grid: Grid, x: float, y: float) -> "_Plane":
        right, down = np.broadcast_arrays(grid.x - np.float32(x), grid.y - np.float32(y))
        return cls(x=right, y=down, radius=np.hypot(right, down), angle=np.arctan2(down, right))


_Folded = tuple[Field, Field, Field, Field]
"""u, v, out_u, out_v."""


def _plain(plane: _Plane, rng: np.random.Generator) -> _Folded:
    del rng
    return _stretched(plane, plane.x, plane.y)


def _curtain(plane: _Plane, rng: np.random.Generator) -> _Folded:
    lean = np.float32(rng.uniform(-0.35, 0.35))
    return _stretched(plane, np.float32(1.5) * (plane.x + lean * plane.y), np.float32(0.32) * plane.y)


def _dunes(plane: _Plane, rng: np.random.Generator) -> _Folded:
    lean = np.float32(rng.uniform(-0.2, 0.2))
    return _stretched(plane, np.float32(0.45) * plane.x, np.float32(1.6) * (plane.y + lean * plane.x))


def _stretched(plane: _Plane, u: Field, v: Field) -> _Folded:
    radius = np.maximum(plane.radius, np.float32(1e-6))
    return u, v, np.divide(u, radius), np.divide(v, radius)


def _swirl(plane: _Plane, rng: np.random.Generator) -> _Folded:
    twist = np.float32(rng.choice([-1, 1]) * rng.uniform(1.6, 2.6))
    angle = plane.angle + twist * np.sqrt(plane.radius)
    cos, sin = np.cos(angle), np.sin(angle)
    return plane.radius * cos, plane.radius * sin, cos, sin


def _mandala(plane: _Plane, rng: np.random.Generator) -> _Folded:
    mirrors = int(rng.choice([4, 5, 6, 8]))
    angle = _mirrored(plane.angle, mirrors, rng)
    cos, sin = np.cos(angle), np.sin(angle)
    radius = np.float32(1.3) * plane.radius
    return radius * cos, radius * sin, cos, sin


def _tunnel(plane: _Plane, rng: np.random.Generator) -> _Folded:
    mirrors, twist = int(rng.choice([2, 3, 4])), np.float32(rng.uniform(-0.5, 0.5))
    depth = np.log(plane.radius + np.float32(LOG_CENTRE))
    around = _mirrored(plane.angle + twist * depth, mirrors, rng)
    return np.float32(0.45 * mirrors) * around, np.float32(1.25) * depth, np.zeros_like(depth), np.ones_like(depth)


def _mirrored(angle: Field, mirrors: int, rng: np.random.Generator) -> Field:
    """Angles folded into one of `mirrors` equal sectors, every other one mirrored; folds are a little round."""
    turn = (angle + np.float32(rng.uniform(0, 2 * np.pi))) * np.float32(mirrors)
    folded: Field = np.arccos(np.float32(ROUND_FOLD) * np.cos(turn)) / np.float32(mirrors)
    return folded


_FOLDS: Final[Mapping[Form, Callable[[_Plane, np.random.Generator], _Folded]]] = {
    Form.PLAIN: _plain,
    Form.CURTAIN: _curtain,
    Form.DUNES: _dunes,
    Form.SWIRL: _swirl,
    Form.MANDALA: _mandala,
    Form.TUNNEL: _tunnel,
}
