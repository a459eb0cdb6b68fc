"""Renders that are interrupted or kept: gone on with, drawn again in part, printed again."""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from soundreel.disk.outputs import PLAN_NAME, WORK_FOLDER, Inputs, clips_folder, is_folder
from soundreel.disk.state import is_own
from soundreel.errors import InputError
from soundreel.interpolation.video import name_before
from soundreel.render.named_places import named_places
from soundreel.render.naming import check_output
from soundreel.render.plan_file import PlanData, is_plan, load_plan, read_plan, read_plans
from soundreel.render.prepared import Asked
from soundreel.render.recipe import read_recipe, stated_request
from soundreel.render.redo_numbers import redo_numbers
from soundreel.render.stored_renders import StoredRender, existing, find_renders, find_work_folders
from soundreel.render.work_folder import FOLDER_DIGITS, work_folder
from soundreel.request import Interpolation, Output, Request, WorkOptions, is_storyboard
from soundreel.request.data import from_data
from soundreel.request.fields import Role, fields_of
from soundreel.units import MODEL_FPS, StrPath
from soundreel.wording import shell_word

ENCODING: Final = frozenset(field.leaf for field in fields_of(Output) if field.option.role is Role.ENCODING)
"""Fields of `Output` that a render is printed again with."""


def load_render(source: StrPath, *, is_trusted: bool = False) -> tuple[Request, WorkOptions]:
    """The request of a work folder, or of the only one in a folder, and how it is kept.

    Args:
        source: the folder, for the render that it is at, or one of the plans in it.
        is_trusted: what the folder says is followed, whoever began it: which files are read, where they are sent and
            where the video goes.

    Raises:
        InputError: there is none, more than one, its plan cannot be read, or this user has not begun it.
    """
    place, plan = _open(source)
    options = WorkOptions(work_dir=place, keep_work=plan.get("keep_work"), only_resume=True)
    return _request_in(place, plan, is_trusted), options


def load_redo(
    source: StrPath,
    what: int | str,
    *,
    seed: int | None = None,
    work_dir: StrPath | None = None,
    output: StrPath | None = None,
    take: int | None = None,
    is_trusted: bool = False,
) -> tuple[Request, WorkOptions]:
    """The request that draws a part of a kept or unfinished render again, and how it is kept.

    Args:
        source: a work folder, one of the plans in it, a video whose work folder lies beside it or under `work_dir`, or
            a storyboard: its newest render.
        what: number of a clip, from 1, or the name of a shot, or of a section: all its shots.
        seed: of the first clip; None: one that no take of it has had. A redo that is under way keeps the one it has.
        output: name of the video; None: a new one beside that of the render, where it has a name.
        take: of a storyboard's kept renders the one with this number, from 1, in the order in which they were made.
        is_trusted: as in `load_render`.

    Raises:
        InputError: there is no such render, or this user has not begun it.
    """
    if is_storyboard(source) and not is_plan(Path(source)):
        place, _, request = _newest_of(Path(source), work_dir, take, is_trusted)
    elif take is not None:
        raise InputError("--take chooses among the renders of a storyboard: give one, or leave --take out")
    else:
        place, _, request = _open_source(source, work_dir, is_trusted)
    _refuse_source(source, output, request)
    if what == "":
        raise InputError("no clip or shot is named: expected a clip's number, or the name of a shot or section")
    part: dict[str, Any] = {"redo_shot": what} if isinstance(what, str) else {"redo_clip": what}
    return request, WorkOptions(work_dir=place, redo_seed=seed, redo_output=output, **part)


def renders_of(storyboard: Path, work_dir: StrPath | None = None) -> list[StoredRender]:
    """The kept and unfinished renders of a storyboard, oldest first.

    They are looked for beside it, in the current folder, in the one for automatic names, and in `work_dir`.
    """
    places = [storyboard.absolute().parent, Path.cwd(), Path(Output().dir), *([] if work_dir is None else [work_dir])]
    folders = dict.fromkeys(Path(place).absolute() for place in places if is_folder(Path(place)))
    wanted = str(storyboard.absolute())
    found = {render.plan: render for folder in folders for render in find_renders(folder)}
    mine = (render for render in found.values() if render.storyboard == wanted)
    return sorted(mine, key=lambda render: (render.written, render.is_latest))


def _newest_of(
    storyboard: Path, work_dir: StrPath | None, take: int | None, is_trusted: bool
) -> tuple[Path, PlanData, Request]:
    """The newest render of a storyboard, or the one with a number."""
    renders = renders_of(storyboard, work_dir)
    if not renders:
        raise InputError(
            f"no render of {str(storyboard)!r} is kept beside it, here or in {Output().dir}: render it first, or name "
            "a --work-dir"
        )
    if take is not None and not 1 <= take <= len(renders):
        raise InputError(f"--take is {take}: expected 1 to {len(renders)}, the kept renders of {str(storyboard)!r}")
    chosen = renders[-1 if take is None else take - 1]
    place, plan = _open(chosen.plan)
    request = _request_in(place, plan, is_trusted)
    if not chosen.is_latest:  # the folder is at another take by now
        request = request.replace(clip_seeds=[clip["seed"] for clip in plan["clips"]])
    return place, plan, request


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
        source: a work folder, one of the plans in it, or a video whose work folder lies beside it or under `work_dir`;
            of a video what is not given in `encoding` is as it was for this video.
        encoding: fields of `Output` that change nothing but how pictures are post-processed and encoded. A method of
            interpolation without a rate takes the rate along with it.
        output: name of the video; None: a new one beside the video or that of the render, where it has a name.
        is_trusted: as in `load_render`.

    Raises:
        InputError: there is no such render, this user has not begun it, or a field is none of these.
    """
    place, plan, request = _open_source(source, work_dir, is_trusted)
    beside = request.output.path
    output_options = replace(request.output, **_with_rate(encoding, request.output))
    request = request.replace(output=output_options, engine=plan.get("engine", request.engine))
    wanted = output or (None if beside is None else _next_name(Path(beside), "print"))
    if wanted is not None:
        request = request.replace(output=str(wanted))
    _refuse_source(source, output, request)
    models = plan["parts"].get("model files", {})
    return request, WorkOptions(work_dir=place, keep_work=True, only_print=True, printed_models=models)


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


def _open_source(source: StrPath, work_dir: StrPath | None, is_trusted: bool) -> tuple[Path, PlanData, Request]:
    """The work folder of a render, its plan there and its request: of a video the one that makes it, under its name."""
    place = Path(source)
    if os.fspath(source) and place.is_file() and not is_plan(place):
        recipe, name = read_recipe(place), name_before(place)
        place, plan = _folder_of(place, recipe, work_dir)
        return place, plan, _as_made(_request_in(place, plan, is_trusted), recipe).replace(output=str(name))
    place, plan = _open(source)
    return place, plan, _request_in(place, plan, is_trusted)


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
    request, folder = what.request, work_folder(what, options)
    plan = next((plan for plan in read_plans(folder).values() if plan["asked"] == what.fingerprint.digest), None)
    if plan is None:
        raise InputError(
            f"there is nothing to draw again in {str(folder)!r}: --keep-work keeps a finished render",
            field="clip_seeds",
        )
    seeds = list(request.clip_seeds) or [clip["seed"] for clip in plan["clips"]]
    numbers = redo_numbers(what.plan, options)
    pending = _pending(plan, numbers, seeds) if options.redo_seed is None else None
    if pending is not None:
        seeds = pending["seeds"]
    else:
        first = max([*seeds, *plan["taken"]]) + 1 if options.redo_seed is None else options.redo_seed
        for k, number in enumerate(numbers):
            seeds[number - 1] = first + k
    path = options.redo_output
    if path is None and pending is not None and is_own(pending["output"], pending.get("seal")):
        path = pending["output"]
    if path is None and request.output.path is not None:
        path = _next_name(Path(request.output.path), "take")
    return request.replace(clip_seeds=seeds, **({} if path is None else {"output": str(path)}))


def _pending(plan: PlanData, numbers: list[int], seeds: list[int]) -> PlanData | None:
    """A redo of the clips with these numbers that was begun and is not done; all others have their `seeds` in it."""
    redo = plan.get("redo")
    if redo is None or redo["clip"] != numbers[0] or len(redo["seeds"]) != len(seeds):
        return None
    others = [k for k in range(len(seeds)) if k + 1 not in numbers]
    return redo if all(redo["seeds"][k] == seeds[k] for k in others) else None


def _next_name(path: Path, word: str) -> Path:
    """`video.mp4` → `video_take2.mp4`, or the next number that is free: an earlier video is never replaced."""
    stem, _, number = path.stem.rpartition(f"_{word}")
    stem = stem if stem and number.isdecimal() else path.stem
    names = (path.with_name(f"{stem}_{word}{k}{path.suffix}") for k in range(2, 10_000))
    return next(name for name in names if not name.exists())


def _folder_of(video: Path, recipe: Mapping[str, Any], work_dir: StrPath | None) -> tuple[Path, PlanData]:
    """The work folder that a video was made in, and its plan there."""
    asked = str(recipe.get("fingerprint", ""))[:FOLDER_DIGITS]
    name = str(recipe.get("folder") or asked)[:FOLDER_DIGITS]
    if not all(re.fullmatch(rf"[0-9a-f]{{{FOLDER_DIGITS}}}", digits) for digits in (asked, name)):
        raise InputError(f"the recipe of {str(video)!r} names no work folder: it was made before soundreel 0.2")
    places = [video.absolute().parent / WORK_FOLDER / name, clips_folder(video)]
    if work_dir is not None:
        places = [Path(work_dir).absolute(), Path(work_dir).absolute() / name, *places]
    for place in places:
        plan = next((plan for plan in read_plans(place).values() if plan["asked"].startswith(asked)), None)
        if plan is not None:
            return place, plan
    looked = " and ".join(map(str, places[:-1]))
    raise InputError(
        f"the clips of {str(video)!r} are not kept (looked in {looked}): render it with --keep-work, or name the "
        "--work-dir that it was rendered in"
    )


def _open(source: StrPath) -> tuple[Path, PlanData]:
    """A work folder and the plan in it that is named: by its file, or as the one that the folder, alone, is at."""
    place = Path(source)
    if is_plan(place) and place.is_file():
        folder, plan = place.parent, load_plan(place)
    else:
        folder = _only_work_folder(existing(source))
        place, plan = folder / PLAN_NAME, read_plan(folder)
    if plan is None:
        raise InputError(
            f"{str(place)!r} is damaged: give the command that began the render again, its clips are kept; soundreel "
            f"unfinished {shell_word(folder)} lists what else is in its folder"
        )
    return folder, plan


def _only_work_folder(root: Path) -> Path:
    places = list(find_work_folders(root))
    if len(places) != 1:
        found = ", ".join(str(place.relative_to(root)) for place in places) or "none"
        raise InputError(f"{str(root)!r} is no work folder, and of the folders in it these are: {found}; name one")
    return places[0]
