"""Words as they are drawn: fitted into widths, and nothing in them but what can be seen."""

from dataclasses import dataclass
from typing import Final

from PIL import ImageFont

from soundreel.sheet.style import font

ELLIPSIS: Final = "…"


@dataclass(frozen=True)
class Words:
    """What is drawn, and with what."""

    text: str
    font: ImageFont.FreeTypeFont

    @property
    def width(self) -> float:
        """Pixels."""
        return self.font.getlength(self.text)


def plain(words: str) -> str:
    """One line, without control characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())


def fitted(words: str, size: int, width: float) -> Words:
    """As much of the words as a width in pixels holds, with an ellipsis where something is left out."""
    words = plain(words)
    typeface = font(size, words)
    return Words(_cut(words, typeface, width), typeface)


def wrapped(words: str, size: int, width: float, lines: int) -> list[Words]:
    """The words in at most so many lines of a width."""
    rest, found = plain(words).split(), list[Words]()
    typeface = font(size, words)
    while rest and len(found) < lines:
        count = len(rest)
        if len(found) < lines - 1:
            count = 1
            while count < len(rest) and typeface.getlength(" ".join(rest[: count + 1])) <= width:
                count += 1
        found.append(Words(_cut(" ".join(rest[:count]), typeface, width), typeface))
        rest = rest[count:]
    return [line for line in found if line.text]


def _cut(words: str, typeface: ImageFont.FreeTypeFont, width: float) -> str:
    if typeface.getlength(words) <= width:
        return words
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        fits = typeface.getlength(words[:middle].rstrip() + ELLIPSIS) <= width
        low, high = (middle, high) if fits else (low, middle - 1)
    return words[:low].rstrip() + ELLIPSIS if low else ""
