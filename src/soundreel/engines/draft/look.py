"""How a shot of a draft looks: chosen by the song's character, by the part of the song that it shows, and by chance.

The character and the seed of the request choose what the whole video has in common: its material, its scheme of
colours, the form of each part. The scene chooses the palette and how big, bright and quick everything is; the shot's
own seed draws the rest, so that two shots of one part are two views of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import reduce
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis import Role
from soundreel.engines.draft.character import Character
from soundreel.engines.draft.forms import PLANE, RADIAL, Form
from soundreel.engines.draft.palette import TONES, Palette, Scheme, choose_palette
from soundreel.engines.draft.scenes import Scene

LIGHT_TONE: Final = 0.6
"""Tone of the light that falls into a reference image."""


class Material(StrEnum):
    """What the pattern seems to be made of."""

    SILK = "silk"  # lit folds with fine threads
    PAPER = "paper"  # layers with cut edges, each with a shadow on the one below
    NEON = "neon"  # lines of light over a dark ground
    INK = "ink"  # lines of ink on a pale ground


@dataclass(frozen=True, kw_only=True)
class Movement:
    """How big, bright and quick a shot is, 1 being usual."""

    speed: float = 1.0
    size: float = 1.0  # of forms
    light: float = 1.0
    density: float = 1.0  # of particles and lines
    punch: float = 1.0  # of hits

    def times(self, other: "Movement") -> "Movement":
        """Both together."""
        return Movement(**{name: value * getattr(other, name) for name, value in vars(self).items()})


WORDS: Final[Mapping[str, Movement]] = MappingProxyType(
    {
        **dict.fromkeys(
            ("calm", "gentle", "serene", "peaceful", "tender", "quiet", "lullaby"),
            Movement(speed=0.65, density=0.7, punch=0.75),
        ),
        **dict.fromkeys(("slow", "floating", "drifting", "flowing", "dreamy"), Movement(speed=0.7, size=1.15)),
        **dict.fromkeys(("fast", "quick", "racing", "rushing", "frantic"), Movement(speed=1.5)),
        **dict.fromkeys(
            ("wild", "energetic", "explosive", "powerful", "epic", "stormy", "storm"),
            Movement(speed=1.25, size=1.2, light=1.08, density=1.5, punch=1.2),
        ),
        **dict.fromkeys(("intimate", "minimal", "sparse", "lonely", "empty"), Movement(density=0.5, speed=0.85)),
        **dict.fromkeys(("huge", "vast", "grand", "wide"), Movement(size=1.35)),
        **dict.fromkeys(("detailed", "intricate", "delicate", "tiny"), Movement(size=0.75, density=1.3)),
    }
)
"""Word of a prompt → its change of the movement."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """All that is chosen of a shot without a reference image."""

    form: Form
    material: Material
    palette: Palette
    movement: Movement


@dataclass(frozen=True, kw_only=True, eq=False)
class Framing:
    """How the camera sees a reference image."""

    zoom: float = 1.0  # factor on the usual zoom
    light: float = 0.0  # 0..1 how much coloured light falls into the picture
    rgb: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))  # its colour, 0..255


@dataclass(frozen=True, kw_only=True, eq=False)
class Style:
    """What all shots of a video have in common."""

    character: Character
    material: Material
    alone: Form  # where the video shows one part of the song
    planes: tuple[Form, ...]  # else: in the order in which parts of the song take them
    radials: tuple[Form, ...]
    scheme: Scheme

    @classmethod
    def of_song(cls, character: Character, seed: int, prompt: str | None = None) -> "Style":
        """Chosen by the song, and the seed and the words of the request."""
        words = movement_of(prompt)
        energy = min(character.energy * words.speed * words.punch, 1.0)
        character = replace(character, energy=energy)
        rng = np.random.default_rng([seed, character.number])
        weights = _material_weights(character)
        materials, total = list(weights), sum(weights.values())
        material = materials[int(rng.choice(len(materials), p=[weight / total for weight in weights.values()]))]
        radial = 0.25 + 0.4 * character.energy if character.energy else 0.0
        return cls(
            character=character,
            material=material,
            scheme=Scheme.of_song(character, rng, are_mixed=material is Material.SILK),
            alone=Form(rng.choice(RADIAL if rng.random() < radial else PLANE)),
            planes=tuple(PLANE[k] for k in rng.permutation(len(PLANE))),
            radials=tuple(RADIAL[k] for k in rng.permutation(len(RADIAL))),
        )

    def look(self, scene: Scene) -> Look:
        """That of a shot."""
        return Look(
            form=self._form(scene),
            material=self.material,
            palette=choose_palette(self.scheme, scene),
            movement=self.movement(scene),
        )

    def _form(self, scene: Scene) -> Form:
        if not scene.has_others:
            return self.alone
        if scene.role is Role.CHORUS:
            return self.radials[0]
        if scene.role is Role.BRIDGE:
            return self.radials[1]
        return self.planes[scene.part % len(self.planes)]

    def framing(self, scene: Scene, rng: np.random.Generator) -> Framing:
        """Of a shot with a reference image: the nearer the stronger, and no two alike."""
        if not scene.has_others:
            return Framing()
        ramps = choose_palette(self.scheme, scene).ramps(0.0)
        return Framing(
            zoom=1 + 0.34 * scene.strength * float(rng.uniform(0.6, 1.0)),
            light=0.15 + 0.35 * scene.strength,
            rgb=ramps[0, round(LIGHT_TONE * (TONES - 1))].astype(float),
        )

    def movement(self, scene: Scene) -> Movement:
        """How big, bright and quick: by tempo, by the strength of the scene, and by words."""
        character, strong = self.character, scene.strength - 0.5
        movement = Movement(
            speed=(0.75 + 0.5 * character.tempo) * (1 + 1.1 * strong),
            size=(1.12 - 0.24 * character.energy) * (1 + 0.6 * strong),
            light=1 + 0.30 * strong,
            density=(0.7 + 0.6 * character.energy) * (1 + 1.4 * strong),
            punch=1 + 0.8 * strong,
        )
        return movement.times(movement_of(scene.prompt))


def movement_of(prompt: str | None) -> Movement:
    """What the words of a prompt ask for."""
    words = dict.fromkeys(re.findall(r"[a-z]+", (prompt or "").lower()))
    return reduce(Movement.times, (WORDS[word] for word in words if word in WORDS), Movement())


def _material_weights(character: Character) -> dict[Material, float]:
    """How likely each material is: loud songs glow, calm ones are drawn; where there is no sound nothing has edges."""
    if not character.energy:
        return {Material.SILK: 1.0}
    return {
        Material.SILK: 1.0,
        Material.PAPER: 1.0,
        Material.NEON: max(0.0, 1.5 * character.energy - 0.3),
        Material.INK: 0.9 - 0.5 * character.energy,
    }
