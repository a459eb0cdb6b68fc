"""Interpolation of a video file to a higher frame rate, its sound copied bit for bit: `soundreel interpolate`."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from soundreel.disk.destination import Destination
from soundreel.disk.outputs import Inputs
from soundreel.errors import InputError, MediaError
from soundreel.interpolation.frames import FrameRateConverter, Method, check_method, open_method, rounded
from soundreel.media.motion import Picture
from soundreel.media.remux import FILE_FORMATS, can_hold, other_tracks, replace_pictures, sound_codecs, verify_replaced
from soundreel.media.video import (
    CHROMA_MULTIPLE,
    SegmentWriter,
    VideoInfo,
    picture_times,
    probe_video,
    read_frames,
    usual_rate,
)
from soundreel.progress_timer import ProgressTimer
from soundreel.request import Interpolation
from soundreel.types import CancelFlag, Check, Progress, Report, Stage, heard
from soundreel.units import DEFAULT_CRF, MAX_CRF, MAX_FPS, StrPath
from soundreel.version import __version__

METADATA_KEY = "soundreel_interpolation"
"""Metadata key of how frames were interpolated, as JSON. A recipe in the video's metadata is kept as it is."""

FACTORS: Final = range(2, 17)
DEFAULT_FACTOR: Final = 2

LONGEST_FRAMES: Final = 3
"""In a video of variable frame rate, nothing is interpolated between frames further apart than this many mean frame
intervals: the picture stands still there."""


@dataclass(frozen=True, kw_only=True)
class VideoInterpolation:
    """A request to interpolate a video. Raises `InputError` for invalid values."""

    video: StrPath  # any video, with any sound or none
    fps: int | None = None  # frames per second of the output
    factor: int | None = None  # or output frames per source frame; None for both: `DEFAULT_FACTOR`
    method: str = Interpolation.MOTION
    weights: StrPath | None = None  # file of the method's network; None: looked for in the models folder
    models: StrPath | None = None  # the models folder; None: the default one
    device: str = "auto"
    crf: int = DEFAULT_CRF  # H.264 quality: 0 lossless … 51 worst
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
        if not 0 <= self.crf <= MAX_CRF:
            raise InputError(f"--crf is {self.crf}: expected 0 (lossless) to {MAX_CRF}")


@dataclass(frozen=True, kw_only=True)
class PreparedInterpolation:
    """A request that has passed every check, and what its output will be."""

    request: VideoInterpolation
    info: VideoInfo  # of the source
    fps: Fraction
    frames: int
    file_format: str  # FFmpeg's name of the format
    destination: Destination
    notes: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the output in pixels: even, as H.264 requires."""
        return (
            self.info.width // CHROMA_MULTIPLE * CHROMA_MULTIPLE,
            self.info.height // CHROMA_MULTIPLE * CHROMA_MULTIPLE,
        )


@dataclass(frozen=True, kw_only=True)
class InterpolatedVideo:
    """A finished, verified video file."""

    path: Path
    frames: int
    fps: Fraction
    seconds: float  # what it took
    notes: tuple[str, ...]


def interpolate_video(
    request: VideoInterpolation,
    on_progress: Report | None = None,
    *,
    on_start: Callable[[PreparedInterpolation], None] | None = None,
    cancel: CancelFlag | None = None,
) -> InterpolatedVideo:
    """Write a video at a higher frame rate, its sound copied.

    The output appears under its name only when it is complete and verified.

    Args:
        on_progress: called after every source frame; may raise `Cancelled`.
        on_start: called once, after all checks and before anything is interpolated.
        cancel: may be set from any thread; it is heard between frames and between packets.

    Raises:
        SoundreelError: any of `soundreel.errors`.
    """
    stop = CancelFlag() if cancel is None else cancel
    check, timer = stop.check, ProgressTimer(on_progress, stop)
    prepared = _prepare(request)
    if on_start is not None:
        on_start(prepared)
    method = open_method(request.method, weights=request.weights, models=request.models, device=request.device)
    with prepared.destination.work_folder() as work:
        segment, finished = work / "pictures.mp4", work / f"finished{_ending(prepared.file_format)}"
        _write_pictures(segment, prepared, heard(_pictures(prepared, method, timer, check), check))
        replace_pictures(
            request.video,
            segment,
            finished,
            fps=prepared.fps,
            file_format=prepared.file_format,
            metadata=_metadata(prepared),
            check=check,
        )
        verify_replaced(
            request.video,
            finished,
            frames=prepared.frames,
            fps=prepared.fps,
            file_format=prepared.file_format,
            check=check,
        )
        path = prepared.destination.publish(finished, Path(request.video).stem, _rate(prepared.fps) + finished.suffix)
    return InterpolatedVideo(
        path=path, frames=prepared.frames, fps=prepared.fps, seconds=timer.elapsed, notes=prepared.notes
    )


def _prepare(request: VideoInterpolation) -> PreparedInterpolation:
    """Check everything and decide what to write; nothing is written yet."""
    destination = Destination.of(request.output, first=request.video, inputs=_inputs(request), endings=FILE_FORMATS)
    output = destination.asked
    check_method(request.method, weights=request.weights, models=request.models)
    info = probe_video(request.video)
    if info.frames < 2:
        raise InputError(f"{os.fspath(request.video)!r} has a single frame: there is nothing between frames to make")
    info = dataclasses.replace(info, fps=usual_rate(info))
    fps = _target(info, request)
    seconds = info.frames / info.fps if info.constant_rate else Fraction(info.seconds)
    file_format = _choose_format(request.video, output)
    return PreparedInterpolation(
        request=request,
        info=info,
        fps=fps,
        frames=rounded(seconds * fps),
        file_format=file_format,
        destination=destination,
        notes=tuple(_notes(request.video, info, fps, file_format, output)),
    )


def _target(info: VideoInfo, request: VideoInterpolation) -> Fraction:
    """The output's frame rate. Raises `InputError` for a rate above `MAX_FPS` or not above the source's."""
    source = info.fps if info.constant_rate else Fraction(max(1, round(info.fps)))
    factor = request.factor or DEFAULT_FACTOR
    target = Fraction(request.fps) if request.fps is not None else source * factor
    if target > MAX_FPS:
        raise InputError(f"{float(source):g} × {factor} frames per second: expected at most {MAX_FPS}")
    if info.constant_rate and target <= source:
        raise InputError(
            f"{os.fspath(request.video)!r} has {float(source):g} frames per second, --fps is {float(target):g}: "
            "expected more than it has"
        )
    return target


def _choose_format(video: StrPath, output: Path | None) -> str:
    """The output's container format: by its name, else by the video's, or Matroska where that cannot hold the sound.

    Raises:
        MediaError: the format that was asked for cannot hold the sound without re-encoding.
    """
    codecs = sound_codecs(video)
    file_format = FILE_FORMATS.get((output or Path(video)).suffix.lower(), "mp4")
    if can_hold(file_format, codecs):
        return file_format
    if output is None:
        return "matroska"
    raise MediaError(
        f"{output.name!r} cannot hold the sound of {os.fspath(video)!r} as it is ({', '.join(codecs)}): "
        f"name the output {output.stem}.mkv"
    )


def _notes(video: StrPath, info: VideoInfo, target: Fraction, file_format: str, output: Path | None) -> Iterator[str]:
    if not info.constant_rate:
        yield (
            f"the video has a variable frame rate ({float(info.fps):.2f} per second on average): "
            f"it becomes constant, {float(target):g} per second"
        )
    if info.width % CHROMA_MULTIPLE or info.height % CHROMA_MULTIPLE:
        yield f"{info.width}×{info.height} pixels: H.264 wants even sides, the last row or column is cut off"
    if output is None and FILE_FORMATS.get(Path(video).suffix.lower(), "mp4") != file_format:
        yield f"the sound ({', '.join(sound_codecs(video))}) stays as it is, which takes a {_ending(file_format)} file"
    others = other_tracks(video)
    if others:
        yield f"{others} other track{'s are' if others > 1 else ' is'} not carried over (subtitles, covers, data)"


def _write_pictures(segment: Path, prepared: PreparedInterpolation, pictures: Iterator[Picture]) -> None:
    width, height = prepared.size
    with SegmentWriter(segment, width=width, height=height, fps=prepared.fps, crf=prepared.request.crf) as writer:
        for picture in islice(pictures, prepared.frames):
            writer.write(picture[np.newaxis])


def _pictures(prepared: PreparedInterpolation, method: Method, report: Report, check: Check) -> Iterator[Picture]:
    """All output frames; one pair of source frames and one batch are in memory at a time."""
    width, height = prepared.size
    longest = None if prepared.info.constant_rate else LONGEST_FRAMES / prepared.info.fps
    converter = FrameRateConverter(prepared.fps, method, longest=longest, check=check)
    for index, (time, picture) in enumerate(_timed(prepared)):
        yield from converter.add(time, np.ascontiguousarray(picture[:height, :width]))
        report(Progress(stage=Stage.INTERPOLATE, done=index + 1, total=prepared.info.frames))
    yield from converter.finish(prepared.frames)


def _timed(prepared: PreparedInterpolation) -> Iterator[tuple[Fraction, Picture]]:
    """The source frames and their times in seconds since the first; where the rate is constant, by their index."""
    pictures = read_frames(prepared.request.video)
    if prepared.info.constant_rate:
        return ((index / prepared.info.fps, picture) for index, picture in enumerate(pictures))
    times = picture_times(prepared.request.video)
    return ((time - times[0], picture) for time, picture in zip(times, pictures, strict=False))


def name_before(video: Path) -> Path:
    """The name of a video without the rate that `soundreel interpolate` has put behind it."""
    made = probe_video(video).metadata.get(METADATA_KEY)
    stem = video.stem if made is None else video.stem.removesuffix(_rate(Fraction(json.loads(made)["fps"])))
    return video.with_stem(stem or video.stem)


def _rate(fps: Fraction) -> str:
    return f"_{float(fps):g}fps"


def _metadata(prepared: PreparedInterpolation) -> dict[str, str]:
    made = {
        "soundreel": __version__,
        "method": prepared.request.method,
        "fps": str(prepared.fps),
        "source_fps": str(prepared.info.fps),
    }
    return {METADATA_KEY: json.dumps(made)}


def _ending(file_format: str) -> str:
    return next(ending for ending, name in FILE_FORMATS.items() if name == file_format)


def _inputs(request: VideoInterpolation) -> Inputs:
    named = (("the video", request.video), ("the --weights", request.weights), ("the --models", request.models))
    return Inputs.of([(says, path) for says, path in named if path is not None])
