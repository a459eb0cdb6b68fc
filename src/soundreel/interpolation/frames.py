"""Conversion of a stream of frames to a higher frame rate.

Output frame m belongs to the time m / fps: it is the source frame of that time, or else one interpolated between the
source frames before and after it. N source frames at a rate S become N · fps / S output frames, rounded half up, so
that the duration stays the same to within half an output frame; after the last source frame, that frame is repeated.
Nothing is interpolated across a cut or between equal frames: there the frame before is repeated.

An output frame depends on the two source frames around it alone. A long video may therefore be converted in pieces, for
which only the last frame of the piece before is needed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Final, Protocol

import numpy as np

from soundreel.disk.digests import sampled_digest
from soundreel.errors import INSTALL_NATIVE, EngineError, InputError
from soundreel.media.cuts import is_cut
from soundreel.media.motion import FramePair, Picture, compensate_motion
from soundreel.request import Interpolation
from soundreel.types import Check, go_on
from soundreel.units import MODEL_FPS, StrPath
from soundreel.weights.frame_networks import find_weights

NETWORKS: Final = (Interpolation.RIFE, Interpolation.FILM)
"""Methods that need weights."""

NEAR: Final = Fraction(1, 64)
"""A source frame nearer than this, in source frame intervals, is taken as it is: the difference is invisible."""

WAITING_SLOTS: Final = 16
"""Output frames that may wait for a batch to fill, in batches."""


class Method(Protocol):
    """Interpolates frames between pairs of frames."""

    @property
    def batch(self) -> int:
        """Number of frames that are interpolated together most efficiently."""
        ...

    def __call__(self, pairs: Sequence[FramePair], /, check: Check = go_on) -> list[list[Picture]]:
        """The frames of each pair, one for each of its times; `check` is called before each frame or batch."""
        ...


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Frames per second of source and output. Raises `InputError` unless 0 < source ≤ target."""

    source: Fraction = Fraction(MODEL_FPS)
    target: Fraction

    def __post_init__(self) -> None:
        if not 0 < self.source <= self.target:
            raise InputError(
                f"from {self.source} to {self.target} frames per second: expected at least as many as before"
            )

    def count(self, frames: int) -> int:
        """Number of output frames for `frames` source frames: the same duration, rounded half up."""
        return rounded(frames * self.target / self.source)

    def first_at(self, frame: int) -> int:
        """Index of the first output frame at or after source frame `frame`."""
        return ceil(frame * self.target / self.source)

    def first_after(self, frame: int) -> int:
        """Index of the first output frame after source frame `frame`; 0 for -1."""
        return 0 if frame < 0 else floor(frame * self.target / self.source) + 1


def rounded(number: Fraction) -> int:
    """The nearest whole number, halves rounded up."""
    return floor(number + Fraction(1, 2))


def check_method(method: str, *, weights: StrPath | None = None, models: StrPath | None = None) -> None:
    """Check that a method can be used, as far as that is possible without loading its network.

    Args:
        weights: file of the network; None: looked for in the models folder.
        models: the models folder; None: the default one.

    Raises:
        InputError: there is no such method.
        WeightsError: its weights are missing, damaged or of another network.
        EngineError: it needs PyTorch, which is not installed.
    """
    if check_name(method) in NETWORKS:
        path = find_weights(method, weights=weights, models=models)
        _need_torch(method)
        from soundreel.weights.frame_networks import check_network  # noqa: PLC0415 - takes torch

        check_network(method, path)


def method_files(method: str, *, weights: StrPath | None = None, models: StrPath | None = None) -> Mapping[str, str]:
    """Name → digest of the method's weights file; empty for a method without weights."""
    if method not in NETWORKS:
        return {}
    path = find_weights(method, weights=weights, models=models)
    return {f"{method} {path.name}": sampled_digest(path)}


def open_method(
    method: str, *, weights: StrPath | None = None, models: StrPath | None = None, device: str = "auto"
) -> Method:
    """The method of this name with its network loaded. Arguments and errors as in `check_method`.

    Args:
        device: auto, cpu, cuda, cuda:1 or mps, for a network.
    """
    if check_name(method) not in NETWORKS:
        return _MotionCompensation()
    path = find_weights(method, weights=weights, models=models)
    _need_torch(method)
    from soundreel.interpolation.network import open_network  # noqa: PLC0415 - takes torch

    return open_network(method, path, device=device)


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """Which piece of a longer video is converted; by default the whole video.

    Attributes:
        start: index of the first source frame in the whole video.
        before: the source frame before it; None: the piece begins the video, or comes after a cut.
        is_last: the last frame is repeated to the end of its duration; else another piece follows, which begins at
            output frame `Rates.first_after(start + count - 1)`.
        until: where a cut follows, the output frame at which the next piece begins: the last frame is repeated up to
            it.
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
    check: Check = go_on,
) -> Iterator[Picture]:
    """Yield the frames, uint8 [H, W, 3], at the higher rate; the module's docstring says how many and which.

    Frames are streamed: one pair of source frames and the frames of one batch are in memory at a time.

    Args:
        pictures: frames of one size, at `source_fps` frames per second.
        factor: output frames per source frame; or else
        fps: frames per second of the output.
        method: a name of `Interpolation`, or a method that `open_method` returned.
        check: called before each frame that is interpolated; may raise to stop.

    Raises:
        InputError: an unknown method, or a factor or rate below that of the source.
        WeightsError: the method's weights are missing or damaged.
        EngineError: out of memory, even with the smallest batches and tiles.
    """
    rates = _rates(factor, fps, Fraction(source_fps))
    if method == Interpolation.NONE or rates.source == rates.target:
        return iter(pictures)
    maker = open_method(method) if isinstance(method, str) else method
    return _interpolated(pictures, rates, maker, piece, check)


def _interpolated(
    pictures: Iterable[Picture], rates: Rates, method: Method, piece: Piece, check: Check
) -> Iterator[Picture]:
    start, before = piece.start, piece.before
    position = rates.first_at(start) if before is None else rates.first_after(start - 1)
    converter = FrameRateConverter(rates.target, method, position=position, check=check)
    if before is not None:
        yield from converter.add((start - 1) / rates.source, before)
    frame = start - 1
    for frame, picture in enumerate(pictures, start=start):
        yield from converter.add(frame / rates.source, picture)
    yield from converter.finish(rates.count(frame + 1) if piece.is_last else piece.until)


class FrameRateConverter:
    """Takes frames with their times and returns the frames of a constant rate.

    Args:
        fps: frames per second of the output.
        position: index of the first output frame.
        longest: largest distance in seconds of two frames between which frames are interpolated; None: any.
        check: called before each frame that is interpolated; may raise to stop.
    """

    def __init__(
        self,
        fps: Fraction,
        method: Method,
        *,
        position: int = 0,
        longest: Fraction | None = None,
        check: Check = go_on,
    ) -> None:
        self._fps, self._method, self._longest, self._check = fps, method, longest, check
        self._position = position
        self._last: tuple[Fraction, Picture] | None = None
        self._slots: list[_Slot] = []
        self._pairs: list[tuple[FramePair, list[_Slot]]] = []

    def add(self, time: Fraction, picture: Picture) -> Iterator[Picture]:
        """Add the next source frame, of time `time` in seconds; yield the output frames that are complete, in order."""
        if self._last is None:
            self._show(picture, until=floor(time * self._fps) + 1)
        else:
            self._fill(*self._last, time, picture)
        self._last = time, picture
        if self._is_ready():
            yield from self._flush()

    def finish(self, count: int | None) -> Iterator[Picture]:
        """Yield the remaining output frames; with `count`, repeat the last frame up to that many in the whole video."""
        if count is not None and self._last is not None:
            self._show(self._last[1], until=count)
        yield from self._flush()

    def _show(self, picture: Picture, *, until: int) -> None:
        self._slots += [_Slot(picture) for _ in range(self._position, until)]
        self._position = max(self._position, until)

    def _fill(self, time0: Fraction, before: Picture, time1: Fraction, after: Picture) -> None:
        """Add slots for all output frames after `time0` up to and including `time1`, in seconds."""
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
            self._pairs.append((FramePair(before, after, tuple(times)), slots))

    def _is_held(self, seconds: Fraction, before: Picture, after: Picture) -> bool:
        """Whether `before` is repeated instead of interpolating: the frames are far apart, equal, or on either side of
        a cut."""
        far = self._longest is not None and seconds > self._longest
        return far or np.array_equal(before, after) or is_cut(before, after)

    def _is_ready(self) -> bool:
        wanted = sum(len(slots) for _, slots in self._pairs)
        return wanted == 0 or wanted >= self._method.batch or len(self._slots) > WAITING_SLOTS * self._method.batch

    def _flush(self) -> Iterator[Picture]:
        if self._pairs:
            pairs = [pair for pair, _ in self._pairs]
            made = self._method(pairs, self._check)
            for (_, slots), pictures in zip(self._pairs, made, strict=True):
                for slot, picture in zip(slots, pictures, strict=True):
                    slot.picture = picture
            self._pairs = []
        slots, self._slots = self._slots, []
        for slot in slots:
            assert slot.picture is not None
            yield slot.picture


@dataclass(eq=False)
class _Slot:
    """An output frame, None until its batch is interpolated."""

    picture: Picture | None = None


class _MotionCompensation:
    """libavfilter's motion compensation, one pair at a time."""

    batch = 1

    def __call__(self, pairs: Sequence[FramePair], /, check: Check = go_on) -> list[list[Picture]]:
        return [compensate_motion(pair, check) for pair in pairs]


def _rates(factor: int | None, fps: int | Fraction | None, source: Fraction) -> Rates:
    if (factor is None) == (fps is None):
        raise InputError(f"factor is {factor} and fps is {fps}: expected one of them")
    if factor is not None and (factor != ceil(factor) or factor < 1):
        raise InputError(f"factor is {factor}: expected a whole number from 1")
    return Rates(source=source, target=Fraction(fps) if fps is not None else source * Fraction(factor or 1))


def check_name(method: str) -> Interpolation:
    """`method` as `Interpolation`; raises `InputError` for an unknown name."""
    try:
        return Interpolation(method)
    except ValueError:
        raise InputError(f"there is no interpolation {method!r}: choose {', '.join(Interpolation)}") from None


def _need_torch(method: str) -> None:
    from importlib.util import find_spec  # noqa: PLC0415 - of use only here

    if find_spec("torch") is None:
        raise EngineError(
            f"--interpolate {method} needs the package torch: {INSTALL_NATIVE}, or take --interpolate motion"
        )
