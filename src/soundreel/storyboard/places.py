"""On which line of a TOML file each key stands: what tomllib does not tell."""

import re
from collections.abc import Iterator
from typing import Final

Place = tuple[str | int, ...]
"""A key in the data: `("shot", 2, "start")`."""

HEADER: Final = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
KEY: Final = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
LONG_QUOTES: Final = ('"""', "'''")
OPENING: Final = re.compile("|".join((*LONG_QUOTES, '"', "'")))
CLOSING: Final = {
    '"""': re.compile(r'(?:\\.|[^\\])*?"""'),
    "'''": re.compile(r".*?'''"),
    '"': re.compile(r'(?:\\.|[^"\\])*"'),
    "'": re.compile(r"[^']*'"),
}
"""What ends a text, by what begins it; in some of them a backslash makes the next character a part of it."""


def lines_of_keys(text: str) -> dict[Place, int]:
    """The line, from 1, of every table and key in a text that is TOML. Keys in inline tables have none of their own."""
    lines: dict[Place, int] = {}
    counts: dict[Place, int] = {}
    table: Place = ()
    for number, line in _lines_that_begin_something(text):
        if header := HEADER.match(line):
            name: Place = tuple(_parts(header[2]))
            if header[1] == "[[":
                counts[name] = counts.get(name, -1) + 1
                table = (*name, counts[name])
            else:
                table = _inside(name, counts)
            lines.setdefault(table, number)
        elif key := KEY.match(line):
            parts = _parts(key[1])
            for end in range(1, len(parts) + 1):
                lines.setdefault((*table, *parts[:end]), number)
    return lines


def _inside(name: Place, counts: dict[Place, int]) -> Place:
    """A table's place: `[shot.x]` lies in the last `[[shot]]`."""
    place: Place = ()
    for end in range(1, len(name) + 1):
        place = (*place, name[end - 1])
        if name[:end] in counts:
            place = (*place, counts[name[:end]])
    return place


def _parts(dotted: str) -> list[str]:
    found = re.findall(r"[\w-]+|\"[^\"]*\"|'[^']*'", dotted)
    return [part.strip("\"'") for part in found]


def _lines_that_begin_something(text: str) -> Iterator[tuple[int, str]]:
    """Lines, with their numbers from 1, that do not go on with a text or a list of the line before."""
    depth, quote = 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        is_header = False
        if not quote and depth == 0:
            yield number, line
            is_header = HEADER.match(line) is not None
        if not is_header:
            depth, quote = _after(line, depth, quote)


def _after(line: str, depth: int, quote: str) -> tuple[int, str]:
    """How many brackets are open at the end of a line, and the quotes of a text that goes on, from those before it."""
    rest = line
    while rest:
        if quote:
            end = CLOSING[quote].match(rest)
            if end is None:
                return depth, quote if quote in LONG_QUOTES else ""
            rest, quote = rest[end.end() :], ""
        elif mark := OPENING.match(rest):
            rest, quote = rest[mark.end() :], mark[0]
        elif rest[0] == "#":
            break
        else:
            depth += (rest[0] in "[{") - (rest[0] in "]}")
            rest = rest[1:]
    return max(0, depth), quote if quote in LONG_QUOTES else ""
