"""A manifest becomes rows: JSON lines or CSV, one request each. All that is wrong in a row is found, with its field."""

import csv
import json
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from soundreel.disk.digests import data_digest
from soundreel.disk.outputs import WORK_FOLDER
from soundreel.errors import InputError, SoundreelError
from soundreel.media.files import check_file, reason
from soundreel.request import FLAT_NAMES, Request, ShotRequest, grouped
from soundreel.request.fields import Field, Paths, check_range, coerce, fields_of, to_data
from soundreel.storyboard import read_storyboard
from soundreel.units import StrPath

ID: Final = "id"

FIELDS: Final[Mapping[str, Field]] = {field.name: field for field in fields_of(Request)}
OF_SHOTS: Final[Mapping[str, Field]] = {field.name: field for field in fields_of(ShotRequest)}

NOT_OF_A_ROW: Final[Mapping[str, str]] = {
    "output.path": "a video is called by its row's id",
    "output.dir": "videos go to --output-dir",
    "recipe": "a batch renders requests: give the fields themselves",
}
"""Fields of `Request` that a row cannot have, and why."""

LONGEST_ID: Final = 200
"""Bytes: file systems take 255 for a name, and what is kept of a render is called by it, too."""

NOT_IN_NAMES: Final = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f\ud800-\udfff]')
"""What some file system refuses in the name of a file; surrogates stand for bytes that are no text."""

DIGEST_DIGITS: Final = 8


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is wrong in a row."""

    line: int  # of the manifest, from 1
    field: str  # as the row calls it; "": the row as a whole
    says: str

    def __str__(self) -> str:
        return f"line {self.line}{f', {self.field}' if self.field else ''}: {self.says}"


class RowError(Exception):
    """What is wrong in a row, as pairs of field and words."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        super().__init__(problems)
        self.problems = problems


class Work(StrEnum):
    """What is left to do of a row."""

    ANY = "any"  # all that is missing; who has sampled its pictures may leave the rest to others
    PRINT = "print"  # its pictures are kept: whoever finds otherwise gives it back
    WHOLE = "whole"  # all that is missing, by one process: it was given back


@dataclass(frozen=True, kw_only=True)
class Row:
    """One video to make."""

    line: int  # of the manifest, from 1
    id: str
    request: Request  # paths are absolute
    work: Work = Work.ANY

    @cached_property
    def digest(self) -> str:
        """Of all that the row says."""
        return _digest(self.request)

    def video(self, output: Path) -> Path:
        """Its name in the folder of the videos."""
        return output / f"{self.id}.mp4"

    def work_folder(self, output: Path) -> Path:
        """Where its clips are kept, on whichever machine they are rendered, and whatever it has said before."""
        return output / WORK_FOLDER / self.id


def _digest(request: Request) -> str:
    return data_digest(to_data(request, Paths.ABSOLUTE))


def read_manifest(path: StrPath, defaults: Mapping[str, Any] = MappingProxyType({})) -> Iterator[Row | list[Problem]]:
    """Each row of a manifest, or all that is wrong in it; paths in it are those beside the manifest.

    Args:
        defaults: fields of rows that do not say otherwise, by dotted name, as `parse_settings` reads them.

    Raises:
        InputError: the manifest cannot be read as a whole.
    """
    place = Path(path)
    check_file(place, "manifest")
    read = {".csv": _read_csv, ".jsonl": _read_jsonl, ".ndjson": _read_jsonl}.get(place.suffix.lower())
    if read is None:
        raise InputError(f"manifest {str(place)!r}: expected a name that ends in .jsonl or .csv")
    seen: dict[str, int] = {}
    try:
        for line, said in read(place):
            try:
                row = _row(line, said(), place.absolute().parent, defaults)
                _check_once(row, seen)
                yield row
            except RowError as error:
                yield [Problem(line=line, field=field, says=says) for field, says in error.problems]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read manifest {str(place)!r}: {reason(error)}") from error


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """`output.crf=16`, … as fields by dotted name; paths in them are those of the current folder.

    Raises:
        InputError: one is no setting of a field.
    """
    fields: dict[str, Any] = {}
    for setting in settings:
        name, is_there, text = setting.partition("=")
        if not is_there:
            raise InputError(f"--set is {setting!r}: expected FIELD=VALUE, as output.crf=16")
        try:
            field = _known(name.strip())
            fields[field.name] = _settled(field, _from_text(field, text.strip()), Path.cwd())
        except RowError as error:
            raise InputError(f"--set {setting!r}: {error.problems[0][1]}", field=name) from None
    return fields


# lines


def _read_jsonl(path: Path) -> Iterator[tuple[int, Callable[[], Mapping[str, Any]]]]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if text.strip():
                yield line, lambda text=text: _object(text)  # type: ignore[misc]


def _object(text: str) -> Mapping[str, Any]:
    try:
        said = json.loads(text)
    except json.JSONDecodeError as error:
        raise RowError(("", f"this is no JSON: {error.msg} (column {error.colno})")) from None
    except (ValueError, RecursionError) as error:  # a number of too many digits, or nested too deeply
        raise RowError(("", f"this cannot be read: {error}")) from None
    if not isinstance(said, dict):
        raise RowError(("", "expected an object with the fields of a request"))
    return said


def _read_csv(path: Path) -> Iterator[tuple[int, Callable[[], Mapping[str, Any]]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise InputError(f"manifest {str(path)!r}, line {line}: this is no CSV: {error}") from error
            yield reader.line_num, lambda cells=cells: _of_cells(cells)  # type: ignore[misc]


def _of_cells(cells: Mapping[str | None, Any]) -> Mapping[str, Any]:
    """A row of a table as fields; an empty cell says nothing."""
    if None in cells:
        raise RowError(("", "it has more cells than the heading"))
    said: dict[str, Any] = {}
    for name, text in cells.items():
        if name and text:
            field = None if name == ID else FIELDS.get(FLAT_NAMES.get(name, name))
            said[name] = text if field is None else _from_text(field, text)
    return said


def _from_text(field: Field, text: str) -> Any:
    """What a text stands for where all is text: `true` and `false` are words of a field that is one of them."""
    if field.hint is bool or bool in typing.get_args(field.hint):
        return {"true": True, "false": False}.get(text.lower(), text)
    return text


# rows


def _row(line: int, said: Mapping[str, Any], folder: Path, defaults: Mapping[str, Any]) -> Row:
    fields: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for name, value in _leaves(said):
        try:
            field = _known(name)
            fields[field.name] = _settled(field, value, folder)
        except RowError as error:
            problems += [(name, says) for _, says in error.problems]
    own_id = said.get(ID)
    problems += [(ID, says) for says in _wrong_with_id(own_id)]
    given = {**defaults, **said}
    if "audio" not in given and given.get("storyboard") is None:
        problems.append(("audio", "expected the file of the sound, or a storyboard"))
    if problems:
        raise RowError(*problems)
    request = _request({**_lengthless(defaults, fields), **fields})
    return Row(line=line, id=_own_id(request) if own_id is None else str(own_id), request=request)


def _lengthless(defaults: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults without a length where the row has one: only one may be given."""
    lengths = {"window.frames", "window.duration", "window.full", "window.num_clip"}
    left_out = lengths if lengths & fields.keys() else set()
    return {name: value for name, value in defaults.items() if name not in left_out}


def _leaves(said: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a row; groups may be objects in it."""
    groups = {name.partition(".")[0] for name in FIELDS if "." in name}
    for name, value in said.items():
        if name in groups and isinstance(value, Mapping):
            yield from ((f"{name}.{leaf}", inner) for leaf, inner in value.items())
        elif name != ID:
            yield name, value


def _known(name: str) -> Field:
    """The field that a row means by a name."""
    full = FLAT_NAMES.get(name, name)
    if full in NOT_OF_A_ROW:
        raise RowError((name, NOT_OF_A_ROW[full]))
    if full in FIELDS:
        return FIELDS[full]
    of_a_row = [short for short, meant in FLAT_NAMES.items() if meant not in NOT_OF_A_ROW]
    near = get_close_matches(name, [*(FIELDS.keys() - NOT_OF_A_ROW.keys()), *of_a_row, ID], n=1)
    raise RowError((name, f"there is no such field{f': is {near[0]} meant?' if near else ''}"))


def _settled(field: Field, value: Any, folder: Path) -> Any:
    """A value as its field wants it, a path made absolute, and its file looked for."""
    if field.name == "shots" and isinstance(value, list | tuple):
        return [_shot(shot, folder) if isinstance(shot, Mapping) else shot for shot in value]
    try:
        settled = coerce(value, field.hint, field)
        check_range(settled, field)
        return _found(field, settled, folder)
    except SoundreelError as error:
        raise RowError((field.name, str(error))) from None


def _found(field: Field, value: Any, folder: Path) -> Any:
    if field.name == "compute.loras":
        return tuple(_lora(lora, folder) for lora in value)
    if not field.option.is_place(value):
        return value
    path = folder / Path(value).expanduser()
    if field.option.is_file or field.name == "storyboard":
        check_file(path, "sound" if field.name == "audio" else field.shown.replace("_", " "))
    return path


def _lora(lora: str, folder: Path) -> str:
    """With its path made absolute where there is such a file."""
    path, colon, strength = lora.rpartition(":")
    for name, rest in ((lora, ""), (path, colon + strength)):
        if name and (folder / Path(name).expanduser()).exists():
            return str(folder / Path(name).expanduser()) + rest
    return lora


def _shot(said: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    fields = dict(said)
    for name, value in said.items():
        if name in OF_SHOTS and OF_SHOTS[name].option.is_path:
            fields[name] = _settled(OF_SHOTS[name], value, folder)
    return fields


def _request(fields: Mapping[str, Any]) -> Request:
    """The request of a row; of a storyboard with what the row says over it."""
    given: dict[str, Any] = {}
    for name, value in fields.items():
        group, _, leaf = name.rpartition(".")
        owner = given.setdefault(group, {}) if group else given
        owner[leaf] = value
    try:
        if given.get("storyboard") is None:
            return Request(**given)
        board = read_storyboard(given["storyboard"])
        if given.get("window", {}).keys() & {"frames", "duration", "num_clip", "full"}:
            board["window"] = {name: value for name, value in board["window"].items() if name == "start"}
        merged = {**board, **given}
        for group in board.keys() & given.keys():
            if isinstance(board[group], Mapping):
                merged[group] = {**board[group], **given[group]}
        return Request(**grouped(merged))
    except SoundreelError as error:
        raise RowError((error.field or "", str(error))) from None


# ids


def _wrong_with_id(name: Any) -> Iterator[str]:
    if name is None:
        return
    if not isinstance(name, str | int) or isinstance(name, bool) or not str(name):
        yield "expected a text"
    elif NOT_IN_NAMES.search(str(name)) or str(name)[0] in ". -" or str(name)[-1] in ". ":
        yield f"{str(name)!r} is no name of a file: the video is called by it"
    elif str(name).lower().endswith(".partial"):
        yield f"{str(name)!r}: what ends in .partial is not finished yet, choose another"
    elif len(str(name).encode()) > LONGEST_ID:
        yield f"it has {len(str(name).encode())} bytes: expected at most {LONGEST_ID}"


def _own_id(request: Request) -> str:
    """Of a row without an id: by its sound and all that it says, so that it is the same again."""
    stem = NOT_IN_NAMES.sub("-", Path(request.audio).stem).strip(". -") or "video"
    short = stem.encode()[: LONGEST_ID - DIGEST_DIGITS - 1].decode(errors="ignore")
    return f"{short}-{_digest(request)[:DIGEST_DIGITS]}"


def _check_once(row: Row, seen: dict[str, int]) -> None:
    """Names of files differ in more than the size of their letters: not all file systems tell these apart."""
    first = seen.setdefault(row.id.casefold(), row.line)
    if first != row.line:
        raise RowError((ID, f"{row.id!r} is the id of line {first}, too"))
