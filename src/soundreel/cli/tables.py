"""Facts and tables as lines of text: as wide as they are in a pipe, laid out anew where a terminal is too narrow.

Widths are columns of a terminal; a letter may take two of them.
"""

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Final

from rich.cells import cell_len

GAP: Final = "  "
"""Between two columns, and before what belongs to the line above."""

VALUE_COLUMNS: Final = 24
"""Where fewer are left beside the names of facts, their values stand below them."""

NUMBER: Final = re.compile(r"[\d.,:/]+")


def fact_lines(rows: Sequence[tuple[str, str]], width: int | None, *, most: int | None = None) -> Iterator[str]:
    """Names and values, wrapped at `width`; None: not at all.

    Args:
        most: columns for names; longer ones have their value below. None: as many as the longest one has.
    """
    longest = max((size for name, _ in rows if (size := cell_len(name)) <= (most or size)), default=0)
    left = None if width is None else width - longest - len(GAP)
    for name, value in rows:
        if left is None:
            yield f"{_filled(name, longest)}{GAP}{value}"
        elif left < VALUE_COLUMNS:
            yield from _name_lines(name, width or 0)
            yield from (GAP + part for part in wrapped(value, longest + left))
        elif cell_len(name) > longest:
            yield from _name_lines(name, width or 0)
            yield from (" " * longest + GAP + part for part in wrapped(value, left))
        else:
            beside = zip_longest([name], wrapped(value, left), fillvalue="")
            yield from (f"{_filled(label, longest)}{GAP}{part}".rstrip() for label, part in beside)


def _name_lines(name: str, width: int) -> Iterator[str]:
    """A name between its words; an option is never divided."""
    for line in textwrap.wrap(name, width, break_long_words=False, break_on_hyphens=False):
        yield from [line] if line.startswith("-") else wrapped(line, width)


def table_lines(
    columns: Sequence[str], cells: Sequence[Sequence[str]], below: Sequence[str], width: int | None
) -> Iterator[str]:
    """A heading and rows; where they are wider than `width`, each row as a sentence.

    Args:
        below: for each row a line of its own below it, never wrapped; (): there are none.
    """
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    is_number = [all(NUMBER.fullmatch(cell) for cell in column) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        return GAP.join(_filled(*cell) for cell in zip(row, widths, is_number, strict=True)).rstrip()

    is_too_wide = width is not None and max(map(cell_len, map(line, [columns, *cells]))) > width
    if not is_too_wide:
        yield line(columns)
    for row, after in zip_longest(cells, below, fillvalue=""):
        if width is not None and is_too_wide:
            first, *more = wrapped(_sentence(columns, row), width - len(GAP))
            yield from (first, *(GAP + part for part in more))
        else:
            yield line(row)
        if after:
            yield GAP + after


def _sentence(columns: Sequence[str], row: Sequence[str]) -> str:
    """`clip 1, frames 65, …`; empty cells are left out."""
    return ", ".join(f"{column} {cell}".strip() for column, cell in zip(columns, row, strict=True) if cell)


def _filled(text: str, width: int, is_number: bool = False) -> str:
    room = " " * (width - cell_len(text))
    return room + text if is_number else text + room


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text between words; words that are wider are divided."""
    from rich.console import Console
    from rich.text import Text

    lines = Text(text).wrap(Console(width=width), width, overflow="fold")
    return [line.plain.rstrip() for line in lines] or [""]
