"""A storyboard file becomes fields of `Request`. All that is wrong in it is said at once, each with its line."""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from soundreel.analysis import Song, hear
from soundreel.errors import InputError, SoundreelError
from soundreel.media.files import check_file, reason
from soundreel.request import FLAT_NAMES, Request, ShotRequest
from soundreel.request.fields import Field, check_range, coerce, fields_of
from soundreel.storyboard.lyrics import Line, lines_between, lyrics_beside, read_lyrics
from soundreel.storyboard.places import Place, lines_of_keys
from soundreel.units import StrPath

TOP_KEYS: Final = ("song", "song_sha256", "lyrics", "defaults", "shot")

NOT_DEFAULTS: Final = frozenset({"audio", "shots", "cuts", "recipe", "storyboard", "output.path"})
"""Fields of `Request` that a storyboard says otherwise, or that are not for all its renders."""

RENAMED: Final = {"negative": "negative_prompt"}
"""Words of a storyboard → fields of `Request` and `ShotRequest`."""

WORDS: Final = {field: word for word, field in RENAMED.items()}
"""Fields → their words in a storyboard."""

DEFAULTS: Final[Mapping[str, Field]] = {
    field.name: field for field in fields_of(Request) if field.name not in NOT_DEFAULTS
}
OWN: Final[Mapping[str, Field]] = {field.name: field for field in fields_of(ShotRequest)}

LYRICS: Final = "{lyrics}"
"""In a prompt: the lines that are sung in the shot."""

BAR: Final = re.compile(r"\s*bar\s+(\d+)(?:\s+beat\s+(\d+))?\s*", re.IGNORECASE)

TOLERANCE_SECONDS: Final = 0.002
"""Between a shot's `stop` and the next one's `start`: times are written with three digits."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is wrong in a storyboard."""

    place: Place
    says: str


def read_storyboard(path: StrPath) -> dict[str, Any]:
    """The fields of `Request` that a storyboard stands for.

    Raises:
        InputError: all that is wrong in it, each with line and key.
    """
    return _Reader(Path(path)).fields()


def noted_digest(path: StrPath) -> str | None:
    """The digest of the song that a storyboard was made for; None where it notes none or cannot be read."""
    with suppress(InputError):
        noted = _load(Path(path))[0].get("song_sha256")
        return noted if isinstance(noted, str) else None
    return None


def _load(path: Path) -> tuple[dict[str, Any], dict[Place, int]]:
    """The data of a file, and the lines of its keys where that is known."""
    check_file(path, "storyboard")
    name = str(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if path.suffix.lower() == ".json":
            data, lines = json.loads(text), {}
        else:
            data, lines = tomllib.loads(text), lines_of_keys(text)
    except OSError as error:
        raise InputError(f"cannot read storyboard {name!r}: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"storyboard {name!r} is not written in UTF-8 (byte {error.start + 1})") from error
    except (ValueError, RecursionError) as error:  # of tomllib and json, both with the line
        raise InputError(f"storyboard {name!r} cannot be understood: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"storyboard {name!r} is no table: expected song, defaults and shot")
    return data, lines


class _Reader:
    """Reads one file, and gathers what is wrong in it."""

    def __init__(self, path: Path) -> None:
        self._path, self._folder = path, path.parent
        self._data, self._lines = _load(path)
        self._problems: list[Problem] = []

    def fields(self) -> dict[str, Any]:
        for key in self._data:
            if key not in TOP_KEYS:
                self._wrong((key,), _unknown(key, TOP_KEYS))
        song, shots = self._song(), self._shots()
        defaults = self._defaults()
        shots = self._with_lyrics(shots, defaults)
        self._check_order(shots)
        self._raise_problems()
        fields = {**defaults, "audio": song, "shots": tuple(shots), "storyboard": self._path}
        self._check_whole(fields)
        return fields

    # what is wrong

    def _wrong(self, place: Place, says: str) -> None:
        self._problems.append(Problem(place=place, says=says))

    def _raise_problems(self) -> None:
        if not self._problems:
            return
        told = sorted({self._says(problem): self._line(problem.place) for problem in self._problems}.items(),
                      key=lambda item: item[1])  # fmt: skip
        if len(told) == 1:
            raise InputError(f"storyboard {str(self._path)!r}, {told[0][0]}", field="storyboard")
        raise InputError(
            f"storyboard {str(self._path)!r} has {len(told)} mistakes:",
            field="storyboard",
            details=(says for says, _ in told),
        )

    def _says(self, problem: Problem) -> str:
        line = self._line(problem.place)
        return f"{f'line {line}, ' if line else ''}{self._key(problem.place)}: {problem.says}"

    def _line(self, place: Place) -> int:
        """Of a key, or of the table that it is in or is missing from; 0: not known."""
        return next((self._lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in self._lines), 0)

    def _key(self, place: Place) -> str:
        if len(place) < 2 or place[0] != "shot":
            return ".".join(map(str, place))
        number = int(place[1])
        shots = self._data["shot"]
        name = shots[number].get("name") if isinstance(shots[number], dict) else None
        shot = f"shot {name!r}" if isinstance(name, str) and name else f"shot {number + 1}"
        return " ".join([shot, *map(str, place[2:])])

    # what stands in it

    def _song(self) -> Path | None:
        said = self._data.get("song")
        if not isinstance(said, str) or not said:
            self._wrong(("song",), "expected the file of the song")
            return None
        if not isinstance(self._data.get("song_sha256", ""), str):
            self._wrong(("song_sha256",), "expected a text")
        return self._file(("song",), said, "song")

    def _file(self, place: Place, said: StrPath, kind: str) -> Path:
        path = self._folder / Path(said).expanduser()
        try:
            check_file(path, kind)
        except SoundreelError as error:
            self._wrong(place, str(error))
        return path

    def _defaults(self) -> dict[str, Any]:
        said = self._data.get("defaults", {})
        if not isinstance(said, dict):
            self._wrong(("defaults",), "expected a table: [defaults]")
            return {}
        fields: dict[str, Any] = {}
        for place, key, value in _leaves(said, ("defaults",)):
            name = RENAMED.get(key, key)
            field = DEFAULTS.get(FLAT_NAMES.get(name, name))
            if field is None:
                self._wrong(place, _unknown(key, [*DEFAULTS, *FLAT_NAMES]))
                continue
            settled = self._value(place, field, value)
            group, _, leaf = field.name.rpartition(".")
            owner = fields.setdefault(group, {}) if group else fields
            owner[leaf] = settled
        window = fields.setdefault("window", {})
        if not window.keys() & {"frames", "duration", "num_clip", "full"}:
            window["full"] = True
        return fields

    def _value(self, place: Place, field: Field, value: Any) -> Any:
        """As its field wants it; paths are those beside the storyboard."""
        try:
            settled = coerce(value, field.hint, field)
            check_range(settled, field)
        except InputError as error:
            self._wrong(place, str(error))
            return None
        if not field.option.is_place(settled):
            return settled
        if field.option.is_file:
            return self._file(place, settled, field.shown.replace("_", " "))
        return self._folder / Path(settled).expanduser()

    def _shots(self) -> list[dict[str, Any]]:
        said = self._data.get("shot", [])
        if not isinstance(said, list) or not all(isinstance(shot, dict) for shot in said):
            self._wrong(("shot",), "expected tables: [[shot]]")
            return []
        if not said:
            self._wrong(("shot",), "there is none: expected at least one [[shot]]")
        return [self._shot(number, shot) for number, shot in enumerate(said)]

    def _shot(self, number: int, said: Mapping[str, Any]) -> dict[str, Any]:
        own: dict[str, Any] = {}
        for key, value in said.items():
            place: Place = ("shot", number, key)
            name = RENAMED.get(key, key)
            if name in {"start", "stop"}:
                own[name] = self._time(place, value)
            elif name in OWN:
                own[name] = self._value(place, OWN[name], value)
            else:
                self._wrong(place, _unknown(key, [*OWN, *RENAMED, "stop"]))
        if number == 0:
            own.setdefault("start", self._begin)
        elif "start" not in said:
            self._wrong(("shot", number), "has no start: expected the time at which it begins")
        return own

    @property
    def _begin(self) -> float:
        """Where the first shot begins that does not say so."""
        window = self._data.get("defaults", {})
        window = window.get("window", {}) if isinstance(window, dict) else {}
        start = window.get("start", 0.0) if isinstance(window, dict) else 0.0
        return float(start) if isinstance(start, int | float) else 0.0

    def _time(self, place: Place, value: Any) -> float | None:
        """Seconds from a number, "1:23.5", "bar 17" or "bar 17 beat 3"."""
        bar = BAR.fullmatch(value) if isinstance(value, str) else None
        if bar is None:
            found = self._value(place, OWN["start"], value)
            return None if found is None else float(found)
        return self._of_bar(place, int(bar[1]), int(bar[2] or 1))

    def _of_bar(self, place: Place, bar: int, beat: int) -> float | None:
        song = self._heard
        if song is None:
            return None  # it is said that there is no song
        if not song.bars:
            self._wrong(place, "no bars are heard in the song: expected seconds, or a time as 1:23.5")
            return None
        found = next((one for one in song.bars if one.number == bar), None)
        if found is None:
            last = song.bars[-1].number
            self._wrong(place, f"there is no bar {bar}: expected {song.bars[0].number} to {last}, the bars of the song")
            return None
        beats = [second for second in song.beats if found.start - 1e-6 <= second < found.stop - 1e-6]
        if not 1 <= beat <= max(1, len(beats)):
            self._wrong(place, f"bar {bar} has {len(beats)} beats, and no beat {beat}")
            return None
        return beats[beat - 1] if beats else found.start

    @cached_property
    def _heard(self) -> Song | None:
        said = self._data.get("song")
        path = self._folder / Path(said).expanduser() if isinstance(said, str) and said else None
        if path is None or not path.is_file():
            return None
        try:
            return hear(path)
        except SoundreelError as error:
            self._wrong(("song",), str(error))
            return None

    # the shots together

    def _check_order(self, shots: list[dict[str, Any]]) -> None:
        for number, (before, shot) in enumerate(pairwise(shots), start=1):
            begin, end = shot.get("start"), before.get("start")
            if begin is not None and end is not None and begin <= end:
                self._wrong(("shot", number, "start"), f"is {begin:g} s, and the shot before begins at {end:g} s: "
                            "shots overlap, expected them in order")  # fmt: skip
            stop = before.get("stop")
            if stop is not None and begin is not None and abs(stop - begin) > TOLERANCE_SECONDS:
                what = "a gap" if stop < begin else "an overlap"
                self._wrong(
                    ("shot", number - 1, "stop"),
                    f"is {stop:g} s, and the next shot begins at {begin:g} s: there is {what} of {abs(stop - begin):g} "
                    "s; leave stop out, a shot goes on until the next one",
                )
        self._check_names(shots)

    def _check_names(self, shots: list[dict[str, Any]]) -> None:
        seen: dict[str, int] = {}
        for number, shot in enumerate(shots):
            name = shot.get("name")
            if not name:
                continue
            if name in seen:
                self._wrong(("shot", number, "name"), f"is {name!r}, which shot {seen[name] + 1} is called already")
            elif name.isdecimal():
                self._wrong(("shot", number, "name"), f"is {name!r}: expected a name that is no number")
            seen.setdefault(name, number)

    def _with_lyrics(self, shots: list[dict[str, Any]], defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
        """With the lines that are sung in each shot in place of `{lyrics}` in its prompts."""
        words = [name for name in ("prompt", "negative_prompt") if self._asks_for_lyrics(name, shots, defaults)]
        lines = self._lyrics() if words else ()
        if not words or lines is None:
            return shots
        starts = [shot.get("start") or 0.0 for shot in shots]
        for shot, start, stop in zip(shots, starts, [*starts[1:], float("inf")], strict=True):
            sung = " / ".join(lines_between(lines, start, stop))
            for name in words:
                text = shot.get(name) or defaults.get(name)
                if text is not None and LYRICS in text:
                    shot[name] = text.replace(LYRICS, sung)
        return shots

    @staticmethod
    def _asks_for_lyrics(name: str, shots: list[dict[str, Any]], defaults: Mapping[str, Any]) -> bool:
        return any(LYRICS in (owner.get(name) or "") for owner in (defaults, *shots))

    def _lyrics(self) -> tuple[Line, ...] | None:
        named, song = self._data.get("lyrics"), self._data.get("song")
        if isinstance(named, str):
            path: Path | None = self._folder / Path(named).expanduser()
        else:
            path = lyrics_beside(self._folder / song) if isinstance(song, str) else None
        if path is None:
            self._wrong(("lyrics",), f"{LYRICS} stands in a prompt, and beside the song there is no .lrc or .srt")
            return None
        try:
            return read_lyrics(path)
        except InputError as error:
            self._wrong(("lyrics",), str(error))
            return None

    def _check_whole(self, fields: dict[str, Any]) -> None:
        """What only all fields together show; the last shot's `stop` is the end of the video."""
        shots = fields["shots"]
        stop = shots[-1].get("stop")
        window = fields["window"]
        if stop is not None and window.get("full"):
            window |= {"full": False, "duration": stop - window.get("start", 0.0)}
        fields["shots"] = tuple(
            ShotRequest(**{name: value for name, value in shot.items() if name != "stop"}) for shot in shots
        )
        try:
            Request(**fields)
        except InputError as error:
            self._wrong(self._place_of(error.field), str(error))
        self._raise_problems()

    def _place_of(self, field: str | None) -> Place:
        if field is None or field.startswith("shots"):
            return ("shot",)
        *groups, leaf = field.split(".")
        places: list[Place] = [("defaults", *groups, leaf), ("defaults", leaf), ("defaults",)]
        return next((place for place in places if place in self._lines), places[0])


def _leaves(table: Mapping[str, Any], place: Place) -> Iterator[tuple[Place, str, Any]]:
    """Values in tables: place, dotted name and value."""
    for key, value in table.items():
        here: Place = (*place, key)
        if isinstance(value, dict):
            yield from ((inner, f"{key}.{name}", leaf) for inner, name, leaf in _leaves(value, here))
        else:
            yield here, key, value


def _unknown(key: str, known: Iterable[str]) -> str:
    near = get_close_matches(key, list(known), n=1)
    return f"is not known{f'; did you mean {near[0]}?' if near else ''}"
