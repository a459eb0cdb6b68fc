"""Fields that are declared once: type, default, help, meaning and range; what reads, checks and writes them follows.

A *group* is a frozen dataclass whose fields are made by `option`, or are groups themselves. Its values are coerced to
their declared types and checked when it is made, wherever they come from: Python, JSON or the command line. An error
names the field as `group.field`.
"""

import dataclasses
import math
import operator
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, reduce
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit, urlunsplit

from soundreel.errors import InputError

T = TypeVar("T")

Seconds = Annotated[float, "seconds"]
"""A time; as text also 1:23.5 and 1:02:03."""


class Role(StrEnum):
    """What another value of a field changes."""

    PIXELS = "pixels"  # the pictures, by itself
    PLAN = "plan"  # the pictures, through the clips that are planned from it
    IDENTITY = "identity"  # the pictures, through what `prepare` decides from it
    ENCODING = "encoding"  # how the pictures are post-processed and encoded
    NEITHER = "neither"  # where to, how fast, what to tell


@dataclass(frozen=True, kw_only=True)
class Option:
    """What a field says of itself beside its name, type and default."""

    help: str
    role: Role
    panel: str = ""  # heading under which the command line lists it; "": it has no option of its own there
    flags: tuple[str, ...] = ()  # its names on the command line, without the dashes; the first is the main one
    default_says: str = ""  # in place of the default
    is_path: bool = False  # means something else in another folder
    is_file: bool = False  # a path that is read: its content counts, not its name
    words: tuple[str, ...] = ()  # values of a path that are none
    is_written: bool = False  # a path that something is written to; all others are read
    is_secret: bool = False  # written nowhere
    is_address: bool = False  # a URL; the name and password in it are written nowhere
    is_of_machine: bool = False  # what this machine has, and another may not
    make_absolute: Callable[[str], str] | None = None  # for texts with a path in them
    make_name: Callable[[str], str] | None = None  # for these, with no more of the path than the file's name
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    multiple_of: int | None = None

    def is_place(self, value: Any) -> bool:
        """Whether a value is a path, and not one of the words that may stand in its place."""
        return self.is_path and value is not None and value not in self.words

    @property
    def is_local(self) -> bool:
        """Whether it says where something is for this user, or on this machine, and nothing of what it holds."""
        return self.is_address or self.is_of_machine or (self.is_path and not self.is_file)


def option(default: T, help: str, **facts: Any) -> T:  # noqa: A002 - the word that argparse and typer use
    """A field with a default; `facts` are those of `Option`."""
    declared = Option(help=help, **facts)
    is_open = not (declared.is_secret or declared.is_address)
    field: Any = dataclasses.field(default=default, repr=is_open, metadata={"option": declared})
    return field  # type: ignore[no-any-return]


def required(help: str, **facts: Any) -> Any:  # noqa: A002
    """A field that must be given."""
    return dataclasses.field(metadata={"option": Option(help=help, **facts)})


def group(kind: Callable[[], T]) -> T:
    """A field that is a group, with all its defaults unless given."""
    return dataclasses.field(default_factory=kind)


@dataclass(frozen=True)
class Field:
    """A declared field of a group or of a group in it."""

    name: str  # dotted: `sampling.steps`
    hint: Any
    default: Any  # `dataclasses.MISSING` where it must be given
    option: Option

    @property
    def leaf(self) -> str:
        """The name without its groups."""
        return self.name.rpartition(".")[2]

    @property
    def shown(self) -> str:
        """The name that messages use: as on the command line, with _ for -."""
        return self.option.flags[0].replace("-", "_") if self.option.flags else self.leaf

    @property
    def flag(self) -> str:
        """Its main option on the command line."""
        return f"--{self.shown.replace('_', '-')}"

    def wrong(self, value: Any, expected: str) -> InputError:
        """The error for a value that the field cannot have; a secret is not repeated."""
        if self.option.is_secret:
            return InputError(f"{self.shown} is not understood: expected {expected}", field=self.name)
        return wrong(self.name, value, expected, shown=self.shown)

    def of(self, owner: Any) -> Any:
        """The value in `owner`."""
        return reduce(getattr, self.name.split("."), owner)


def replaced(owner: T, name: str, value: Any) -> T:
    """A copy of a group with another value of the field with this dotted name."""
    first, _, rest = name.partition(".")
    new = replaced(getattr(owner, first), rest, value) if rest else value
    return dataclasses.replace(typing.cast(Any, owner), **{first: new})  # type: ignore[no-any-return]


@cache
def fields_of(kind: type, prefix: str = "") -> tuple[Field, ...]:
    """All fields of a group, those of groups in it with dotted names, in the order of their declaration."""

    def walk() -> Iterator[Field]:
        for field in _own_fields(kind, prefix):
            if dataclasses.is_dataclass(field.hint):
                yield from fields_of(typing.cast(type, field.hint), f"{field.name}.")
            else:
                yield field

    return tuple(walk())


@cache
def _own_fields(kind: type, prefix: str) -> tuple[Field, ...]:
    """The fields of a group itself, groups in it among them."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        Field(prefix + field.name, hints[field.name], field.default, field.metadata.get("option", _GROUP))
        for field in dataclasses.fields(typing.cast(Any, kind))
    )


_GROUP = Option(help="", role=Role.NEITHER)


def settle(owner: Any, prefix: str = "") -> None:
    """Coerce and check the fields of a group that has just been made; called from its `__post_init__`.

    Raises:
        InputError: names the field, the value and what is expected.
    """
    for field in _own_fields(typing.cast(Any, type(owner)), prefix):
        value = getattr(owner, field.leaf)
        if dataclasses.is_dataclass(field.hint):
            kind = typing.cast(type, field.hint)
            settled = value if isinstance(value, kind) else build(kind, value, field.name)
        else:
            settled = coerce(value, field.hint, field)
            check_range(settled, field)
        object.__setattr__(owner, field.leaf, settled)


def build(kind: type[T], data: Any, name: str) -> T:
    """A group from a mapping of its fields; what it does not know is an `InputError`."""
    if not isinstance(data, Mapping):
        raise wrong(name, data, f"fields of {kind.__name__}")
    known = {field.name for field in dataclasses.fields(typing.cast(Any, kind))}
    unknown = next((key for key in data if key not in known), None)
    if unknown is not None:
        raise InputError(
            f"{name} has no field {unknown!r}: it has {', '.join(sorted(known))}", field=f"{name}.{unknown}"
        )
    return kind(**data)


LONGEST_SAID: Final = 160
"""Characters of a wrong value that a message repeats; of a longer one the first half of so many."""


def wrong(name: str, value: Any, expected: str, *, shown: str = "") -> InputError:
    """The error for a value that the field `name` cannot have; messages call it `shown`, or by its leaf."""
    text = repr(str(value)) if isinstance(value, os.PathLike | StrEnum) else repr(value)
    said = text if len(text) <= LONGEST_SAID else f"{text[: LONGEST_SAID // 2]}… ({len(text):,} characters)"
    return InputError(f"{shown or name.rpartition('.')[2]} is {said}: expected {expected}", field=name)


def coerce(value: Any, hint: Any, field: Field) -> Any:
    """`value` as the type that a field declares.

    Numbers may be written as text, enumerations as their values, tuples as lists or as text with commas, groups in them
    as mappings.

    Raises:
        InputError: it is none.
    """
    if get_origin(hint) in (types.UnionType, typing.Union):
        return _coerce_union(value, get_args(hint), field)
    if get_origin(hint) is tuple:
        return _coerce_tuple(value, get_args(hint), field)
    if dataclasses.is_dataclass(hint):
        kind = typing.cast(type, hint)
        return value if isinstance(value, kind) else build(kind, value, field.name)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _coerce_enum(value, hint, field)
    return _SCALARS[hint](value, field)


def _coerce_union(value: Any, kinds: tuple[Any, ...], field: Field) -> Any:
    if value is None and type(None) in kinds:
        return None
    if any(get_origin(kind) is os.PathLike for kind in kinds):
        return _path(value, field)
    (kind,) = (kind for kind in kinds if kind is not type(None))
    return coerce(value, kind, field)


def _coerce_tuple(value: Any, kinds: tuple[Any, ...], field: Field) -> tuple[Any, ...]:
    if isinstance(value, str):  # a text is one text, but numbers may stand in it
        value = [value] if kinds[0] is str else [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple):
        raise field.wrong(value, "a list")
    if kinds[-1] is Ellipsis:
        return tuple(coerce(entry, kinds[0], field) for entry in value)
    if len(value) != len(kinds):
        raise field.wrong(value, f"{len(kinds)} values")
    return tuple(coerce(entry, kind, field) for entry, kind in zip(value, kinds, strict=True))


def _coerce_enum(value: Any, kind: type[StrEnum], field: Field) -> StrEnum:
    try:
        return kind(value)
    except ValueError:
        *others, last = kind
        raise field.wrong(value, f"{', '.join(others)} or {last}") from None


def _whole_number(value: Any, field: Field) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return int(value) if isinstance(value, str) else operator.index(value)
    except (TypeError, ValueError):
        raise field.wrong(value, "a whole number") from None


def _number(value: Any, field: Field) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise field.wrong(value, "a number") from None
    if not math.isfinite(number):
        raise field.wrong(value, "a finite number")
    return number


def _seconds(value: Any, field: Field) -> float:
    """Seconds from 83.5, "83.5", "1:23.5" or "0:01:23.5"."""
    if not isinstance(value, str) or ":" not in value:
        return _number(value, field)
    *whole, seconds = value.split(":")
    if len(whole) > 2 or not all(part.isdecimal() for part in whole) or not seconds[:1].isdecimal():
        raise field.wrong(value, "seconds, or a time as 1:23.5")
    minutes = reduce(lambda total, part: total * 60 + int(part), whole, 0)
    return minutes * 60 + _number(seconds, field)


def _truth(value: Any, field: Field) -> bool:
    if not isinstance(value, bool):
        raise field.wrong(value, "true or false")
    return value


def _text(value: Any, field: Field) -> str:
    if not isinstance(value, str):
        raise field.wrong(value, "text")
    return str(value)


def _path(value: Any, field: Field) -> Any:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise field.wrong(value, "a path")
    return value


_SCALARS: Mapping[Any, Callable[[Any, Field], Any]] = {
    int: _whole_number,
    float: _number,
    Seconds: _seconds,
    bool: _truth,
    str: _text,
}


def check_range(value: Any, field: Field) -> None:
    """Raise `InputError` unless a number, or every number of a tuple, is in its field's range."""
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, int | float):
            broken = next((text for text, holds in _conditions(number, field.option) if not holds), None)
            if broken is not None:
                raise field.wrong(number, broken)


def _conditions(number: float, declared: Option) -> Iterator[tuple[str, bool]]:
    least, above, most, step = declared.at_least, declared.above, declared.at_most, declared.multiple_of
    yield f"at least {least}", least is None or number >= least
    yield f"more than {above}", above is None or number > above
    if most is not None:
        yield f"at most {most:,}", number <= most
    yield f"a multiple of {step}", step is None or number % step == 0


# as plain data


class Paths(StrEnum):
    """How data name files and servers."""

    AS_GIVEN = "as given"
    ABSOLUTE = "absolute"  # so that they mean the same in every folder
    NAMES = "names"  # files by their names; what `is_local` is left out


def to_data(owner: Any, paths: Paths = Paths.AS_GIVEN) -> dict[str, Any]:
    """The fields of a group by name, groups in it as dictionaries, ready for JSON; secrets are left out."""
    data: dict[str, Any] = {}
    for field in fields_of(typing.cast(Any, type(owner))):
        if not (field.option.is_secret or (field.option.is_local and paths is Paths.NAMES)):
            *groups, leaf = field.name.split(".")
            place = reduce(lambda inner, key: inner.setdefault(key, {}), groups, data)
            place[leaf] = plain(field.of(owner), field.option, paths)
    return data


def plain(value: Any, declared: Option, paths: Paths = Paths.AS_GIVEN) -> Any:
    """A field's value as JSON has it."""
    if isinstance(value, tuple | list):
        return [plain(entry, declared, paths) for entry in value]
    if value is None:
        return None
    if dataclasses.is_dataclass(value):
        return to_data(value, paths)
    return without_password(value) if declared.is_address else _plain_text(value, declared, paths)


def _plain_text(value: Any, declared: Option, paths: Paths) -> Any:
    rewrite = {Paths.ABSOLUTE: declared.make_absolute, Paths.NAMES: declared.make_name}.get(paths)
    if rewrite is not None:
        return rewrite(value)
    if declared.is_place(value):
        text = _PATHS[paths](Path(value))
        return f"./{text}" if text in declared.words else text  # a file of that name
    return value


_PATHS: Final[Mapping[Paths, Callable[[Path], str]]] = {
    Paths.AS_GIVEN: os.fspath,
    Paths.ABSOLUTE: lambda path: str(path.absolute()),
    Paths.NAMES: lambda path: path.name,
}


def without_password(url: str) -> str:
    """A URL as messages and files may show it: without the password, and without the query, which may hold another."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
