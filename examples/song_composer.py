"""Songs of known truth: a form, a grid of beats in time, and what a band plays on it. Everything is drawn from a seed.

Dedicated to the public domain (CC0 1.0).
"""

from dataclasses import replace

import numpy as np

from song_players import Players
from song_score import Score, Wish, named_sections
from song_style import PROGRESSIONS, style_of, varied
from song_time import Setting, form_of, grid_of


def write_song(wish: Wish) -> Score:
    """Compose the song that is wanted; the same for the same wish."""
    setting = Setting(wish)
    players = Players(setting)
    form = form_of(setting)
    styles = {letter: style_of(setting, letter) for letter in sorted({letter for letter, _ in form})}
    if styles.get("B") is not None and styles.get("V") is not None and styles["B"].chords == styles["V"].chords:
        others = [chords for chords in PROGRESSIONS if chords != styles["V"].chords]
        styles["B"] = replace(styles["B"], chords=others[int(setting.random.integers(len(others)))])
    grid, silences = grid_of(setting, form)
    sections: list[tuple[float, float, str]] = []
    bar = 0
    for index, (letter, bars) in enumerate(form):
        first = grid[bar * setting.per_bar]
        stop = grid[(bar + bars) * setting.per_bar]
        gap = next((gap for gap in silences if abs(gap[1] - stop) < 1e-6), None)
        style = styles[letter]
        if sections and sections[-1][2] == letter:
            style = varied(setting, style)
        sections.append((first, stop, letter))
        for k in range(bars):
            players.play_bar(style, grid, bar + k, k, bars, None if gap is None else gap[0])
        if index and letter == "C" and styles[letter].density == 2:
            players.note("crash", first, 1.8, loudness=0.7)
        bar += bars
    last = grid[bar * setting.per_bar]
    players.play_ending(styles[form[-1][0]], last)
    beats = np.array([beat for beat in grid[: bar * setting.per_bar + 1] if not _inside(beat, silences)])
    down = grid[: bar * setting.per_bar + 1 : setting.per_bar]
    downbeats = np.array([beat for beat in down if not _inside(beat, silences)])
    seconds = last + 3.0
    fade = None
    if setting.wish.kind == "fade":
        fade = (max(0.0, last - float(setting.random.uniform(14, 26))), float(last))
        seconds = float(last)
    return Score(
        wish=setting.wish,
        meter=setting.meter,
        seconds=float(seconds),
        beats=beats[beats < seconds],
        downbeats=downbeats[downbeats < seconds],
        sections=named_sections(sections, float(seconds), silences),
        notes=[note for note in players.notes if note.start < seconds],
        silences=silences,
        fade=fade,
    )


def _inside(beat: float, silences: list[tuple[float, float]]) -> bool:
    return any(start - 1e-6 <= beat < stop - 1e-6 for start, stop in silences)
