"""`soundreel interpolate`: any video at a higher rate, its sound copied bit for bit."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from soundreel.disk.durable import publish
from soundreel.errors import InputError, MediaError
from soundreel.interpolation.frames import Filler, Method, check_method, open_method, rounded
from soundreel.media.motion import Picture
from soundreel.media.remux import KINDS, holds, other_tracks, replace_pictures, sound_codecs, verify_replaced
from soundreel.media.video import CHROMA_MULTIPLE, SegmentWriter, VideoInfo, picture_times, probe_video, read_frames
from soundreel.request import Interpolation
from soundreel.types import Progress, Report, Stage
from soundreel.units import MAX_FPS, StrPath
from soundreel.version import __version__

METADATA_KEY = "soundreel_interpolation"
"""How the frames between were made, as JSON; a recipe that the video carries stays as it is."""

FACTORS: Final = range(2, 17)

CLOCK_ERROR: Final = Fraction(1, 2000)
NEAR_FRAMES: Final = Fraction(1, 2)
"""A usual rate is taken for a file's own where it differs by no more, and no frame is further from its place."""

LONGEST_FRAMES: Final = 3
"""In a video of variable rate, pictures further apart than so many average ones stand still: nothing is made there."""


@dataclass(frozen=True, kw_only=True)
class Retime:
    """What the user asks for. Without `fps` and `factor` the rate is doubled."""

    video: StrPath  # any video, with any sound or none
    fps: int | None = None  # frames per second to make
    factor: int | None = None  # or how many times the rate it has
    method: str = Interpolation.MOTION
    weights: StrPath | None = None  # of the method's network; None: looked for in the models folder
    models: StrPath | None = None
    device: str = "auto"
    crf: int = 18  # H.264 quality: 0 lossless … 51 worst
    output: StrPath | None = None  # None: a new name beside the video

    def __post_init__(self) -> None:
        if self.method == Interpolation.NONE:
            raise InputError("--method is none: expected motion, rife or film")
        if self.fps is not None and self.factor is not None:
            raise InputError(f"--fps {self.fps} and --factor {self.factor}: expected one of them")
        if self.factor is not None and self.factor not in FACTORS:
            raise InputError(f"--factor is {self.factor}: expected {FACTORS[0]} to {FACTORS[-1]}")
        if self.fps is not None and not 0 < self.fps <= MAX_FPS:
            raise InputError(f"--fps is {self.fps}: expected 1 to {MAX_FPS}")
        if not 0 <= self.crf <= 51:
            raise InputError(f"--crf is {self.crf}: expected 0 (lossless) to 51")


@dataclass(frozen=True, kw_only=True)
class Retiming:
    """What to make of a video, once every check is passed."""

    request: Retime
    info: VideoInfo
    fps: Fraction
    frames: int
    kind: str  # FFmpeg's name of the format
    output: Path | None
    notes: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels as written: even, as H.264 wants them."""
        return (
            self.info.width // CHROMA_MULTIPLE * CHROMA_MULTIPLE,
            self.info.height // CHROMA_MULTIPLE * CHROMA_MULTIPLE,
        )


@dataclass(frozen=True, kw_only=True)
class Retimed:
    """A finished, verified video file."""

    path: Path
    frames: int
    fps: Fraction
    notes: tuple[str, ...]


def interpolate_video(
    request: Retime, on_progress: Report | None = None, *, on_start: Callable[[Retiming], None] | None = None
) -> Retimed:
    """Write a video at a higher rate, its sound copied.

    The file appears under its name only when it is whole and verified. `on_progress` hears of every frame and may raise
    `Cancelled`; `on_start` hears once what will be made. Raises the errors of `soundreel.errors`.
    """
    job = _prepare(request)
    if on_start is not None:
        on_start(job)
    method = open_method(request.method, weights=request.weights, models=request.models, device=request.device)
    with _work_folder(job) as work:
        segment, finished = work / "pictures.mp4", work / f"finished{_ending(job.kind)}"
        _write_pictures(job, method, segment, on_progress)
        replace_pictures(request.video, segment, finished, fps=job.fps, kind=job.kind, metadata=_metadata(job))
        verify_replaced(request.video, finished, frames=job.frames, fps=job.fps, kind=job.kind)
        path = _publish(finished, job)
    return Retimed(path=path, frames=job.frames, fps=job.fps, notes=job.notes)


def _prepare(request: Retime) -> Retiming:
    """All checks; nothing is written."""
    output = None if request.output is None else _output(request.output, request.video)
    check_method(request.method, weights=request.weights, models=request.models)
    info = probe_video(request.video)
    if info.frames < 2:
        raise InputError(f"{os.fspath(request.video)!r} has a single frame: there is nothing between frames to make")
    info = dataclasses.replace(info, fps=_usual_rate(info))
    fps = _target(info, request)
    seconds = info.frames / info.fps if info.constant_rate else Fraction(info.seconds)
    kind = _kind(request.video, output)
    return Retiming(
        request=request,
        info=info,
        fps=fps,
        frames=rounded(seconds * fps),
        kind=kind,
        output=output,
        notes=tuple(_notes(request.video, info, fps, kind, output)),
    )


def _usual_rate(info: VideoInfo) -> Fraction:
    """The rate that is meant where a file's clock is too coarse for it: 24000/1001 for 23.9758."""
    whole, broken = Fraction(round(info.fps)), Fraction(round(info.fps * 1001 / 1000) * 1000, 1001)
    usual = min(whole, broken, key=lambda rate: abs(rate - info.fps))
    if usual == 0 or not info.constant_rate:
        return info.fps
    apart = abs(usual / info.fps - 1)
    return usual if apart < CLOCK_ERROR and apart * info.frames < NEAR_FRAMES else info.fps


def _target(info: VideoInfo, request: Retime) -> Fraction:
    """The rate to write; `InputError` for one that cannot be."""
    source = info.fps if info.constant_rate else Fraction(max(1, round(info.fps)))
    target = Fraction(request.fps) if request.fps is not None else source * (request.factor or 2)
    if target > MAX_FPS:
        raise InputError(f"{float(source):g} × {request.factor or 2} frames per second: expected at most {MAX_FPS}")
    if info.constant_rate and target <= source:
        raise InputError(
            f"{os.fspath(request.video)!r} has {float(source):g} frames per second, --fps is {float(target):g}: "
            "expected more than it has"
        )
    return target


def _kind(video: StrPath, output: Path | None) -> str:
    """The format to write, which must hold the sound as it is."""
    codecs = sound_codecs(video)
    kind = KINDS.get((output or Path(video)).suffix.lower(), "mp4")
    if holds(kind, codecs):
        return kind
    if output is None:
        return "matroska"
    raise MediaError(
        f"{output.name!r} cannot hold the sound of {os.fspath(video)!r} as it is ({', '.join(codecs)}): "
        f"name the output {output.stem}.mkv"
    )


def _notes(video: StrPath, info: VideoInfo, target: Fraction, kind: str, output: Path | None) -> Iterator[str]:
    if not info.constant_rate:
        yield (
            f"the video has a variable frame rate ({float(info.fps):.2f} per second on average): "
            f"it becomes constant, {float(target):g} per second"
        )
    if info.width % CHROMA_MULTIPLE or info.height % CHROMA_MULTIPLE:
        yield f"{info.width}×{info.height} pixels: H.264 wants even sides, the last row or column is cut off"
    if output is None and KINDS.get(Path(video).suffix.lower(), "mp4") != kind:
        yield f"the sound ({', '.join(sound_codecs(video))}) stays as it is, which takes a {_ending(kind)} file"
    others = other_tracks(video)
    if others:
        yield f"{others} other track{'s are' if others > 1 else ' is'} not carried over (subtitles, covers, data)"


@contextmanager
def _work_folder(job: Retiming) -> Iterator[Path]:
    """A folder on the output's own file system, so that publishing is a rename; removed at the end."""
    folder = (job.output or Path(job.request.video).absolute()).parent
    try:
        work = tempfile.TemporaryDirectory(prefix=".soundreel-", dir=folder)
    except OSError as error:
        raise InputError(
            f"cannot write into {str(folder)!r} ({error.strerror}): choose another place with --output"
        ) from error
    with work as name:
        yield Path(name)


def _write_pictures(job: Retiming, method: Method, segment: Path, on_progress: Report | None) -> None:
    width, height = job.size
    with SegmentWriter(segment, width=width, height=height, fps=job.fps, crf=job.request.crf) as writer:
        for picture in islice(_pictures(job, method, on_progress), job.frames):
            writer.write(picture[np.newaxis])


def _pictures(job: Retiming, method: Method, on_progress: Report | None) -> Iterator[Picture]:
    """All frames at the new rate; one pair of the video's and a batch are in memory at a time."""
    width, height = job.size
    filler = Filler(job.fps, method, longest=None if job.info.constant_rate else LONGEST_FRAMES / job.info.fps)
    for index, (time, picture) in enumerate(_timed(job)):
        yield from filler.add(time, np.ascontiguousarray(picture[:height, :width]))
        if on_progress is not None:
            on_progress(Progress(stage=Stage.INTERPOLATE, done=index + 1, total=job.info.frames))
    yield from filler.finish(job.frames)


def _timed(job: Retiming) -> Iterator[tuple[Fraction, Picture]]:
    """The video's pictures and when they are shown, from 0 on: by their number where the rate is constant."""
    pictures = read_frames(job.request.video)
    if job.info.constant_rate:
        return ((index / job.info.fps, picture) for index, picture in enumerate(pictures))
    times = picture_times(job.request.video)
    return ((time - times[0], picture) for time, picture in zip(times, pictures, strict=False))


def _metadata(job: Retiming) -> dict[str, str]:
    made = {
        "soundreel": __version__,
        "method": job.request.method,
        "fps": str(job.fps),
        "source_fps": str(job.info.fps),
    }
    return {METADATA_KEY: json.dumps(made)}


def _ending(kind: str) -> str:
    return next(ending for ending, name in KINDS.items() if name == kind)


def _output(output: StrPath, video: StrPath) -> Path:
    path = Path(output).absolute()
    if path.suffix.lower() not in KINDS:
        raise InputError(f"--output is {os.fspath(output)!r}: expected a name that ends in {', '.join(KINDS)}")
    if path.is_dir():
        raise InputError(f"--output is {os.fspath(output)!r}, which is a folder: name a file")
    if path.exists() and Path(video).exists() and path.samefile(video):
        raise InputError(f"--output is {os.fspath(output)!r}, the video itself: choose another name")
    return path


def _publish(finished: Path, job: Retiming) -> Path:
    """A name that was asked for is replaced, a name of ours never replaces anything."""
    if job.output is not None:
        return publish(finished, job.output, replace=True)
    video = Path(job.request.video)
    name = video.with_name(f"{video.stem}_{float(job.fps):g}fps{finished.suffix}")
    return publish(finished, name, replace=False)
