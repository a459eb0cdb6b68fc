"""How the sections of a song sound: who accompanies, how densely, to which chords and melody.

Positions in a bar are in beats. Dedicated to the public domain (CC0 1.0).
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from song_time import Setting

PROGRESSIONS: Final = (
    (0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (0, 3, 0, 4), (3, 4, 2, 5), (1, 4, 0, 5), (5, 4, 3, 4), (0, 2, 3, 4),
    (3, 0, 4, 5), (0, 1, 3, 0),
)  # fmt: skip
"""Degrees of the scale on which the chords of four bars stand."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one letter of the form sounds."""

    chords: tuple[int, ...]
    density: int  # 0: no drums, 1: soft, 2: full
    hats: int  # strokes of the cymbal per beat
    kick: tuple[float, ...]
    comp: str  # what accompanies: piano, guitar, pad, organ
    figure: str  # how: arpeggio, strum, held, offbeat
    bass: str  # roots, eighths, walk, none
    sung: bool
    register: int  # semitones
    loudness: float
    bars_per_chord: int
    melody: tuple[tuple[float, float, int], ...]  # start and length in beats, degree above the chord


def style_of(setting: Setting, letter: str) -> Style:
    random = setting.random
    density = {"I": int(random.integers(0, 2)), "V": 1, "C": 2, "B": int(random.integers(0, 2)), "O": 1}[letter]
    comp = {"I": "piano", "V": "guitar", "C": "organ", "B": "pad", "O": "piano"}[letter]
    if random.random() < 0.4:
        comp = str(random.choice(["piano", "guitar", "organ"]))
    figure = str(random.choice(["arpeggio", "strum", "offbeat"])) if letter != "B" else "held"
    if setting.meter != "4/4" and figure == "offbeat":
        figure = "arpeggio" if setting.meter == "6/8" else "waltz"
    if setting.band == "acoustic":
        density, comp = 0, str(random.choice(["guitar", "piano"]))
    bass = "none" if letter == "I" and density == 0 else str(random.choice(["roots", "eighths", "walk"]))
    if figure == "offbeat" and (density == 0 or bass == "none"):
        figure = "strum"  # chords between the beats need somebody on them
    if setting.wish.kind == "rubato":
        density, comp, bass = 0, ("pad" if letter == "B" else "piano"), "roots"
        figure = "strum" if letter == "C" else "arpeggio"
    return Style(
        chords=PROGRESSIONS[int(random.integers(len(PROGRESSIONS)))],
        density=density,
        hats=int(random.choice([1, 2, 2, 4])) if setting.division == 2 else 3,
        kick=_kick(setting),
        comp=comp,
        figure=figure,
        bass=bass,
        sung=setting.wish.voice and letter in "VCB" and not (letter == "B" and random.random() < 0.4),
        register={"C": 5, "B": 2}.get(letter, 0),
        loudness={"I": 0.6, "V": 0.75, "C": 1.0, "B": 0.7, "O": 0.6}[letter],
        bars_per_chord=2 if random.random() < 0.15 else 1,
        melody=_melody(setting, letter),
    )


def varied(setting: Setting, style: Style) -> Style:
    """The same once more: fuller, or with another accompaniment and a second melody."""
    comp = "organ" if style.comp != "organ" else "guitar"
    if setting.wish.kind == "rubato":
        return replace(style, register=style.register + 7, figure="strum" if style.figure != "strum" else "arpeggio")
    density = min(2, style.density + 1)
    return replace(style, density=density, comp=comp, bass="eighths", melody=_melody(setting, "V"))


def _kick(setting: Setting) -> tuple[float, ...]:
    if setting.meter == "4/4" and setting.band == "dance":
        return (0, 1, 2, 3)
    if setting.meter == "4/4":
        patterns: tuple[tuple[float, ...], ...] = (
            (0, 2),
            (0, 2, 2.5),
            (0, 1.5, 2),
            (0, 1, 2, 3),
            (0, 2.5),
            (0, 0.5, 2),
        )
    elif setting.meter == "3/4":
        patterns = ((0,), (0, 2.5), (0, 1.5))
    else:
        patterns = ((0,), (0, 5 / 3), (0, 2 / 3))
    return patterns[int(setting.random.integers(len(patterns)))]


def _melody(setting: Setting, letter: str) -> tuple[tuple[float, float, int], ...]:
    """Notes of a phrase of two bars: it begins near a downbeat and leaves room for breath."""
    step = 1 / setting.division
    length = 2 * setting.per_bar
    at, degree = float(setting.random.choice([0.0, 0.0, step, 2 * step])), int(setting.random.integers(0, 5))
    notes = []
    while at < length - (1.0 if letter == "C" else 1.5):
        span = float(
            setting.random.choice([step, 2 * step, 2 * step, 3 * step] if letter != "C" else [step, 2 * step, 4 * step])
        )
        span = min(span, length - at)
        notes.append((at, span, degree))
        degree = int(np.clip(degree + setting.random.integers(-2, 3), -3, 7))
        at += span
    return tuple(notes)
