"""The driving sound, which the motion follows. All engines read it here, so that file and window are the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis import SoundFeatures, analyse
from soundreel.media.audio import MODEL_SAMPLE_RATE, model_sound_blocks, read_model_sound
from soundreel.request import AvAlign
from soundreel.types import Check, Plan, go_on, heard
from soundreel.units import StrPath

AFTERSOUND_SECONDS: Final = 0.04
"""Read after the window's end: features have a grid of 1/30 s, and those of the last frame must be complete."""


@dataclass(frozen=True, kw_only=True)
class DrivingSound:
    """A file, and the window of it that drives the motion of a plan."""

    path: StrPath
    start: float  # seconds into the file
    seconds: float | None  # of sound in the window; None: to the end of the file
    aftersound: float = AFTERSOUND_SECONDS

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """The window of a plan."""
        return cls(path=plan.request.audio, start=plan.request.window.start, seconds=plan.audio_seconds)

    @classmethod
    def as_reference(cls, plan: Plan) -> Self:
        """The window of the reference code: the whole file from its start on, whatever part of it is rendered."""
        return cls(
            path=plan.request.audio, start=plan.request.window.start, seconds=plan.request.window.duration, aftersound=0
        )

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


def driving_sound(plan: Plan) -> DrivingSound:
    """The driving sound of `plan`, by its `av_align`."""
    return (
        DrivingSound.as_reference(plan) if plan.request.guide.av_align is AvAlign.REFERENCE else DrivingSound.of(plan)
    )
