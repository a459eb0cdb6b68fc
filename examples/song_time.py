"""The form of a song, and when its beats fall. Dedicated to the public domain (CC0 1.0)."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from song_score import KINDS, Wish

FORMS: Final = ("IVCVCBCO", "IVVCVCBCCO", "VCVCBCO", "IVCVCO", "IVVCVBCCO")

MAJOR: Final = (0, 2, 4, 5, 7, 9, 11)
MINOR: Final = (0, 2, 3, 5, 7, 8, 10)


class Setting:
    """What holds for the whole song: meter, tempo, key, who plays; and the random numbers that all is drawn from."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.random = np.random.default_rng([wish.seed, KINDS.index(wish.kind)])
        plain = wish.kind in {"4/4", "3/4", "6/8"}
        self.meter = wish.kind if plain else str(self.random.choice(["4/4", "4/4", "4/4", "3/4"]))
        self.per_bar, self.division = {"4/4": (4, 2), "3/4": (3, 2), "6/8": (2, 3)}[self.meter]
        slow, fast = {"4/4": (72, 158), "3/4": (84, 168), "6/8": (48, 84)}[self.meter]
        if wish.kind == "rubato":
            slow, fast = 60, 96
        self.bpm = float(np.exp(self.random.uniform(np.log(slow), np.log(fast))))
        self.key = int(self.random.integers(48, 60))
        self.scale = MAJOR if self.random.random() < 0.55 else MINOR
        self.swing = 0.16 if self.division == 2 and self.random.random() < 0.15 else 0.0
        self.band = str(self.random.choice(["full", "full", "full", "full", "dance", "acoustic"]))


def form_of(setting: Setting) -> list[tuple[str, int]]:
    """Letters of the sections, and their bars, so that the whole is about as long as is wanted."""
    letters = FORMS[int(setting.random.integers(len(FORMS)))]
    weight = {"I": 0.5, "V": 1.0, "C": 1.0, "B": 1.0, "O": 0.5}
    bar_seconds = setting.per_bar * 60 / setting.bpm
    total = setting.wish.seconds / bar_seconds
    unit = total / sum(weight[letter] for letter in letters)
    while unit < 3.0 and len(letters) > 2:  # a short song has fewer sections
        letters = letters[: max(2, len(letters) // 2)]
        unit = total / sum(weight[letter] for letter in letters)
    bars = {letter: max(2, 4 * round(unit * weight[letter] / 4)) for letter in weight}
    bars["I"] = bars["O"] = max(2, min(8, 2 * round(unit / 4)))
    return [(letter, bars[letter]) for letter in letters]


def grid_of(setting: Setting, form: list[tuple[str, int]]) -> tuple[NDArray[np.float64], list[tuple[float, float]]]:
    """Times of all beats, one more than there are for the end, and the silences between them."""
    beats = sum(bars for _, bars in form) * setting.per_bar
    interval = np.full(beats, 60 / setting.bpm)
    firsts = np.cumsum([0, *(bars for _, bars in form)]) * setting.per_bar
    kind = setting.wish.kind
    if kind == "rubato":
        interval *= _rubato(setting, beats)
    if kind == "tempo change":
        interval *= _tempo_changes(setting, firsts, beats)
    if kind == "live":
        walk = np.cumsum(setting.random.normal(0, 0.006, beats))
        walk -= np.linspace(0, walk[-1], beats) * 0.7
        sway = np.convolve(np.pad(walk, 4, mode="edge"), np.ones(9) / 9, "valid")
        interval *= np.exp(np.clip(sway, -0.08, 0.08))
    lead = float(setting.random.uniform(0.05, 1.2))
    silences: list[tuple[float, float]] = []
    grid = lead + np.concatenate([[0.0], np.cumsum(interval)])
    if kind == "silence":
        lead = float(setting.random.uniform(1.0, 4.0))
        grid += lead
        silences.append((0.0, float(grid[0])))
        count = min(2, len(firsts) - 3)
        inner = setting.random.choice(firsts[2:-1], size=count, replace=False) if len(form) > 2 else firsts[:0]
        for first in sorted(int(first) for first in inner):
            gap = float(setting.random.uniform(2.0, 7.0))
            silences.append((float(grid[first]), float(grid[first]) + gap))
            grid[first:] += gap
    return grid, silences


def _rubato(setting: Setting, beats: int) -> NDArray[np.float64]:
    """Factors of the beats' lengths: phrases of four bars press on and hold back, and linger on their last beat."""
    phrase = 4 * setting.per_bar
    at = np.arange(beats) % phrase / phrase
    depth = setting.random.uniform(0.06, 0.13)
    factor = 1 + depth * (np.cos(2 * np.pi * at) * 0.5 + 0.5 * (at > 0.8))
    factor += depth * 0.9 * (np.arange(beats) % phrase == phrase - 1)
    knots = np.arange(0, beats + 16, 16)
    slow = np.interp(np.arange(beats), knots, setting.random.normal(0, 0.03, beats // 16 + 2)[: len(knots)])
    return np.asarray(factor * np.exp(slow))


def _tempo_changes(setting: Setting, firsts: NDArray[np.intp], beats: int) -> NDArray[np.float64]:
    """Factors of the beats' lengths: two changes at sections, the second one reached over its four last bars."""
    factor = np.ones(beats)
    inner = firsts[1:-1]
    where = sorted(int(first) for first in setting.random.choice(inner, size=min(2, len(inner)), replace=False))
    current = 1.0
    for k, first in enumerate(where):
        change = float(np.exp(setting.random.uniform(0.1, 0.28)))
        faster = 60 < setting.bpm * current * change < 165 and (
            setting.random.random() < 0.6 or setting.bpm * current < 84
        )
        following = current / change if faster else current * change
        if k:
            ramp = 2 * setting.per_bar
            factor[first - ramp : first] = current * (following / current) ** (np.arange(ramp) / ramp)
        factor[first:] = following
        current = following
    return factor
