"""Drawing one shot of a sheet: its pictures, its name and time, its words, its scores."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from soundreel.media.image import cover
from soundreel.sheet.contents import SheetShot
from soundreel.sheet.style import DIM, GROUND, TEXT, WEAK, Rgb, font, score_colour
from soundreel.sheet.words import ELLIPSIS, fitted, wrapped

GUTTER: Final = 3
"""Pixels between two shots with a hard cut between them."""

LEAST_NAME: Final = 26
"""Pixels of a shot that has its name below it."""

WIDEST: Final = 2.2
"""Times as wide as high a picture may be cut, so that it is not repeated."""

LEAST_WORDS: Final = 70
"""Pixels of a shot that has its prompt below it."""


@dataclass(frozen=True, kw_only=True)
class ShotBox:
    """Where a line shows a shot, and what of it."""

    number: int  # from 0, for a shot without pictures
    left: int  # first column
    right: int  # the column after its last one
    rows: Mapping[str, int]  # where each lane begins; one whose next one begins in the same row is not there
    begins: bool  # the beginning of the shot is in this line
    is_home: bool  # its words stand here; else they stand in another line
    ground: Rgb  # colour where there is no picture
    type_size: int  # pixels


def draw_shot(image: Image.Image, shot: SheetShot, box: ShotBox) -> None:
    """Draw what a line shows of a shot."""
    draw = ImageDraw.Draw(image)
    rows, size = box.rows, box.type_size
    left, right = box.left + (0 if shot.continues or not box.begins else GUTTER), box.right
    if right - left < 1:
        return
    top, bottom = rows["pictures"], rows["names"] - 4
    _draw_pictures(image, shot, (left, top, right, bottom), box.ground)
    if not shot.pictures and right - left > 30:
        number = str(box.number + 1)
        draw.text(((left + right) / 2, (top + bottom) / 2), number, TEXT, font(2 * size), anchor="mm")
    if shot.is_weak:
        draw.rectangle((left, top, right - 1, bottom - 1), outline=WEAK, width=3)
    room = right - left - 4
    if not box.is_home:
        return
    if room >= LEAST_NAME:
        _draw_name(draw, shot, box.number, left, rows["names"], room, size)
    if rows["scores"] > rows["words"] and room >= LEAST_WORDS:
        for index, words in enumerate(wrapped(shot.prompt, size - 1, room, 2)):
            draw.text((left + 1, rows["words"] + index * (size + 3)), words.text, DIM, words.font)
    if rows["gap"] > rows["scores"]:
        _draw_scores(draw, shot, left, rows["scores"], room, size)


def _draw_pictures(image: Image.Image, shot: SheetShot, box: tuple[int, int, int, int], ground: Rgb) -> None:
    """As many of its pictures as fit beside each other, cut to fill the box; in very long boxes they are repeated."""
    left, top, right, bottom = box
    ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), ground)
    if not shot.pictures:
        return
    first = shot.pictures[0]
    wide = (bottom - top) * first.width / first.height
    count = max(1, round((right - left) / wide))
    if len(shot.pictures) == 1 and count > 1:
        right, count = left + round(wide), 1
    elif count > len(shot.pictures):
        count = max(len(shot.pictures), math.ceil((right - left) / (WIDEST * (bottom - top))))
    edges = np.linspace(left, right, count + 1).round().astype(int).tolist()
    for place in range(count):
        picture = shot.pictures[min(len(shot.pictures) - 1, int((place + 0.5) / count * len(shot.pictures)))]
        size = max(1, edges[place + 1] - edges[place]), bottom - top
        image.paste(Image.fromarray(cover(np.asarray(picture), *size)), (edges[place], top))


def _draw_name(
    draw: ImageDraw.ImageDraw, shot: SheetShot, number: int, left: int, row: int, room: int, size: int
) -> None:
    """Its name, or its number where that is too long, and its length."""
    name = fitted(shot.name, size + 1, room)
    if name.text.endswith(ELLIPSIS) and room < LEAST_WORDS:
        name = fitted(str(number + 1), size + 1, room)
    draw.text((left + 1, row), name.text, WEAK if shot.is_weak else TEXT, name.font)
    seconds = fitted(f"{shot.seconds:.1f} s", size - 1, room - name.width - 8)
    if not seconds.text.endswith(ELLIPSIS):
        draw.text((left + 9 + name.width, row + 2), seconds.text, DIM, seconds.font)


def _draw_scores(draw: ImageDraw.ImageDraw, shot: SheetShot, left: int, row: int, room: int, size: int) -> None:
    """A chip for each score that there is room for."""
    at = left + 1
    for name, score in shot.scores.items():
        words = f"{name} {score.value:.2f}".replace("0.", ".")
        width = font(size - 1).getlength(words) + 12
        if at + width > left + room:
            words = f"{score.value:.2f}".replace("0.", ".")
            width = font(size - 1).getlength(words) + 10
        if at + width > left + room:
            break
        draw.rounded_rectangle((at, row, at + width, row + size + 4), (size + 4) // 2, score_colour(score.goodness))
        draw.text((at + width / 2, row + (size + 4) / 2), words, GROUND, font(size - 1), anchor="mm")
        at += round(width) + 5
