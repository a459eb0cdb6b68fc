"""Drawing a sheet: a head, and below it line by line the sound, what is heard in it, and the shots."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from soundreel.analysis.song import ENERGY_RATE
from soundreel.sheet.contents import SheetShot, SongSheet
from soundreel.sheet.layout import MARGIN, WIDTH, Layout, Line
from soundreel.sheet.peaks import PEAKS_PER_SECOND
from soundreel.sheet.shots import LEAST_WORDS, ShotBox, draw_shot
from soundreel.sheet.style import DIM, FAINT, GROUND, TEXT, VOICE, font, section_colour
from soundreel.sheet.words import fitted
from soundreel.wording.durations import clock

HEAD: Final = 100
"""Pixels of the head."""

LEAST_BEAT_GAP: Final = 5
"""Pixels between two beats, or bars, that are shown."""


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """Heights in pixels of what lies below each other in a line; 0: it is not there."""

    times: int = 20
    sections: int = 26
    sound: int = 84
    voice: int = 7
    beats: int = 13
    pictures: int = 104
    names: int = 24
    words: int = 36
    scores: int = 24
    gap: int = 34  # to the next line

    @property
    def height(self) -> int:
        """Of a line with the gap below it."""
        return sum(vars(self).values())

    @classmethod
    def of(cls, sheet: SongSheet, layout: Layout) -> "Lanes":
        """Without lanes for which there is nothing."""
        lanes = (
            cls(times=14, sections=17, sound=36, voice=5, beats=7, pictures=46, names=15, words=0, scores=14, gap=14)
            if layout.is_dense
            else cls()
        )
        if not sheet.shots:
            lanes = replace(lanes, pictures=0, names=0)
        if not any(shot.prompt for shot in sheet.shots):
            lanes = replace(lanes, words=0)
        if not any(shot.scores for shot in sheet.shots):
            lanes = replace(lanes, scores=0)
        return lanes


def draw_sheet(sheet: SongSheet) -> Image.Image:
    """The sheet as a picture, RGB."""
    layout = Layout.of(sheet)
    lanes = Lanes.of(sheet, layout)
    image = Image.new("RGB", (WIDTH, HEAD + len(layout.lines) * lanes.height + MARGIN // 2), GROUND)
    _draw_head(image, sheet)
    for number, line in enumerate(layout.lines):
        _Pen(image, sheet, layout, lanes, line, HEAD + number * lanes.height).draw()
    return image


def _draw_head(image: Image.Image, sheet: SongSheet) -> None:
    draw = ImageDraw.Draw(image)
    title = fitted(sheet.title, 30, WIDTH - 2 * MARGIN)
    draw.text((MARGIN, 26), title.text, TEXT, title.font)
    facts = fitted(sheet.facts, 16, _draw_legend(draw) - MARGIN - 20)
    draw.text((MARGIN, 66), facts.text, DIM, facts.font)


def _draw_legend(draw: ImageDraw.ImageDraw) -> int:
    """What lines and strokes mean, from the right edge; returns the column at which it begins."""
    at, row = WIDTH - MARGIN, 76
    for words, colour in (("bars and beats", DIM), ("voice", VOICE), ("energy", TEXT)):
        at -= round(font(13).getlength(words))
        draw.text((at, row), words, DIM, font(13), anchor="lm")
        at -= 26
        if words == "voice":
            draw.rounded_rectangle((at, row - 2, at + 18, row + 2), 2, colour)
        elif words == "energy":
            draw.line([(at, row + 3), (at + 6, row - 3), (at + 12, row + 1), (at + 18, row - 2)], colour, 2)
        else:
            for stroke, length in ((0, 9), (6, 4), (12, 4), (18, 9)):
                draw.line((at + stroke, row - 4, at + stroke, row - 4 + length), TEXT if length > 5 else DIM)
        at -= 22
    return at


class _Pen:
    """Draws one line of a sheet, which begins at row `top`."""

    def __init__(
        self, image: Image.Image, sheet: SongSheet, layout: Layout, lanes: Lanes, line: Line, top: int
    ) -> None:
        self.image, self.draw_on = image, ImageDraw.Draw(image)
        self.sheet, self.layout, self.lanes, self.line = sheet, layout, lanes, line
        heights = list(vars(lanes).values())
        self.rows = {name: top + sum(heights[:k]) for k, name in enumerate(vars(lanes))}

    def draw(self) -> None:
        """All lanes of it."""
        self._draw_times()
        self._draw_sections()
        self._draw_sound()
        self._draw_energy()
        self._draw_voice()
        self._draw_beats()
        for number, shot in enumerate(self.sheet.shots):
            if self.line.holds(shot.start, shot.stop):
                self._draw_shot(number, shot)

    def _small(self) -> int:
        """Size of small type."""
        return 10 if self.layout.is_dense else 13

    def _draw_times(self) -> None:
        row, below = self.rows["times"], self.rows["pictures"]
        marks = list(self.layout.marks(self.line))
        is_fine = len(marks) > 1 and marks[1] - marks[0] < 1
        for second in marks:
            column = self.line.x(second)
            self.draw_on.line((column, row + self.lanes.times - 4, column, below), FAINT)
            if column > WIDTH - MARGIN - 3 * self._small():
                continue
            at = self.sheet.start + second
            words = f"{clock(int(at))}{at % 1:.1f}".replace("0.", ".") if is_fine else clock(at)
            self.draw_on.text((column + 3, row - 1), words, DIM, font(self._small() - 1))

    def _draw_sections(self) -> None:
        top, bottom = self.rows["sections"], self.rows["sections"] + self.lanes.sections - 4
        for section in self.sheet.song.sections:
            if not self.line.holds(section.start, section.stop):
                continue
            left, right = self.line.x(section.start) + 1, self.line.x(section.stop) - 2
            self.draw_on.rounded_rectangle((left, top, max(left, right), bottom), 4, section_colour(section, -0.16))
            words = section.name.replace("-", " ")
            if section.letter and right - left > 90:
                words += f" · {section.letter}"
            size = self._small() + (0 if self.layout.is_dense else 1)
            shown = fitted(words, size, right - left - 14)
            self.draw_on.text((left + 8, (top + bottom) / 2), shown.text, TEXT, shown.font, anchor="lm")

    def _draw_sound(self) -> None:
        """The outline of the sound, a column for each pixel, in the colours of the sections."""
        top, height = self.rows["sound"], self.lanes.sound - 6
        middle, half = top + height // 2, height / 2
        columns = range(self.line.x(self.line.start), self.line.x(self.line.stop))
        seconds = np.linspace(self.line.start, self.line.stop, len(columns) + 1)
        edges = np.round(seconds * PEAKS_PER_SECOND).astype(int)
        colours = {section: section_colour(section) for section in self.sheet.song.sections}
        for column, (first, last), second in zip(columns, pairwise(edges.tolist()), seconds, strict=False):
            part = self.sheet.peaks[first : max(last, first + 1)]
            if not len(part):
                continue
            low, high = float(part[:, 0].min()), float(part[:, 1].max())
            colour = colours[self.sheet.song.section_at(float(second))] if colours else DIM
            self.draw_on.line((column, round(middle - half * high), column, round(middle - half * low)), colour)

    def _draw_energy(self) -> None:
        """A fine line over the sound: how strong the song is."""
        energy, top, height = self.sheet.song.energy, self.rows["sound"], self.lanes.sound - 6
        first, last = int(self.line.start * ENERGY_RATE), int(self.line.stop * ENERGY_RATE) + 1
        step = max(1, (last - first) // 700)
        points = [
            (self.line.x((first + k) / ENERGY_RATE), round(top + height * (1 - 0.96 * float(value))))
            for k, value in enumerate(energy[first:last])
            if k % step == 0
        ]
        if len(points) > 1:
            self.draw_on.line(points, TEXT, 1 if self.layout.is_dense else 2, joint="curve")

    def _draw_voice(self) -> None:
        top, height = self.rows["voice"], self.lanes.voice - 2
        middle = top + height // 2
        self.draw_on.line((self.line.x(self.line.start), middle, self.line.x(self.line.stop), middle), FAINT)
        for span in self.sheet.song.voice:
            if self.line.holds(span.start, span.stop):
                left, right = self.line.x(span.start), self.line.x(span.stop)
                self.draw_on.rounded_rectangle((left, top, max(left + 1, right), top + height), height // 2, VOICE)

    def _draw_beats(self) -> None:
        """Beats as short strokes and bars as long ones, as far as there is room for them."""
        top, height = self.rows["beats"] + 2, self.lanes.beats - 4
        song = self.sheet.song
        for times, length, colour in ((song.beats, height // 2, DIM), (song.downbeats, height, TEXT)):
            inside = [second for second in times if self.line.start <= second < self.line.stop]
            columns = [self.line.x(second) for second in inside]
            if len(columns) > 1 and (columns[-1] - columns[0]) / (len(columns) - 1) < LEAST_BEAT_GAP:
                continue
            for column in columns:
                self.draw_on.line((column, top, column, top + length), colour)

    def _is_home(self, shot: SheetShot) -> bool:
        """Whether words of a shot stand in this line: where it begins, unless there is more room in the next one."""
        room = LEAST_WORDS / (WIDTH - 2 * MARGIN) * self.layout.line_seconds
        least = min(room, shot.seconds / 2) - 1e-6
        begins = shot.start >= self.line.start
        return self.line.stop - shot.start >= least if begins else self.line.start - shot.start < least

    def _draw_shot(self, number: int, shot: SheetShot) -> None:
        section = self.sheet.song.section_at(shot.start) if self.sheet.song.sections else None
        box = ShotBox(
            number=number,
            left=self.line.x(shot.start),
            right=self.line.x(shot.stop),
            rows=self.rows,
            begins=shot.start >= self.line.start - 1e-6,
            is_home=self._is_home(shot),
            ground=FAINT if section is None else section_colour(section, -0.30),
            type_size=self._small(),
        )
        draw_shot(self.image, shot, box)
