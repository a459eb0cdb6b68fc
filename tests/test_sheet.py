"""The sheet: a song and its shots as one picture."""

import dataclasses
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from soundreel.analysis import Role, Section, Song, Span
from soundreel.analysis.hearing import NOTHING
from soundreel.analysis.song import ENERGY_RATE
from soundreel.sheet import Score, SheetShot, SongSheet, draw_sheet
from soundreel.sheet.drawing import HEAD, Lanes
from soundreel.sheet.layout import MOST_LINES, WIDTH, Layout
from soundreel.sheet.peaks import PEAKS_PER_SECOND
from soundreel.sheet.shots import LEAST_NAME
from soundreel.sheet.style import VOICE, WEAK, score_colour, section_colour
from soundreel.sheet.words import fitted, plain, wrapped

MAGENTA, CYAN = (255, 0, 255), (0, 255, 255)


def song_of(seconds: float) -> Song:
    """A verse and a chorus by turns every 20 s, a beat every half second, a voice in every chorus."""
    edges = [*np.arange(0, seconds, 20.0).tolist(), seconds]
    sections = tuple(
        Section(
            start=start,
            stop=stop,
            letter="AB"[k % 2],
            role=(Role.VERSE, Role.CHORUS)[k % 2],
            number=k // 2 + 1,
            confidence=1.0,
            energy=(0.4, 0.9)[k % 2],
            voiced=float(k % 2),
        )
        for k, (start, stop) in enumerate(pairwise(edges))
    )
    return dataclasses.replace(
        NOTHING,
        seconds=seconds,
        beats=tuple(np.arange(0, seconds, 0.5).tolist()),
        downbeats=tuple(np.arange(0, seconds, 2.0).tolist()),
        sections=sections,
        energy=np.full(round(seconds * ENERGY_RATE), 0.7, np.float32),
        voice=tuple(Span(start=section.start, stop=section.stop) for section in sections[1::2]),
    )


def sheet_of(seconds: float = 60.0, shots: tuple[SheetShot, ...] = ()) -> SongSheet:
    ones = np.ones(round(seconds * PEAKS_PER_SECOND), np.float32)
    peaks = np.stack([-ones, ones], axis=1)
    return SongSheet(title="song.flac", seconds=seconds, song=song_of(seconds), peaks=peaks, shots=shots)


def shots_of(cuts: list[float], **fields: object) -> tuple[SheetShot, ...]:
    return tuple(
        SheetShot(**{"name": f"shot-{k + 1}", "start": start, "stop": stop, **fields})
        for k, (start, stop) in enumerate(pairwise(cuts))
    )


def share_of(image: Image.Image, colour: tuple[int, int, int], box: tuple[int, int, int, int]) -> float:
    """Of the pixels in a part of a picture that have a colour."""
    return float((np.asarray(image.crop(box)) == colour).all(axis=-1).mean())


def boxes(sheet: SongSheet, lane: str, start: float, stop: float) -> Iterator[tuple[int, int, int, int]]:
    """Where a lane shows a stretch of time, in each line that has some of it."""
    layout = Layout.of(sheet)
    lanes = Lanes.of(sheet, layout)
    above = sum(height for name, height in list(vars(lanes).items())[: list(vars(lanes)).index(lane)])
    for number, line in enumerate(layout.lines):
        top = HEAD + number * lanes.height + above
        if line.holds(start, stop):
            yield line.x(start), top, line.x(stop), top + getattr(lanes, lane)


# Where things lie


@pytest.mark.parametrize("seconds", [0.5, 3.0, 60.0, 3600.0])
@pytest.mark.parametrize("count", [0, 1, 12, 2000])
def test_every_moment_lies_in_one_line(seconds: float, count: int) -> None:
    cuts = np.linspace(0, seconds, count + 1).tolist()
    layout = Layout.of(sheet_of(seconds, shots_of(cuts) if count else ()))
    lines = layout.lines
    assert lines[0].start == 0
    assert lines[-1].stop == pytest.approx(seconds)
    assert all(before.stop == pytest.approx(after.start) for before, after in pairwise(lines))
    assert len(lines) <= MOST_LINES + 1
    for line in lines:
        columns = [line.x(second) for second in np.linspace(line.start, line.stop, 50)]
        assert (np.diff(columns) >= 0).all()


def test_two_thousand_shots_of_an_hour_have_room_for_their_numbers() -> None:
    sheet = sheet_of(3600.0, shots_of(np.linspace(0, 3600, 2001).tolist()))
    line = Layout.of(sheet).lines[7]
    assert line.x(line.start + 1.8) - line.x(line.start) >= LEAST_NAME


# What is drawn


def test_voice_and_sections_are_where_they_are_heard() -> None:
    sheet = sheet_of()
    image = draw_sheet(sheet)
    verse, chorus = sheet.song.sections[:2]
    for section, voiced in ((verse, False), (chorus, True)):
        inside = section.start + 0.3, section.stop - 0.3
        (voice,), (sound,) = list(boxes(sheet, "voice", *inside)), list(boxes(sheet, "sound", *inside))
        assert (share_of(image, VOICE, voice) > 0.5) is voiced
        assert share_of(image, section_colour(section), sound) > 0.5


def test_shots_are_seen_where_they_are() -> None:
    first, second = (Image.new("RGB", (60, 104), colour) for colour in (MAGENTA, CYAN))
    shots = tuple(
        dataclasses.replace(shot, pictures=(picture,) * 2)
        for shot, picture in zip(shots_of([0.0, 25.0, 60.0]), (first, second), strict=True)
    )
    sheet = sheet_of(shots=shots)
    image = draw_sheet(sheet)
    for shot, own, other in ((shots[0], MAGENTA, CYAN), (shots[1], CYAN, MAGENTA)):
        for box in boxes(sheet, "pictures", shot.start, shot.stop):
            assert share_of(image, own, box) > 0.9
            assert share_of(image, other, box) == 0


def test_scores_and_weak_shots_stand_out() -> None:
    shots = shots_of([0.0, 30.0, 60.0], scores={"beat": Score(value=0.6, goodness=0.9)})
    shots = (shots[0], dataclasses.replace(shots[1], is_weak=True, scores={"beat": Score(value=0.2, goodness=0.1)}))
    sheet = sheet_of(shots=shots)
    image = draw_sheet(sheet)
    good, weak = (next(boxes(sheet, "scores", shot.start, shot.stop)) for shot in shots)
    assert share_of(image, score_colour(0.9), good) > share_of(image, score_colour(0.1), good) == 0
    assert share_of(image, score_colour(0.1), weak) > 0
    frames = [next(boxes(sheet, "pictures", shot.start, shot.stop)) for shot in shots]
    assert share_of(image, WEAK, frames[0]) == 0 < share_of(image, WEAK, frames[1])


@pytest.mark.parametrize("start", [14.0, 19.0, 19.9, 20.0])
def test_words_of_a_shot_stand_in_one_line(start: float) -> None:
    """Where a line ends soon after the beginning of a shot, they are below its other part."""
    shots = tuple(
        dataclasses.replace(shot, scores={"beat": Score(value=0.5, goodness=k == 1)})
        for k, shot in enumerate(shots_of([0.0, start, start + 6, start + 12, 60.0]))
    )
    sheet = sheet_of(shots=shots)
    image, colour = draw_sheet(sheet), score_colour(1.0)
    found = [share_of(image, colour, box) > 0 for box in boxes(sheet, "scores", start, start + 6)]
    assert found.count(True) == 1


def test_lanes_without_contents_take_no_room() -> None:
    plain, full = sheet_of(shots=shots_of([0.0, 60.0])), sheet_of(shots=shots_of([0.0, 60.0], prompt="rain"))
    assert draw_sheet(sheet_of()).height < draw_sheet(plain).height < draw_sheet(full).height


def test_a_song_of_nothing_is_drawn() -> None:
    sheet = dataclasses.replace(sheet_of(0.1, shots_of([0.0, 0.1])), song=NOTHING, peaks=np.zeros((0, 2), np.float32))
    assert draw_sheet(sheet).width == draw_sheet(sheet_of()).width


# Words


@pytest.mark.parametrize("width", [0, 5, 40, 90, 4000])
def test_words_are_fitted(width: int) -> None:
    words = "a singer under violet light, ünïcödé and 日本"
    shown = fitted(words, 13, width)
    assert shown.width <= width
    assert shown.text == words if width == 4000 else shown.text == "" or shown.text.endswith("…")
    lines = wrapped(words, 13, width, 2)
    assert len(lines) <= 2
    assert all(line.width <= width for line in lines)


def test_what_cannot_be_seen_is_not_drawn() -> None:
    assert plain(" a\nb\t\x1b[31mc\u202e ") == "a b [31mc"
    shots = shots_of([0.0, 60.0], name="two\nlines\x00", prompt="three\nlines\r\nof words")
    assert draw_sheet(dataclasses.replace(sheet_of(shots=shots), title="a\nb", facts="\n")).width == WIDTH
