"""The main flow: ask, prepare, render, post-process, write, verify, publish."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from soundreel import planning
from soundreel.disk.durable import uninterrupted
from soundreel.engines.base import Choice, open_engine
from soundreel.engines.beginning import Beginning
from soundreel.engines.opened import Engines
from soundreel.media.audio import probe_sound
from soundreel.progress_timer import ProgressTimer
from soundreel.render import prepared
from soundreel.render.drive import separate_voices
from soundreel.render.fingerprint import check_unchanged
from soundreel.render.kept_processes import KeptProcesses
from soundreel.render.prepared import PreparedRender, ask
from soundreel.render.publish import PartialVideo, publish, write_video
from soundreel.render.puller import render_clips
from soundreel.render.recipe import RECIPE_KEY, differences, what_was_made_otherwise, write_recipe
from soundreel.render.recipe_files import remember_files
from soundreel.render.sharing import render_shared
from soundreel.render.shot_processes import render_shots
from soundreel.render.stored_renders import bytes_below
from soundreel.render.unfinished import load_redo, load_reprint, redone
from soundreel.render.work_folder import WorkFolder, kept_identity, open_work
from soundreel.request import BESIDE_THE_OUTPUT, Request, WorkOptions
from soundreel.scoring import score
from soundreel.types import CancelFlag, Check, Clip, Plan, Progress, Report, Result, Stage, go_on
from soundreel.units import StrPath
from soundreel.version import __version__


def plan(request: Request, audio_seconds: float | None = None) -> Plan:
    """Plan a render without starting it, as the engine that would render it does.

    Args:
        audio_seconds: length of the sound; read from the file unless given.
    """
    seconds = probe_sound(request.audio).seconds if audio_seconds is None else audio_seconds
    return planning.plan(request, seconds, equal_clips=open_engine(request).engine.equal_clips)


def excerpt(request: Request) -> str:
    """What a render says of the part of the sound that it shows (`planning.excerpt`); no engine is opened for it."""
    seconds = probe_sound(request.audio).seconds
    return planning.excerpt(planning.plan(request, seconds), seconds)


def prepare(
    request: Request,
    work: WorkOptions = BESIDE_THE_OUTPUT,
    check: Check = go_on,
    choose: Callable[[Request], Choice] = open_engine,
    kept: KeptProcesses | None = None,
) -> PreparedRender:
    """Open and check all that a render needs, and make every decision; nothing is written.

    Where `work` holds the render already, what was decided when it was begun is followed, or refused. `check` is called
    while the sound is read, and may raise to stop. `choose` opens the engine; `kept` are a session's processes.
    """
    what = ask(request, work.printed_models, choose)
    if work.redoes:
        what = ask(redone(what, work), choose=choose)
    identity = kept_identity(what, work)
    render = prepared.prepare(what, identity, check, only_print=work.only_print, processes=kept)
    is_new = not (work.only_resume or work.only_print or work.redoes)  # else its length is settled
    shown = planning.excerpt(what.plan, what.sound.seconds) if is_new else ""
    notes = (*([shown] if shown else []), *render.notes, *differences(render))
    return dataclasses.replace(render, excerpt=shown, notes=notes)


def generate(
    request: Request,
    on_progress: Report | None = None,
    *,
    on_start: Callable[[PreparedRender], None] | None = None,
    work: WorkOptions = BESIDE_THE_OUTPUT,
    cancel: CancelFlag | None = None,
    engines: Engines | None = None,
    kept: KeptProcesses | None = None,
) -> Result:
    """Render `request` into a video file and return it, verified.

    `on_progress` hears every step and may raise `Cancelled`; `cancel` may be set from any thread; `on_start` hears once
    what will be rendered. `engines` are those of a `soundreel.Session`, and `kept` its processes; without them an
    engine is opened for this render.
    The file appears under its name only when it is whole. What was rendered when a render breaks off is kept: the same
    request goes on with it, and an error's note says how. Raises the errors of `soundreel.errors`.
    """
    stop = CancelFlag() if cancel is None else cancel
    timer = ProgressTimer(on_progress, stop)
    with (
        nullcontext(kept) if kept is not None else closing(KeptProcesses()) as processes,
        nullcontext(engines) if engines is not None else Engines() as opened,
    ):
        with Beginning(opened.open, timer, reads=not work.only_print) as choose:
            render = prepare(request, work, stop.check, choose, processes)
        if render.division.is_divided:
            opened.let_go()  # the devices are other processes'
        return _generate(render, work, timer, stop, on_start, processes)


def _generate(
    render: PreparedRender,
    work: WorkOptions,
    timer: ProgressTimer,
    stop: CancelFlag,
    on_start: Callable[[PreparedRender], None] | None,
    kept: KeptProcesses,
) -> Result:
    with open_work(render, work) as folder:
        if on_start is not None:
            on_start(folder.render)
        partial = PartialVideo(folder)
        partial.update(stop.check)
        said = _voices(folder, timer, stop)
        noted = said + _render(folder, work, partial, timer, stop, kept)
        timer(Progress(stage=Stage.WRITE))
        check_unchanged(folder.render.request, folder.render.asked.fingerprint)
        remember_files(folder.render)
        finished, recipe = _write(folder, said, timer, stop)
        kept.wait()  # for what they have left in the folder
        with uninterrupted():
            path = publish(finished, folder.render)
            partial.remove()
            folder.finish(path)
    return _result(folder, path, recipe, timer.elapsed, noted)


def redo(
    source: StrPath,
    what: int | str,
    on_progress: Report | None = None,
    *,
    seed: int | None = None,
    work_dir: StrPath | None = None,
    output: StrPath | None = None,
    is_trusted: bool = False,
    on_start: Callable[[PreparedRender], None] | None = None,
) -> Result:
    """Draw a part of a kept or unfinished render with another seed, and what depends on it.

    `what` is a clip's number, from 1, or the name of a shot or of a section.

    The result is a new video; arguments and errors as `soundreel.render.unfinished.load_redo`.
    """
    request, work = load_redo(source, what, seed=seed, work_dir=work_dir, output=output, is_trusted=is_trusted)
    return generate(request, on_progress, on_start=on_start, work=work)


def reprint(
    source: StrPath,
    on_progress: Report | None = None,
    *,
    work_dir: StrPath | None = None,
    output: StrPath | None = None,
    is_trusted: bool = False,
    on_start: Callable[[PreparedRender], None] | None = None,
    **encoding: Any,
) -> Result:
    """Print a kept render again, encoded otherwise: `reprint("song.mp4", crf=14)`. Never a pass of the model.

    The result is a new video; `encoding` is fields of `Output`, other arguments and errors as
    `soundreel.render.unfinished.load_reprint`.
    """
    request, work = load_reprint(source, encoding, work_dir=work_dir, output=output, is_trusted=is_trusted)
    return generate(request, on_progress, on_start=on_start, work=work)


def _voices(folder: WorkFolder, timer: ProgressTimer, stop: CancelFlag) -> tuple[str, ...]:
    """Separate what drives, if anything is still to be sampled; returns what the user should know of it."""
    is_sampled = folder.clips.next_start() is not None and not folder.render.is_printed_again
    return separate_voices(folder.render.plan, timer, stop.check) if is_sampled else ()


def _render(
    folder: WorkFolder,
    work: WorkOptions,
    partial: PartialVideo,
    timer: ProgressTimer,
    stop: CancelFlag,
    kept: KeptProcesses,
) -> tuple[str, ...]:
    """Render all that is missing, here or in other processes; returns what the user should know of it."""

    def on_stored(_: Clip, check: Check) -> None:
        partial.update(check)

    if folder.render.division.is_divided:
        return render_shots(folder, work, timer, stop, on_stored, kept)
    if work.is_shared and len(folder.render.plan.chains) > 1:
        render_shared(folder, timer, stop, on_stored)
        return ()
    render_clips(folder.clips, timer, stop, on_stored)
    return ()


def _write(
    folder: WorkFolder, said: tuple[str, ...], timer: ProgressTimer, stop: CancelFlag
) -> tuple[Path, Mapping[str, Any]]:
    """Write the video, and score it if that is asked for: then it is written once more, the scores in its recipe."""
    recipe = write_recipe(folder.render, folder.clips.facts(), said)
    finished = _write_with(folder, recipe, stop.check)
    if not folder.render.request.output.score:
        return finished, recipe
    timer(Progress(stage=Stage.SCORE))
    recipe["scores"] = score(finished, recipe=recipe, check=stop.check).to_data()
    return _write_with(folder, recipe, stop.check), recipe


def _write_with(folder: WorkFolder, recipe: Mapping[str, Any], check: Check) -> Path:
    title = Path(folder.render.request.audio).stem
    if folder.render.engine.name == "draft":
        title += " (draft)"
    metadata = {
        "title": title,
        "comment": f"soundreel {__version__}, engine {folder.render.engine.name}",
    }
    if folder.render.request.output.write_recipe:
        metadata |= folder.render.engine.file_tags(folder.clips.scratch)
        metadata[RECIPE_KEY] = json.dumps(recipe, ensure_ascii=False)
    return write_video(folder, metadata, check)


def _result(
    folder: WorkFolder, path: Path, recipe: Mapping[str, Any], seconds: float, noted: tuple[str, ...]
) -> Result:
    render = folder.render
    return Result(
        path=path,
        engine=render.engine.name,
        plan=render.plan,
        frames=render.frames_written,
        fps=render.fps,
        seconds=seconds,
        notes=(*render.notes, *noted, *what_was_made_otherwise(recipe["plan"]["clips"])),
        excerpt=render.excerpt,
        work_folder=folder.folder if folder.stays else None,
        work_bytes=bytes_below(folder.folder) if folder.stays else 0,
        recipe=recipe,
    )
