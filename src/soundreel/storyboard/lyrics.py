"""Lyrics with times, as .lrc and .srt files have them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from soundreel.errors import InputError
from soundreel.media.files import check_file, reason

ENDINGS: Final = (".lrc", ".srt")

LRC_TIME: Final = re.compile(r"\[(\d+):(\d{1,2}(?:[.:]\d{1,3})?)\]")
LRC_OFFSET: Final = re.compile(r"\[offset:\s*([+-]?\d+)\s*\]", re.IGNORECASE)
SRT_TIMES: Final = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d{1,3})\s*-->\s*(\d+):(\d\d):(\d\d)[,.](\d{1,3})")
TAGS: Final = re.compile(r"<[^>]*>|\{\\[^}]*\}")


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a song, and when it is begun."""

    start: float  # seconds
    text: str


def lyrics_beside(song: Path) -> Path | None:
    """The lyrics file that has the song's name; None where there is none."""
    return next((path for ending in ENDINGS if (path := song.with_suffix(ending)).is_file()), None)


def read_lyrics(path: Path) -> tuple[Line, ...]:
    """The lines of a file, by their times.

    Raises:
        InputError: it is not there, or no line in it has a time.
    """
    check_file(path, "lyrics")
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read lyrics {str(path)!r}: {reason(error)}") from error
    lines = _of_srt(text) if path.suffix.lower() == ".srt" else _of_lrc(text)
    if not lines:
        raise InputError(f"lyrics {str(path)!r} have no line with a time: expected a file of LRC or SRT")
    return tuple(sorted(lines, key=lambda line: line.start))


def lines_between(lines: Sequence[Line], start: float, stop: float) -> list[str]:
    """The lines that are begun in a stretch of time."""
    return [line.text for line in lines if start <= line.start < stop]


def _of_lrc(text: str) -> list[Line]:
    shift = LRC_OFFSET.search(text)
    earlier = int(shift[1]) / 1000 if shift else 0.0  # a positive offset lets lines come sooner
    lines = []
    for row in text.splitlines():
        times = LRC_TIME.findall(row)
        words = TAGS.sub("", LRC_TIME.sub("", row)).strip()
        for minutes, seconds in times if words else ():
            at = int(minutes) * 60 + float(seconds.replace(":", "."))
            lines.append(Line(start=max(0.0, at - earlier), text=words))
    return lines


def _of_srt(text: str) -> list[Line]:
    lines = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        times = SRT_TIMES.search(block)
        if times is None:
            continue
        words = " ".join(TAGS.sub("", block[times.end() :]).split())
        hours, minutes, seconds, thousandths = times.groups()[:4]
        at = int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(thousandths.ljust(3, "0")) / 1000
        if words:
            lines.append(Line(start=at, text=words))
    return lines
