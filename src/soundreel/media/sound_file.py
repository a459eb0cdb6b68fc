"""One sound file, decoded to blocks of samples with their positions, as a player times them.

Position 0 is where playback starts. In a file of sound alone that is the first decoded sample after the encoder delay
(priming); in a video it is where picture or sound begins, whichever is earlier, so that sound that starts later has
silence before it. Axes: n samples, c channels.
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
from soundreel.media.demuxing import Demuxer
from soundreel.media.files import open_file
from soundreel.media.timestamps import SoundPacket, Timestamps
from soundreel.units import StrPath

PREROLL_SECONDS = 1.0
"""Decoded before a window and dropped: longer than any decoder's memory (bit reservoir, overlap, prediction, SBR)."""

NOISE_CODECS = frozenset({"aac", "aac_latm", "ac3", "eac3", "wmav1", "wmav2"})
"""Codecs whose decoders fill parts of the spectrum with random noise, from a generator that runs from the first packet
on."""

VARIABLE_FRAME_CODECS = frozenset({"vorbis"})
"""Codecs with frames of several lengths, so that rounded timestamps do not give exact positions."""

HISTORY_SECONDS = 120.0
"""Windows of these codecs that begin earlier are decoded from the first packet on, which costs little and gives exactly
the samples of reading the whole file. In later windows the noise differs, and the position of Vorbis in Matroska may be
half a millisecond off."""

JITTER_SECONDS = 0.010
"""A timestamp within this of the end of the previous block is taken as equal to it: it is rounded, or jitters. A gap is
longer, since at least one frame is missing."""

TRUNCATION_SECONDS = 0.1
"""A file that states this much more sound than it holds is truncated."""

TAIL_PACKETS = 64
"""Packets that are decoded to find where the sound ends: more than a second in every common codec."""

SUMMED_TIMESTAMP_FORMATS = frozenset({"ac3", "eac3", "dts"})
"""Formats without timestamps, for which FFmpeg adds up rounded packet durations, so that they drift."""

INTEGER_SCALES = {"u8": (128.0, 2.0**7), "s16": (0.0, 2.0**15), "s32": (0.0, 2.0**31)}
"""Integer sample format → value of silence, and distance from it to full scale."""

KNOWN_FORMATS = frozenset({*INTEGER_SCALES, "flt", "dbl"})


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedBlock:
    """Decoded samples and their position."""

    position: int  # samples; negative before the beginning
    samples: NDArray[np.float32]  # [n, c]

    @property
    def stop(self) -> int:
        """Position after the last sample."""
        return self.position + len(self.samples)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Where the sound of a file ends."""

    stop: int  # samples
    truncated: bool  # the file states clearly more sound, or its end is incomplete


@contextmanager
def open_sound(path: StrPath) -> Iterator["SoundFile"]:
    """Open the sound in any file that FFmpeg reads.

    Raises:
        InputError: there is no such file, or it is a directory, empty, or may not be read.
        MediaError: the file cannot be decoded, or holds no sound; on entry or in the `with` block.
    """
    name = repr(os.fspath(path))
    with open_file(path, "sound") as file:
        try:
            with closing(Demuxer(file, name)) as demuxer:
                yield SoundFile(demuxer, name)
        except (av.FFmpegError, OSError) as error:
            raise MediaError(
                f"{name} cannot be read as sound ({error.strerror}): it is damaged, cut off or of another kind; "
                "give a file that a player plays"
            ) from error


class SoundFile:
    """The sound of a demuxer, to be read once, by `blocks` or by `ending`."""

    sample_rate: int  # Hz
    channels: int
    codec: str  # FFmpeg's name
    channel_names: tuple[str, ...]  # FFmpeg's: FL, FR, …; NONE where the file does not name them
    begins: int  # position of the first sample: what is before it is silent
    is_float: bool  # samples are floating-point numbers, so that any value may come, no number among them

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
        self.channel_names = tuple(channel.name for channel in frames[0].layout.channels)
        self.is_float = frames[0].format.packed.name not in INTEGER_SCALES
        self._layout = frames[0].layout
        self._is_timed = any(frame.pts is not None for frame in frames)  # those of WMA Pro and Lossless have no time
        self._timestamps = self._read_timestamps(frames, ticks_per_packet)
        self.begins = max(0, self._timestamps.grid_start - frames[0].samples)
        self._head_stop = self._timestamps.grid_start + sum(frame.samples for frame in frames[1:])

    def blocks(self, start: int = 0) -> Iterator[DecodedBlock]:
        """The sound in order from position `start` on, possibly with some before it. Gaps are not filled."""
        first = start - round(PREROLL_SECONDS * self.sample_rate)
        if self._depends_on_history() and first < HISTORY_SECONDS * self.sample_rate:
            first = 0
        return self._place(chain(self._head, self._decode(self._packets_from(first))))

    def ending(self) -> Ending:
        """Find where the sound ends by decoding only the last packets, or all where their frames have no times."""
        if not self._is_timed:
            return self._counted_ending()
        estimate = self._demuxer.stated_stop()
        packets = self._demuxer.packets
        if estimate is not None:
            packets = self._packets_before(self._timestamps.position(estimate) - self.sample_rate)
        tail = deque(packets, TAIL_PACKETS)
        frames = [*self._head, *self._decode(tail)]
        stop = max(block.stop for block in self._place(frames))
        exact = self._demuxer.exact_stop()
        if exact is not None:
            missing = self._timestamps.position(exact) - stop
            return Ending(stop=stop, truncated=missing > TRUNCATION_SECONDS * self.sample_rate)
        return Ending(stop=stop, truncated=self._is_truncated(tail, frames))

    def _counted_ending(self) -> Ending:
        stop = max(block.stop for block in self._place(chain(self._head, self._decode(self._demuxer.packets))))
        stated = self._demuxer.stated_stop()
        missing = 0 if stated is None else self._timestamps.position(stated) - stop
        return Ending(stop=stop, truncated=missing > TRUNCATION_SECONDS * self.sample_rate)

    def _read_head(self) -> int:
        """Decode packets into `_head` until it holds two frames, which give format and timing; the ticks per packet."""
        ticks = frames = 0
        for packet in self._demuxer.packets:
            ticks = packet.duration or ticks
            decoded = list(self._decode([packet]))
            self._head += decoded
            frames += len(decoded) - decoded.count(None)
            if frames >= 2:
                break
        return ticks

    def _read_timestamps(self, frames: list[AudioFrame], ticks_per_packet: int) -> Timestamps:
        """How timestamps map to positions, from the first frames."""
        first, second = frames[0], frames[min(1, len(frames) - 1)]
        samples_per_tick = float(self._demuxer.time_base * self.sample_rate)
        if self._demuxer.format in SUMMED_TIMESTAMP_FORMATS:
            samples_per_tick = second.samples / ticks_per_packet
        windows_media = self._demuxer.windows_media
        origin = (first.pts or 0) * samples_per_tick + self._demuxer.encoder_delay
        start = self._demuxer.start_seconds()
        if start is not None and (self._demuxer.has_pictures or self._head[0] is None):
            origin = min(origin, float(start * self.sample_rate))
        return Timestamps(
            samples_per_tick=samples_per_tick,
            origin=origin,
            frame_samples=second.samples if windows_media is None else windows_media.frame_samples,
            grid_start=round((first.pts or 0) * samples_per_tick - origin) + first.samples,
        )

    def _depends_on_history(self) -> bool:
        """Whether exact samples at exact positions require decoding from the first packet."""
        has_rounded_times = self._timestamps.rounding > 0
        return self.codec in NOISE_CODECS or (self.codec in VARIABLE_FRAME_CODECS and has_rounded_times)

    def _packets_from(self, position: int) -> Iterator[SoundPacket]:
        """The packets after the head that end after `position`; the decoder is reset for them."""
        if position <= self._head_stop or not self._is_timed:
            return self._demuxer.packets
        packets = self._packets_before(position)
        self._demuxer.stream.codec_context.flush_buffers()
        ticks = self._timestamps.ticks(position)
        return dropwhile(lambda p: p.pts is not None and p.pts + (p.duration or 0) <= ticks, packets)

    def _packets_before(self, position: int) -> Iterator[SoundPacket]:
        """The packets after the head, from the last seek point before `position` on."""
        if position <= self._head_stop:
            return self._demuxer.packets
        return self._demuxer.seek(self._timestamps.ticks(position))

    def _decode(self, packets: Iterable[SoundPacket]) -> Iterator[AudioFrame | None]:
        """The frames of `packets`, and None for each packet that cannot be decoded."""
        for packet in packets:
            try:
                frames = packet.decode()
            except av.FFmpegError:
                yield None
            else:
                yield from frames

    def _place(self, frames: Iterable[AudioFrame | None]) -> Iterator[DecodedBlock]:
        """Frames as blocks at the positions of their timestamps."""
        inexact, jitter = round(self._timestamps.rounding), round(JITTER_SECONDS * self.sample_rate)
        tolerance, expected = inexact, 0
        last: DecodedBlock | None = None
        for frame in frames:
            if frame is None:
                tolerance = inexact  # the gap of a damaged packet is kept, however short it is
                continue
            position = expected if frame.pts is None else self._timestamps.position(frame.pts)
            if abs(position - expected) <= tolerance:
                position = expected
            if last is not None:
                yield last
            last = DecodedBlock(position=position, samples=self._convert(frame))
            tolerance, expected = jitter, last.stop
        if last is not None:
            yield self._without_padding(last)

    def _without_padding(self, last: DecodedBlock) -> DecodedBlock:
        """The last block without the padding that the encoder added to fill its last frame."""
        exact = self._demuxer.exact_stop()
        stop = last.stop if exact is None else self._timestamps.position(exact)
        if not last.position < stop < last.stop:
            return last
        return DecodedBlock(position=last.position, samples=last.samples[: stop - last.position])

    def _convert(self, frame: AudioFrame) -> NDArray[np.float32]:
        """Samples of a frame as float32 [n, c], with the sample rate and channels of the file's first frame."""
        is_alike = frame.sample_rate == self.sample_rate and frame.layout.nb_channels == self.channels
        if is_alike and frame.format.packed.name in KNOWN_FORMATS:
            return _to_float(frame)
        key = (frame.format.name, frame.layout.name, frame.sample_rate)
        if key not in self._resamplers:
            self._resamplers[key] = AudioResampler("fltp", self._layout, self.sample_rate)
        converted = [_to_float(part) for part in self._resamplers[key].resample(frame)]
        return np.concatenate([np.empty((0, self.channels), np.float32), *converted])

    def _is_truncated(self, tail: Iterable[SoundPacket], frames: list[AudioFrame | None]) -> bool:
        """Whether bytes are missing at the end of the file."""
        packets = [packet for packet in tail if packet.size]
        if packets and self._demuxer.is_truncated(packets[-1]):
            return True
        return None in frames[-2:] and self._demuxer.format != "mp3"  # where tags may follow the sound


def _to_float(frame: AudioFrame) -> NDArray[np.float32]:
    """Samples of a frame as float32 [n, c], full scale at -1..1."""
    data = frame.to_ndarray()
    samples = data.T if frame.format.is_planar else data.reshape(-1, frame.layout.nb_channels)
    if frame.format.packed.name in INTEGER_SCALES:
        zero, full_scale = INTEGER_SCALES[frame.format.packed.name]
        return (samples.astype(np.float32) - zero) / full_scale
    with np.errstate(over="ignore"):
        return samples.astype(np.float32)
