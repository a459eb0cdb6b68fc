"""The lines of a manifest, JSON lines or a table, as what they say: names and values, not looked at any further."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from soundreel.errors import InputError
from soundreel.media.files import check_file, reason

DELIMITERS: Final = ",;\t"
"""Of cells: spreadsheets write each of them, as their country has it."""


class RowError(Exception):
    """What is wrong in a row, as pairs of field and words."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        super().__init__(problems)
        self.problems = problems


@dataclass(frozen=True)
class Said:
    """What a row says."""

    fields: Mapping[str, Any]
    is_text: bool = False  # all of it: numbers and truth, too


Lines = Iterator[tuple[int, Callable[[], Said]]]
"""Numbers of lines, from 1, and what reads them; that may raise `RowError`."""

CheckHeading = Callable[[Sequence[str]], Iterator[tuple[str, str]]]
"""Yields names in the heading of a table and what is wrong with them."""


def read_lines(path: Path, check_heading: CheckHeading) -> Lines:
    """The rows of a manifest, those that are empty left out.

    Raises:
        InputError: it cannot be read as a whole, or its heading is wrong.
    """
    check_file(path, "manifest")
    ending = path.suffix.lower()
    if ending not in {".csv", ".tsv", ".jsonl", ".ndjson"}:
        raise InputError(f"manifest {str(path)!r}: expected a name that ends in .jsonl or .csv")
    try:
        yield from _read_csv(path, check_heading) if ending in {".csv", ".tsv"} else _read_jsonl(path)
    except UnicodeDecodeError as error:
        raise _unreadable(path, _line_of_other_bytes(path), "this is not UTF-8: save it as such") from error
    except OSError as error:
        raise InputError(f"cannot read manifest {str(path)!r}: {reason(error)}") from error


def _unreadable(path: Path, line: int, says: str) -> InputError:
    return InputError(f"manifest {str(path)!r}, line {line}: {says}")


def _line_of_other_bytes(path: Path) -> int:
    """Of a file that is not UTF-8: the line where it is not."""
    with path.open("rb") as file:
        for line, text in enumerate(file, start=1):
            try:
                text.decode()
            except UnicodeDecodeError:
                return line
    return 1


# JSON lines


def _read_jsonl(path: Path) -> Lines:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if line == 1 and text.strip() in {"[", "{"}:
                cure = "expected a row in each line (jq -c '.[]' writes a list so)"
                raise _unreadable(path, line, f"this begins a document of several lines: {cure}")
            if text.strip():
                yield line, lambda text=text: _object(text)  # type: ignore[misc]


def _object(text: str) -> Said:
    try:
        said = json.loads(text, object_pairs_hook=_once_each)
    except json.JSONDecodeError as error:
        raise RowError(("", f"this is no JSON: {error.msg} (column {error.colno})")) from None
    except (ValueError, RecursionError) as error:  # a number of too many digits, or nested too deeply
        raise RowError(("", f"this cannot be read: {error}")) from None
    if not isinstance(said, dict):
        raise RowError(("", "expected an object with the fields of a request"))
    return Said(said)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    twice = [name for name in fields if sum(other == name for other, _ in pairs) > 1]
    if twice:
        raise RowError(*((name, "it is there twice: leave one of them out") for name in twice))
    return fields


# tables


def _read_csv(path: Path, check_heading: CheckHeading) -> Lines:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        reader = csv.reader(file, delimiter=max(DELIMITERS, key=first.count), strict=True)
        rows = _cells_of(path, reader)
        heading = next((cells for _, cells in rows), [])
        names = [name.strip() for name in heading]
        wrong = [f"{name}: {says}" for name, says in check_heading(names)]
        if wrong:
            raise _unreadable(path, reader.line_num, f"wrong columns: {'; '.join(wrong)}")
        for line, cells in rows:
            yield line, lambda cells=cells: _of_cells(names, cells)  # type: ignore[misc]


def _cells_of(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """The rows with anything in them, each with the line that it begins in."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            is_open = "unexpected end" in str(error)
            says = "a quotation mark is opened and never closed" if is_open else f"this is no CSV: {error}"
            raise _unreadable(path, line, says) from error
        if any(cell.strip() for cell in cells):
            yield line, cells


def _of_cells(names: Sequence[str], cells: Sequence[str]) -> Said:
    """A row of a table as fields; an empty cell says nothing."""
    if any(cells[len(names) :]):
        raise RowError(("", f"it has {len(cells)} cells, the heading {len(names)}: put a text with commas into quotes"))
    pairs = zip(names, map(str.strip, cells), strict=False)
    return Said({name: text for name, text in pairs if name and text}, is_text=True)
