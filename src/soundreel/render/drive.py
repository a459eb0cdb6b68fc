"""What is to be checked, done and said of what drives a render, where that is not the sound itself."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from soundreel.analysis.song import Span, share_of
from soundreel.driving_sound import drive_of, drives_of, driving_sound
from soundreel.errors import InputError
from soundreel.media.audio import SoundInfo, probe_sound
from soundreel.request import SEPARATED, Drive, Request
from soundreel.separation.drive import voice_files
from soundreel.types import Check, Plan, Report, Shot, go_on
from soundreel.units import MODEL_FPS, StrPath

DIFFERENT_SECONDS: Final = 0.1
"""A stem may be longer or shorter than its song by so much: encoders add and lose some hundredths."""

SUNG_THROUGHOUT: Final = 0.98
"""Share of a video with a voice from which on nothing is said of the rest."""

WHAT_ELSE_DRIVES: Final = {
    Drive.VOCALS: "silence drives {rest} (--drive vocals+mix takes the mix there)",
    Drive.VOCALS_AND_MIX: "the mix drives {rest}",
}


def check_drives(request: Request) -> dict[StrPath, SoundInfo]:
    """Check that what drives can be read, or separated; returns what is known of each file that drives.

    Raises:
        InputError, MediaError: a file cannot be read, or has no sound.
        WeightsError: the separator is not installed; says how it is.
    """
    files_that_drive(request)
    return {drive: probe_sound(drive) for drive in drives_of(request) if drive not in SEPARATED | {Drive.MIX}}


def files_that_drive(request: Request) -> dict[str, str]:
    """Digests of what separates a voice, by name, where one is separated. `WeightsError` where it is not installed."""
    return voice_files() if any(drive in SEPARATED for drive in drives_of(request)) else {}


def says_of_files(plan: Plan, sound: SoundInfo, files: Mapping[StrPath, SoundInfo]) -> Iterator[str]:
    """What of files that drive does not fit to the sound.

    Raises:
        InputError: one ends before the video begins.
    """
    for path, driving in files.items():
        name, start = repr(os.fspath(path)), plan.request.window.start
        if driving.seconds <= start:
            raise InputError(
                f"--drive is {name}, {driving.seconds:.2f} s long, and the video begins at {start:g} s of the sound: "
                "give a file as long as the sound, which begins with it",
                field="drive",
            )
        off, missing = driving.seconds - sound.seconds, start + plan.audio_seconds - driving.seconds
        if abs(off) > DIFFERENT_SECONDS:
            is_so = f"{abs(off):.2f} s {'longer' if off > 0 else 'shorter'}"
            silent = f"; silence drives the last {missing:.2f} s of the video" if missing > DIFFERENT_SECONDS else ""
            yield f"--drive {name} is {is_so} than the sound: both are taken to begin at the same time{silent}"
        if driving.truncated:
            yield f"--drive {name} is cut off: only {driving.seconds:.2f} s of it can be decoded"


def separate_voices(plan: Plan, report: Report | None = None, check: Check = go_on) -> tuple[str, ...]:
    """Separate all that a plan hears separated, unless it was before; returns what is to be said of it.

    Errors as of `driving_sound`, which from now on finds it.
    """
    drives = [drive_of(plan, shot) for shot in plan.shots]
    notes = []
    for drive in dict.fromkeys(drives):
        if drive in SEPARATED:
            heard_by = [shot for shot, its in zip(plan.shots, drives, strict=True) if its == drive]
            window = driving_sound(plan, Drive.MIX)
            notes.append(_says_voice(plan, heard_by, Drive(drive), window.voice(drive, report, check).voice))
    return tuple(note for note in notes if note)


def _says_voice(plan: Plan, shots: Sequence[Shot], drive: Drive, voice: Sequence[Span]) -> str:
    """In how much of the shots that a voice drives there is one, and what drives the rest; "" if that is nothing."""
    begin = plan.request.window.start
    spans = [Span(start=begin + shot.start / MODEL_FPS, stop=begin + shot.stop / MODEL_FPS) for shot in shots]
    shares = [share_of(voice, span) for span in spans]
    share = sum(share * span.seconds for share, span in zip(shares, spans, strict=True)) / sum(s.seconds for s in spans)
    if share >= SUNG_THROUGHOUT:
        return ""
    if share == 0:
        return f"no voice is heard: {WHAT_ELSE_DRIVES[drive].format(rest='all of it')}"
    without = [str(shot.index + 1) for shot, of_shot in zip(shots, shares, strict=True) if of_shot == 0]
    where = f", and in {'shot' if len(without) == 1 else 'shots'} {', '.join(without)} none" if without else ""
    return f"a voice is heard in {share:.0%} of it{where}: {WHAT_ELSE_DRIVES[drive].format(rest='the rest')}"
