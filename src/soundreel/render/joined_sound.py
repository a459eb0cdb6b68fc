"""What is heard in a joined video: the sound itself, going on where the recipes say that pieces follow each other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final

from soundreel.media.joining import SoundPart
from soundreel.media.mux import SoundTrack
from soundreel.render.sound_windows import NEAR_SECONDS, SoundWindow, Stretch
from soundreel.units import StrPath

NOTABLE_SECONDS: Final = 0.001
"""A picture that is later than this against its sound is worth a word."""

NEAR_MISS_SECONDS: Final = 1.0
"""Windows that miss each other by no more than this were likely meant to follow each other, and that is said."""


@dataclass(frozen=True, kw_only=True)
class PieceSound:
    """The sound of one of the videos that are joined."""

    path: StrPath
    stretches: tuple[Stretch, ...]
    has_track: bool
    begins: float  # seconds into the track where the first picture is shown

    @property
    def name(self) -> str:
        """Of the file."""
        return Path(self.path).name


@dataclass(frozen=True, kw_only=True)
class JoinedSound:
    """What is heard, and what is to be said about it."""

    parts: tuple[SoundPart, ...]
    stretches: tuple[Stretch, ...]  # what the joined video's own recipe says of its sound
    says: str
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Pictures over which one sound goes on."""

    of: str  # name of the video, of several that of the last
    frames: int
    window: SoundWindow | None  # None: nothing says which
    track: SoundTrack | None
    is_anew: bool  # read from the sound's own file

    def stop(self, fps: Fraction) -> float:
        """Second of the sound at which the pictures end."""
        return (0.0 if self.window is None else self.window.start) + float(self.frames / fps)


def plan_sound(pieces: Sequence[PieceSound], found: Mapping[str, Path], fps: Fraction) -> JoinedSound:
    """Decide what is heard with each piece.

    Args:
        found: digest → file of the sounds that are at hand.
    """
    runs: list[_Run] = []
    notes = [
        f"{piece.name} has no sound: {float(sum(s.frames for s in piece.stretches) / fps):.2f} s of silence"
        for piece in pieces
        if not piece.has_track
    ]
    for run in (run for piece in pieces for run in _runs(piece, found, fps)):
        before = runs[-1] if runs else None
        if before is None or not _follows(before, run, fps):
            notes += _jump(before, run, fps)
            runs.append(run)
        elif before.is_anew and run.is_anew:
            notes += _lateness(before, run, fps)
            runs[-1] = _together(before, run)
        else:
            runs.append(run)
    notes += [
        f"{name} is not at hand, or not as it was: its sound is taken from the videos; --sound FILE reads it anew"
        for name in sorted({run.window.name for run in runs if run.window is not None and not run.is_anew})
    ]
    return JoinedSound(
        parts=tuple(SoundPart(frames=run.frames, track=run.track) for run in runs),
        stretches=tuple(Stretch(frames=run.frames, window=run.window) for run in runs),
        says=_says(runs),
        notes=tuple(notes),
    )


def _runs(piece: PieceSound, found: Mapping[str, Path], fps: Fraction) -> Iterator[_Run]:
    """The stretches of a piece, each for itself."""
    before, margin = 0, 1 / fps  # read beyond the last picture, so that rounding leaves no gap
    for stretch in piece.stretches:
        window, length = stretch.window if piece.has_track else None, stretch.frames / fps
        path = None if window is None else found.get(window.digest)
        track = None
        if path is not None and window is not None:
            heard = window.seconds if window.seconds < length else float(length + margin)
            track = SoundTrack(path=path, start=window.start, seconds=heard)
        elif piece.has_track:
            start = piece.begins + float(before / fps)
            track = SoundTrack(path=piece.path, start=start, seconds=float(length + margin))
        yield _Run(of=piece.name, frames=stretch.frames, window=window, track=track, is_anew=path is not None)
        before += stretch.frames


def _follows(before: _Run, run: _Run, fps: Fraction) -> bool:
    """Whether the sound of a run is what follows that of the run before it, which is heard to its end."""
    if before.window is None or run.window is None or before.window.digest != run.window.digest:
        return False
    is_whole = before.window.seconds >= before.frames / fps - NEAR_SECONDS
    return is_whole and abs(run.window.start - before.stop(fps)) <= NEAR_SECONDS


def _together(before: _Run, run: _Run) -> _Run:
    """Two runs of one sound, which goes on from the first to the second."""
    assert before.window is not None
    assert run.window is not None
    assert before.track is not None
    assert run.track is not None
    reach = run.window.start - before.window.start
    return replace(
        before,
        of=run.of,
        frames=before.frames + run.frames,
        window=replace(before.window, seconds=reach + run.window.seconds),
        track=replace(before.track, seconds=reach + run.track.seconds),
    )


def _jump(before: _Run | None, run: _Run, fps: Fraction) -> Iterator[str]:
    """What to say where one sound does not go on between two videos."""
    if before is None or before.window is None or run.window is None or before.window.digest != run.window.digest:
        return
    start, stop = run.window.start, before.stop(fps)
    if abs(start - stop) > NEAR_MISS_SECONDS:
        return
    yield (
        f"{run.of} begins at {start:g} s of {run.window.name}, the pictures of {before.of} end at {stop:g} s: "
        f"the sound jumps there; rendered with --audio-start {stop:g} it would go on"
    )


def _lateness(before: _Run, run: _Run, fps: Fraction) -> Iterator[str]:
    """What to say where a sound goes on although a video begins a little beside it."""
    assert run.window is not None
    late = before.stop(fps) - run.window.start
    if abs(late) > NOTABLE_SECONDS:
        when = "after" if late > 0 else "before"
        yield f"the sound goes on through {run.of}, whose pictures come {abs(late) * 1000:.1f} ms {when} it"


def _says(runs: Sequence[_Run]) -> str:
    """Where the sound comes from, in a few words."""
    heard = [run for run in runs if run.track is not None]
    if not heard:
        return "no sound"
    anew = [run for run in heard if run.is_anew]
    if not anew:
        return "sound of the videos, encoded once more"
    names = ", ".join(dict.fromkeys(run.window.name for run in anew if run.window is not None))
    if len(anew) < len(heard):
        return f"sound read anew from {names} where the recipes tell, else that of the videos"
    return f"sound read anew from {names}" + (", in one go" if len(runs) == 1 else f", in {len(runs)} parts")
