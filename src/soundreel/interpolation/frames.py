"""From one frame rate to a higher one: pictures between pictures, the sound untouched.

Output picture m is shown at m / fps seconds and shows what is to be seen then: a source picture where one lies there,
else one made between its two neighbours. N source pictures of S per second become N · fps / S, rounded half up, so that
the video keeps its length to within half an output frame; after the last source picture it is held. Nothing is made
across a cut, where the picture before it is held, nor between two pictures that are the same.

Every picture depends on its two neighbours alone. So a long video may be made in pieces, and a piece needs of the one
before only its last picture.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Final, Protocol

import numpy as np

from soundreel.disk.digests import sampled_digest
from soundreel.errors import EngineError, InputError
from soundreel.media.cuts import is_cut
from soundreel.media.motion import Check, Gap, Picture, compensate_motion
from soundreel.request import Interpolation
from soundreel.units import MODEL_FPS, StrPath
from soundreel.weights.frame_networks import find_weights

NETWORKS: Final = (Interpolation.RIFE, Interpolation.FILM)
"""Methods that need weights."""

NEAR: Final = Fraction(1, 64)
"""A source picture this near, in distances between source pictures, is shown as it is: nobody sees the difference."""

WAITING_SLOTS: Final = 16
"""Pictures, per picture of a batch, that may wait for it to fill."""


class Method(Protocol):
    """Makes the pictures of gaps."""

    @property
    def batch(self) -> int:
        """How many pictures it likes to make at once."""
        ...

    def __call__(self, gaps: Sequence[Gap], /, check: Check = lambda: None) -> list[list[Picture]]:
        """The pictures of each gap, one for each of its times; `check` is called before each picture or batch."""
        ...


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Pictures per second before and after."""

    source: Fraction = Fraction(MODEL_FPS)
    target: Fraction

    def __post_init__(self) -> None:
        if not 0 < self.source <= self.target:
            raise InputError(
                f"from {self.source} to {self.target} frames per second: expected at least as many as before"
            )

    def count(self, frames: int) -> int:
        """Pictures that `frames` source pictures become: those that keep their length, rounded half up."""
        return rounded(frames * self.target / self.source)

    def first_at(self, frame: int) -> int:
        """The first output position at or after source picture `frame`."""
        return ceil(frame * self.target / self.source)

    def first_after(self, frame: int) -> int:
        """The first output position later than source picture `frame`; 0 for -1."""
        return 0 if frame < 0 else floor(frame * self.target / self.source) + 1


def rounded(number: Fraction) -> int:
    """The nearest whole number; of two the larger."""
    return floor(number + Fraction(1, 2))


def check_method(method: str, *, weights: StrPath | None = None, models: StrPath | None = None) -> None:
    """Raise `InputError` for an unknown method, `WeightsError` for one whose weights are missing or not what they
    should be, `EngineError` where it cannot run."""
    if check_name(method) in NETWORKS:
        path = find_weights(method, weights=weights, models=models)
        _need_torch(method)
        from soundreel.weights.frame_networks import check_network  # noqa: PLC0415 - takes torch

        check_network(method, path)


def method_files(method: str, *, weights: StrPath | None = None, models: StrPath | None = None) -> Mapping[str, str]:
    """Digest of the file with the method's weights, by a name for it; empty where it has none."""
    if method not in NETWORKS:
        return {}
    path = find_weights(method, weights=weights, models=models)
    return {f"{method} {path.name}": sampled_digest(path)}


def open_method(
    method: str, *, weights: StrPath | None = None, models: StrPath | None = None, device: str = "auto"
) -> Method:
    """The method of this name, ready to work. Errors as in `check_method`."""
    if check_name(method) not in NETWORKS:
        return _Motion()
    path = find_weights(method, weights=weights, models=models)
    _need_torch(method)
    from soundreel.interpolation.network import open_network  # noqa: PLC0415 - takes torch

    return open_network(method, path, device=device)


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """Which piece of a longer video pictures are; by default the whole of it.

    Attributes:
        start: place of the first picture in the whole video.
        before: the picture before it; None: it begins the video, or comes after a cut.
        is_last: the last picture is held to the end of its time; else another piece follows, which begins at output
            position `Rates.first_after(start + count - 1)`.
        until: where a cut follows, the output position that the next piece begins at: the last picture is held to it.
    """

    start: int = 0
    before: Picture | None = None
    is_last: bool = True
    until: int | None = None


WHOLE: Final = Piece()


def interpolate(
    pictures: Iterable[Picture],
    factor: int | None = None,
    method: str | Method = Interpolation.MOTION,
    *,
    fps: int | Fraction | None = None,
    source_fps: int | Fraction = MODEL_FPS,
    piece: Piece = WHOLE,
    check: Check | None = None,
) -> Iterator[Picture]:
    """Yield the pictures [H, W, 3] at the higher rate; see the module's text for how many and which.

    Streams: a pair of pictures and what belongs to one batch are in memory at a time.

    Args:
        pictures: all of one size, at `source_fps`.
        factor: output pictures per source picture; or `fps`: their rate.
        method: the name of a method, or one that `open_method` opened.
        check: called before each picture that is made; may raise to stop.

    Raises:
        InputError: an unknown method, or a factor or rate that is too low.
        WeightsError: the method's weights are missing or damaged.
        EngineError: out of memory, after all that saves some was tried.
    """
    rates = _rates(factor, fps, Fraction(source_fps))
    if method == Interpolation.NONE or rates.source == rates.target:
        return iter(pictures)
    maker = open_method(method) if isinstance(method, str) else method
    return _interpolated(pictures, rates, maker, piece, check)


def _interpolated(
    pictures: Iterable[Picture], rates: Rates, method: Method, piece: Piece, check: Check | None
) -> Iterator[Picture]:
    start, before = piece.start, piece.before
    position = rates.first_at(start) if before is None else rates.first_after(start - 1)
    filler = Filler(rates.target, method, position=position, check=check)
    if before is not None:
        yield from filler.add((start - 1) / rates.source, before)
    frame = start - 1
    for frame, picture in enumerate(pictures, start=start):
        yield from filler.add(frame / rates.source, picture)
    yield from filler.finish(rates.count(frame + 1) if piece.is_last else piece.until)


class Filler:
    """Takes pictures with their times and gives those of a constant rate.

    Args:
        longest: how many seconds two pictures may be apart for something to be made between them; None: any.
        check: called before each picture that is made; may raise to stop.
    """

    def __init__(
        self,
        fps: Fraction,
        method: Method,
        *,
        position: int = 0,
        longest: Fraction | None = None,
        check: Check | None = None,
    ) -> None:
        self._fps, self._method, self._longest, self._check = fps, method, longest, check
        self._position = position
        self._last: tuple[Fraction, Picture] | None = None
        self._slots: list[_Slot] = []
        self._gaps: list[tuple[Gap, list[_Slot]]] = []

    def add(self, time: Fraction, picture: Picture) -> Iterator[Picture]:
        """The next picture, shown at `time` seconds; yields what is known by it, in order."""
        if self._last is None:
            self._show(picture, until=floor(time * self._fps) + 1)
        else:
            self._fill(*self._last, time, picture)
        self._last = time, picture
        if self._is_ready():
            yield from self._flush()

    def finish(self, count: int | None) -> Iterator[Picture]:
        """Hold the last picture until there are `count` in the whole video; None: give what is still missing."""
        if count is not None and self._last is not None:
            self._show(self._last[1], until=count)
        yield from self._flush()

    def _show(self, picture: Picture, *, until: int) -> None:
        self._slots += [_Slot(picture) for _ in range(self._position, until)]
        self._position = max(self._position, until)

    def _fill(self, time0: Fraction, before: Picture, time1: Fraction, after: Picture) -> None:
        """Slots for all output positions after `time0` up to `time1`."""
        held = self._is_held(time1 - time0, before, after)
        times, slots = [], []
        for position in range(self._position, floor(time1 * self._fps) + 1):
            at = (position / self._fps - time0) / (time1 - time0)
            if at > 1 - NEAR:
                self._slots.append(_Slot(after))
            elif held or at < NEAR:
                self._slots.append(_Slot(before))
            else:
                slots.append(_Slot())
                times.append(at)
                self._slots.append(slots[-1])
            self._position = position + 1
        if times:
            self._gaps.append((Gap(before, after, tuple(times)), slots))

    def _is_held(self, seconds: Fraction, before: Picture, after: Picture) -> bool:
        """Whether nothing is to be made between two pictures: too far apart, the same, or a cut."""
        far = self._longest is not None and seconds > self._longest
        return far or np.array_equal(before, after) or is_cut(before, after)

    def _is_ready(self) -> bool:
        wanted = sum(len(slots) for _, slots in self._gaps)
        return wanted == 0 or wanted >= self._method.batch or len(self._slots) > WAITING_SLOTS * self._method.batch

    def _flush(self) -> Iterator[Picture]:
        if self._gaps:
            gaps = [gap for gap, _ in self._gaps]
            made = self._method(gaps) if self._check is None else self._method(gaps, self._check)
            for (_, slots), pictures in zip(self._gaps, made, strict=True):
                for slot, picture in zip(slots, pictures, strict=True):
                    slot.picture = picture
            self._gaps = []
        slots, self._slots = self._slots, []
        for slot in slots:
            assert slot.picture is not None
            yield slot.picture


@dataclass(eq=False)
class _Slot:
    """An output position; without a picture until its batch is made."""

    picture: Picture | None = None


class _Motion:
    """libavfilter's motion compensation: one gap at a time."""

    batch = 1

    def __call__(self, gaps: Sequence[Gap], /, check: Check = lambda: None) -> list[list[Picture]]:
        return [compensate_motion(gap, check) for gap in gaps]


def _rates(factor: int | None, fps: int | Fraction | None, source: Fraction) -> Rates:
    if (factor is None) == (fps is None):
        raise InputError(f"factor is {factor} and fps is {fps}: expected one of them")
    if factor is not None and (factor != ceil(factor) or factor < 1):
        raise InputError(f"factor is {factor}: expected a whole number from 1")
    return Rates(source=source, target=Fraction(fps) if fps is not None else source * Fraction(factor or 1))


def check_name(method: str) -> Interpolation:
    """The method of that name; `InputError` where there is none."""
    try:
        return Interpolation(method)
    except ValueError:
        raise InputError(f"there is no interpolation {method!r}: choose {', '.join(Interpolation)}") from None


def _need_torch(method: str) -> None:
    from importlib.util import find_spec  # noqa: PLC0415 - of use only here

    if find_spec("torch") is None:
        raise EngineError(
            f"--interpolate {method} needs PyTorch: pip install 'soundreel[native]', or take --interpolate motion"
        )
