"""Renders that are under way, interrupted or kept, found by their work folders; drawn again in part, printed again."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from soundreel.disk.locks import holder
from soundreel.disk.outputs import WORK_FOLDER, Inputs
from soundreel.disk.state import is_own
from soundreel.errors import InputError
from soundreel.fields import Role, fields_of
from soundreel.render.named_places import named_places
from soundreel.render.naming import check_output
from soundreel.render.plan_file import PLAN_NAME, PlanData, clip_file, plans_of, read_plan
from soundreel.render.prepared import Asked
from soundreel.render.recipe import read_recipe, stated_request
from soundreel.render.work_folder import FOLDER_DIGITS, read_record, work_folder
from soundreel.request import Interpolation, Output, Request, WorkOptions, from_data
from soundreel.units import MODEL_FPS, StrPath

DEPTH: Final = 4
"""Folders below the one named that are looked into."""

ENCODING: Final = frozenset(field.leaf for field in fields_of(Output) if field.option.role is Role.ENCODING)
"""Fields of `Output` that a render is printed again with."""


@dataclass(frozen=True, kw_only=True)
class StoredRender:
    """What a work folder says of its render."""

    folder: Path
    audio: str
    engine: str
    clips: int
    done: int  # clips with a record; resuming looks at them closely
    bytes: int
    finished: bool  # kept after success
    written: str  # when the render was begun or last gone on with
    pid: str | None  # of the process that renders; None: none
    problem: str = ""  # why it cannot be gone on with

    @property
    def state(self) -> str:
        """In two words."""
        if self.pid is not None:
            return f"running, pid {self.pid}"
        return "finished, kept" if self.finished else "interrupted"


def find_renders(folder: StrPath) -> list[StoredRender]:
    """The renders in `folder` and the folders in it, oldest first; `InputError` unless it is one."""
    root = _existing(folder)
    found = [render for place in _work_folders(root) if (render := _stored(place)) is not None]
    return sorted(found, key=lambda render: (render.written, render.folder))


def load_render(folder: StrPath, *, is_trusted: bool = False) -> tuple[Request, WorkOptions]:
    """The request of a work folder, or of the only one in a folder, and how it is kept.

    Args:
        is_trusted: what the folder says is followed, whoever began it: which files are read, where they are sent and
            where the video goes.

    Raises:
        InputError: there is none, more than one, its plan cannot be read, or this user has not begun it.
    """
    place, plan = _open(folder)
    options = WorkOptions(work_dir=place, keep_work=plan.get("keep_work"), only_resume=True)
    return _request_in(place, plan, is_trusted), options


def load_redo(
    source: StrPath,
    number: int,
    *,
    seed: int | None = None,
    work_dir: StrPath | None = None,
    output: StrPath | None = None,
    is_trusted: bool = False,
) -> tuple[Request, WorkOptions]:
    """The request that draws clip `number`, from 1, of a kept or unfinished render again, and how it is kept.

    Args:
        source: a work folder, or a video whose work folder lies beside it or under `work_dir`.
        seed: of the clip; None: one that no take of it has had. A redo that is under way keeps the one it has.
        output: name of the video; None: a new one beside that of the render, where it has a name.
        is_trusted: as in `load_render`.

    Raises:
        InputError: there is no such render, or this user has not begun it.
    """
    place, request = _open_source(source, work_dir, is_trusted)
    _refuse_source(source, output, request)
    return request, WorkOptions(work_dir=place, redo_clip=number, redo_seed=seed, redo_output=output)


def load_reprint(
    source: StrPath,
    encoding: Mapping[str, Any] = MappingProxyType({}),
    *,
    work_dir: StrPath | None = None,
    output: StrPath | None = None,
    is_trusted: bool = False,
) -> tuple[Request, WorkOptions]:
    """The request that prints a kept render again, encoded otherwise, and how it is kept.

    Args:
        source: a work folder, or a video whose work folder lies beside it or under `work_dir`; of a video what is not
            given in `encoding` is as it was for this video.
        encoding: fields of `Output` that change nothing but how pictures are post-processed and encoded. A method of
            interpolation without a rate takes the rate along with it.
        output: name of the video; None: a new one beside the video or that of the render, where it has a name.
        is_trusted: as in `load_render`.

    Raises:
        InputError: there is no such render, this user has not begun it, or a field is none of these.
    """
    place, request = _open_source(source, work_dir, is_trusted)
    beside = request.output.path
    request = request.replace(output=replace(request.output, **_with_rate(encoding, request.output)))
    wanted = output or (None if beside is None else _next_name(Path(beside), "print"))
    if wanted is not None:
        request = request.replace(output=str(wanted))
    _refuse_source(source, output, request)
    return request, WorkOptions(work_dir=place, keep_work=True, only_print=True)


def _refuse_source(source: StrPath, output: StrPath | None, request: Request) -> None:
    """Raise `InputError` where a video that is drawn or printed again would be replaced."""
    if output is not None:
        check_output(request.replace(output=str(output)), Inputs.of([("the video", source)]))


def _request_in(folder: Path, plan: PlanData, is_trusted: bool) -> Request:
    """The request of a plan that this user has begun, or trusts: it names files, servers and where the video goes."""
    request = from_data(plan["request"])
    if not is_trusted and not is_own(plan["request"], plan.get("seal")):
        raise InputError(
            f"{str(folder)!r} was not begun by you on this machine, and it says which files are read, where they are "
            f"sent and where the video goes: {named_places(request)}; where that is right, --trust-folder "
            "goes on with it, or else the command that began it, with --work-dir"
        )
    return request


def _open_source(source: StrPath, work_dir: StrPath | None, is_trusted: bool) -> tuple[Path, Request]:
    """The work folder of a render, and its request: of a video, the one that makes this video, under this name."""
    place = Path(source)
    if place.is_file():
        recipe = read_recipe(place)
        place, plan = _folder_of(place, recipe, work_dir)
        return place, _as_made(_request_in(place, plan, is_trusted), recipe).replace(output=str(source))
    place, plan = _open(place)
    return place, _request_in(place, plan, is_trusted)


def _as_made(request: Request, recipe: Mapping[str, Any]) -> Request:
    """The request of a video: its own seeds, and encoded as it is; the folder may be at another take by now."""
    made = stated_request(recipe, is_trusted=False).output
    encoding = [field for field in fields_of(Output) if field.option.role is Role.ENCODING and not field.option.is_path]
    output = replace(request.output, **{field.name: field.of(made) for field in encoding})
    return request.replace(clip_seeds=[clip["seed"] for clip in recipe["plan"]["clips"]], output=output)


def _with_rate(encoding: Mapping[str, Any], made: Output) -> dict[str, Any]:
    """`encoding`, and the rate that belongs to its method: none needs the model's own, the others a higher one."""
    unknown = next((name for name in encoding if name not in ENCODING), None)
    if unknown is not None:
        raise InputError(f"there is no {unknown!r} to print again with: it takes {', '.join(sorted(ENCODING))}")
    method = encoding.get("interpolate")
    if method is None or "fps" in encoding or (method != Interpolation.NONE and made.fps not in {None, MODEL_FPS}):
        return dict(encoding)
    return {**encoding, "fps": None}


def redone(what: Asked, options: WorkOptions) -> Request:
    """The request with another seed for the clip that is to be drawn again, and a name for its video.

    Raises:
        InputError: nothing is kept of this request, or it has no such clip.
    """
    request, folder, number = what.request, work_folder(what, options), options.redo_clip
    plan = next((plan for plan in plans_of(read_plan(folder)) if plan["asked"] == what.fingerprint.digest), None)
    assert number is not None
    if plan is None:
        raise InputError(
            f"there is nothing to draw again in {str(folder)!r}: --keep-work keeps a finished render",
            field="clip_seeds",
        )
    seeds = list(request.clip_seeds) or [clip["seed"] for clip in plan["clips"]]
    if not 1 <= number <= len(seeds):
        raise InputError(f"clip is {number}: expected 1 to {len(seeds)}, the clips of this render", field="clip_seeds")
    pending = _pending(plan, number, seeds) if options.redo_seed is None else None
    if pending is not None:
        seeds = pending["seeds"]
    else:
        seeds[number - 1] = max([*seeds, *plan["taken"]]) + 1 if options.redo_seed is None else options.redo_seed
    path = options.redo_output
    if path is None and pending is not None and is_own(pending["output"], pending.get("seal")):
        path = pending["output"]
    if path is None and request.output.path is not None:
        path = _next_name(Path(request.output.path), "take")
    return request.replace(clip_seeds=seeds, **({} if path is None else {"output": str(path)}))


def _pending(plan: PlanData, number: int, seeds: list[int]) -> PlanData | None:
    """A redo of clip `number` that was begun and is not done; all other clips have their `seeds` in it."""
    redo = plan.get("redo")
    if redo is None or redo["clip"] != number or len(redo["seeds"]) != len(seeds):
        return None
    others = [k for k in range(len(seeds)) if k != number - 1]
    return redo if all(redo["seeds"][k] == seeds[k] for k in others) else None


def _next_name(path: Path, word: str) -> Path:
    """`video.mp4` → `video_take2.mp4`, or the next number that is free: an earlier video is never replaced."""
    stem, _, number = path.stem.rpartition(f"_{word}")
    stem = stem if stem and number.isdecimal() else path.stem
    names = (path.with_name(f"{stem}_{word}{k}{path.suffix}") for k in range(2, 10_000))
    return next(name for name in names if not name.exists())


def _folder_of(video: Path, recipe: Mapping[str, Any], work_dir: StrPath | None) -> tuple[Path, PlanData]:
    """The work folder that a video was made in, and its plan there."""
    name = str(recipe.get("fingerprint", ""))[:FOLDER_DIGITS]
    if not re.fullmatch(rf"[0-9a-f]{{{FOLDER_DIGITS}}}", name):
        raise InputError(f"the recipe of {str(video)!r} names no work folder: it was made before soundreel 0.2")
    places = [video.absolute().parent / WORK_FOLDER / name]
    if work_dir is not None:
        places = [Path(work_dir).absolute(), Path(work_dir).absolute() / name, *places]
    for place in places:
        plan = next((plan for plan in plans_of(read_plan(place)) if plan["asked"].startswith(name)), None)
        if plan is not None:
            return place, plan
    looked = " and ".join(map(str, places))
    raise InputError(
        f"the clips of {str(video)!r} are not kept (looked in {looked}): render it with --keep-work, or name the "
        "--work-dir that it was rendered in"
    )


def _open(folder: StrPath) -> tuple[Path, PlanData]:
    root = _existing(folder)
    places = [root] if (root / PLAN_NAME).exists() else list(_work_folders(root))
    if len(places) != 1:
        found = ", ".join(str(place.relative_to(root)) for place in places) or "none"
        raise InputError(f"{str(root)!r} is no work folder, and of the folders in it these are: {found}; name one")
    plan = read_plan(places[0])
    if plan is None:
        damaged = str(places[0] / PLAN_NAME)
        raise InputError(f"{damaged!r} is damaged: give the command that began the render again, its clips are kept")
    return places[0], plan


def _existing(folder: StrPath) -> Path:
    path = Path(folder)
    if not path.is_dir():
        state = "a file" if path.exists() else "not there"
        raise InputError(f"{os.fspath(folder)!r} is {state}: expected a folder")
    return path


def folders_of_work_folders(root: Path) -> Iterator[Path]:
    """The folders in and below `root` that soundreel has made for work folders."""
    return (place for place, _ in _looked_into(root) if place.name == WORK_FOLDER)


def _work_folders(root: Path) -> Iterator[Path]:
    """Folders with a plan of ours, not inside one another."""
    return (place for place, files in _looked_into(root) if PLAN_NAME in files)


def _looked_into(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """`root` and the folders below it that may hold work folders, with the names of the files in each."""
    for place, folders, files in os.walk(root):
        yield Path(place), files
        if PLAN_NAME in files:
            folders.clear()
        elif len(Path(place).relative_to(root).parts) >= DEPTH:
            folders[:] = [name for name in folders if name == WORK_FOLDER]
        folders.sort()


def _stored(folder: Path) -> StoredRender | None:
    unreadable = StoredRender(
        folder=folder,
        audio="",
        engine="",
        clips=0,
        done=0,
        bytes=bytes_below(folder),
        finished=False,
        written="",
        pid=None,
    )
    try:
        plan = read_plan(folder)
    except InputError as error:
        return replace(unreadable, problem=str(error))
    if plan is None:
        return None
    running = holder(folder)
    return StoredRender(
        folder=folder,
        audio=str(plan["request"].get("audio", "")),
        engine=str(plan.get("engine", "")),
        clips=len(plan["clips"]),
        done=sum(_is_done(folder, clip) for clip in plan["clips"]),
        bytes=bytes_below(folder),
        finished=bool(plan.get("finished", False)),
        written=str(plan.get("written", "")),
        pid=None if running is None else running.pid,
    )


def bytes_below(folder: Path) -> int:
    """What the files in a folder and the folders in it take; 0 where there is none."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # gone in between: a process renders there
                total += (Path(place) / name).stat().st_size
    return total


def _is_done(folder: Path, clip: Any) -> bool:
    try:
        record = read_record(clip_file(folder, clip["index"], clip["fingerprint"], ".json"))
        return record is not None and bool(record.fingerprint == clip["fingerprint"])
    except (KeyError, TypeError):
        return False
