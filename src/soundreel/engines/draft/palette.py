"""Colours of the abstract pattern: from words in the prompt, else from the character of the song.

A palette is a few ramps from dark to light, mixed in OKLCh (see `media.oklch`), so that a ramp passes through colours
and never through grey. Where the song chooses, no tone is muddy: dark tones are never yellow or brown, each has a least
chroma, and light tones lean another way than dark ones. The numbers have no source: they were chosen by eye.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis import Role
from soundreel.engines.draft.character import Character
from soundreel.engines.draft.colour_words import COLOUR_WORDS, MOOD_WORDS, SCENE_WORDS, Mood
from soundreel.engines.draft.scenes import Scene
from soundreel.media.oklch import Tint, angle_between, most_chroma, to_srgb

TONES: Final = 256
"""Number of tones of a ramp, from dark to light."""

RAMPS: Final = 5
"""Number of ramps from a song's hue to its second one."""

SHIFTS: Final = 17
"""Number of hue shifts from −1 to 1 for which ramps are computed."""

FAINT_KEY: Final = 1e-3
"""|key| below which a sound has no tonality."""

DERIVED_SHIFT, NAMED_SHIFT = np.deg2rad(14.0), np.deg2rad(7.0)
"""Hue change at a shift of 1, for colours that the song chose and for those that the prompt names."""

MUDDY_HUES: Final = (np.deg2rad(28.0), np.deg2rad(200.0))
"""Dark tones between these are brown, olive or dull green."""

UNFAIR_HUES: Final = (np.deg2rad(94.0), np.deg2rad(156.0))
"""Chartreuse and grass: no song chooses them."""

LEAST_CHROMA, TOO_VIVID = 0.06, 0.24
"""Of the colours that a song chooses."""

WARM_HUE: Final = np.deg2rad(95.0)
"""Of hues between those, the lower ones have red shadows and the upper ones green shadows."""

LARGEST_LEAN: Final = np.deg2rad(60.0)
"""Largest difference in hue of light tones from main ones that the prompt names."""

GOLDEN_ANGLE: Final = np.deg2rad(137.5)
"""From the hue of one part of a song to that of the next: never near one that was used lately."""

GROUNDS: Final = (0.10, 0.17, 0.34)
"""Lightness of the darkest tone: night, dusk, day."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Palette:
    """R colour ramps from dark to light, for every hue shift, and the colour of what sparkles."""

    tables: NDArray[np.float32]  # [SHIFTS, R, TONES, 3], sRGB 0..255; each ramp leads to the next
    spark: NDArray[np.float64]  # [3] sRGB 0..255

    def ramps(self, shift: float) -> NDArray[np.uint8]:
        """The ramps at a hue shift of −1..1, sRGB uint8 [R, TONES, 3]."""
        place = (min(max(shift, -1.0), 1.0) + 1) / 2 * (SHIFTS - 1)
        below = min(int(place), SHIFTS - 2)
        part = np.float32(place - below)
        mixed = self.tables[below] * (1 - part) + self.tables[below + 1] * part
        return np.asarray(np.rint(mixed), np.uint8)


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """What a song's colours are made of: the same for all of its parts."""

    hue: float  # radians, of its first part
    turn: int  # 1 or -1: which way around the hues of light tones lie
    reach: float  # radians between the hues of the darkest and the lightest tones
    second: float  # radians from the hue of the first ramp to that of the second
    ground: float  # lightness of the darkest tone
    chroma: float  # factor

    @classmethod
    def of_song(cls, character: Character, rng: np.random.Generator, *, are_mixed: bool) -> "Scheme":
        """Key and number choose the hue, energy how far colours reach, brightness how dark the ground is.

        Where the colours of ramps `are_mixed` they are nearer to each other.
        """
        free = float(rng.uniform(-1, 1))
        hue = float(np.angle(character.key)) + 0.9 * free if abs(character.key) >= FAINT_KEY else np.pi * free
        bright = character.brightness + float(rng.uniform(-0.45, 0.45))
        return cls(
            hue=hue,
            turn=int(rng.choice([-1, 1])),
            reach=np.deg2rad(60 + 70 * character.energy + float(rng.uniform(-25, 25))),
            second=np.deg2rad(
                float(rng.choice([40.0, -40.0, 85.0, -85.0] if are_mixed else [75.0, -75.0, 130.0, 180.0]))
            ),
            ground=GROUNDS[0 if bright < 0.3 else 1 if bright < 0.75 else 2],
            chroma=0.86 + 0.2 * character.energy,
        )

    def of_scene(self, scene: Scene) -> "Scheme":
        """For one part of the song: parts differ in hue, and a strong one is lighter and more colourful."""
        if not scene.has_others:
            return self
        away = {Role.CHORUS: 0.55 * self.turn, Role.BRIDGE: np.pi}.get(scene.role, GOLDEN_ANGLE * scene.part / 3)
        return replace(
            self,
            hue=self.hue + away,
            ground=self.ground * (0.75 + 0.5 * scene.strength),
            chroma=self.chroma * (0.92 + 0.16 * scene.strength),
        )


def choose_palette(scheme: Scheme, scene: Scene) -> Palette:
    """The palette of a part of a song: of the words of its prompt, else of the song's scheme."""
    named, moods = read_colours(scene.prompt or "")
    pulls = [mood.hue for mood in moods if mood.hue is not None]
    if named:
        ramps = _named_ramps([Tint.of_rgb(rgb) for rgb in named], scheme, scene)
        largest = NAMED_SHIFT
    else:
        own = scheme.of_scene(scene)
        if pulls:  # the hue is the mood's, what else differs between parts stays
            own = replace(own, hue=np.deg2rad(pulls[0]) + 0.25 * np.sin(own.hue))
        ramps = [_song_ramp(own, own.hue + step) for step in np.linspace(0, _fair_step(own.hue, own.second), RAMPS)]
        largest = DERIVED_SHIFT
    ramps = [_in_mood(ramp, moods) for ramp in ramps]
    tables = to_srgb(_tables(ramps, np.linspace(-1, 1, SHIFTS) * largest))
    spark = to_srgb(np.array([[0.95, 0.08, ramps[-1][-2][3]]]))[0]
    return Palette(tables=tables.astype(np.float32), spark=spark)


def read_colours(prompt: str) -> tuple[list[tuple[int, int, int]], list[Mood]]:
    """Colours (sRGB) and moods that the words of `prompt` stand for, in order and without repeats."""
    words = re.findall(r"[a-z]+", prompt.lower())
    names = [name for word in words for name in SCENE_WORDS.get(word, (word,)) if name in COLOUR_WORDS]
    colours = list(dict.fromkeys(COLOUR_WORDS[name] for name in names))
    return colours, [MOOD_WORDS[word] for word in dict.fromkeys(words) if word in MOOD_WORDS]


Stop = tuple[float, float, float, float]
"""Place 0..1 on a ramp, lightness, chroma, hue; hues of a ramp's stops are joined without wrapping around."""


def _song_ramp(scheme: Scheme, hue: float) -> list[Stop]:
    """A ramp from a deep shadow through the most vivid tone of a hue to a pale light."""
    hue = _fair(hue)
    main = Tint.vivid(hue)
    vivid = min(max(main.lightness, 0.58), 0.86)
    turn = _light_turn(hue, scheme.turn)
    deep = _clean_shadow(hue, hue - turn * 0.6 * scheme.reach)
    shade = _clean_shadow(hue, hue - turn * 0.3 * scheme.reach)
    light = _fair_light(hue, turn * 0.4 * scheme.reach)
    ground = scheme.ground
    stops = (
        (0.00, ground, 0.62, deep),
        (0.30, ground + 0.42 * (vivid - ground), 0.92, shade),
        (0.60, vivid, 0.98, hue),
        (0.84, vivid + 0.6 * (0.95 - vivid), 0.85, light),
        (1.00, 0.975, 0.45, light),
    )
    return [(place, lightness, _chroma(share * scheme.chroma, lightness, h), h) for place, lightness, share, h in stops]


def _chroma(share: float, lightness: float, hue: float) -> float:
    """A share of the most chroma that there is, but no less than what is seen as a colour."""
    most = most_chroma(lightness, hue)
    return min(max(share * min(most, TOO_VIVID), LEAST_CHROMA), most)


def _fair(hue: float) -> float:
    """The hue itself, unless it lies between yellow and green: then the nearer of them."""
    yellow, green = UNFAIR_HUES
    at = hue % (2 * np.pi)
    return yellow if yellow < at <= (yellow + green) / 2 else green if yellow < at < green else hue


def _fair_step(hue: float, step: float) -> float:
    """An angle to a second hue with fair hues alone on the way: `step`, or the other way round, or less of it."""
    ways = (step, -step, 0.4 * step, -0.4 * step)
    return next((way for way in ways if _is_fair_way(_fair(hue), way)), 0.15)


def _is_fair_way(hue: float, step: float) -> bool:
    return all(_fair(hue + part * step) == hue + part * step for part in np.linspace(0.05, 1, 12))


def _fair_light(hue: float, lean: float) -> float:
    """A hue for light tones of `hue`, that leans no farther than to the next unfair one."""
    steps = np.linspace(lean, 0, 12)
    return next((hue + float(step) for step in steps if _is_fair_way(hue, float(step))), hue)


def _light_turn(hue: float, wished: int) -> int:
    """Which way around light tones lie, so that shadows turn away from brown and olive."""
    low, high = MUDDY_HUES
    at = hue % (2 * np.pi)
    if low - 0.5 < at < WARM_HUE:
        return 1
    if WARM_HUE <= at < high + 0.5:
        return -1
    return wished


def _clean_shadow(hue: float, wanted: float) -> float:
    """The hue of a shadow of `hue`: `wanted`, unless it is muddy; then the edge of what is."""
    low, high = MUDDY_HUES
    at = wanted % (2 * np.pi)
    if not low < at < high:
        return wanted
    if low < hue % (2 * np.pi) < high:
        return hue + angle_between(hue, low if hue % (2 * np.pi) < WARM_HUE else high)
    return hue + min((angle_between(hue, edge) for edge in MUDDY_HUES), key=abs)


def _named_ramps(tints: list[Tint], scheme: Scheme, scene: Scene) -> list[list[Stop]]:
    """Ramps of named colours; the parts of a song take turns in which of them leads."""
    if scene.has_others and len(tints) > 1:
        lead = {Role.CHORUS: 1, Role.BRIDGE: 2}.get(scene.role, 0) % len(tints)
        tints = tints[lead:] + tints[:lead]
    first = tints[0]
    second = tints[1] if len(tints) > 1 else replace(first, hue=first.hue + _companion(scheme, scene))
    accent = tints[2] if len(tints) > 2 else second
    lift = 0.10 * (scene.strength - 0.5) if scene.has_others else 0.0
    ground = 0.105 + lift / 2
    return [_named_ramp(first, second, ground, lift), _named_ramp(second, accent, ground, lift)]


def _companion(scheme: Scheme, scene: Scene) -> float:
    """Angle from the only colour that a prompt names to one beside it: parts of a song differ in that."""
    if not scene.has_others:
        return 0.35 * scheme.turn
    far = {Role.CHORUS: 0.9, Role.BRIDGE: 1.6}.get(scene.role, 0.25 + 0.25 * (scene.part % 3))
    return far * (-scheme.turn if scene.role is Role.CHORUS else scheme.turn)


def _named_ramp(main: Tint, light: Tint, ground: float, lift: float) -> list[Stop]:
    vivid = min(max(main.lightness + lift, 0.30), 0.86)
    lean = min(max(angle_between(main.hue, light.hue), -LARGEST_LEAN), LARGEST_LEAN)
    shadow = _clean_shadow(main.hue, main.hue) if main.chroma > 0.08 else main.hue
    is_bright = main.lightness > 0.65  # amber has red shadows, brown has brown ones
    dark = main.hue + (1.0 if is_bright else 0.5) * angle_between(main.hue, shadow)
    shade, glow = (0.50, 1.1) if is_bright and shadow != main.hue else (0.42, 0.8)
    return [
        (0.00, ground, min(0.40 * main.chroma, 0.06), dark),
        (0.30, ground + shade * (vivid - ground), glow * main.chroma, dark),
        (0.60, vivid, main.chroma, main.hue),
        (0.84, vivid + 0.55 * (0.95 - vivid), 0.75 * light.chroma, main.hue + lean),
        (1.00, 0.965, 0.25 * light.chroma, main.hue + lean),
    ]


def _in_mood(ramp: list[Stop], moods: Sequence[Mood]) -> list[Stop]:
    chroma = float(np.prod([mood.chroma for mood in moods]))
    lightness = sum(mood.lightness for mood in moods)
    backdrop = float(np.prod([mood.backdrop for mood in moods]))
    changed = []
    for place, light, colour, hue in ramp:
        raised = light + lightness * (1 - abs(2 * place - 1.1))
        floor = min(light * backdrop, 0.42) - light
        changed.append((place, min(max(raised + floor * (1 - place) ** 3, 0.05), 0.98), colour * chroma, hue))
    return changed


def _tables(ramps: Sequence[Sequence[Stop]], shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The tones of ramps with their hues shifted, OKLCh [SHIFTS, R, TONES, 3]."""
    tones = np.linspace(0, 1, TONES)
    lch = np.empty((len(shifts), len(ramps), TONES, 3))
    for index, ramp in enumerate(ramps):
        places, *channels = np.array(ramp).T
        lch[:, index] = np.stack([np.interp(tones, places, channel) for channel in channels], axis=-1)
    lch[..., 2] += shifts[:, np.newaxis, np.newaxis]
    return lch
