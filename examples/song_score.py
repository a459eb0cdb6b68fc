"""Songs of known truth, as scores: a form, a grid of beats in time, and the notes that a band plays on it.

Everything is drawn from a seed. Positions in a bar are in beats; times are in seconds; pitches are MIDI note numbers
(69 = A4 = 440 Hz). What is written here is dedicated to the public domain (CC0 1.0).
"""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

KINDS: Final = ("4/4", "3/4", "6/8", "rubato", "tempo change", "fade", "silence", "live")
"""4/4, 3/4, 6/8: a band to a steady beat (in 6/8 a beat is three eighths); the others in 4/4 or 3/4 besides. rubato:
piano and voice, freely; tempo change: new tempi at sections, one of them reached gradually; fade: the end is faded
out; silence: stretches of silence, after which the beat starts anew; live: the tempo drifts and no note is quite on
time."""

FORMS: Final = ("IVCVCBCO", "IVVCVCBCCO", "VCVCBCO", "IVCVCO", "IVVCVBCCO")
ROLES: Final = {"I": "intro", "V": "verse", "C": "chorus", "B": "bridge", "O": "outro"}

PROGRESSIONS: Final = (
    (0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (0, 3, 0, 4), (3, 4, 2, 5), (1, 4, 0, 5), (5, 4, 3, 4), (0, 2, 3, 4),
    (3, 0, 4, 5), (0, 1, 3, 0),
)  # fmt: skip
"""Degrees of the scale on which the chords of four bars stand."""

MAJOR: Final = (0, 2, 4, 5, 7, 9, 11)
MINOR: Final = (0, 2, 3, 5, 7, 8, 10)

SILENT_DB: Final = -40.0
"""Of a fade: what is faded further is not counted as heard."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What song is wanted."""

    seed: int = 0
    kind: str = "4/4"
    seconds: float = 180.0  # about so long
    voice: bool = True


@dataclass(frozen=True, kw_only=True)
class Note:
    """One note or stroke."""

    part: str  # which instrument plays it
    start: float  # seconds
    seconds: float  # length
    pitch: float = 0.0  # of instruments that have one
    loudness: float = 1.0
    sound: int = 0  # vowel of the voice


@dataclass(frozen=True, kw_only=True)
class Score:
    """A song on paper, and what is true of it."""

    wish: Wish
    meter: str
    seconds: float
    beats: NDArray[np.float64]
    downbeats: NDArray[np.float64]
    sections: list[dict[str, Any]]  # start, stop, letter, role
    notes: list[Note]
    silences: list[tuple[float, float]] = field(default_factory=list)
    fade: tuple[float, float] | None = None  # from when to when it is faded out

    def voiced(self) -> list[tuple[float, float]]:
        """Stretches with voice, pauses for breath of up to 0.4 s included."""
        spans: list[tuple[float, float]] = []
        for note in sorted((note for note in self.notes if note.part == "voice"), key=lambda note: note.start):
            if spans and note.start - spans[-1][1] < 0.4:
                spans[-1] = (spans[-1][0], max(spans[-1][1], note.start + note.seconds))
            else:
                spans.append((note.start, note.start + note.seconds))
        return spans

    def truth(self) -> dict[str, Any]:
        """What is true of the song, for JSON; of a fade only what is still heard."""
        end = self.seconds
        if self.fade is not None:
            end = self.fade[0] + (self.fade[1] - self.fade[0]) * min(1.0, SILENT_DB / FADED_DB)
        return {
            "seed": self.wish.seed,
            "kind": self.wish.kind,
            "meter": self.meter,
            "seconds": round(self.seconds, 4),
            "beats": [round(float(beat), 4) for beat in self.beats if beat < end],
            "downbeats": [round(float(beat), 4) for beat in self.downbeats if beat < end],
            "sections": self.sections,
            "voice": [[round(start, 4), round(stop, 4)] for start, stop in self.voiced()],
        }


FADED_DB: Final = -60.0
"""Level at the end of a fade."""


def write_song(wish: Wish) -> Score:
    """Compose the song that is wanted; the same for the same wish."""
    return _Composer(wish).compose()


@dataclass(frozen=True, kw_only=True)
class _Style:
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


class _Composer:
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
        self.notes: list[Note] = []

    def compose(self) -> Score:
        form = self._form()
        styles = {letter: self._style(letter) for letter in sorted({letter for letter, _ in form})}
        if styles.get("B") is not None and styles.get("V") is not None and styles["B"].chords == styles["V"].chords:
            others = [chords for chords in PROGRESSIONS if chords != styles["V"].chords]
            styles["B"] = _replaced(styles["B"], chords=others[int(self.random.integers(len(others)))])
        grid, silences = self._grid(form)
        sections: list[tuple[float, float, str]] = []
        bar = 0
        for index, (letter, bars) in enumerate(form):
            first = grid[bar * self.per_bar]
            stop = grid[(bar + bars) * self.per_bar]
            gap = next((gap for gap in silences if abs(gap[1] - stop) < 1e-6), None)
            style = styles[letter]
            if sections and sections[-1][2] == letter:
                style = self._varied(style)
            sections.append((first, stop, letter))
            for k in range(bars):
                self._play_bar(style, grid, bar + k, k, bars, None if gap is None else gap[0])
            if index and letter == "C" and styles[letter].density == 2:
                self._note("crash", first, 1.8, loudness=0.7)
            bar += bars
        last = grid[bar * self.per_bar]
        self._ending(styles[form[-1][0]], last)
        beats = np.array([beat for beat in grid[: bar * self.per_bar + 1] if not _inside(beat, silences)])
        down = grid[: bar * self.per_bar + 1 : self.per_bar]
        downbeats = np.array([beat for beat in down if not _inside(beat, silences)])
        seconds = last + 3.0
        fade = None
        if self.wish.kind == "fade":
            fade = (max(0.0, last - float(self.random.uniform(14, 26))), float(last))
            seconds = float(last)
        return Score(
            wish=self.wish,
            meter=self.meter,
            seconds=float(seconds),
            beats=beats[beats < seconds],
            downbeats=downbeats[downbeats < seconds],
            sections=_named(sections, float(seconds), silences),
            notes=[note for note in self.notes if note.start < seconds],
            silences=silences,
            fade=fade,
        )

    # form and time

    def _form(self) -> list[tuple[str, int]]:
        """Letters of the sections, and their bars, so that the whole is about as long as is wanted."""
        letters = FORMS[int(self.random.integers(len(FORMS)))]
        weight = {"I": 0.5, "V": 1.0, "C": 1.0, "B": 1.0, "O": 0.5}
        bar_seconds = self.per_bar * 60 / self.bpm
        total = self.wish.seconds / bar_seconds
        unit = total / sum(weight[letter] for letter in letters)
        while unit < 3.0 and len(letters) > 2:  # a short song has fewer sections
            letters = letters[: max(2, len(letters) // 2)]
            unit = total / sum(weight[letter] for letter in letters)
        bars = {letter: max(2, 4 * round(unit * weight[letter] / 4)) for letter in weight}
        bars["I"] = bars["O"] = max(2, min(8, 2 * round(unit / 4)))
        return [(letter, bars[letter]) for letter in letters]

    def _grid(self, form: list[tuple[str, int]]) -> tuple[NDArray[np.float64], list[tuple[float, float]]]:
        """Times of all beats, one more than there are for the end, and the silences between them."""
        beats = sum(bars for _, bars in form) * self.per_bar
        interval = np.full(beats, 60 / self.bpm)
        firsts = np.cumsum([0, *(bars for _, bars in form)]) * self.per_bar
        kind = self.wish.kind
        if kind == "rubato":
            interval *= self._rubato(beats)
        if kind == "tempo change":
            interval *= self._tempo_changes(firsts, beats)
        if kind == "live":
            walk = np.cumsum(self.random.normal(0, 0.006, beats))
            walk -= np.linspace(0, walk[-1], beats) * 0.7
            sway = np.convolve(np.pad(walk, 4, mode="edge"), np.ones(9) / 9, "valid")
            interval *= np.exp(np.clip(sway, -0.08, 0.08))
        lead = float(self.random.uniform(0.05, 1.2))
        silences: list[tuple[float, float]] = []
        grid = lead + np.concatenate([[0.0], np.cumsum(interval)])
        if kind == "silence":
            lead = float(self.random.uniform(1.0, 4.0))
            grid += lead
            silences.append((0.0, float(grid[0])))
            count = min(2, len(firsts) - 3)
            inner = self.random.choice(firsts[2:-1], size=count, replace=False) if len(form) > 2 else firsts[:0]
            for first in sorted(int(first) for first in inner):
                gap = float(self.random.uniform(2.0, 7.0))
                silences.append((float(grid[first]), float(grid[first]) + gap))
                grid[first:] += gap
        return grid, silences

    def _rubato(self, beats: int) -> NDArray[np.float64]:
        """Factors of the beats' lengths: phrases of four bars press on and hold back, and linger on their last beat."""
        phrase = 4 * self.per_bar
        at = np.arange(beats) % phrase / phrase
        depth = self.random.uniform(0.06, 0.13)
        factor = 1 + depth * (np.cos(2 * np.pi * at) * 0.5 + 0.5 * (at > 0.8))
        factor += depth * 0.9 * (np.arange(beats) % phrase == phrase - 1)
        knots = np.arange(0, beats + 16, 16)
        slow = np.interp(np.arange(beats), knots, self.random.normal(0, 0.03, beats // 16 + 2)[: len(knots)])
        return np.asarray(factor * np.exp(slow))

    def _tempo_changes(self, firsts: NDArray[np.intp], beats: int) -> NDArray[np.float64]:
        """Factors of the beats' lengths: two changes at sections, the second one reached over its four last bars."""
        factor = np.ones(beats)
        inner = firsts[1:-1]
        where = sorted(int(first) for first in self.random.choice(inner, size=min(2, len(inner)), replace=False))
        current = 1.0
        for k, first in enumerate(where):
            change = float(np.exp(self.random.uniform(0.1, 0.28)))
            faster = 60 < self.bpm * current * change < 165 and (self.random.random() < 0.6 or self.bpm * current < 84)
            following = current / change if faster else current * change
            if k:
                ramp = 2 * self.per_bar
                factor[first - ramp : first] = current * (following / current) ** (np.arange(ramp) / ramp)
            factor[first:] = following
            current = following
        return factor

    # style

    def _style(self, letter: str) -> _Style:
        random = self.random
        density = {"I": int(random.integers(0, 2)), "V": 1, "C": 2, "B": int(random.integers(0, 2)), "O": 1}[letter]
        comp = {"I": "piano", "V": "guitar", "C": "organ", "B": "pad", "O": "piano"}[letter]
        if random.random() < 0.4:
            comp = str(random.choice(["piano", "guitar", "organ"]))
        figure = str(random.choice(["arpeggio", "strum", "offbeat"])) if letter != "B" else "held"
        if self.meter != "4/4" and figure == "offbeat":
            figure = "arpeggio" if self.meter == "6/8" else "waltz"
        if self.band == "acoustic":
            density, comp = 0, str(random.choice(["guitar", "piano"]))
        bass = "none" if letter == "I" and density == 0 else str(random.choice(["roots", "eighths", "walk"]))
        if figure == "offbeat" and (density == 0 or bass == "none"):
            figure = "strum"  # chords between the beats need somebody on them
        if self.wish.kind == "rubato":
            density, comp, bass = 0, ("pad" if letter == "B" else "piano"), "roots"
            figure = "strum" if letter == "C" else "arpeggio"
        return _Style(
            chords=PROGRESSIONS[int(random.integers(len(PROGRESSIONS)))],
            density=density,
            hats=int(random.choice([1, 2, 2, 4])) if self.division == 2 else 3,
            kick=self._kick(),
            comp=comp,
            figure=figure,
            bass=bass,
            sung=self.wish.voice and letter in "VCB" and not (letter == "B" and random.random() < 0.4),
            register={"C": 5, "B": 2}.get(letter, 0),
            loudness={"I": 0.6, "V": 0.75, "C": 1.0, "B": 0.7, "O": 0.6}[letter],
            bars_per_chord=2 if random.random() < 0.15 else 1,
            melody=self._melody(letter),
        )

    def _varied(self, style: _Style) -> _Style:
        """The same once more: fuller, or with another accompaniment and a second melody."""
        comp = "organ" if style.comp != "organ" else "guitar"
        if self.wish.kind == "rubato":
            return _replaced(
                style, register=style.register + 7, figure="strum" if style.figure != "strum" else "arpeggio"
            )
        density = min(2, style.density + 1)
        return _replaced(style, density=density, comp=comp, bass="eighths", melody=self._melody("V"))

    def _kick(self) -> tuple[float, ...]:
        if self.meter == "4/4" and self.band == "dance":
            return (0, 1, 2, 3)
        if self.meter == "4/4":
            patterns: tuple[tuple[float, ...], ...] = (
                (0, 2),
                (0, 2, 2.5),
                (0, 1.5, 2),
                (0, 1, 2, 3),
                (0, 2.5),
                (0, 0.5, 2),
            )
        elif self.meter == "3/4":
            patterns = ((0,), (0, 2.5), (0, 1.5))
        else:
            patterns = ((0,), (0, 5 / 3), (0, 2 / 3))
        return patterns[int(self.random.integers(len(patterns)))]

    def _melody(self, letter: str) -> tuple[tuple[float, float, int], ...]:
        """Notes of a phrase of two bars: it begins near a downbeat and leaves room for breath."""
        step = 1 / self.division
        length = 2 * self.per_bar
        at, degree = float(self.random.choice([0.0, 0.0, step, 2 * step])), int(self.random.integers(0, 5))
        notes = []
        while at < length - (1.0 if letter == "C" else 1.5):
            span = float(
                self.random.choice(
                    [step, 2 * step, 2 * step, 3 * step] if letter != "C" else [step, 2 * step, 4 * step]
                )
            )
            span = min(span, length - at)
            notes.append((at, span, degree))
            degree = int(np.clip(degree + self.random.integers(-2, 3), -3, 7))
            at += span
        return tuple(notes)

    # playing

    def _play_bar(
        self, style: _Style, grid: NDArray[np.float64], bar: int, k: int, bars: int, cut: float | None
    ) -> None:
        """The notes of bar `bar`, the `k`-th of its section; before a silence they end at `cut`."""
        begin = bar * self.per_bar
        times = grid[begin : begin + self.per_bar + 1].copy()
        if cut is not None and k == bars - 1:
            times[-1] = cut

        def at(beat: float) -> float:
            if self.swing and abs(beat % 1 - 0.5) < 0.01:
                beat += self.swing
            return float(np.interp(beat, np.arange(self.per_bar + 1), times))

        degree = style.chords[k // style.bars_per_chord % 4]
        chord = self._chord(degree)
        if style.density:
            self._drums(style, at, fill=k == bars - 1 and self.random.random() < 0.7)
        self._bass(style, at, chord[0])
        self._comp(style, at, chord)
        if style.sung and k % 2 == 0 and not (k == bars - 2 and bars % 2):
            later = grid[begin : begin + 2 * self.per_bar + 1]
            if len(later) > 2 * self.per_bar or k + 1 < bars:
                if cut is not None and k + 1 == bars - 1:
                    later = np.append(later[:-1], cut)
                self._sing(style, later, degree)

    def _chord(self, degree: int) -> tuple[int, int, int]:
        root, third, fifth = (self._pitch(degree + step) for step in (0, 2, 4))
        return root, third, fifth

    def _pitch(self, degree: int) -> int:
        return self.key + 12 * (degree // 7) + self.scale[degree % 7]

    def _note(
        self, part: str, start: float, seconds: float, pitch: float = 0, loudness: float = 1.0, sound: int = 0
    ) -> None:
        late = self.random.normal(0, 0.008) if self.wish.kind == "live" else self.random.normal(0, 0.0015)
        touch = float(np.exp(self.random.normal(0, 0.12)))
        start = max(0.0, start + float(np.clip(late, -0.02, 0.02)))
        self.notes.append(
            Note(
                part=part, start=start, seconds=max(seconds, 0.05), pitch=pitch, loudness=loudness * touch, sound=sound
            )
        )

    def _drums(self, style: _Style, at: Any, *, fill: bool) -> None:
        loud = style.loudness * (1.0 if style.density == 2 else 0.7)
        for beat in style.kick:
            self._note("kick", at(beat), 0.4, loudness=loud * (1.0 if beat == 0 else 0.85))
        backbeats = {"4/4": (1, 3), "3/4": (1, 2), "6/8": (1,)}[self.meter]
        for beat in backbeats:
            if self.meter == "3/4" and style.density < 2:
                self._note("rim", at(beat), 0.1, loudness=0.5 * loud)
            else:
                self._note(
                    "snare" if style.density == 2 else "rim",
                    at(beat),
                    0.3,
                    loudness=loud * (0.6 if self.meter == "3/4" else 0.9),
                )
        for beat in np.arange(0, self.per_bar, 1 / style.hats):
            on = abs(beat % 1) < 0.01
            self._note(
                "ride" if style.density == 2 and style.hats < 3 else "hat",
                at(float(beat)),
                0.1,
                loudness=loud * (0.5 if on else 0.3),
            )
        if fill:
            step = 0.25 if self.division == 2 else 1 / 3
            for beat in np.arange(self.per_bar - 1, self.per_bar - 0.01, step):
                self._note("tom", at(float(beat)), 0.3, loudness=0.8 * loud, pitch=50 - 8 * (beat % 1))

    def _bass(self, style: _Style, at: Any, root: int) -> None:
        if style.bass == "none":
            return
        low = root - 12 if root - 12 >= 36 else root
        low -= 12 if low > 47 else 0
        if style.bass == "eighths":
            for beat in np.arange(0, self.per_bar, 1 / self.division):
                self._note(
                    "bass",
                    at(float(beat)),
                    0.9 * (at(float(beat) + 1 / self.division) - at(float(beat))),
                    low,
                    0.8 if beat else 1.0,
                )
            return
        steps = [(0.0, 0)] if self.meter != "4/4" else [(0.0, 0), (2.0, 0)]
        if style.bass == "walk":
            steps = [(float(beat), (0, 7, 12, 7)[beat % 4]) for beat in range(self.per_bar)]
        for index, (beat, interval) in enumerate(steps):
            until = steps[index + 1][0] if index + 1 < len(steps) else self.per_bar
            self._note("bass", at(beat), 0.92 * (at(until) - at(beat)), low + interval, 1.0 if index == 0 else 0.8)

    def _comp(self, style: _Style, at: Any, chord: tuple[int, int, int]) -> None:
        """Accompany: chords held, in arpeggios, or struck."""
        voicing = [pitch + 12 if pitch < 55 else pitch for pitch in chord]
        loud = 0.6 * style.loudness
        if style.comp == "pad" or style.figure == "held":
            self._hold(at, voicing, loud)
        if style.figure == "held" and self.wish.kind != "rubato":
            for beat in range(self.per_bar):
                length = 0.9 * (at(beat + 1) - at(beat))
                self._note("piano", at(beat), length, voicing[beat % 3] + 12, 0.5 * loud)
        elif style.figure == "arpeggio" or style.comp == "pad":
            self._arpeggio("piano" if style.comp == "pad" else style.comp, at, voicing, loud)
        else:
            self._strike(style, at, voicing, loud)

    def _hold(self, at: Any, voicing: list[int], loud: float) -> None:
        for pitch in voicing:
            self._note("pad", at(0), at(self.per_bar) - at(0), pitch, loud)

    def _arpeggio(self, part: str, at: Any, voicing: list[int], loud: float) -> None:
        order, step = (0, 1, 2, 1, 0, 2, 1, 2), 1 / self.division
        for index in range(self.per_bar * self.division):
            accent = 1.3 if index == 0 else 1.1 if index % self.division == 0 else 0.8
            pitch = voicing[order[index % 8]] + (0 if index % 4 < 3 else 12)
            start = at(index * step)
            self._note(part, start, 1.6 * (at((index + 1) * step) - start), pitch, loud * accent)

    def _strike(self, style: _Style, at: Any, voicing: list[int], loud: float) -> None:
        if style.figure == "waltz":
            beats = [1.0, 2.0]
        elif style.figure == "offbeat":
            beats = [beat + 0.5 for beat in range(self.per_bar)]
        else:
            beats = [float(beat) for beat in range(self.per_bar)]
            beats += [self.per_bar - 0.5] if self.division == 2 and self.random.random() < 0.5 else []
        for beat in sorted(beats):
            length = 0.8 * (at(min(beat + 1, self.per_bar)) - at(beat))
            for k, pitch in enumerate(voicing):
                late = 0.008 * k if style.comp == "guitar" else 0.0
                self._note(style.comp, at(beat) + late, length, pitch, loud * (1.15 if beat == 0 else 0.9))

    def _sing(self, style: _Style, times: NDArray[np.float64], degree: int) -> None:
        positions = np.arange(len(times))
        for start, span, step in style.melody:
            if start + span > len(times) - 1:
                return
            begin, stop = (float(np.interp(beat, positions, times)) for beat in (start, start + span))
            pitch = self._pitch(degree % 3 + step) + 12 + style.register
            self._note("voice", begin, 0.97 * (stop - begin), pitch, style.loudness, int(self.random.integers(5)))

    def _ending(self, style: _Style, last: float) -> None:
        for pitch in self._chord(0):
            self._note("piano", last, 2.2, pitch + 12 if pitch < 55 else pitch, 0.7)
        if style.density:
            self._note("kick", last, 0.4, loudness=0.8)
            self._note("crash", last, 1.8, loudness=0.4)
        if style.bass != "none":
            self._note("bass", last, 2.0, self.key - 12, 0.9)


def _replaced(style: _Style, **changes: Any) -> _Style:
    return _Style(**(vars(style) | changes))


def _inside(beat: float, silences: list[tuple[float, float]]) -> bool:
    return any(start - 1e-6 <= beat < stop - 1e-6 for start, stop in silences)


def _named(
    sections: list[tuple[float, float, str]], seconds: float, silences: list[tuple[float, float]]
) -> list[dict[str, Any]]:
    """Sections with names; silences before the first and between two belong to the section before, or are their own."""
    letters: dict[str, str] = {}
    found: list[dict[str, Any]] = []
    for index, (start, stop, letter) in enumerate(sections):
        gap = next((gap for gap in silences if index and abs(gap[1] - start) < 1e-6), None)
        if gap is not None:
            found[-1]["stop"] = round(float(gap[0]), 4)
            found.append({"start": round(gap[0], 4), "stop": round(gap[1], 4), "letter": "", "role": "silence"})
        named = letters.setdefault(letter, "ABCDEFG"[len(letters)])
        found.append(
            {"start": round(float(start), 4), "stop": round(float(stop), 4), "letter": named, "role": ROLES[letter]}
        )
    found[0]["start"] = 0.0
    found[-1]["stop"] = round(seconds, 4)
    return found
