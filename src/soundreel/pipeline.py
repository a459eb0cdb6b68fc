"""The main flow: plan, render, interpolate, write, verify, publish."""

import dataclasses
import errno
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundreel import __version__, naming, planning
from soundreel.engines.base import Choice, Engine, open_engine
from soundreel.errors import InputError, MediaError
from soundreel.interpolate import FILM, MOTION, NONE, Rates, check_method, interpolate, open_method
from soundreel.media.audio import SoundInfo, probe_sound
from soundreel.media.image import probe_image
from soundreel.media.mux import SoundTrack, assemble, verify
from soundreel.media.video import SegmentWriter
from soundreel.types import MODEL_FPS, Frames, Plan, Progress, RenderedClip, Report, Request, Result, Stage

INTERPOLATED_FPS = 2 * MODEL_FPS
"""Frames per second with interpolation, where no rate is asked for."""

RECIPE_KEY = "soundreel"
"""Metadata key of the recipe in a finished file."""

DRAFT_NEEDS_NO_FILM = "a draft needs no weights: --interpolate motion doubles its frames, not FILM"

RATE_NEEDS_A_METHOD = (
    "--fps {fps} without --interpolate: the frames between come from --interpolate motion; "
    "rife and film make better ones"
)

NOTABLE_CROP = 0.34
"""A reference image that loses more of its area than this is worth a word."""


def plan(request: Request, audio_seconds: float | None = None) -> Plan:
    """Plan a render without starting it; the sound's length is read from the file unless given."""
    return planning.plan(request, probe_sound(request.audio).seconds if audio_seconds is None else audio_seconds)


def generate(
    request: Request,
    on_progress: Report | None = None,
    *,
    on_start: Callable[["Job"], None] | None = None,
) -> Result:
    """Render `request` into a video file and return it, verified.

    `on_progress` hears every step and may raise `Cancelled`; `on_start` hears once what will be rendered.
    The file appears under its name only when it is whole. Raises the errors of `soundreel.errors`.
    """
    clock = _Clock(on_progress)
    job = prepare(request)
    if on_start is not None:
        on_start(job)
    with _work_folder(job) as work:
        segments = _render(job, work, clock)
        clock(Progress(stage=Stage.WRITE))
        finished = _write(job, segments, work)
        path = _publish(finished, job)
    return Result(
        path=path,
        engine=job.engine.name,
        plan=job.plan,
        frames=job.frames_written,
        fps=job.fps,
        seconds=clock.elapsed,
        notes=job.notes,
        recipe=recipe(job),
    )


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request that has passed every check and can be rendered."""

    plan: Plan
    choice: Choice
    interpolation: str  # the method that is really used
    notes: tuple[str, ...]

    @property
    def engine(self) -> Engine:
        """The engine that renders it."""
        return self.choice.engine

    @property
    def request(self) -> Request:
        """What the user asked."""
        return self.plan.request

    @property
    def fps(self) -> int:
        """Frames per second of the file."""
        if self.interpolation == NONE:
            return MODEL_FPS
        return self.request.fps or INTERPOLATED_FPS

    @property
    def frames_written(self) -> int:
        """Frames of the file."""
        return Rates(target=Fraction(self.fps)).count(self.plan.frames)


def prepare(request: Request) -> Job:
    """Open and check all that a render needs; nothing is written."""
    _check_output(request)
    choice = open_engine(request)
    interpolation = _interpolation(request, choice.engine)
    check_method(interpolation, weights=request.interpolate_weights, models=request.models)
    sound = probe_sound(request.audio)
    planned = planning.plan(request, sound.seconds)
    choice.engine.check(request)
    notes = (
        *_sound_notes(planned, sound),
        *_reference_notes(request),
        *choice.engine.notes(planned),
        *_interpolation_notes(request, interpolation),
    )
    return Job(plan=planned, choice=choice, interpolation=interpolation, notes=notes)


def _interpolation(request: Request, engine: Engine) -> str:
    """The method that is really used: a draft never needs FILM's weights, and a higher rate needs some method."""
    if request.fps == MODEL_FPS:
        return NONE
    if engine.name == "draft" and request.interpolate == FILM:
        return MOTION
    return MOTION if request.interpolate == NONE and request.fps is not None else request.interpolate


def _interpolation_notes(request: Request, interpolation: str) -> Iterator[str]:
    if interpolation == MOTION and request.interpolate == FILM:
        yield DRAFT_NEEDS_NO_FILM
    if interpolation == MOTION and request.interpolate == NONE:
        yield RATE_NEEDS_A_METHOD.format(fps=request.fps)


def recipe(job: Job) -> dict[str, Any]:
    """All that is needed to render the video again, ready for JSON."""
    return {
        "soundreel": __version__,
        "engine": job.engine.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "request": _plain(dataclasses.asdict(job.request)),
        "plan": {
            "frames": job.plan.frames,
            "audio_seconds": job.plan.audio_seconds,
            "clips": [dataclasses.asdict(clip) for clip in job.plan.clips],
        },
        "frames": job.frames_written,
        "fps": job.fps,
        "notes": list(job.notes),
    }


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in fields.items()}


class _Clock:
    """Adds elapsed time and a forecast to progress."""

    def __init__(self, on_progress: Report | None) -> None:
        self._on_progress = on_progress
        self._begun = time.monotonic()
        self._stage_begun: dict[Stage, float] = {}

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._begun

    def __call__(self, progress: Progress) -> None:
        if self._on_progress is None:
            return
        begun = self._stage_begun.setdefault(progress.stage, self.elapsed)
        spent = self.elapsed - begun
        eta = spent / progress.done * (progress.total - progress.done) if progress.done else None
        self._on_progress(dataclasses.replace(progress, seconds=self.elapsed, eta_seconds=eta))


def _check_output(request: Request) -> None:
    if request.output is None:
        return
    output = Path(request.output)
    if output.suffix.lower() != ".mp4":
        raise InputError(f"--output is {str(output)!r}: expected a name that ends in .mp4")
    if output.is_dir():
        raise InputError(f"--output is {str(output)!r}, which is a folder: name a file, or use --output-dir")


def _sound_notes(planned: Plan, sound: SoundInfo) -> Iterator[str]:
    if sound.truncated:
        yield f"the sound file is cut off: only {sound.seconds:.2f} s of it can be decoded"
    if planned.silence_seconds * MODEL_FPS >= 1:
        yield (
            f"the sound ends at {planned.audio_seconds:.2f} s, the video at {planned.seconds:.2f} s: "
            f"{planned.silence_seconds:.2f} s of silence follow"
        )


def _reference_notes(request: Request) -> Iterator[str]:
    if request.ref_image is None:
        return
    picture = probe_image(request.ref_image)
    if picture.animated:
        yield f"{Path(request.ref_image).name} is animated: its first frame is used"
    ratio = (picture.width * request.height) / (picture.height * request.width)
    lost = 1 - min(ratio, 1 / ratio)
    if lost > NOTABLE_CROP:
        yield (
            f"{lost:.0%} of the reference image ({picture.width}×{picture.height}) is cropped away at "
            f"{request.width}×{request.height}: a --width and --height nearer to its shape keep more"
        )


def _output_folder(request: Request) -> Path:
    return Path(request.output_dir) if request.output is None else Path(request.output).absolute().parent


@contextmanager
def _work_folder(job: Job) -> Iterator[Path]:
    """A folder on the output's own file system, so that publishing is a rename; removed at the end."""
    folder = _output_folder(job.request)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(prefix=".soundreel-", dir=folder)
    except OSError as error:
        raise InputError(f"cannot write into {str(folder)!r} ({error.strerror}): choose another folder") from error
    with work as name:
        yield Path(name)


def _render(job: Job, work: Path, clock: _Clock) -> list[Path]:
    """Write the pictures as encoded segments, one per clip, with what lies between them and the clip before."""
    scratch = work / "engine"
    scratch.mkdir()
    clips = job.engine.render(job.plan, 0, None, clock, scratch)
    pictures_of = _retiming(job)
    segments = []
    before = None
    for rendered in clips:
        pictures = pictures_of(rendered, before)
        segments.append(_encode(pictures, work / f"clip_{rendered.clip.index:05d}.mp4", job))
        before = rendered.frames[-1].copy()
        del rendered, pictures  # or two clips would be in memory while the next is rendered
    return segments


def _retiming(job: Job) -> Callable[[RenderedClip, NDArray[np.uint8] | None], Iterable[Frames]]:
    """How a clip's frames become those of the file, given the last frame of the clip before."""
    if job.interpolation == NONE:
        return lambda rendered, _: [rendered.frames]
    request = job.request
    method = open_method(
        job.interpolation, weights=request.interpolate_weights, models=request.models, device=request.device
    )

    def retimed(rendered: RenderedClip, before: NDArray[np.uint8] | None) -> Iterable[Frames]:
        pictures = interpolate(
            rendered.frames,
            method=method,
            fps=job.fps,
            before=before,
            start=rendered.clip.start,
            is_last=rendered.clip.stop == job.plan.frames,
        )
        return (picture[np.newaxis] for picture in pictures)

    return retimed


def _encode(batches: Iterable[Frames], segment: Path, job: Job) -> Path:
    request = job.request
    with SegmentWriter(segment, width=request.width, height=request.height, fps=job.fps, crf=request.crf) as writer:
        for frames in batches:
            writer.write(frames)
    return segment


def _write(job: Job, segments: list[Path], work: Path) -> Path:
    finished = work / "finished.mp4"
    sound = SoundTrack(path=job.request.audio, start=job.request.audio_start, seconds=job.plan.audio_seconds)
    assemble(segments, finished, fps=job.fps, sound=sound, metadata=_metadata(job))
    verify(finished, frames=job.frames_written, fps=job.fps, sound=True)
    return finished


def _metadata(job: Job) -> dict[str, str]:
    title = Path(job.request.audio).stem
    if job.engine.name == "draft":
        title += " (draft)"
    return {
        "title": title,
        "comment": f"soundreel {__version__}, engine {job.engine.name}",
        RECIPE_KEY: json.dumps(recipe(job), ensure_ascii=False),
    }


def _publish(finished: Path, job: Job) -> Path:
    """Give the video its name: an asked-for name is replaced, a name of ours never replaces anything."""
    folder = _output_folder(job.request)
    try:
        if job.request.output is not None:
            output = folder / Path(job.request.output).name
            return finished.replace(output)
        wanted = folder / naming.output_name(job.plan, job.engine.name, datetime.now())
        return next(path for k in count(1) if _claim(finished, path := naming.numbered(wanted, k)))
    except OSError as error:
        raise MediaError(f"cannot save the video in {str(folder)!r}: {error.strerror}") from error


def _claim(finished: Path, path: Path) -> bool:
    """Link `finished` under `path` unless that name is taken: two renders at once never collide."""
    try:
        path.hardlink_to(finished)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS} or path.exists():
            raise
        finished.replace(path)  # a file system without hard links
    return True
