"""One sound file, decoded on the time line on which a player plays it.

Position 0 is the first thing heard. In a file of sound alone that is the first sample that decodes, encoder delay
(priming) removed; in a video it is the moment at which picture or sound begins, whichever is earlier, so that
sound which sets in later has silence before it. Axes: n samples, c channels.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, dropwhile

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from soundreel.errors import MediaError
from soundreel.media.demuxing import Demuxer, open_file
from soundreel.media.timeline import Clock, SoundPacket
from soundreel.units import StrPath

PREROLL_SECONDS = 1.0
"""Decoded before a window and dropped: longer than decoders remember (bit reservoir, overlap, prediction, SBR)."""

NOISE_CODECS = frozenset({"aac", "aac_latm", "ac3", "eac3", "wmav1", "wmav2"})
"""Their decoders fill gaps in the spectrum with noise from a generator that runs since the first packet."""

UNEVEN_CODECS = frozenset({"vorbis"})
"""Their frames have many lengths, so that rounded timestamps do not tell exact positions."""

HISTORY_SECONDS = 120.0
"""Windows of such codecs that begin before this are decoded from the first packet: it costs little and gives
exactly the samples of an unbroken read. In later ones the noise is as random, but another, and Vorbis in Matroska
may lie half a millisecond off."""

JITTER_SECONDS = 0.010
"""Timestamps this near to where the sound stands are inexact; a gap lacks a frame at least, which is longer."""

CLEARLY_SECONDS = 0.1
"""A file that promises this much more than it holds was cut off."""

TAIL_PACKETS = 64
"""Decoded to find out where the sound ends: more than a second in every common codec."""

ADDED_UP_FORMATS = frozenset({"ac3", "eac3", "dts"})
"""Bare streams whose timestamps are FFmpeg's sums of rounded packet lengths, and drift."""

INTEGER_SCALES = {"u8": (128.0, 2.0**7), "s16": (0.0, 2.0**15), "s32": (0.0, 2.0**31)}
"""Zero and full scale of integer sample formats."""

KNOWN_FORMATS = frozenset({*INTEGER_SCALES, "flt", "dbl"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """Decoded sound and where on the time line it is heard."""

    position: int  # samples; negative before the beginning
    samples: NDArray[np.float32]  # [n, c]

    @property
    def stop(self) -> int:
        """First position after it."""
        return self.position + len(self.samples)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Where the sound ends, in samples, and whether the file promises clearly more than that."""

    stop: int
    truncated: bool


@contextmanager
def open_sound(path: StrPath) -> Iterator["SoundFile"]:
    """Open the sound in any file that FFmpeg reads.

    Raises:
        InputError: there is no such file, or it is a directory, empty, or may not be read.
        MediaError: the file cannot be decoded, or holds no sound; also raised while it is read.
    """
    name = repr(os.fspath(path))
    with open_file(path, name) as file:
        try:
            with closing(Demuxer(file, name)) as demuxer:
                yield SoundFile(demuxer, name)
        except (av.FFmpegError, OSError) as error:
            raise MediaError(
                f"{name} cannot be read as sound ({error.strerror}): it is damaged, cut off or of another kind; "
                "give a file that a player plays"
            ) from error


class SoundFile:
    """The sound of a demuxer, to be read once, by `pieces` or by `ending`."""

    sample_rate: int  # Hz
    channels: int
    codec: str  # FFmpeg's name

    def __init__(self, demuxer: Demuxer, name: str) -> None:
        self._demuxer = demuxer
        self._resamplers: dict[tuple[str, str, int], AudioResampler] = {}
        self._head: list[AudioFrame | None] = []
        self.codec = demuxer.codec
        ticks_per_packet = self._read_head()
        frames = [frame for frame in self._head if frame is not None]
        if not frames:
            raise MediaError(f"{name}: its sound ({self.codec}) is damaged, none of it can be decoded")
        self.sample_rate = frames[0].sample_rate
        self.channels = frames[0].layout.nb_channels
        self._layout = frames[0].layout
        self._clock = self._make_clock(frames, ticks_per_packet)
        self._head_stop = self._clock.grid_start + sum(frame.samples for frame in frames[1:])

    def pieces(self, start: int = 0) -> Iterator[Piece]:
        """The sound in order: all of it from position `start` on, and perhaps some before. Gaps are left out."""
        first = start - round(PREROLL_SECONDS * self.sample_rate)
        if self._depends_on_history() and first < HISTORY_SECONDS * self.sample_rate:
            first = 0
        return self._place(chain(self._head, self._decode(self._packets_from(first))))

    def ending(self) -> Ending:
        """Find where the sound ends, decoding no more than the last packets."""
        estimate = self._demuxer.stated_stop()
        packets = self._demuxer.packets
        if estimate is not None:
            packets = self._packets_before(self._clock.position(estimate) - self.sample_rate)
        tail = deque(packets, TAIL_PACKETS)
        frames = [*self._head, *self._decode(tail)]
        stop = max(piece.stop for piece in self._place(frames))
        exact = self._demuxer.exact_stop()
        if exact is not None:
            missing = self._clock.position(exact) - stop
            return Ending(stop=stop, truncated=missing > CLEARLY_SECONDS * self.sample_rate)
        return Ending(stop=stop, truncated=self._is_cut_off(tail, frames))

    def _read_head(self) -> int:
        """Decode packets until two frames are out, which tell the format and the time line; ticks per packet."""
        ticks = frames = 0
        for packet in self._demuxer.packets:
            ticks = packet.duration or ticks
            decoded = list(self._decode([packet]))
            self._head += decoded
            frames += len(decoded) - decoded.count(None)
            if frames >= 2:
                break
        return ticks

    def _make_clock(self, frames: list[AudioFrame], ticks_per_packet: int) -> Clock:
        """The clock by the first frames."""
        first, second = frames[0], frames[min(1, len(frames) - 1)]
        samples_per_tick = float(self._demuxer.time_base * self.sample_rate)
        if self._demuxer.format in ADDED_UP_FORMATS:
            samples_per_tick = second.samples / ticks_per_packet
        origin = (first.pts or 0) * samples_per_tick
        start = self._demuxer.start_seconds()
        if start is not None and (self._demuxer.has_pictures or self._head[0] is None):
            origin = min(origin, float(start * self.sample_rate))
        return Clock(
            samples_per_tick=samples_per_tick,
            origin=origin,
            frame_samples=second.samples,
            grid_start=round((first.pts or 0) * samples_per_tick - origin) + first.samples,
        )

    def _depends_on_history(self) -> bool:
        """Whether exact samples at exact positions take decoding everything before them."""
        has_rounded_times = self._clock.rounding > 0
        return self.codec in NOISE_CODECS or (self.codec in UNEVEN_CODECS and has_rounded_times)

    def _packets_from(self, position: int) -> Iterator[SoundPacket]:
        """The packets after the head, without those that end before `position`."""
        if position <= self._head_stop:
            return self._demuxer.packets
        packets = self._packets_before(position)
        self._demuxer.stream.codec_context.flush_buffers()
        ticks = self._clock.ticks(position)
        return dropwhile(lambda p: p.pts is not None and p.pts + (p.duration or 0) <= ticks, packets)

    def _packets_before(self, position: int) -> Iterator[SoundPacket]:
        """The packets after the head, from as near before `position` as a seek leads."""
        if position <= self._head_stop:
            return self._demuxer.packets
        return self._demuxer.seek(self._clock.ticks(position))

    def _decode(self, packets: Iterable[SoundPacket]) -> Iterator[AudioFrame | None]:
        """Frames, and None for each packet that is damaged."""
        for packet in packets:
            try:
                frames = packet.decode()
            except av.FFmpegError:
                yield None
            else:
                yield from frames

    def _place(self, frames: Iterable[AudioFrame | None]) -> Iterator[Piece]:
        """Convert frames and put them where their timestamps say."""
        inexact, jitter = round(self._clock.rounding), round(JITTER_SECONDS * self.sample_rate)
        tolerance, expected = inexact, 0
        last: Piece | None = None
        for frame in frames:
            if frame is None:
                tolerance = inexact  # what is missing stays silent, however short it is
                continue
            position = expected if frame.pts is None else self._clock.position(frame.pts)
            if abs(position - expected) <= tolerance:
                position = expected
            if last is not None:
                yield last
            last = Piece(position=position, samples=self._convert(frame))
            tolerance, expected = jitter, last.stop
        if last is not None:
            yield self._without_padding(last)

    def _without_padding(self, last: Piece) -> Piece:
        """The last piece without what the encoder added to fill its last frame."""
        exact = self._demuxer.exact_stop()
        stop = last.stop if exact is None else self._clock.position(exact)
        if not last.position < stop < last.stop:
            return last
        return Piece(position=last.position, samples=last.samples[: stop - last.position])

    def _convert(self, frame: AudioFrame) -> NDArray[np.float32]:
        """Samples of a frame as float32 [n, c], at the rate and in the channels with which the file begins."""
        is_alike = frame.sample_rate == self.sample_rate and frame.layout.nb_channels == self.channels
        if is_alike and frame.format.packed.name in KNOWN_FORMATS:
            return _to_float(frame)
        key = (frame.format.name, frame.layout.name, frame.sample_rate)
        if key not in self._resamplers:
            self._resamplers[key] = AudioResampler("fltp", self._layout, self.sample_rate)
        converted = [_to_float(part) for part in self._resamplers[key].resample(frame)]
        return np.concatenate([np.empty((0, self.channels), np.float32), *converted])

    def _is_cut_off(self, tail: Iterable[SoundPacket], frames: list[AudioFrame | None]) -> bool:
        """Whether bytes are missing at the end of the file."""
        packets = [packet for packet in tail if packet.size]
        if packets and self._demuxer.is_cut_off(packets[-1]):
            return True
        return None in frames[-2:] and self._demuxer.format != "mp3"  # behind which tags and other bytes may stand


def _to_float(frame: AudioFrame) -> NDArray[np.float32]:
    """Samples of a frame as float32 [n, c], full scale at -1..1."""
    data = frame.to_ndarray()
    samples = data.T if frame.format.is_planar else data.reshape(-1, frame.layout.nb_channels)
    if frame.format.packed.name in INTEGER_SCALES:
        zero, full_scale = INTEGER_SCALES[frame.format.packed.name]
        return (samples.astype(np.float32) - zero) / full_scale
    return np.nan_to_num(samples.astype(np.float32), copy=False, nan=0.0, posinf=1.0, neginf=-1.0)
