"""Which sections of a song are alike, and what part each plays.

Letters: S sections, C cells, D descriptors.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis.sections import Cells, descriptors_of
from soundreel.analysis.song import Role
from soundreel.analysis.spectrum import Values

PHRASE_CELLS: Final = 4
"""Bars in a phrase: chords are compared bar by bar within it."""

ALIKE: Final = 0.33
"""Sections whose distance is less are alike; 1 is the distance of two that have nothing in common."""

HARMONY_SHARE: Final = 0.6
"""Of the distance; the rest is timbre and rhythm. A verse may come back with other instruments, but has its chords."""


def letters_of(cells: Cells, edges: Sequence[int]) -> list[str]:
    """A letter for each section between two of `edges`, in the order in which they are first heard; silences have none.

    Sections are joined, the nearest first, as long as the mean distance between two groups is less than `ALIKE`
    (average linkage).
    """
    sounding = [k for k, first in enumerate(edges[:-1]) if not cells.rests[first]]
    if not sounding:
        return [""] * (len(edges) - 1)
    distance = _distances(cells, [(edges[k], edges[k + 1]) for k in sounding])
    groups = _joined(distance)
    letters = [""] * (len(edges) - 1)
    for number, group in enumerate(sorted(groups, key=min)):
        for index in group:
            letters[sounding[index]] = _letter(number)
    return letters


def _joined(distance: NDArray[np.float64]) -> list[list[int]]:
    """Groups of sections, by average linkage."""
    apart = distance + np.diag(np.full(len(distance), np.inf))
    groups = {index: [index] for index in range(len(distance))}
    while len(groups) > 1:
        one, other = (int(index) for index in np.unravel_index(apart.argmin(), apart.shape))
        if apart[one, other] >= ALIKE:
            break
        counts = np.array([len(groups[one]), len(groups[other])])
        apart[one] = apart[:, one] = np.average(apart[[one, other]], axis=0, weights=counts)
        apart[one, one] = apart[other] = apart[:, other] = np.inf
        groups[one] += groups.pop(other)
    return list(groups.values())


def _letter(number: int) -> str:
    """A … Z, AA, AB, …"""
    before, last = divmod(number, 26)
    return (_letter(before - 1) if before else "") + chr(ord("A") + last)


def _distances(cells: Cells, spans: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Distances [S, S] of sections, 0 to about 1."""
    phrases = np.stack([_phrase(cells.chroma[first:last]) for first, last in spans])
    phrases -= 0.7 * phrases.mean(axis=(0, 1))  # what all chords of the song have in common tells nothing
    sounds = descriptors_of(cells, 0.0)
    means = np.stack([sounds[first:last].mean(axis=0) for first, last in spans])
    harmony = np.min(
        [_cosine_distance(phrases, np.roll(phrases, shift, axis=1)) for shift in range(PHRASE_CELLS)], axis=0
    )
    harmony = np.minimum(harmony, harmony.T)
    apart = np.linalg.norm(means[:, None] - means[None], axis=2)
    spread = np.median(apart[apart > 0]) if (apart > 0).any() else 1.0
    sound = 1 - np.exp(-apart / (1.5 * spread))
    distance: NDArray[np.float64] = HARMONY_SHARE * harmony + (1 - HARMONY_SHARE) * sound
    return distance


def _phrase(chroma: Values) -> Values:
    """Mean chroma of the first, second, third and fourth bars of a section's phrases, [PHRASE_CELLS, 12]."""
    whole = np.zeros((PHRASE_CELLS, 12))
    for k in range(PHRASE_CELLS):
        bars = chroma[k::PHRASE_CELLS]
        whole[k] = bars.mean(axis=0) if len(bars) else chroma.mean(axis=0)
    return whole


def _cosine_distance(one: Values, other: Values) -> Values:
    """1 less the cosine of the angle between all pairs of phrases, [S, S]; at most 1."""
    flat, against = one.reshape(len(one), -1), other.reshape(len(other), -1)
    size = np.linalg.norm(flat, axis=1)[:, None] * np.linalg.norm(against, axis=1)[None]
    distance: Values = np.minimum(1 - flat @ against.T / np.maximum(size, 1e-9), 1.0)
    return distance


def roles_of(
    letters: Sequence[str], seconds: Sequence[float], energy: Sequence[float], voiced: Sequence[float]
) -> list[Role]:
    """The part that each section plays.

    Of the letters that come back, the one with the most energy and voice is the chorus, and the others are verses;
    what is heard only once is a bridge in the middle, an intro at the beginning and an outro at the end.
    """
    roles = [Role.SILENCE if not letter else Role.PART for letter in letters]
    counts = Counter(letter for letter in letters if letter)
    if len(counts) < 2:
        return roles
    strength = {
        letter: float(np.mean([energy[k] + 0.3 * voiced[k] for k, other in enumerate(letters) if other == letter]))
        for letter in counts
    }
    returning = [letter for letter in counts if counts[letter] > 1]
    chorus = max(returning, key=lambda letter: strength[letter]) if returning else ""
    for k, letter in enumerate(letters):
        if letter and letter == chorus:
            roles[k] = Role.CHORUS
        elif letter in returning:
            roles[k] = Role.VERSE
        elif letter and chorus in letters[:k] and chorus in letters[k + 1 :]:
            roles[k] = Role.BRIDGE
    _name_ends(roles, letters, seconds, voiced)
    return roles


def _name_ends(roles: list[Role], letters: Sequence[str], seconds: Sequence[float], voiced: Sequence[float]) -> None:
    """Call the first and the last section intro and outro where they are; those once heard beside them are verses."""
    sounding = [k for k, letter in enumerate(letters) if letter]
    usual = float(np.median([seconds[k] for k in sounding]))
    for end, role in ((sounding[0], Role.INTRO), (sounding[-1], Role.OUTRO)):
        if roles[end] is Role.PART and (seconds[end] < 0.75 * usual or voiced[end] < 0.3):
            roles[end] = role
    for k in sounding[1:-1]:
        if roles[k] is Role.PART and voiced[k] >= 0.3:
            roles[k] = Role.VERSE
