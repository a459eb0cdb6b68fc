"""The example picture: dusk by a lake, where someone listens to the setting sun, painted with numpy.

Pictures are float64 RGB 0..1 of shape [HEIGHT, WIDTH, 3]; masks and fields have shape [HEIGHT, WIDTH]. x
grows to the right and y downwards, both in pixels. Shapes are signed distance fields, negative inside, as in
https://iquilezles.org/articles/distfunctions2d/; their edges are antialiased by half a pixel.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Field: TypeAlias = NDArray[np.float64]

WIDTH, HEIGHT = 768, 1024
HORIZON = 636
SUN_X, SUN_Y, SUN_RADIUS = 486.0, 452.0, 92.0
SEED = 2

Y, X = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
SUN_DISTANCE = np.hypot(X - SUN_X, Y - SUN_Y)


def paint() -> NDArray[np.uint8]:
    """The finished picture, uint8 RGB [HEIGHT, WIDTH, 3]; the same on every run."""
    picture = _sun(_clouds(_stars(_sky())))
    picture, open_sky = _mountains(picture)
    picture = _lake(_treeline(picture))
    picture = _rings(_birds(picture), open_sky)
    bank = _bank_line()
    picture = _bank(picture, bank)
    picture = _listener(_guitar(picture))
    picture = _fireflies(_grass(picture, bank), bank)
    return _finish(picture)


# -- far away ---------------------------------------------------------------------------------------------


def _sky() -> Field:
    return _gradient(
        Y / HORIZON,
        (0.00, "#10143a"),
        (0.22, "#23235c"),
        (0.42, "#54387f"),
        (0.60, "#a14f86"),
        (0.76, "#e2787a"),
        (0.90, "#f9a873"),
        (1.00, "#ffd195"),
    )


def _stars(picture: Field) -> Field:
    random = _random("stars")
    light = np.zeros((HEIGHT, WIDTH))
    for _ in range(210):
        x, y, brightness = (
            random.random() * WIDTH,
            random.random() ** 1.7 * HORIZON * 0.55,
            random.random() ** 3,
        )
        radius = 0.55 + 0.55 * brightness
        here = np.s_[max(0, int(y) - 4) : int(y) + 5, max(0, int(x) - 4) : int(x) + 5]
        glow = np.exp(-((X[here] - x) ** 2 + (Y[here] - y) ** 2) / (2 * radius**2))
        light[here] += (0.25 + 0.75 * brightness) * glow * (1 - _smooth(0.25, 0.6, y / HORIZON))
    return _shine(picture, light, "#f2f2ff")


def _clouds(picture: Field) -> Field:
    puffs = _noise(_random("clouds"), 420, 46, octaves=6)
    band = np.exp(-(((Y / HORIZON - 0.5) / 0.26) ** 2))
    cover = _smooth(0.46, 0.70, puffs) * band
    sunlit = _smooth(520, 60, SUN_DISTANCE)
    picture = _mix(picture, _mix(_colour("#7a4a8e"), _colour("#ffb08a"), sunlit), 0.75 * cover)
    lower_edge = np.clip(cover - np.roll(cover, -7, axis=0), 0, 1)
    return _shine(picture, lower_edge * sunlit, "#7a4d2a")


def _sun(picture: Field) -> Field:
    picture = _shine(picture, np.exp(-SUN_DISTANCE / 170), "#bf6b38")
    face = _gradient((Y - SUN_Y + SUN_RADIUS) / (2 * SUN_RADIUS), (0, "#fff3cf"), (0.5, "#ffdf9f"), (1, "#ff9f6e"))
    return _mix(picture, face, _inside(SUN_DISTANCE - SUN_RADIUS))


def _rings(picture: Field, open_sky: Field) -> Field:
    """Sound waves, or the grooves of a record, around the sun."""
    rings = np.zeros((HEIGHT, WIDTH))
    for k in range(1, 9):
        radius = SUN_RADIUS + 20 * k + 1.6 * k**2
        rings += 0.85**k * np.exp(-(((SUN_DISTANCE - radius) / 1.3) ** 2))
    return picture + 0.17 * (rings * open_sky)[..., None] * _colour("#ffcc9e")


@dataclass(frozen=True, kw_only=True)
class Range:
    """A chain of mountains: where it stands, how it looks, how much mist hides its foot."""

    foot: float
    height: float
    width: float
    rock: str
    mist: str
    haze: float
    sunshine: float


RANGES = (
    Range(foot=610, height=170, width=300, rock="#d98a90", mist="#f6b48c", haze=0.55, sunshine=0.42),
    Range(foot=628, height=150, width=230, rock="#a8688c", mist="#eea08a", haze=0.70, sunshine=0.36),
    Range(foot=640, height=118, width=190, rock="#6f4a80", mist="#cf8590", haze=0.75, sunshine=0.30),
    Range(foot=648, height=74, width=150, rock="#43336a", mist="#9a6488", haze=0.75, sunshine=0.24),
)


def _mountains(picture: Field) -> tuple[Field, Field]:
    """The picture with all ranges, and a mask of the sky they leave open."""
    open_sky = np.ones((HEIGHT, WIDTH))
    backlight = np.exp(-(((X - SUN_X) / 230) ** 2))
    for index, mountains in enumerate(RANGES):
        random = _random(f"range {index}")
        ridge = mountains.foot - mountains.height * _crests(random, mountains.width)
        below = Y - ridge
        solid = _below(ridge)
        fog = _noise(random, 260, 40, octaves=4) - 0.5
        mist = mountains.haze * _smooth(0.1, 1.1, below / mountains.height + 0.5 * fog) + 0.16 * backlight
        stone = _mix(_colour(mountains.rock), _colour(mountains.mist), np.clip(mist, 0, 1))
        lit = _facets(random, mountains.height) * np.exp(-below.clip(0) / (0.5 * mountains.height))
        picture = _mix(picture, _mix(stone, _colour("#ffc39a"), mountains.sunshine * lit), solid)
        open_sky *= 1 - solid
    return picture, open_sky


def _crests(random: np.random.Generator, width: float) -> Field:
    """Height 0..1 of a jagged skyline. [WIDTH]"""
    octaves = [1 - np.abs(2 * _value_noise(random, width / 2**k, 1, (1, WIDTH))[0] - 1) for k in range(7)]
    return np.average(octaves, axis=0, weights=[0.5**k for k in range(7)]) ** 1.5


def _facets(random: np.random.Generator, height: float) -> Field:
    """How much each rock face turns to the sun, 0..1."""
    relief = np.zeros((HEIGHT, WIDTH))
    for k in range(5):
        cell = 0.62 * height / 2**k
        relief += 0.5**k * (1 - np.abs(2 * _value_noise(random, max(cell, 1), max(0.8 * cell, 1)) - 1))
    slope_y, slope_x = np.gradient(relief)
    return _smooth(-0.02, 0.07, -slope_x * np.tanh((SUN_X - X) / 60) - 0.5 * slope_y)


def _treeline(picture: Field) -> Field:
    """Firs on the far shore, smallest below the sun."""
    random = _random("trees")
    x = np.arange(WIDTH)
    top = 630 + 3 * np.sin(x / 90)
    for _ in range(150):
        trunk = random.random() * WIDTH
        tall = (9 + 26 * random.random()) * (0.35 + 1.6 * abs(trunk - SUN_X) / WIDTH)
        aside = np.abs(x - trunk)
        cone = np.clip(1 - aside / (0.2 * tall), 0, 1)
        twigs = 0.1 * np.abs(0.55 * aside % 1 - 0.5) * (cone > 0)
        top = np.minimum(top, 634 - tall * np.clip(cone - twigs, 0, 1))
    glare = 0.8 * np.exp(-(((X - SUN_X) / 150) ** 2))
    return _mix(picture, _mix(_colour("#2a2450"), _colour("#7c4a70"), glare), _below(top))


def _birds(picture: Field) -> Field:
    flock = (
        (300, 330, 9, 0.1),
        (322, 318, 7, -0.2),
        (345, 338, 6, 0.15),
        (612, 300, 7, 0.0),
        (281, 352, 5, -0.1),
    )
    birds = np.zeros((HEIGHT, WIDTH))
    for x, y, size, tilt in flock:
        shapes = Shapes.at(x, y, scale=size)
        for side in (-1, 1):
            bend = (0.55 * side, -0.42 - 0.3 * tilt * side)
            tip = (1.25 * side, -0.18 + 0.4 * tilt * side)
            wing = np.minimum(shapes.limb((0, 0, 0.15), (*bend, 0.13)), shapes.limb((*bend, 0.13), (*tip, 0.04)))
            birds = np.maximum(birds, _inside(wing * size))
    return _mix(picture, _colour("#3a2358"), 0.85 * birds)


def _lake(picture: Field) -> Field:
    """The far shore mirrored in moving water, with the sun's lane on it."""
    random = _random("lake")
    depth = np.clip(Y - HORIZON, 0, None)
    near = depth / (HEIGHT - HORIZON)
    swell, chop = _ripples(random, 30), _ripples(random, 12)
    sway = swell + 0.5 * chop
    mirrored = _look_up(
        picture,
        np.clip(HORIZON - 1 - 1.06 * depth + sway * (10 + 95 * near), 0, HORIZON - 1),
        np.clip(X + (60 * swell + 30 * chop) * near, 0, WIDTH - 1),
    )
    dazzle = mirrored.mean(axis=-1) ** 2
    murk = np.clip(0.08 + 0.5 * near**1.1 + 0.5 * sway, 0, 0.85) * (1 - 0.75 * dazzle)
    water = _mix(mirrored * np.array([0.94, 0.84, 0.92]), _colour("#191c4a"), murk)
    lane = np.exp(-(((X - SUN_X - 60 * swell) / (30 + 110 * near)) ** 2))
    glints = _smooth(0.05, 0.22, chop + 0.6 * swell) * lane
    water = _mix(water, _colour("#ffcf96"), glints * (0.85 - 0.35 * near))
    mist = np.exp(-(((Y - HORIZON) / 16) ** 2)) * (0.25 + 0.5 * _noise(random, 200, 30, octaves=3))
    return _mix(np.where((Y >= HORIZON)[..., None], water, picture), _colour("#f2a58c"), 0.55 * mist)


def _ripples(random: np.random.Generator, size: float) -> Field:
    """Waves seen in perspective: flat noise -0.5..0.5 that shrinks toward the horizon."""
    rows, columns = 900, 1600
    waves = _noise(random, 3.2 * size, 0.42 * size, octaves=4, shape=(rows, columns)) - 0.5
    distance = 18 + np.clip(Y - HORIZON, 0, None)
    v = np.clip(150 * np.log(distance / 18), 0, rows - 1)
    u = np.clip(columns / 2 + (X - WIDTH / 2) * (150 / distance) ** 0.55, 0, columns - 1)
    return _look_up(waves, v, u)


# -- close by ---------------------------------------------------------------------------------------------


def _bank_line() -> Field:
    """Height of the near bank's edge. [WIDTH]"""
    x = np.arange(WIDTH, dtype=np.float64)
    bumps = _noise(_random("bank"), 90, 1, octaves=5, shape=(1, WIDTH))[0] - 0.5
    line: Field = 945 - 92 * _smooth(470, 60, x) + 52 * _smooth(480, 768, x) + 26 * bumps
    return line


def _bank(picture: Field, bank: Field) -> Field:
    picture = _mix(picture, _colour("#0d0f2a"), _below(bank))
    shapes = Shapes.at(0, 0, scale=1)
    boulder = _join(shapes.disc(172, 884, 120, 44, turned=-0.06), shapes.disc(262, 900, 80, 30, turned=0.2), 20)
    boulder += 10 * (_noise(_random("boulder"), 40, 30, octaves=4) - 0.5)
    picture = _against_the_light(picture, boulder, "#0d0f2a", rim=0.5)
    return _mix(picture, _colour("#0a0b22"), _smooth(10, 84, Y - bank))


def _grass(picture: Field, bank: Field) -> Field:
    random = _random("grass")
    for count, offset, shortest, longest, colour in (
        (560, 6, 14, 64, "#0b0d26"),
        (420, 80, 40, 130, "#0a0b22"),
    ):
        blades, tips = np.zeros((2, HEIGHT, WIDTH))
        for _ in range(count):
            root, length = random.random() * WIDTH, shortest + (longest - shortest) * random.random() ** 1.6
            lean = (random.random() - 0.4) * 0.6 * length
            foot = bank[int(root)] + offset
            here = np.s_[
                max(0, int(foot - length)) : min(HEIGHT, int(foot)),
                max(0, int(root - abs(lean) - 4)) : int(root + abs(lean) + 4),
            ]
            up = (foot - Y[here]) / length
            half_width = 1.5 * (1 - up) + 0.25
            blade = np.clip(half_width + 0.5 - np.abs(X[here] - root - lean * up**2), 0, 1)
            blades[here] = np.maximum(blades[here], blade * np.clip(2 * half_width, 0, 1))
            tips[here] = np.maximum(tips[here], blade * up**3)
        warm = 0.55 * tips * np.exp(-(((X - SUN_X) / 260) ** 2))
        picture = _mix(picture, _mix(_colour(colour), _colour("#a85a5c"), warm), blades)
    return picture


def _guitar(picture: Field) -> Field:
    scale = 1.02
    shapes = Shapes.at(76, 857, scale=scale, turned=-0.17)
    box = _join(shapes.disc(0, -24, 27, 24), shapes.disc(0, -63, 19, 17), 6)
    neck = np.minimum(shapes.limb((0, -60, 3.4), (0, -134, 2.8)), shapes.limb((0, -136, 4.4), (0, -153, 5.8)))
    pegs = np.minimum.reduce([shapes.limb((-8.5, y, 1.5), (8.5, y, 1.5)) for y in (-138, -144.5, -151)])
    hole = shapes.disc(0, -53, 7.2, 7.2)
    bridge = shapes.limb((-7, -22, 1.6), (7, -22, 1.6))
    picture = _against_the_light(picture, scale * np.minimum.reduce([box, neck, pegs]), "#1d1230", rim=0.95)
    picture = _mix(picture, _colour("#05061a"), _inside(scale * np.minimum(hole, bridge)))
    return _mix(picture, _colour("#7a4a4e"), 0.6 * _inside(scale * (np.abs(hole) - 0.6)))


def _listener(picture: Field) -> Field:
    """Someone who leans back with headphones on, one knee up."""
    scale = 1.15
    shapes = Shapes.at(178, 852, scale=scale)
    torso = shapes.chain(7, (-2, -10, 14.5), (-9, -56, 12.5), (-12, -62, 9), (-2, -63, 8.5))
    neck = shapes.limb((-7, -66, 6.2), (-2, -80, 5.6))
    face = _join(shapes.disc(0, -94, 12, 13), shapes.limb((4, -86, 5.5), (6, -83, 4)), 5)
    face = _join(face, shapes.limb((10.5, -90, 1.8), (13.2, -88.2, 0.9)), 2.5)
    hair = _join(
        shapes.disc(-3, -97, 13, 12.5, turned=-0.2),
        shapes.chain(4, (-11, -95, 6.5), (-17, -62, 4), (-15, -48, 1.2)),
        7,
    )
    band = np.maximum(np.abs(np.hypot(shapes.x + 3.2, shapes.y + 96.5) - 13.7) - 1.5, shapes.y + 98)
    head = np.minimum(np.minimum(face, hair), band)
    raised_leg = shapes.chain(5, (0, -9, 13), (40, -40, 8.8), (50, 0, 5.8), (68, 4, 3.5))
    other_leg = shapes.chain(5, (0, -6, 12), (56, -8, 8.2), (96, 2, 5), (103, -12, 3.5))
    arm = shapes.chain(4, (-6, -58, 8), (14, -38, 5.8), (40, -47, 4.1), (50, -40, 2.5))
    prop = shapes.chain(4, (-10, -57, 8), (-30, -30, 5.8), (-38, -2, 4.5))
    body = _join(_join(_join(torso, neck, 6), head, 2), _join(raised_leg, other_leg, 4), 6)
    picture = _against_the_light(picture, scale * np.minimum.reduce([body, arm, prop]), "#0b0c24", rim=0.95)
    cushion = shapes.disc(-1, -92, 4.6, 6.2, turned=0.05)
    return _against_the_light(picture, scale * cushion, "#241a3a", rim=0.35)


def _fireflies(picture: Field, bank: Field) -> Field:
    random = _random("fireflies")
    light = np.zeros((HEIGHT, WIDTH))
    for _ in range(30):
        x = random.random() * WIDTH
        y = bank[int(x)] - 60 + 140 * random.random()
        radius, brightness = 0.9 + 1.5 * random.random() ** 2, 0.4 + 0.6 * random.random()
        squared = (X - x) ** 2 + (Y - y) ** 2
        light += brightness * np.exp(-squared / (2 * radius**2))
        light += 0.28 * brightness * np.exp(-squared / (2 * (5 * radius) ** 2))
    return _shine(picture, light, "#ffdb80")


def _finish(picture: Field) -> NDArray[np.uint8]:
    """Darker corners and fine grain, which also hides the steps of 8 bits."""
    off_centre = np.hypot((X - 0.56 * WIDTH) / WIDTH, (Y - 0.47 * HEIGHT) / HEIGHT)
    picture = picture * (1 - 0.42 * _smooth(0.42, 0.85, off_centre))[..., None]
    grain = _random("grain").standard_normal((HEIGHT, WIDTH, 1)) * 0.9 / 255
    return np.rint(np.clip(picture + grain, 0, 1) * 255).astype(np.uint8)


# -- shapes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shapes:
    """Signed distances in local units: the pixel grid moved to an origin, turned and scaled."""

    x: Field
    y: Field

    @classmethod
    def at(cls, x: float, y: float, *, scale: float, turned: float = 0.0) -> "Shapes":
        cos, sin = np.cos(turned) / scale, np.sin(turned) / scale
        return cls((X - x) * cos + (Y - y) * sin, (Y - y) * cos - (X - x) * sin)

    def limb(self, start: tuple[float, float, float], end: tuple[float, float, float]) -> Field:
        """A line from one (x, y, radius) to another."""
        (start_x, start_y, start_radius), (end_x, end_y, end_radius) = start, end
        along_x, along_y = end_x - start_x, end_y - start_y
        x, y = self.x - start_x, self.y - start_y
        along = np.clip((x * along_x + y * along_y) / (along_x**2 + along_y**2), 0, 1)
        radius = start_radius + (end_radius - start_radius) * along
        return np.hypot(x - along * along_x, y - along * along_y) - radius

    def chain(self, softness: float, *joints: tuple[float, float, float]) -> Field:
        """Limbs from joint to joint, grown together."""
        first, *others = [self.limb(start, end) for start, end in pairwise(joints)]
        for limb in others:
            first = _join(first, limb, softness)
        return first

    def disc(self, x: float, y: float, radius_x: float, radius_y: float, *, turned: float = 0.0) -> Field:
        """An ellipse; the distance is exact at its edge along the shorter axis, and good enough elsewhere."""
        cos, sin = np.cos(turned), np.sin(turned)
        u = (self.x - x) * cos + (self.y - y) * sin
        v = (self.y - y) * cos - (self.x - x) * sin
        distance: Field = (np.hypot(u / radius_x, v / radius_y) - 1) * min(radius_x, radius_y)
        return distance


def _join(a: Field, b: Field, softness: float) -> Field:
    """Union of two distance fields with a fillet of the given size (Quilez's polynomial smooth minimum)."""
    h = np.clip(0.5 + 0.5 * (b - a) / softness, 0, 1)
    return b + (a - b) * h - softness * h * (1 - h)


def _inside(distance: Field) -> Field:
    return np.clip(0.5 - distance, 0, 1)


def _below(line: Field) -> Field:
    """Everything under a skyline [WIDTH]; its slope turns vertical into true distance."""
    return _inside((line - Y) / np.hypot(1, np.gradient(line)))


def _against_the_light(picture: Field, distance: Field, colour: str, *, rim: float) -> Field:
    """Fill a shape with `colour`, edged by sunlight where it faces the sun."""
    slope_y, slope_x = np.gradient(distance)
    facing = (slope_x * (SUN_X - X) + slope_y * (SUN_Y - Y)) / (SUN_DISTANCE + 1e-9)
    edge = rim * np.clip(facing, 0, 1) ** 2 * _smooth(-4.5, -0.2, distance)
    return _mix(picture, _mix(_colour(colour), _colour("#ffb27c"), np.clip(edge, 0, 1)), _inside(distance))


# -- colours and noise ------------------------------------------------------------------------------------


def _random(layer: str) -> np.random.Generator:
    """Each layer draws from its own stream, so that a change in one leaves the others as they are."""
    return np.random.default_rng([SEED, *layer.encode()])


def _colour(code: str) -> Field:
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def _mix(a: Field, b: Field, share: Field) -> Field:
    """From `a` to `b` (pictures or single colours) by a mask."""
    return a + (b - a) * share[..., None]


def _shine(picture: Field, light: Field, colour: str) -> Field:
    """Add light without ever exceeding white ("screen")."""
    return 1 - (1 - picture) * (1 - np.clip(light, 0, 1)[..., None] * _colour(colour))


def _gradient(position: Field, *stops: tuple[float, str]) -> Field:
    places = [place for place, _ in stops]
    colours = np.array([_colour(code) for _, code in stops])
    return np.stack([np.interp(position, places, channel) for channel in colours.T], axis=-1)


def _smooth(low: float, high: float, value: Field | float) -> Field:
    """0 at `low`, 1 at `high`, an S-curve between; `low` may be the greater."""
    t = np.clip((np.asarray(value) - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _value_noise(
    random: np.random.Generator, cell_x: float, cell_y: float, shape: tuple[int, int] = (HEIGHT, WIDTH)
) -> Field:
    """Smoothly interpolated random values 0..1 on a grid of cells of the given size."""
    rows, columns = shape
    grid = random.random((int(rows / cell_y) + 3, int(columns / cell_x) + 3))
    y, x = np.arange(rows) / cell_y, np.arange(columns) / cell_x
    y0, x0 = y.astype(int), x.astype(int)
    top, bottom = grid[y0], grid[y0 + 1]
    lines = top + (bottom - top) * _smooth(0, 1, y - y0)[:, None]
    noise: Field = lines[:, x0] + (lines[:, x0 + 1] - lines[:, x0]) * _smooth(0, 1, x - x0)
    return noise


def _noise(
    random: np.random.Generator,
    cell_x: float,
    cell_y: float,
    *,
    octaves: int,
    shape: tuple[int, int] = (HEIGHT, WIDTH),
) -> Field:
    """Fractal noise 0..1: each octave is half the size and half the strength of the one before."""
    layers = (
        0.5**k * _value_noise(random, max(cell_x / 2**k, 1), max(cell_y / 2**k, 1), shape) for k in range(octaves)
    )
    return sum(layers, np.zeros(shape)) / (2 - 0.5 ** (octaves - 1))


def _look_up(field: Field, y: Field, x: Field) -> Field:
    """Values of `field` at fractional positions, bilinear."""
    y0, x0 = y.astype(int), x.astype(int)
    y1, x1 = np.minimum(y0 + 1, field.shape[0] - 1), np.minimum(x0 + 1, field.shape[1] - 1)
    extra = (..., *[None] * (field.ndim - 2))
    fy, fx = (y - y0)[extra], (x - x0)[extra]
    upper = field[y0, x0] + (field[y0, x1] - field[y0, x0]) * fx
    lower = field[y1, x0] + (field[y1, x1] - field[y1, x0]) * fx
    values: Field = upper + (lower - upper) * fy
    return values
