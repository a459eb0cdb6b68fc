"""The driving sound, which the motion follows. All engines read it here, so that file and window are the same.

It is the sound of the video itself, unless `drive` says otherwise: a file of the user's own on the same time line, or
the voice in the sound. The video's sound track is the sound itself, whatever drives.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis import SoundFeatures, analyse
from soundreel.media.audio import MODEL_SAMPLE_RATE, model_sound_blocks, read_model_sound
from soundreel.request import SEPARATED, AvAlign, Drive, Request
from soundreel.separation.drive import VoiceDrive, voice_drive
from soundreel.types import Chain, Check, Plan, Report, Shot, go_on, heard
from soundreel.units import MODEL_FPS, StrPath

AFTERSOUND_SECONDS: Final = 0.04
"""Read after the window's end: features have a grid of 1/30 s, and those of the last frame must be complete."""

HAIR_SECONDS: Final = 1e-6
"""So much later a window begins in a file that itself begins later: no sample is missed by rounding."""


@dataclass(frozen=True, kw_only=True)
class DrivingSound:
    """A file, and the window of it that drives the motion of a plan."""

    path: StrPath
    start: float  # seconds into the file
    seconds: float | None  # of sound in the window; None: to the end of the file
    aftersound: float = AFTERSOUND_SECONDS

    @classmethod
    def of(cls, plan: Plan, drive: StrPath | None = None, check: Check = go_on) -> Self:
        """The window of a plan, of what `drive` says; None: of what its request says.

        Where the voice is not separated yet, it is now; arguments and errors as of `driving_sound`.
        """
        window = cls(path=plan.request.audio, start=plan.request.window.start, seconds=plan.audio_seconds)
        return window._driven(plan.request, drive, check)

    @classmethod
    def as_reference(cls, plan: Plan, drive: StrPath | None = None, check: Check = go_on) -> Self:
        """The window of the reference code: the whole file from its start on, whatever part of it is rendered."""
        window = cls(
            path=plan.request.audio, start=plan.request.window.start, seconds=plan.request.window.duration, aftersound=0
        )
        return window._driven(plan.request, drive, check)

    def _driven(self, request: Request, drive: StrPath | None, check: Check) -> Self:
        """The same window of what drives, where that is not the sound itself."""
        drive = request.drive if drive is None else drive
        if drive == Drive.MIX:
            return self
        if drive not in SEPARATED:
            return replace(self, path=drive)
        voice = self.voice(drive, check=check)
        return replace(self, path=voice.path, start=self.start - voice.begins + HAIR_SECONDS)

    def voice(self, drive: StrPath, report: Report | None = None, check: Check = go_on) -> VoiceDrive:
        """What drives with the voice in this window of a sound; separated now, unless it was before."""
        return voice_drive(self.path, os.fspath(drive), self.start, self._read_seconds, report, check)

    def of_chain(self, plan: Plan, chain: Chain) -> Self:
        """The part that drives one chain, for those who render each by itself."""
        if len(plan.chains) == 1:
            return self
        assert self.seconds is not None, "only the reference hears more than a plan shows"
        begin = chain.start / MODEL_FPS
        seconds = min(max(0.0, self.seconds - begin), chain.frames / MODEL_FPS)
        return replace(self, start=self.start + begin, seconds=seconds)

    def blocks(self, check: Check = go_on) -> Iterator[NDArray[np.float32]]:
        """Mono at 16 kHz in blocks [n]: the window, and `aftersound` after a window of limited length.

        `check` is called before each block, here and in the other methods, and may raise to stop.
        """
        return heard(model_sound_blocks(self.path, start=self.start, seconds=self._read_seconds), check)

    @property
    def _read_seconds(self) -> float | None:
        return None if self.seconds is None else self.seconds + self.aftersound

    def samples(self, seconds: float, check: Check = go_on) -> NDArray[np.float32]:
        """Mono at 16 kHz [n]: `seconds` and `AFTERSOUND_SECONDS`, with silence after the window's end.

        It is never shorter: ComfyUI samples a chunk after the sound's end without any sound input, not with silence.
        """
        count = round((seconds + AFTERSOUND_SECONDS) * MODEL_SAMPLE_RATE)
        if self.seconds is not None and self.seconds <= 0:
            return np.zeros(count, np.float32)
        sound = read_model_sound(self.path, start=self.start, seconds=self._read_seconds, check=check)
        return np.pad(sound[:count], (0, max(0, count - len(sound))))

    def features(self, frames: int, check: Check = go_on) -> SoundFeatures:
        """Loudness, onsets, bands and beats for a video of `frames` frames."""
        assert self.seconds is not None, "a video has a length"
        return analyse(self.path, start=self.start, seconds=self.seconds, frames=frames, check=check)


def driving_sound(plan: Plan, drive: StrPath | None = None, check: Check = go_on) -> DrivingSound:
    """What the model hears of `plan`, by its `av_align`.

    It is the same window for all shots, so that features are computed once for each drive, over the whole of it.

    Args:
        drive: of `drive_of`; None: what the request says.
        check: called while a voice is separated, where that was not done before; may raise to stop.

    Raises:
        WeightsError: the separator is not installed.
        InputError, MediaError: the sound cannot be read, or the voice not be kept.
    """
    is_as_reference = plan.request.guide.av_align is AvAlign.REFERENCE
    return (DrivingSound.as_reference if is_as_reference else DrivingSound.of)(plan, drive, check)


def drive_of(plan: Plan, shot: Shot) -> StrPath:
    """What drives a shot: `mix`, `vocals`, `vocals+mix` or a file."""
    return plan.request_of(shot).drive


def drives_of(request: Request) -> tuple[StrPath, ...]:
    """All that drives something of a request."""
    own = (request.drive if shot.drive is None else shot.drive for shot in request.shots)
    return tuple(dict.fromkeys(own)) if request.shots else (request.drive,)
