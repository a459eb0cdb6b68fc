"""What a request becomes: plan → rendered clip → result, and the progress on the way.

Shapes: T frames, H rows, W columns, 3 = RGB. Times are in seconds, counts in frames at `MODEL_FPS`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from threading import Condition, Event
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from soundreel.errors import Cancelled, EngineError
from soundreel.request import NOTHING_OF_ITS_OWN, Request, ShotRequest
from soundreel.units import MODEL_FPS, Frames

if TYPE_CHECKING:  # numpy takes a third of the time in which `soundreel --help` has to answer
    from numpy.typing import NDArray


class Stage(StrEnum):
    """Where a render stands."""

    LOAD = "load"
    SEPARATE = "separate"  # the voice from the sound
    ANALYSE = "analyse"
    QUEUE = "queue"
    RENDER = "render"
    ENCODE = "encode"  # what a clip continues: where that takes long
    PRINT = "print"  # pictures of a clip that was sampled before
    DOWNLOAD = "download"
    INTERPOLATE = "interpolate"
    WRITE = "write"
    SCORE = "score"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One stretch that the model samples at once."""

    index: int  # of all clips
    start: int  # first output frame
    frames: int  # output frames it yields
    size: int  # frames sampled: a multiple of 4, lead-in and surplus included
    lead_in: int  # decoded frames dropped at its beginning
    seed: int
    shot: int = 0  # index of the shot that it belongs to

    @property
    def stop(self) -> int:
        """First output frame after the clip."""
        return self.start + self.frames


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What is seen in one go: clips that continue each other, with the same words and pictures."""

    index: int
    clips: tuple[Clip, ...]
    continues: bool = False  # its first clip continues the shot before; else a hard cut, or the beginning, precedes it
    asked: ShotRequest = NOTHING_OF_ITS_OWN  # what it has of its own

    @property
    def name(self) -> str:
        """What it is called."""
        return self.asked.name or f"shot-{self.index + 1}"

    @property
    def section(self) -> str:
        """The part of the song that it shows; "" where that is not known."""
        return self.asked.section

    @property
    def start(self) -> int:
        """First output frame."""
        return self.clips[0].start

    @property
    def stop(self) -> int:
        """First output frame after the shot."""
        return self.clips[-1].stop

    @property
    def frames(self) -> int:
        """Output frames."""
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True)
class Chain:
    """What lies between two hard cuts: shots that continue each other. Nothing passes from one chain to the next."""

    index: int
    shots: tuple[Shot, ...]

    @cached_property
    def clips(self) -> tuple[Clip, ...]:
        """The clips of its shots, in order."""
        return tuple(clip for shot in self.shots for clip in shot.clips)

    @property
    def start(self) -> int:
        """First output frame."""
        return self.shots[0].start

    @property
    def stop(self) -> int:
        """First output frame after the chain."""
        return self.shots[-1].stop

    @property
    def frames(self) -> int:
        """Output frames."""
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request turned into shots and clips: pure arithmetic."""

    request: Request
    shots: tuple[Shot, ...]
    audio_seconds: float  # sound in the chosen window; at most the length of the video

    @cached_property
    def clips(self) -> tuple[Clip, ...]:
        """The clips of all shots, in order."""
        return tuple(clip for shot in self.shots for clip in shot.clips)

    @cached_property
    def chains(self) -> tuple[Chain, ...]:
        """The shots between hard cuts, in order: what one process renders at a time."""
        groups: list[list[Shot]] = []
        for shot in self.shots:
            if shot.continues:
                groups[-1].append(shot)
            else:
                groups.append([shot])
        return tuple(Chain(index=number, shots=tuple(shots)) for number, shots in enumerate(groups))

    @cached_property
    def _chain_of_shot(self) -> tuple[Chain, ...]:
        return tuple(chain for chain in self.chains for _ in chain.shots)

    @cached_property
    def _requests(self) -> tuple[Request, ...]:
        return tuple(self.request.of_shot(shot.asked) for shot in self.shots)

    def shot_of(self, clip: Clip) -> Shot:
        """The shot that `clip` belongs to."""
        return self.shots[clip.shot]

    def chain_of(self, clip: Clip) -> Chain:
        """The chain that `clip` belongs to."""
        return self._chain_of_shot[clip.shot]

    def request_of(self, shot: Shot) -> Request:
        """The request as this shot is asked for: its own words, pictures and driving sound over those of the whole."""
        return self._requests[shot.index]

    @property
    def lead_in(self) -> int:
        """Decoded frames that the first clip of every chain drops."""
        return self.clips[0].lead_in

    def continues(self, clip: Clip) -> bool:
        """Whether `clip` continues the one before: all do but the first of each chain."""
        return clip.index != self.chain_of(clip).clips[0].index

    def is_last_of_chain(self, clip: Clip) -> bool:
        """Whether a hard cut, or the end, follows `clip`."""
        return clip.stop == self.chain_of(clip).stop

    def first_sampled(self, clip: Clip) -> int:
        """The first frame that the model samples for `clip`, on a count in which output frame 0 is frame `lead_in`."""
        return clip.start + self.lead_in - clip.lead_in

    @property
    def sampled_frames(self) -> int:
        """Length of that count: lead-ins and surplus frames need sound, too."""
        return max(self.first_sampled(clip) + clip.size for clip in self.clips)

    @property
    def frames(self) -> int:
        """Output frames before interpolation."""
        return self.shots[-1].stop

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


WAIT_SECONDS: Final = 0.1
"""Between two looks whether to stop, while frames are waited for."""


class Arrival:
    """How many frames of a clip are there: of one thread that makes them, for another one that takes them meanwhile.

    A context manager of who makes them. Should that end before all are there, who waits hears of it.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._count = 0
        self._is_whole = self._is_over = False

    def come(self, count: int) -> None:
        """So many are there, the first ones."""
        with self._changed:
            self._count = max(self._count, count)
            self._changed.notify_all()

    def finish(self) -> None:
        """All of them are there, and all that is told of the clip."""
        with self._changed:
            self._is_whole = True
            self._changed.notify_all()

    def wait(self, check: "Check", count: int | None = None) -> None:
        """Until the first `count` frames are there; None: the whole clip. `check` may raise to stop.

        Raises:
            EngineError: they will never be.
        """
        while True:
            check()
            with self._changed:
                if self._is_whole or (count is not None and self._count >= count):
                    return
                if self._is_over:
                    raise EngineError("the engine has ended before all frames of the clip were there")
                self._changed.wait(WAIT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()


@dataclass(frozen=True, kw_only=True)
class RenderedClip:
    """The pictures of one clip, uint8 [T, H, W, 3], and what the next clip needs."""

    clip: Clip
    frames: Frames
    carry: Carry = Carry()
    facts: Mapping[str, Any] = field(default_factory=dict)  # what the recipe is to tell of it, ready for JSON
    arrival: Arrival | None = None
    """Where frames and facts are still being filled in: how far. Nothing else may be looked at. None: all are there."""

    def wait(self, check: "Check", count: int | None = None) -> None:
        """As `Arrival.wait`, where anything is still to come."""
        if self.arrival is not None:
            self.arrival.wait(check, count)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One step of a render. `done` and `total` count the work of one stage, over the whole render."""

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
    eta_seconds: float | None = None  # until all is sampled and written; None: not known yet
    share: float | None = None  # of that time, what is over: 0 to 1


class CancelFlag:
    """Asks a render to stop, from any thread; it is heard between steps, between frames and between blocks of sound."""

    def __init__(self) -> None:
        self._event = Event()

    def set(self) -> None:
        """Ask to stop."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether it is asked."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `Cancelled` once it is set."""
        if self._event.is_set():
            raise Cancelled("cancelled")


Report = Callable[[Progress], None]
"""Receives progress; may raise `Cancelled` to stop the render."""

Check = Callable[[], object]
"""Called in every loop over frames, sound or packets: between two of them, or more often. May raise to stop."""

T = TypeVar("T")


def go_on() -> None:
    """The check of those who never stop."""


def heard(items: Iterable[T], check: Check) -> Iterator[T]:
    """The items, with a check before each is taken on."""
    for item in items:
        check()
        yield item


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished, verified video file."""

    path: Path
    engine: str
    plan: Plan = field(repr=False)
    frames: int  # in the file: 2N at 32 per second
    fps: int
    seconds: float  # what the render took
    notes: tuple[str, ...] = ()  # what the user should know: silence added, sound cut short, …
    excerpt: str = ""  # that of them that says which part of the sound it shows, where no length was asked for
    work_folder: Path | None = None  # where clips and latents are kept; None: nowhere
    work_bytes: int = 0  # what they take there
    recipe: Mapping[str, Any] = field(default_factory=dict, repr=False)
