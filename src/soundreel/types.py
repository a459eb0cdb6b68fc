"""What a request becomes: plan → rendered clip → result, and the progress on the way.

Shapes: T frames, H rows, W columns, 3 = RGB. Times are in seconds, counts in frames at `MODEL_FPS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soundreel.request import Request
from soundreel.units import MODEL_FPS, Frames

if TYPE_CHECKING:  # numpy takes a third of the time in which `soundreel --help` has to answer
    from numpy.typing import NDArray


class Stage(StrEnum):
    """Where a render stands."""

    LOAD = "load"
    ANALYSE = "analyse"
    QUEUE = "queue"
    RENDER = "render"
    DOWNLOAD = "download"
    INTERPOLATE = "interpolate"
    WRITE = "write"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One stretch that the model samples at once."""

    index: int
    start: int  # first output frame
    frames: int  # output frames it yields
    size: int  # frames sampled: a multiple of 4, lead-in and surplus included
    lead_in: int  # decoded frames dropped at its beginning
    seed: int

    @property
    def stop(self) -> int:
        """First output frame after the clip."""
        return self.start + self.frames


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request turned into clips: pure arithmetic, the same for every engine."""

    request: Request
    clips: tuple[Clip, ...]
    audio_seconds: float  # sound in the chosen window; at most the length of the video

    def first_sampled(self, clip: Clip) -> int:
        """The first frame that the model samples for `clip`, counted over all clips, lead-in included."""
        return clip.start + self.clips[0].lead_in - clip.lead_in

    @property
    def frames(self) -> int:
        """Output frames before interpolation."""
        return self.clips[-1].stop

    @property
    def seconds(self) -> float:
        """Length of the video, sound track included."""
        return self.frames / MODEL_FPS

    @property
    def silence_seconds(self) -> float:
        """Silence after the sound has run out."""
        return max(0.0, self.seconds - self.audio_seconds)


@dataclass(frozen=True, kw_only=True)
class Carry:
    """What the next clip needs from the one before; the names are the engine's own."""

    tensors: Mapping[str, "NDArray[Any]"] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RenderedClip:
    """The pictures of one clip, uint8 [T, H, W, 3], and what the next clip needs."""

    clip: Clip
    frames: Frames
    carry: Carry = Carry()
    facts: Mapping[str, Any] = field(default_factory=dict)  # what the recipe is to tell of it, ready for JSON


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One step of a render. `done` and `total` count the stage's work over the whole render."""

    stage: Stage
    what: str = ""  # is being loaded
    clip: int = 0  # 1-based, 0 outside clips
    clips: int = 0
    step: int = 0
    steps: int = 0
    done: int = 0
    total: int = 0
    preview: Path | None = None  # image file of what is being rendered; the next one replaces it
    seconds: float = 0.0  # since the render began
    eta_seconds: float | None = None


Report = Callable[[Progress], None]
"""Receives progress; may raise `Cancelled` to stop the render."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished, verified video file."""

    path: Path
    engine: str
    plan: Plan
    frames: int  # in the file: 2N at 32 per second
    fps: int
    seconds: float  # what the render took
    notes: tuple[str, ...] = ()  # what the user should know: silence added, sound cut short, …
    recipe: Mapping[str, Any] = field(default_factory=dict)
