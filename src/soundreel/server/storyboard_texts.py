"""What a helper process does with storyboards: reads those of strangers, proposes, writes. Plain data in and out.

Files stand under their own names in a folder that is made for it: a storyboard names what lies beside it, and what it
names is either one of the files that came with it, or refused before anything is opened.
"""

import json
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final

from soundreel.analysis import hear
from soundreel.errors import InputError
from soundreel.media.audio import probe_sound
from soundreel.request import FLAT_NAMES, Request, ShotRequest
from soundreel.request.fields import Field
from soundreel.server.names import FIELDS, SHOT_FIELDS, SHOT_FILES, SHOTS, UPLOADED, is_word
from soundreel.server.wire import make_request, public_fields
from soundreel.storyboard import propose, read_storyboard, storyboard_text
from soundreel.storyboard.reading import DEFAULTS, OWN, RENAMED
from soundreel.storyboard.writing import Remarks
from soundreel.units import MODEL_FPS

KINDS: Final = ("toml", "json")

MOST_NAME: Final = 200
"""Letters of a file's name in a storyboard."""


@contextmanager
def _beside_each_other(files: Mapping[str, str]) -> Iterator[Path]:
    """A folder in which files stand under names, as `pictures/cover.png`; it is gone with the block."""
    with tempfile.TemporaryDirectory(prefix="soundreel-") as place:
        folder = Path(place).resolve()
        for name, path in files.items():
            there = folder / _plain_name(name)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.symlink_to(path)
        yield folder


def _plain_name(name: str) -> PurePosixPath:
    """A name that leads nowhere else.

    Raises:
        InputError: it could.
    """
    path = PurePosixPath(name)
    is_plain = 0 < len(name) <= MOST_NAME and not path.is_absolute() and name.isprintable() and "\\" not in name
    if not is_plain or any(part in {"..", "~"} or part.startswith("~") or ":" in part for part in path.parts):
        raise InputError(f"{name[:MOST_NAME]!r} is no name of a file beside the storyboard", field="files")
    return path


def parse(text: str, kind: str, files: Mapping[str, str]) -> dict[str, Any]:
    """A storyboard of a stranger as a request; `files` are paths by the names that it may use.

    Raises:
        InputError: all that is wrong in it, each with its line; or it names something that did not come with it.
    """
    _check_names(_raw(text, kind), files)
    with _beside_each_other(files) as folder:
        place = folder / f"storyboard.{kind}"
        if place.exists():
            raise InputError(f"{place.name!r} is the storyboard's own name: send the file under another", field="files")
        place.write_text(text, encoding="utf-8")
        try:
            request = Request(**read_storyboard(place)).replace(storyboard=None)
        except InputError as error:
            says = str(error).replace(f" {str(place)!r}", "").replace(f"{folder}/", "")
            raise InputError(says, field=error.field) from None
        return _told(request, folder)


def write(fields: Mapping[str, Any], files: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """The storyboard of a request: its own shots, those that its cuts make, else such as are proposed for its sound.

    Args:
        files: by the fields that they are: the name in the storyboard, and the path.
    """
    with _beside_each_other(dict(files.values())) as folder:
        request = make_request(fields, {field: folder / name for field, (name, _) in files.items()})
        remarks = Remarks()
        if request.cuts:
            starts = [request.window.start, *sorted(request.cuts)]
            request = request.replace(cuts=(), shots=[ShotRequest(start=start) for start in starts])
        elif not request.shots:
            request, remarks = _proposed(request)
        return _told(request, folder, remarks)


def _proposed(request: Request) -> tuple[Request, Remarks]:
    window, seconds = request.window, probe_sound(request.audio).seconds
    if seconds <= window.start:
        raise InputError(f"the sound is {seconds:.3f} s long: begin before its end", field="window.start")
    length = window.duration if window.frames is None else window.frames / MODEL_FPS
    made = propose(request, hear(request.audio, start=window.start, seconds=length))
    return request.replace(shots=made.shots), made.remarks


def _told(request: Request, folder: Path, remarks: Remarks | None = None) -> dict[str, Any]:
    """A request with shots: its fields, its files by their names, and the texts of its storyboard."""
    named = [(name, field.of(request), field) for name, field in UPLOADED.items()]
    for number, shot in enumerate(request.shots):
        named += [(f"{SHOTS}.{number}.{name}", field.of(shot), field) for name, field in SHOT_FILES.items()]
    return {
        "fields": public_fields(request),
        "files": {
            name: str(Path(path).relative_to(folder))
            for name, path, field in named
            if path is not None and not is_word(field, path)
        },
        "toml": storyboard_text(request, folder / "storyboard.toml", remarks=remarks),
        "json": json.loads(storyboard_text(request, folder / "storyboard.json")),
    }


# what a stranger's storyboard may name


def _raw(text: str, kind: str) -> dict[str, Any]:
    try:
        data = json.loads(text) if kind == "json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"this storyboard cannot be understood: {error}", field="text") from None
    if not isinstance(data, dict):
        raise InputError("this storyboard is no table: expected song, defaults and shot", field="text")
    return data


def _check_names(data: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Raise `InputError` where anything in it could lead to a file or a server that did not come with it."""
    for key in ("song", "lyrics"):
        _check_name(key, data.get(key), files)
    for key, value in _leaves(data.get("defaults", {}), ""):
        name = RENAMED.get(key, key)
        field = DEFAULTS.get(FLAT_NAMES.get(name, name))
        _check_value(key, value, field, {*FIELDS, *UPLOADED}, files)
    shots = data.get("shot", [])
    for shot in shots if isinstance(shots, list) else []:
        for key, value in shot.items() if isinstance(shot, dict) else []:
            _check_value(
                f"shot {key}", value, OWN.get(RENAMED.get(str(key), str(key))), {*SHOT_FIELDS, *SHOT_FILES}, files
            )


def _check_value(key: str, value: Any, field: Field | None, known: set[str], files: Mapping[str, str]) -> None:
    if field is None:
        return  # nothing has this name: that is said, and nothing is done with it
    if field.name not in known:
        raise InputError(f"{key} is the server's to say: leave it out", field=field.name)
    if field.option.is_path and not is_word(field, value):
        _check_name(key, value, files)


def _check_name(key: str, value: Any, files: Mapping[str, str]) -> None:
    if isinstance(value, str) and value not in files:
        raise InputError(
            f"{key} is {value[:MOST_NAME]!r}, which did not come with the storyboard: name an upload for it in `files`",
            field="files",
        )


def _leaves(table: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items() if isinstance(table, dict) else []:
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
