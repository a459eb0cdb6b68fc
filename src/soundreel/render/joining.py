"""Several videos become one: `soundreel join`.

Pictures are joined without encoding them; the sound goes on where the recipes say that the videos follow each other.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np

from soundreel.disk.destination import Destination
from soundreel.disk.outputs import Inputs
from soundreel.errors import InputError
from soundreel.media.image import cover
from soundreel.media.joining import Pictures, join, read_pictures, verify_joined
from soundreel.media.video import (
    CHROMA_MULTIPLE,
    SegmentWriter,
    VideoInfo,
    picture_times,
    probe_video,
    read_frames,
)
from soundreel.progress_timer import ProgressTimer
from soundreel.render.join_record import piece_record, recorded_sound, write_record
from soundreel.render.joined_sound import JoinedSound, PieceSound, plan_sound
from soundreel.render.recipe import JOIN_KEY
from soundreel.render.sound_windows import by_recipe, find_sounds
from soundreel.types import CancelFlag, Progress, Report, Stage
from soundreel.units import DEFAULT_CRF, MAX_CRF, StrPath
from soundreel.version import __version__

ENDING: Final = ".mp4"

DRAFT: Final = " (draft)"
"""How the titles of drafts end."""


@dataclass(frozen=True, kw_only=True)
class Joining:
    """Which videos are to become one. Raises `InputError` for invalid values."""

    videos: tuple[StrPath, ...]  # in their order
    output: StrPath | None = None  # None: a new name beside the first
    sound: StrPath | None = None  # the file that they were made from, where it is elsewhere by now
    reencode: bool = False  # encode the pictures anew: like the first video's in size and rate
    crf: int = DEFAULT_CRF  # H.264 quality then: 0 lossless … 51 worst
    write_recipe: bool = True  # say in the video what it is made of

    def __post_init__(self) -> None:
        if len(self.videos) < 2:
            given = f"only {os.fspath(self.videos[0])!r}" if self.videos else "none"
            raise InputError(f"expected at least two videos to join, there is {given}")
        if not 0 <= self.crf <= MAX_CRF:
            raise InputError(f"--crf is {self.crf}: expected 0 (lossless) to {MAX_CRF}")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One of the videos."""

    path: StrPath
    info: VideoInfo
    pictures: Pictures
    sound: PieceSound

    @property
    def name(self) -> str:
        """Of the file."""
        return Path(self.path).name


@dataclass(frozen=True, kw_only=True)
class PreparedJoining:
    """What passed every check, and what will come of it."""

    request: Joining
    pieces: tuple[Piece, ...]
    sound: JoinedSound
    fps: Fraction
    size: tuple[int, int]  # width and height in pixels
    destination: Destination
    notes: tuple[str, ...]

    @property
    def frames(self) -> int:
        """Of the joined video."""
        return sum(part.frames for part in self.sound.parts)


@dataclass(frozen=True, kw_only=True)
class JoinedVideo:
    """A finished, verified video file."""

    path: Path
    frames: int
    fps: Fraction
    seconds: float  # what it took
    notes: tuple[str, ...]


def join_videos(
    request: Joining,
    on_progress: Report | None = None,
    *,
    on_start: Callable[[PreparedJoining], None] | None = None,
    cancel: CancelFlag | None = None,
) -> JoinedVideo:
    """Join videos into one, verified like a render; it appears under its name only when it is whole.

    Args:
        on_progress: called after every frame that is encoded anew; may raise `Cancelled`.
        on_start: called once, after all checks and before the video is written.
        cancel: may be set from any thread; it is heard between frames and between packets.

    Raises:
        SoundreelError: any of `soundreel.errors`.
    """
    stop = CancelFlag() if cancel is None else cancel
    check, timer = stop.check, ProgressTimer(on_progress, stop)
    prepared = prepare(request)
    with prepared.destination.work_folder() as work:
        if on_start is not None:
            on_start(prepared)
        pieces = [piece.pictures for piece in prepared.pieces]
        if request.reencode:
            pieces = [_encoded(prepared, work / "pictures.mp4", timer)]
        parts, finished = prepared.sound.parts, work / f"finished{ENDING}"
        join(pieces, finished, parts=parts, metadata=_metadata(prepared), check=check)
        verify_joined(pieces, finished, parts=parts, check=check)
        path = prepared.destination.publish(finished, Path(request.videos[0]).stem, f"_joined{ENDING}")
    return JoinedVideo(path=path, frames=prepared.frames, fps=prepared.fps, seconds=timer.elapsed, notes=prepared.notes)


def prepare(request: Joining) -> PreparedJoining:
    """Check everything and decide what to write; nothing is written yet.

    Raises:
        InputError: a video is not there, or they are not alike and are not to be encoded anew.
        MediaError: one is damaged.
    """
    infos = [probe_video(video) for video in request.videos]
    pictures = [read_pictures(video, info) for video, info in zip(request.videos, infos, strict=True)]
    fps = _rate(pictures[0], infos[0])
    if not request.reencode:
        _check_alike(pictures)
    pieces = tuple(
        Piece(path=video, info=info, pictures=seen, sound=_piece_sound(video, info, seen, fps))
        for video, info, seen in zip(request.videos, infos, pictures, strict=True)
    )
    windows = [stretch.window for piece in pieces for stretch in piece.sound.stretches if stretch.window is not None]
    found = find_sounds(windows, [*(Path(piece.path).parent for piece in pieces), Path()], request.sound)
    inputs = _inputs(request, found.values())
    destination = Destination.of(request.output, first=request.videos[0], inputs=inputs, endings=(ENDING,))
    sound = plan_sound([piece.sound for piece in pieces], found, fps)
    size = (_even(infos[0].width), _even(infos[0].height)) if request.reencode else (infos[0].width, infos[0].height)
    return PreparedJoining(
        request=request,
        pieces=pieces,
        sound=sound,
        fps=fps,
        size=size,
        destination=destination,
        notes=(*_notes(request, pieces, size, fps), *sound.notes),
    )


def _inputs(request: Joining, sounds: Iterable[StrPath]) -> Inputs:
    named = [("one of the videos", video) for video in request.videos] + [("the sound", sound) for sound in sounds]
    return Inputs.of(named + ([] if request.sound is None else [("the --sound", request.sound)]))


def _check_alike(pictures: Sequence[Pictures]) -> None:
    """Raise `InputError`, naming what differs, unless all packets can go on one after the other."""
    for piece in pictures:
        if piece.flaw:
            raise InputError(
                f"{os.fspath(piece.path)!r} cannot be joined as it is: {piece.flaw}; "
                "--reencode encodes all pictures anew"
            )
        differences = pictures[0].form.differences(piece.form)
        if differences:
            raise InputError(
                f"{os.fspath(piece.path)!r} cannot be joined to {os.fspath(pictures[0].path)!r} as it is: "
                f"{', '.join(differences)}; render it alike, or let --reencode encode all pictures anew"
            )


def _rate(first: Pictures, info: VideoInfo) -> Fraction:
    """Frames per second of the joined video: those of the first, to the next whole number where they vary."""
    return first.fps if info.constant_rate else Fraction(max(1, round(first.fps)))


def _piece_sound(video: StrPath, info: VideoInfo, pictures: Pictures, fps: Fraction) -> PieceSound:
    """The sound of a video, over as many frames as it will have."""
    frames = _frames(info, pictures, fps)
    whole = by_recipe(info.metadata, os.fspath(video), frames=frames, fps=fps)
    stretches = recorded_sound(info.metadata, frames=frames, fps=fps) or (whole,)
    has_track = info.sound_codec is not None
    return PieceSound(path=video, stretches=stretches, has_track=has_track, begins=pictures.sound_before)


def _frames(info: VideoInfo, pictures: Pictures, fps: Fraction) -> int:
    """How many frames a video has at the rate of the joined one."""
    if info.constant_rate and pictures.fps == fps:
        return pictures.frames
    return max(1, round(Fraction(info.seconds) * fps))


def _notes(request: Joining, pieces: Sequence[Piece], size: tuple[int, int], fps: Fraction) -> Iterator[str]:
    for path, times in Counter(os.path.realpath(piece.path) for piece in pieces).items():
        if times > 1:
            yield f"{Path(path).name} is joined {times} times"
    if not request.reencode:
        return
    for piece in pieces:
        if not piece.info.constant_rate:
            yield f"{piece.name} has a variable frame rate: its frames are shown at {float(fps):g} per second"
        elif piece.pictures.fps != fps:
            yield f"{piece.name} has {float(piece.pictures.fps):g} frames per second: shown at {float(fps):g}"
        if (piece.info.width, piece.info.height) != size:
            yield f"{piece.name} has {piece.info.width}×{piece.info.height} pixels: scaled to cover {size[0]}×{size[1]}"


def _even(side: int) -> int:
    return max(CHROMA_MULTIPLE, side // CHROMA_MULTIPLE * CHROMA_MULTIPLE)


# encoding anew


def _encoded(prepared: PreparedJoining, segment: Path, report: Report) -> Pictures:
    """All pictures encoded anew, as a video of their own."""
    (width, height), fps = prepared.size, prepared.fps
    done, total = count(1), prepared.frames
    with SegmentWriter(segment, width=width, height=height, fps=fps, crf=prepared.request.crf) as writer:
        for piece in prepared.pieces:
            for picture in _shown(piece, fps):
                alike = picture if picture.shape[:2] == (height, width) else cover(picture, width, height)
                writer.write(alike[np.newaxis])
                report(Progress(stage=Stage.WRITE, done=next(done), total=total))
    return read_pictures(segment, probe_video(segment))


def _shown(piece: Piece, fps: Fraction) -> Iterator[Any]:
    """The pictures of a video at the rate of the joined one: at every time the one that is shown then."""
    pictures = read_frames(piece.path)
    if piece.info.constant_rate and piece.pictures.fps == fps:
        yield from pictures
        return
    times = picture_times(piece.path)
    shown = next(pictures)
    place = 0
    for frame in range(_frames(piece.info, piece.pictures, fps)):
        while place + 1 < len(times) and times[place + 1] - times[0] <= (frame + Fraction(1, 2)) / fps:
            place, shown = place + 1, next(pictures, shown)
        yield shown


# the file


def _metadata(prepared: PreparedJoining) -> dict[str, str]:
    comment = f"soundreel {__version__}, joined from {len(prepared.pieces)} videos"
    told = {**_title(prepared.pieces), "comment": comment}
    if not prepared.request.write_recipe:
        return told
    records = [
        piece_record(piece.path, piece.name, piece.info.metadata, piece.pictures.frames) for piece in prepared.pieces
    ]
    record = write_record(records, prepared.sound.stretches, fps=prepared.fps, notes=prepared.notes)
    return told | {JOIN_KEY: json.dumps(record, ensure_ascii=False)}


def _title(pieces: Sequence[Piece]) -> dict[str, str]:
    """Those of all pieces; what has a draft in it is called one, whatever its pieces are called."""
    stated = [piece.info.metadata.get("title", "") for piece in pieces]
    titles = dict.fromkeys(title.removesuffix(DRAFT) for title in stated if title)
    draft = DRAFT if any(title.endswith(DRAFT) for title in stated) else ""
    return {"title": " + ".join(titles) + draft} if titles else {}
