"""The players of a song: what each of them plays in a bar. Dedicated to the public domain (CC0 1.0)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from song_score import Note
from song_style import Style
from song_time import Setting


class Players:
    """A band that writes down what it plays."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.notes: list[Note] = []

    def play_bar(self, style: Style, grid: NDArray[np.float64], bar: int, k: int, bars: int, cut: float | None) -> None:
        """The notes of bar `bar`, the `k`-th of its section; before a silence they end at `cut`."""
        begin = bar * self.setting.per_bar
        times = grid[begin : begin + self.setting.per_bar + 1].copy()
        if cut is not None and k == bars - 1:
            times[-1] = cut

        def at(beat: float) -> float:
            if self.setting.swing and abs(beat % 1 - 0.5) < 0.01:
                beat += self.setting.swing
            return float(np.interp(beat, np.arange(self.setting.per_bar + 1), times))

        degree = style.chords[k // style.bars_per_chord % 4]
        chord = self._chord(degree)
        if style.density:
            self._drums(style, at, fill=k == bars - 1 and self.setting.random.random() < 0.7)
        self._bass(style, at, chord[0])
        self._comp(style, at, chord)
        if style.sung and k % 2 == 0 and not (k == bars - 2 and bars % 2):
            later = grid[begin : begin + 2 * self.setting.per_bar + 1]
            if len(later) > 2 * self.setting.per_bar or k + 1 < bars:
                if cut is not None and k + 1 == bars - 1:
                    later = np.append(later[:-1], cut)
                self._sing(style, later, degree)

    def _chord(self, degree: int) -> tuple[int, int, int]:
        root, third, fifth = (self._pitch(degree + step) for step in (0, 2, 4))
        return root, third, fifth

    def _pitch(self, degree: int) -> int:
        return self.setting.key + 12 * (degree // 7) + self.setting.scale[degree % 7]

    def note(
        self, part: str, start: float, seconds: float, pitch: float = 0, loudness: float = 1.0, sound: int = 0
    ) -> None:
        late = self.setting.random.normal(0, 0.008 if self.setting.wish.kind == "live" else 0.0015)
        touch = float(np.exp(self.setting.random.normal(0, 0.12)))
        start = max(0.0, start + float(np.clip(late, -0.02, 0.02)))
        self.notes.append(
            Note(
                part=part, start=start, seconds=max(seconds, 0.05), pitch=pitch, loudness=loudness * touch, sound=sound
            )
        )

    def _drums(self, style: Style, at: Any, *, fill: bool) -> None:
        loud = style.loudness * (1.0 if style.density == 2 else 0.7)
        for beat in style.kick:
            self.note("kick", at(beat), 0.4, loudness=loud * (1.0 if beat == 0 else 0.85))
        backbeats = {"4/4": (1, 3), "3/4": (1, 2), "6/8": (1,)}[self.setting.meter]
        for beat in backbeats:
            if self.setting.meter == "3/4" and style.density < 2:
                self.note("rim", at(beat), 0.1, loudness=0.5 * loud)
            else:
                self.note(
                    "snare" if style.density == 2 else "rim",
                    at(beat),
                    0.3,
                    loudness=loud * (0.6 if self.setting.meter == "3/4" else 0.9),
                )
        for beat in np.arange(0, self.setting.per_bar, 1 / style.hats):
            on = abs(beat % 1) < 0.01
            self.note(
                "ride" if style.density == 2 and style.hats < 3 else "hat",
                at(float(beat)),
                0.1,
                loudness=loud * (0.5 if on else 0.3),
            )
        if fill:
            step = 0.25 if self.setting.division == 2 else 1 / 3
            for beat in np.arange(self.setting.per_bar - 1, self.setting.per_bar - 0.01, step):
                self.note("tom", at(float(beat)), 0.3, loudness=0.8 * loud, pitch=50 - 8 * (beat % 1))

    def _bass(self, style: Style, at: Any, root: int) -> None:
        if style.bass == "none":
            return
        low = root - 12 if root - 12 >= 36 else root
        low -= 12 if low > 47 else 0
        if style.bass == "eighths":
            for beat in np.arange(0, self.setting.per_bar, 1 / self.setting.division):
                self.note(
                    "bass",
                    at(float(beat)),
                    0.9 * (at(float(beat) + 1 / self.setting.division) - at(float(beat))),
                    low,
                    0.8 if beat else 1.0,
                )
            return
        steps = [(0.0, 0)] if self.setting.meter != "4/4" else [(0.0, 0), (2.0, 0)]
        if style.bass == "walk":
            steps = [(float(beat), (0, 7, 12, 7)[beat % 4]) for beat in range(self.setting.per_bar)]
        for index, (beat, interval) in enumerate(steps):
            until = steps[index + 1][0] if index + 1 < len(steps) else self.setting.per_bar
            self.note("bass", at(beat), 0.92 * (at(until) - at(beat)), low + interval, 1.0 if index == 0 else 0.8)

    def _comp(self, style: Style, at: Any, chord: tuple[int, int, int]) -> None:
        """Accompany: chords held, in arpeggios, or struck."""
        voicing = [pitch + 12 if pitch < 55 else pitch for pitch in chord]
        loud = 0.6 * style.loudness
        if style.comp == "pad" or style.figure == "held":
            self._hold(at, voicing, loud)
        if style.figure == "held" and self.setting.wish.kind != "rubato":
            for beat in range(self.setting.per_bar):
                length = 0.9 * (at(beat + 1) - at(beat))
                self.note("piano", at(beat), length, voicing[beat % 3] + 12, 0.5 * loud)
        elif style.figure == "arpeggio" or style.comp == "pad":
            self._arpeggio("piano" if style.comp == "pad" else style.comp, at, voicing, loud)
        else:
            self._strike(style, at, voicing, loud)

    def _hold(self, at: Any, voicing: list[int], loud: float) -> None:
        for pitch in voicing:
            self.note("pad", at(0), at(self.setting.per_bar) - at(0), pitch, loud)

    def _arpeggio(self, part: str, at: Any, voicing: list[int], loud: float) -> None:
        order, step = (0, 1, 2, 1, 0, 2, 1, 2), 1 / self.setting.division
        for index in range(self.setting.per_bar * self.setting.division):
            accent = 1.3 if index == 0 else 1.1 if index % self.setting.division == 0 else 0.8
            pitch = voicing[order[index % 8]] + (0 if index % 4 < 3 else 12)
            start = at(index * step)
            self.note(part, start, 1.6 * (at((index + 1) * step) - start), pitch, loud * accent)

    def _strike(self, style: Style, at: Any, voicing: list[int], loud: float) -> None:
        if style.figure == "waltz":
            beats = [1.0, 2.0]
        elif style.figure == "offbeat":
            beats = [beat + 0.5 for beat in range(self.setting.per_bar)]
        else:
            beats = [float(beat) for beat in range(self.setting.per_bar)]
            if self.setting.division == 2 and self.setting.random.random() < 0.5:
                beats.append(self.setting.per_bar - 0.5)
        for beat in sorted(beats):
            length = 0.8 * (at(min(beat + 1, self.setting.per_bar)) - at(beat))
            for k, pitch in enumerate(voicing):
                late = 0.008 * k if style.comp == "guitar" else 0.0
                self.note(style.comp, at(beat) + late, length, pitch, loud * (1.15 if beat == 0 else 0.9))

    def _sing(self, style: Style, times: NDArray[np.float64], degree: int) -> None:
        positions = np.arange(len(times))
        for start, span, step in style.melody:
            if start + span > len(times) - 1:
                return
            begin, stop = (float(np.interp(beat, positions, times)) for beat in (start, start + span))
            pitch = self._pitch(degree % 3 + step) + 12 + style.register
            self.note(
                "voice", begin, 0.97 * (stop - begin), pitch, style.loudness, int(self.setting.random.integers(5))
            )

    def play_ending(self, style: Style, last: float) -> None:
        for pitch in self._chord(0):
            self.note("piano", last, 2.2, pitch + 12 if pitch < 55 else pitch, 0.7)
        if style.density:
            self.note("kick", last, 0.4, loudness=0.8)
            self.note("crash", last, 1.8, loudness=0.4)
        if style.bass != "none":
            self.note("bass", last, 2.0, self.setting.key - 12, 0.9)
