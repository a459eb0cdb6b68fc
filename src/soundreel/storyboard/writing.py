"""A storyboard as text: TOML with comments, or JSON. It is read back as the same request."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from soundreel.request import Request, ShotRequest
from soundreel.request.fields import Field, fields_of, plain
from soundreel.storyboard.reading import NOT_DEFAULTS, WORDS
from soundreel.units import StrPath

SCHEMA: Final = "https://github.com/soundreel/soundreel/blob/main/docs/storyboard.schema.json"

EXPLANATION: Final = (
    'A shot goes on until the next one begins. start: seconds, "1:23.5", "bar 17" or "bar 17 beat 3".',
    "What a shot does not say is as in [defaults]; of its own it may have prompt, negative, ref_image, pose_video,",
    'seed, drive and cut: "hard", or "continue", where the movement goes on from the shot before.',
    "{lyrics} in a prompt is what is sung in the shot, of a .lrc or .srt beside the song.",
)


@dataclass(frozen=True, kw_only=True)
class Remarks:
    """Comments of a TOML storyboard."""

    head: tuple[str, ...] = ()
    before: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  # lines before a shot, by its index
    behind: Mapping[int, str] = field(default_factory=dict)  # behind a shot's start


def storyboard_text(
    request: Request, target: StrPath, *, song_sha256: str | None = None, remarks: Remarks | None = None
) -> str:
    """The storyboard of a request that has shots, as it is written into the file `target`: TOML, or JSON by its name.

    Paths below the file's folder are written as seen from there.
    """
    folder = Path(target).absolute().parent
    data = _data(request, folder, song_sha256)
    if Path(target).suffix.lower() == ".json":
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    return "\n".join(_toml(data, remarks or Remarks())) + "\n"


def _data(request: Request, folder: Path, song_sha256: str | None) -> dict[str, Any]:
    data: dict[str, Any] = {"song": _path(request.audio, folder)}
    if song_sha256 is not None:
        data["song_sha256"] = song_sha256
    defaults = dict(_defaults(request, folder))
    if defaults:
        data["defaults"] = defaults
    data["shot"] = [dict(_own(shot, folder)) for shot in request.shots]
    return data


def _defaults(request: Request, folder: Path) -> Iterator[tuple[str, Any]]:
    """Fields that are not as they are without a storyboard's word, groups as tables at the end."""
    groups: dict[str, dict[str, Any]] = {}
    for one in fields_of(Request):
        value = one.of(request)
        if one.name in NOT_DEFAULTS or one.option.is_secret or value == one.default or one.name == "window.full":
            continue
        group, _, leaf = one.name.rpartition(".")
        if group:
            groups.setdefault(group, {})[leaf] = _value(one, value, folder)
        else:
            yield WORDS.get(leaf, leaf), _value(one, value, folder)
    yield from groups.items()


def _own(shot: ShotRequest, folder: Path) -> Iterator[tuple[str, Any]]:
    for one in sorted(fields_of(ShotRequest), key=lambda known: known.name != "name"):
        value = one.of(shot)
        if one.name == "start":
            yield "start", round(value, 6)
        elif value != one.default:
            yield WORDS.get(one.name, one.name), _value(one, value, folder)


def _value(one: Field, value: Any, folder: Path) -> Any:
    if not one.option.is_place(value):
        return plain(value, one.option)
    text = _path(value, folder)
    return f"./{text}" if text in one.option.words else text  # a file of that name


def _path(path: StrPath, folder: Path) -> str:
    absolute = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - links in it stay
    return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)


def _toml(data: Mapping[str, Any], remarks: Remarks) -> Iterator[str]:
    yield f"#:schema {SCHEMA}"
    yield from _comments(remarks.head)
    yield from _comments(EXPLANATION)
    yield ""
    yield from _pairs({key: value for key, value in data.items() if key not in {"defaults", "shot"}})
    yield from _tables("defaults", data.get("defaults", {}))
    for number, shot in enumerate(data["shot"]):
        yield ""
        yield from _comments(remarks.before.get(number, ()))
        yield "[[shot]]"
        behind = remarks.behind.get(number)
        for line in _pairs(shot):
            yield f"{line}  # {behind}" if behind and line.startswith("start = ") else line


def _tables(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    if not table:
        return
    values = {key: value for key, value in table.items() if not isinstance(value, dict)}
    yield ""
    yield f"[{name}]"
    yield from _pairs(values)
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _tables(f"{name}.{key}", value)


def _pairs(table: Mapping[str, Any]) -> Iterator[str]:
    return (f"{key} = {_literal(value)}" for key, value in table.items())


def _comments(lines: Sequence[str]) -> Iterator[str]:
    return (f"# {line}".rstrip() for line in lines)


def _literal(value: Any) -> str:
    """A value as TOML writes it; its texts are JSON's, but for a character that JSON leaves as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, StrEnum | str):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)
