"""A manifest becomes rows: JSON lines or CSV, one request each. All that is wrong in a row is found, with its field."""

import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from soundreel.batch.lines import RowError, Said, read_lines
from soundreel.disk.digests import data_digest
from soundreel.disk.outputs import clips_folder
from soundreel.errors import InputError, SoundreelError
from soundreel.media.files import check_file
from soundreel.request import FLAT_NAMES, Request, ShotRequest, grouped
from soundreel.request.fields import Field, Paths, Role, check_range, coerce, fields_of, to_data
from soundreel.storyboard import read_storyboard
from soundreel.units import StrPath

ID: Final = "id"

FIELDS: Final[Mapping[str, Field]] = {field.name: field for field in fields_of(Request)}
OF_SHOTS: Final[Mapping[str, Field]] = {field.name: field for field in fields_of(ShotRequest)}

NOT_OF_A_ROW: Final[Mapping[str, str]] = {
    "output.path": "a video is called by its row's id",
    "output.dir": "videos go to --output-dir",
    "recipe": "a batch renders requests: give the fields themselves",
    "preset": "a row has no presets: give the fields that they stand for (the table in README.md)",
}
"""Fields of `Request` that a row cannot have, and why."""

GROUPS: Final = frozenset(name.partition(".")[0] for name in FIELDS if "." in name)
OPTIONS: Final[Mapping[str, str]] = {
    flag.replace("-", "_"): field.name
    for field in FIELDS.values()
    for flag in field.option.flags
    if field.name not in NOT_OF_A_ROW
}
"""Fields by the names of their options on the command line."""

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
        return clips_folder(self.video(output))


def _digest(request: Request) -> str:
    return data_digest(to_data(request, Paths.ABSOLUTE))


def read_manifest(path: StrPath, defaults: Mapping[str, Any] = MappingProxyType({})) -> Iterator[Row | list[Problem]]:
    """Each row of a manifest, or all that is wrong in it; paths in it are those beside the manifest.

    Args:
        defaults: fields of rows that do not say otherwise, by dotted name, as `parse_settings` reads them.

    Raises:
        InputError: the manifest cannot be read as a whole.
    """
    place, seen = Path(path), dict[str, int]()
    for line, said in read_lines(place, _check_heading):
        try:
            yield _row(line, said(), place.absolute().parent, defaults, seen)
        except RowError as error:
            yield [Problem(line=line, field=field, says=says) for field, says in error.problems]


def _check_heading(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is wrong in the heading of a table; columns without a name are of nobody's concern."""
    meant: dict[str, str] = {}
    for name in filter(None, names):
        try:
            full = ID if name == ID else _known(name).name
        except RowError as error:
            yield from error.problems
            continue
        if full in meant:
            yield name, "it is there twice" if meant[full] == name else f"{meant[full]} is another name of it"
        meant.setdefault(full, name)


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


# rows


def _row(line: int, said: Said, folder: Path, defaults: Mapping[str, Any], seen: dict[str, int]) -> Row:
    """A row; `RowError` with all that is wrong in it.

    Args:
        seen: lines of the ids so far.
    """
    fields: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for name, value in _leaves(said.fields, problems):
        try:
            field = _known(name)
            if field.name in fields:
                raise RowError((name, "another name of this field is there, too: leave one of them out"))
            fields[field.name] = _settled(field, _from_text(field, value) if said.is_text else value, folder)
        except RowError as error:
            problems += [(name, says) for _, says in error.problems]
    own_id = said.fields.get(ID)
    if own_id is not None:
        problems += [(ID, says) for says in _wrong_with_id(own_id) or _taken(str(own_id), line, seen)]
    given = {**defaults, **said.fields}
    if "audio" not in given and given.get("storyboard") is None:
        problems.append(("audio", "expected the file of the sound, or a storyboard"))
    request = _request_of_all({**_lengthless(defaults, fields), **fields}, problems)
    if request is None:
        raise RowError(*problems)
    return Row(line=line, id=_own_id(request, line, seen) if own_id is None else str(own_id), request=request)


def _request_of_all(fields: Mapping[str, Any], problems: list[tuple[str, str]]) -> Request | None:
    """The request; None where something is wrong, and what is wrong between its fields comes to the `problems`."""
    try:
        request = _request({"audio": "-", **fields} if problems else fields)
    except RowError as error:
        named = {FLAT_NAMES.get(name, name) for name, _ in problems}
        problems += [(name, says) for name, says in error.problems if name not in named]
        return None
    return None if problems else request


def _lengthless(defaults: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults without a length where the row has one: only one may be given."""
    lengths = {"window.frames", "window.duration", "window.full", "window.num_clip"}
    left_out = lengths if lengths & fields.keys() else set()
    return {name: value for name, value in defaults.items() if name not in left_out}


def _leaves(said: Mapping[str, Any], problems: list[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a row; groups may be objects in it, and if they are none, that is a problem."""
    for name, value in said.items():
        if name in GROUPS and isinstance(value, Mapping):
            yield from ((f"{name}.{leaf}", inner) for leaf, inner in value.items())
        elif name in GROUPS:
            inner = (field for full, field in FIELDS.items() if full.startswith(f"{name}."))
            first = next(field for field in inner if field.option.role is not Role.NEITHER)
            problems.append((name, f'expected an object, as {{"{first.leaf}": …}}'))
        elif name != ID:
            yield name, value


def _known(name: str) -> Field:
    """The field that a row means by a name."""
    full = FLAT_NAMES.get(name, name)
    if full in NOT_OF_A_ROW:
        raise RowError((name, NOT_OF_A_ROW[full]))
    if full in FIELDS:
        return FIELDS[full]
    near = _meant_by(name.strip().lower().replace("-", "_").replace(" ", "_"))
    raise RowError((name, f"there is no such field{f': is {near} meant?' if near else ''}"))


def _meant_by(name: str) -> str | None:
    """What a name that is none is probably meant to be: that of an option, or a word with another letter."""
    if name in OPTIONS:
        return OPTIONS[name]
    known = [*FIELDS, *FLAT_NAMES, ID]
    near = get_close_matches(name, [other for other in known if FLAT_NAMES.get(other, other) not in NOT_OF_A_ROW], n=1)
    return near[0] if near else None


def _from_text(field: Field, text: str) -> Any:
    """What a text stands for where all is text: `true` and `false` are words of a field that is one of them."""
    if field.hint is bool or bool in typing.get_args(field.hint):
        return {"true": True, "false": False}.get(text.lower(), text)
    return text


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


def _wrong_with_id(name: Any) -> list[str]:
    if not isinstance(name, str | int) or isinstance(name, bool) or not str(name):
        return ["expected a text"]
    text = str(name)
    if NOT_IN_NAMES.search(text) or text[0] in ". -" or text[-1] in ". ":
        return [f"{text!r} is no name of a file: the video is called by it"]
    if text.lower().endswith(".partial"):
        return [f"{text!r}: what ends in .partial is not finished yet, choose another"]
    if len(text.encode()) > LONGEST_ID:
        return [f"it has {len(text.encode())} bytes: expected at most {LONGEST_ID}"]
    return []


def _own_id(request: Request, line: int, seen: dict[str, int]) -> str:
    """Of a row without an id: by its sound and all that it says, so that it is the same again."""
    stem = NOT_IN_NAMES.sub("-", Path(request.audio).stem).strip(". -") or "video"
    short = stem.encode()[: LONGEST_ID - DIGEST_DIGITS - 1].decode(errors="ignore")
    own = f"{short}-{_digest(request)[:DIGEST_DIGITS]}"
    for says in _taken(own, line, seen):
        raise RowError((ID, f"{says}: the rows are alike"))
    return own


def _taken(name: str, line: int, seen: dict[str, int]) -> list[str]:
    """That an earlier row has this id; not all file systems tell large letters from small ones."""
    first = seen.setdefault(name.casefold(), line)
    return [] if first == line else [f"{name!r} is the id of line {first}, too"]
