"""The work folder of a render: what is done is on the disk, whole and checked, before the next clip begins.

    plan.json                 the request, its fingerprint, the clips and their seeds
    clip_00001.mp4            pictures of the first clip, encoded
    clip_00001.safetensors    its carry, where the next clip needs one
    clip_00001.json           checksums of both, the seed, and the carry that the clip was rendered from
    engine/                   the engine's own
    lock                      pid and host of the process that renders

A clip counts when its files are as its record says, its seed is the plan's, and it was rendered from the carry that
the clip before it has now. So a clip that is damaged, or drawn anew with another seed, takes along what depends on
it and nothing else.
"""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from soundreel import planning
from soundreel.disk.digests import data_digest, file_digest
from soundreel.disk.durable import (
    TEMPORARY,
    TEMPORARY_PATTERN,
    WINDOWS,
    uninterrupted,
    write_durably,
    write_json,
    write_tensors,
)
from soundreel.disk.locks import LOCK_NAME, locked
from soundreel.errors import InputError
from soundreel.render.fingerprint import to_data
from soundreel.render.prepared import Job
from soundreel.request import Keeping, Request
from soundreel.types import Clip
from soundreel.units import MODEL_FPS
from soundreel.version import __version__

WORK_FOLDER: Final = ".soundreel"
"""Beside the output: a folder per render, named by its fingerprint."""

PLAN_NAME: Final = "plan.json"
ENGINE_FOLDER: Final = "engine"
FOLDER_DIGITS: Final = 16

_OURS: Final = re.compile(
    rf"({LOCK_NAME}|{ENGINE_FOLDER}|plan\.json|(finished|partial)\.mp4|clip_\d{{5}}\.(mp4|safetensors|json))"
    rf"({TEMPORARY_PATTERN})?"
)

BYTES_PER_PIXEL_GUESS: Final = 0.1
"""Of a first segment, for the message when the disk is full."""

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What clip_00001.json says."""

    fingerprint: str
    seed: int
    before: str  # checksum of the carry that the clip was rendered from; "": none
    segment: str  # checksum
    carry: str  # checksum; "": none
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where to go on."""

    index: int
    carry: Tensors


@contextmanager
def open_work(job: Job, keeping: Keeping) -> Iterator["Work"]:
    """The work folder of `job`, its earlier clips in it; removed on success, kept where it holds anything on failure.

    Raises:
        InputError: another process renders in it, it is not a work folder, or there is nothing to go on with.
        MediaError: it cannot be written.
    """
    folder = work_folder(job, keeping)
    _refuse_foreign(folder)
    with locked(folder):
        work = None
        try:
            work = Work(folder, job, keeping)
            yield work
        except BaseException as error:
            _leave(folder, error, work)
            raise
        finally:
            staging = staging_folder(job, keeping)
            if staging != folder:
                remove_work(staging)
        with uninterrupted():
            work.finish(keeping)


def _leave(folder: Path, error: BaseException, work: "Work | None") -> None:
    """Keep a folder that holds anything worth it, and say how to go on."""
    if not any(folder.glob("clip_*.json")) and not any(folder.glob(f"{ENGINE_FOLDER}/*")):
        remove_work(folder)
    elif work is not None:
        kept = f"{work.done} of {len(work.job.plan.clips)} clips are kept"
        error.add_note(f"{kept}, go on with: soundreel resume {shlex.quote(str(folder))}")


def output_folder(request: Request) -> Path:
    """Where the video goes."""
    return Path(request.output_dir) if request.output is None else Path(request.output).absolute().parent


def work_folder(job: Job, keeping: Keeping) -> Path:
    """Where the clips of `job` are kept."""
    if keeping.work_dir is not None:
        return Path(keeping.work_dir).absolute()
    return (output_folder(job.request) / WORK_FOLDER / job.fingerprint.digest[:FOLDER_DIGITS]).absolute()


def staging_folder(job: Job, keeping: Keeping) -> Path:
    """On the output's own file system, so that a file made here gets its name there by a rename."""
    folder = work_folder(job, keeping)
    beside = (output_folder(job.request) / WORK_FOLDER).absolute()
    return folder if folder.parent == beside else beside / data_digest(str(folder))[:FOLDER_DIGITS]


def _refuse_foreign(folder: Path) -> None:
    if folder.is_dir():
        foreign = next((entry.name for entry in folder.iterdir() if not _OURS.fullmatch(entry.name)), None)
        if foreign is not None:
            raise InputError(
                f"{str(folder)!r} is no work folder of soundreel (it holds {foreign!r}): name an empty or a new one"
            )


def remove_work(folder: Path) -> None:
    """Remove a work folder, and the folder of work folders when it was the last one."""
    if not folder.is_dir():
        return
    entries = sorted((path for path in folder.iterdir() if _OURS.fullmatch(path.name)), key=_removal_order)
    for entry in entries:
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != LOCK_NAME or not WINDOWS:  # where `locked` removes it, once it is closed
            entry.unlink()
    for empty in (folder, *([folder.parent] if folder.parent.name == WORK_FOLDER else [])):
        with suppress(OSError):  # not empty: another render is in it
            empty.rmdir()


def _removal_order(path: Path) -> tuple[bool, bool]:
    """The lock last, the plan before it: whoever is killed in between leaves what can still be removed."""
    return path.name == LOCK_NAME, path.name == PLAN_NAME


class Work:
    """The open work folder of a render."""

    def __init__(self, folder: Path, job: Job, keeping: Keeping) -> None:
        self.folder = folder
        self.staging = staging_folder(job, keeping)
        self.job = job
        self._remove_halves()
        found = read_plan(folder)
        changed = _changes(job, found)
        if found is None or changed or not keeping.resume:
            self._begin_anew(keeping, found, changed)
        else:
            self._adopt_seeds(found)
        if keeping.redo_clip is not None:
            self._redo(keeping.redo_clip)
        self._write_plan(keeping)
        for needed in (self.scratch, self.staging):
            needed.mkdir(parents=True, exist_ok=True)
        self._records = [self._read_record(clip) for clip in self.job.plan.clips]
        self._intact = {clip.index for clip in self.job.plan.clips if self._check_segment(clip)}
        told = self._say_what_is_there(discarded=changed if found else [])
        self.job = replace(self.job, resumed=told)

    # where things are

    @property
    def scratch(self) -> Path:
        """The engine's own folder."""
        return self.folder / ENGINE_FOLDER

    def segments(self) -> list[Path]:
        """The encoded clips, as many of the first ones as are whole."""
        whole = len(self.job.plan.clips) if self.missing is None else self.missing
        return [self._path(index, ".mp4") for index in range(whole)]

    def facts(self) -> list[Mapping[str, Any]]:
        """What was noted of each clip in `segments`."""
        return [record.facts for record in self._records[: len(self.segments())] if record is not None]

    # what is there

    @property
    def done(self) -> int:
        """How many clips are whole."""
        return sum(map(self.has, range(len(self._records))))

    @property
    def missing(self) -> int | None:
        """The first clip that is not whole; None: all are."""
        return next((index for index in range(len(self._records)) if not self.has(index)), None)

    def has(self, index: int) -> bool:
        """Whether clip `index` is whole and follows from the one before."""
        record = self._records[index]
        return (
            record is not None
            and index in self._intact
            and record.seed == self.job.plan.clips[index].seed
            and record.before == self._carry_before(index)
        )

    def next_start(self) -> Start | None:
        """The first clip to render and the carry for it; None: all are there. A damaged carry is rendered again."""
        index = self.missing
        while index:
            try:
                return Start(index=index, carry=self._read_carry(index - 1))
            except (OSError, SafetensorError, ValueError):
                index -= 1
                self._intact.discard(index)
        return None if index is None else Start(index=0, carry={})

    def _carry_before(self, index: int) -> str | None:
        if index == 0:
            return ""
        record = self._records[index - 1]
        return None if record is None else record.carry

    def _read_carry(self, index: int) -> Tensors:
        record, path = self._records[index], self._path(index, ".safetensors")
        assert record is not None
        if not record.carry:
            return {}
        if file_digest(path) != record.carry:
            raise ValueError(f"{str(path)!r} is damaged")
        return load_file(path)

    # what comes in

    def keep(self, clip: Clip, fill: Callable[[Path, int], object], carry: Tensors, facts: Mapping[str, Any]) -> None:
        """Store a rendered clip: `fill` writes the segment to a path, given about how many bytes it will take.

        `carry` is what the next clip needs, `facts` what the recipe tells of this one. Signals wait until it is done.
        """
        before = self._carry_before(clip.index)
        assert before is not None
        self._intact.discard(clip.index)
        segment, carried = self._path(clip.index, ".mp4"), self._path(clip.index, ".safetensors")
        needed = self._segment_bytes(clip)
        with uninterrupted():
            write_durably(segment, lambda path: fill(path, needed), needed_bytes=needed)
            if carry:
                write_tensors(carried, carry)
            record = Record(
                fingerprint=self.job.fingerprint.digest,
                seed=clip.seed,
                before=before,
                segment=file_digest(segment),
                carry=file_digest(carried) if carry else "",
                facts=facts,
            )
            write_json(self._path(clip.index, ".json"), record.__dict__)
        self._records[clip.index] = record
        self._intact.add(clip.index)

    def _segment_bytes(self, clip: Clip) -> int:
        """About as many bytes per frame as the clips before."""
        request, seconds = self.job.request, clip.frames / MODEL_FPS
        stored = [(c.frames, self._path(c.index, ".mp4")) for c in self.job.plan.clips[: clip.index]]
        known = [(frames, path.stat().st_size) for frames, path in stored if path.exists()]
        if known:
            return clip.frames * sum(size for _, size in known) // sum(frames for frames, _ in known)
        return round(request.width * request.height * seconds * self.job.fps * BYTES_PER_PIXEL_GUESS)

    # opening

    def _remove_halves(self) -> None:
        for path in self.folder.glob(f"*{TEMPORARY}"):
            path.unlink()

    def _begin_anew(self, keeping: Keeping, found: Mapping[str, Any] | None, changed: Sequence[str]) -> None:
        if keeping.only_resume or keeping.redo_clip is not None:
            why = f"these have changed since: {', '.join(changed)}" if found else "nothing of it is kept there"
            raise InputError(
                f"there is nothing to go on with in {str(self.folder)!r}: {why}; --keep-work keeps a finished render, "
                "and without --redo-clip this command begins anew"
            )
        if found is not None or not keeping.resume:
            for path in self.folder.glob("clip_*"):
                path.unlink()
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _adopt_seeds(self, found: Mapping[str, Any]) -> None:
        """A clip that was drawn anew keeps its new seed."""
        seeds = [clip["seed"] for clip in found["clips"]]
        if not self.job.request.clip_seeds and seeds != [clip.seed for clip in self.job.plan.clips]:
            self.job = replace(self.job, plan=planning.with_seeds(self.job.plan, seeds))

    def _redo(self, number: int) -> None:
        seeds = [clip.seed for clip in self.job.plan.clips]
        if not 1 <= number <= len(seeds):
            raise InputError(f"--redo-clip is {number}: expected 1 to {len(seeds)}, the clips of this render")
        seeds[number - 1] = max(seeds) + 1
        shutil.rmtree(self.scratch, ignore_errors=True)  # it is about the clip as it was
        self.job = replace(self.job, plan=planning.with_seeds(self.job.plan, seeds))

    def finish(self, keeping: Keeping) -> None:
        """The video is there: remove the folder, or note that nothing is left to do in it."""
        if keeping.keep_work:
            self._write_plan(keeping, finished=True)
        else:
            remove_work(self.folder)

    def _write_plan(self, keeping: Keeping, *, finished: bool = False) -> None:
        job = self.job
        write_json(
            self.folder / PLAN_NAME,
            {
                "soundreel": __version__,
                "fingerprint": job.fingerprint.digest,
                "parts": job.fingerprint.parts,
                "engine": job.engine.name,
                "models": dict(job.models),
                "request": to_data(job.request, absolute=True),
                "clips": [vars(clip) for clip in job.plan.clips],
                "keep_work": keeping.keep_work,
                "finished": finished,
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )

    def _read_record(self, clip: Clip) -> Record | None:
        """What is noted of a clip of this render; None where nothing is, or nothing that can be read."""
        try:
            record = Record(**json.loads(self._path(clip.index, ".json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return record if record.fingerprint == self.job.fingerprint.digest else None

    def _check_segment(self, clip: Clip) -> bool:
        """Whether a segment is as its record says; carries are looked at when they are needed."""
        record, path = self._records[clip.index], self._path(clip.index, ".mp4")
        return record is not None and path.is_file() and file_digest(path) == record.segment

    def _say_what_is_there(self, *, discarded: Sequence[str]) -> str:
        if discarded:
            return f"begun anew: the request has changed ({', '.join(discarded)})"
        numbers = [clip.index + 1 for clip in self.job.plan.clips if not self.has(clip.index)]
        if len(numbers) == len(self._records):
            return ""
        if not numbers:
            return f"all {len(self._records)} clips are there from an earlier run"
        damaged = [number for number in numbers if self._path(number - 1, ".json").exists()]
        again = f"; to be rendered again: {', '.join(map(str, damaged))}" if damaged else ""
        return f"{self.done} of {len(self._records)} clips are there, going on with clip {numbers[0]}{again}"

    def _path(self, index: int, ending: str) -> Path:
        return self.folder / f"clip_{index + 1:05d}{ending}"


def read_plan(folder: Path) -> dict[str, Any] | None:
    """What plan.json in `folder` says; None where there is none that can be read."""
    try:
        found = json.loads((folder / PLAN_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kinds = {"fingerprint": str, "parts": dict, "request": dict, "clips": list}
    whole = isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in kinds.items())
    return found if whole else None


def _changes(job: Job, found: Mapping[str, Any] | None) -> list[str]:
    if found is None or found["fingerprint"] == job.fingerprint.digest:
        return []
    return job.fingerprint.differences(found["parts"])
