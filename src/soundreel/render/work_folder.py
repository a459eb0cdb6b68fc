"""The work folder of a render: what is done is on the disk, whole and checked.

    plan.json                          what was asked, what was decided, the clips with seeds and fingerprints
    plan_9f8e7d6c.json                 the same of another render whose clips are kept here, too
    clip_00001_1f2e3d4c.mp4            pictures of the first clip, encoded
    clip_00001_1f2e3d4c.safetensors    its carry, where the next clip or its encoding needs one
    clip_00001_1f2e3d4c.json           its fingerprint, checksums, and the carry that it was rendered from
    clip_00001_5a6b7c8d.latents.*      its negative, where the engine has one: see `soundreel.render.negatives`
    carry_00001_5a6b7c8d.safetensors   the newest of what goes on from negatives
    engine/                            the engine's own
    lock                               pid and host of the process that renders

The digits are the beginning of a clip's fingerprint: a clip of another seed, or encoded otherwise, has files of its own
beside it; which of them count is in `soundreel.render.stored_clips`. Nothing that counts for another request is ever
deleted.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from soundreel.disk.digests import data_digest
from soundreel.disk.durable import (
    TEMPORARY,
    make_folder,
)
from soundreel.disk.locks import locked
from soundreel.disk.outputs import PLAN_NAME, WORK_FOLDER, claimed, is_folder, is_same_folder
from soundreel.disk.state import seal
from soundreel.engines.base import Identity
from soundreel.errors import InputError
from soundreel.render import remarks
from soundreel.render.claims import Claims
from soundreel.render.fingerprint import folder_digest
from soundreel.render.folder_files import ENGINE_FOLDER, refuse_foreign, refuse_without_plan, remove_work
from soundreel.render.naming import output_folder
from soundreel.render.plan_file import (
    FoundPlans,
    PlanData,
    damaged_plans,
    is_of_earlier_version,
    read_plans,
    worth_keeping,
    write_plans,
)
from soundreel.render.prepared import Asked, PreparedRender
from soundreel.render.redo_numbers import redo_numbers
from soundreel.render.room import check_room, disk_need
from soundreel.render.stored_clips import StoredClips
from soundreel.render.taking_over import take_over
from soundreel.request import Request, WorkOptions
from soundreel.request.fields import Paths, to_data
from soundreel.version import __version__

FOLDER_DIGITS: Final = 16
"""Of the fingerprint of what was asked, in the name of its folder."""


@contextmanager
def open_work(render: PreparedRender, options: WorkOptions) -> Iterator["WorkFolder"]:
    """The work folder of a render, its earlier clips in it. After an error it stays if it holds anything, and a note of
    the error says so; when the video has its name, `WorkFolder.finish` is to be called.

    Raises:
        InputError: another process renders in it, it is not a work folder, or there is nothing to go on with.
        MediaError: it cannot be written.
    """
    folder, staging = work_folder(render.asked, options), staging_folder(render.asked, options)
    _check_places(render.asked, folder, staging)
    below, option = _chosen(render.request, options)
    with _claimed(render.request), locked(folder, below=below, option=option):
        work = None
        try:
            work = WorkFolder(folder, render, options)
            yield work
        except BaseException as error:
            _leave(folder, error, work)
            raise
        finally:
            if staging != folder:
                remove_work(staging)


def _check_places(asked: Asked, folder: Path, staging: Path) -> None:
    """Raise `InputError` where a work folder holds other files, the sound or another input, or is to hold the video."""
    for place in (folder, staging):
        refuse_foreign(place)
    refuse_without_plan(folder)
    asked.inputs.refuse_below(folder)
    if is_same_folder(folder, output_folder(asked.request)):
        raise InputError(f"{str(folder)!r} is where the video goes: name another --work-dir")


def _claimed(request: Request) -> AbstractContextManager[None]:
    """The video's name, for this process alone; an automatic name is never another's."""
    return nullcontext() if request.output.path is None else claimed(Path(request.output.path))


def _leave(folder: Path, error: BaseException, work: "WorkFolder | None") -> None:
    """Keep a folder that holds anything worth it, and say how to go on."""
    if work is not None and work.video is not None:
        error.add_note(f"the video is there: {work.video}")
    elif work is not None and work.holds_anything:
        error.add_note(work.says_what_is_kept())
    elif work is not None:
        work.let_go()
        if isinstance(error, KeyboardInterrupt):
            error.add_note("nothing was saved")
    elif not any(folder.glob("clip_*.json")) and not any((folder / ENGINE_FOLDER).glob("*")):
        remove_work(folder)


def _chosen(request: Request, options: WorkOptions) -> tuple[Path, str]:
    """The folder that the user has named for clips or the video, and the option that names another."""
    if options.work_dir is not None:
        return Path(options.work_dir), "--work-dir"
    return output_folder(request), "--output-dir" if request.output.path is None else "--output"


def work_folder(asked: Asked, options: WorkOptions) -> Path:
    """Where the clips of a render are kept."""
    if options.work_dir is not None:
        return Path(options.work_dir).absolute()
    name = folder_name(asked)
    return (output_folder(asked.request) / WORK_FOLDER / name).absolute()


def folder_name(asked: Asked) -> str:
    """What the folder of a render is called where the user names none."""
    return folder_digest(asked.fingerprint)[:FOLDER_DIGITS]


def staging_folder(asked: Asked, options: WorkOptions) -> Path:
    """On the output's own file system, so that a file made here gets its name there by a rename."""
    folder = work_folder(asked, options)
    beside = (output_folder(asked.request) / WORK_FOLDER).absolute()
    return folder if folder.parent == beside else beside / data_digest(str(folder))[:FOLDER_DIGITS]


def kept_identity(asked: Asked, options: WorkOptions) -> Identity | None:
    """What was decided when the render was begun; None where it was not, or is to begin anew.

    Raises:
        InputError: the folder is of a version whose clips cannot be gone on with.
    """
    is_nowhere = options.work_dir is None and not is_folder(output_folder(asked.request) / WORK_FOLDER)
    if not options.resume or is_nowhere:
        return None  # and no input need be read for the folder's name
    plans = read_plans(work_folder(asked, options)).values()
    return next((plan["identity"] for plan in plans if plan["asked"] == asked.fingerprint.digest), None)


class WorkFolder:
    """The open work folder of a render."""

    def __init__(self, folder: Path, render: PreparedRender, options: WorkOptions) -> None:
        self.folder = folder
        self.staging = staging_folder(render.asked, options)
        self.render = render
        self.video: Path | None = None  # once it has its name
        self._remove_halves()
        Claims(folder).remove_those_of_the_dead()
        take_over(folder, render)
        self.clips = StoredClips(folder, render, all_there=options.only_print)
        if not options.resume:
            self._throw_away()
        found = FoundPlans.read(folder, render.asked.fingerprint.digest, render.clip_fingerprints)
        self._others = found.others
        self._taken = found.taken | {clip.seed for clip in render.plan.clips}
        self._redo = self._pending_redo(found, options)
        self.is_kept = _keeps(render, options, found)
        self._refuse(options, found)
        self._check_room()
        self.render = replace(
            render,
            resumed=self._say_what_is_there(found.mine or found.latest),
            is_printed_again=self._is_printed_again,
        )
        make_folder(self.staging, error=InputError, cure="choose another folder")
        self._write_plan()
        make_folder(self.clips.scratch)

    def _refuse(self, options: WorkOptions, found: FoundPlans) -> None:
        """Raise `InputError` where the folder does not hold what was said to be there; nothing is changed yet."""
        if (options.only_resume or options.only_print) and not found.takes:
            raise InputError(remarks.nothing_to_go_on_with(self.folder, _changes(self.render, found.latest)))
        clips = self.clips
        unsampled = [index + 1 for index in clips.missing() if not clips.negatives.has(index)]
        if options.only_print and unsampled:
            engine, total = self.render.engine, self._total
            how = remarks.Kept.FINISHED if found.is_finished(self.render.pixel_fingerprints) else remarks.Kept.BEGUN
            how = how if engine.reach is not None else remarks.Kept.ENCODED
            raise InputError(
                remarks.cannot_print(self.folder, missing=unsampled, total=total, engine=engine.name, how=how)
            )

    def _check_room(self) -> None:
        """Raise `MediaError` where the disk has no room for what is missing."""
        clips = self.clips
        whole = [index for index in range(self._total) if clips.has(index)]
        sampled = [index for index in range(self._total) if clips.negatives.has(index)]
        need = disk_need(self.render, encoded=whole, sampled=sampled, bytes_of=clips.bytes_of(self._total))
        check_room(need, self.folder, self.staging)

    @property
    def _total(self) -> int:
        """How many clips the render has."""
        return len(self.render.plan.clips)

    @property
    def _is_printed_again(self) -> bool:
        """Whether clips are missing, and all that are have their negatives."""
        missing = self.clips.missing()
        return bool(missing) and all(map(self.clips.negatives.has, missing))

    def says_what_is_kept(self) -> str:
        """What is left after an error, and how to go on."""
        sampled = sum(map(self.clips.negatives.has, self.clips.missing()))
        return remarks.what_is_kept(self.folder, done=self.clips.done, total=self._total, sampled=sampled)

    # opening and closing

    def _remove_halves(self) -> None:
        for path in self.folder.glob(f"*{TEMPORARY}"):
            path.unlink()

    def _throw_away(self) -> None:
        """Begin anew, as the user has asked: the clips of this request go, and all of a version before this one."""
        for index in range(self._total):
            self.clips.negatives.forget(index)
            self.clips.forget(index)
        shutil.rmtree(self.clips.scratch, ignore_errors=True)
        if is_of_earlier_version(self.folder):
            for path in [*self.folder.glob("clip_*"), self.folder / PLAN_NAME]:
                path.unlink()
            shutil.rmtree(self.folder / ENGINE_FOLDER, ignore_errors=True)

    def _pending_redo(self, found: FoundPlans, options: WorkOptions) -> PlanData | None:
        """The clip that is being drawn again, with the seeds that it is done with; an earlier one, if none is now."""
        if not options.redoes:
            return found.redo if options.resume else None
        output = self.render.request.output.path
        seeds = [clip.seed for clip in self.render.plan.clips]
        path = None if output is None else str(Path(output).absolute())
        clip = redo_numbers(self.render.plan, options)[0]
        return {"clip": clip, "seeds": seeds, "output": path, "seal": seal(path)}

    def _remaining_redo(self) -> PlanData | None:
        """What is left to draw again now that this render is done."""
        done = [clip.seed for clip in self.render.plan.clips]
        return None if self._redo is None or self._redo["seeds"] == done else self._redo

    @property
    def holds_anything(self) -> bool:
        """Whether there is something of this render to go on with: a clip, what the engine left, or a seed."""
        stored = any(self.clips.path(index, ".json").exists() for index in range(self._total))
        sampled = any(map(self.clips.negatives.has, range(self._total)))
        return stored or sampled or self._redo is not None or any(self.clips.scratch.rglob("*"))

    @property
    def stays(self) -> bool:
        """Whether the clips of this render are kept now that its video is there."""
        return self.is_kept or self._remaining_redo() is not None

    def finish(self, video: Path) -> None:
        """The video has its name: let go of the folder, or note that nothing is left to do in it."""
        self.video = video
        self.clips.negatives.forget_carries()
        if self.stays:
            self._write_plan(finished=True)
        else:
            self.let_go()

    def let_go(self) -> None:
        """Remove the folder; where other renders are kept in it, leave it as it was found, with the clips of those."""
        kept = list(filter(worth_keeping, self._others))
        self._remove_all_but(kept)
        damaged = damaged_plans(self.folder, self._others)
        if not kept and not damaged:
            remove_work(self.folder)
            return
        if not any(map(self._is_take, kept)):
            shutil.rmtree(self.clips.scratch, ignore_errors=True)
        for name in ("finished.mp4", "partial.mp4"):
            (self.folder / name).unlink(missing_ok=True)
        noted = [plan | {"taken": sorted(self._taken)} if self._is_take(plan) else plan for plan in kept]
        if noted:
            write_plans(self.folder, noted[0], noted[1:])
        else:
            damaged[0].replace(self.folder / PLAN_NAME)

    def _remove_all_but(self, kept: Sequence[PlanData]) -> None:
        """Remove the clips of this render that none of the others has, too."""
        theirs = {
            (clip["index"], clip.get(of)) for plan in kept for clip in plan["clips"] for of in ("fingerprint", "pixels")
        }
        for index, pixels in enumerate(self.render.pixel_fingerprints):
            if (index, pixels) not in theirs:
                self.clips.negatives.forget(index)
        for index, fingerprint in enumerate(self.render.clip_fingerprints):
            if (index, fingerprint) not in theirs:
                self.clips.forget(index)

    def _is_take(self, plan: PlanData) -> bool:
        return bool(plan["asked"] == self.render.asked.fingerprint.digest)

    def _write_plan(self, *, finished: bool = False) -> None:
        render, request = self.render, to_data(self.render.request, Paths.ABSOLUTE)
        clips = [
            vars(clip) | {"fingerprint": fingerprint, "pixels": pixels}
            for clip, fingerprint, pixels in zip(
                render.plan.clips, render.clip_fingerprints, render.pixel_fingerprints, strict=True
            )
        ]
        plan = {
            "soundreel": __version__,
            "asked": render.asked.fingerprint.digest,
            "parts": render.asked.fingerprint.parts,
            "identity": dict(render.identity),
            "encoding": dict(render.encoding),
            "engine": render.engine.name,
            "models": dict(render.models),
            "request": request,
            "seal": seal(request),
            "clips": clips,
            "keep_work": self.is_kept,
            "redo": self._remaining_redo() if finished else self._redo,
            "finished": finished,
            "written": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "taken": sorted(self._taken),
        }
        write_plans(self.folder, plan, self._others)

    def _say_what_is_there(self, found: Mapping[str, Any] | None) -> str:
        clips, missing = self.clips, self.clips.missing()
        return remarks.what_is_there(
            missing=[index + 1 for index in missing],
            total=self._total,
            sampled=[index + 1 for index in missing if clips.negatives.has(index)],
            damaged=[index + 1 for index in missing if clips.path(index, ".json").exists()],
            changed=_changes(self.render, found),
        )


def _keeps(render: PreparedRender, options: WorkOptions, found: FoundPlans) -> bool:
    """Whether the folder stays after success: as asked, else as before, else for GPU time or single shots.

    A clip drawn again is kept because its earlier take is.
    """
    if options.keep_work is not None:
        return options.keep_work
    before = found.mine if not options.redoes or found.mine else next(iter(found.takes), None)
    was_kept = before is not None and bool(before.get("keep_work"))
    return was_kept or render.engine.reach is not None or bool(render.request.shots) or len(render.plan.shots) > 1


def _changes(render: PreparedRender, found: Mapping[str, Any] | None) -> list[str]:
    """Names of what was asked otherwise in the render that the folder holds."""
    if found is None:
        return []
    changed = render.asked.fingerprint.differences(found["parts"])
    return changed + [name for name in render.encoding if render.encoding[name] != found["encoding"].get(name)]
