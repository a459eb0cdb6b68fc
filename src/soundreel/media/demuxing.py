"""Demuxing of sound: the packets of the best sound stream in a file, from any position on."""

import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice
from typing import BinaryIO

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from soundreel.errors import MediaError
from soundreel.media import framing
from soundreel.media.containers import open_container
from soundreel.media.timestamps import SoundPacket, repair_timestamps
from soundreel.media.windows_media import WindowsMedia

MOV = "mov,mp4,m4a,3gp,3g2,mj2"
MATROSKA = "matroska,webm"

SEEKABLE_FORMATS = frozenset({"aiff", "asf", "avi", "caf", "flac", MATROSKA, MOV, "ogg", "w64", "wav"})
"""Containers whose timestamps are right after a seek. In all others packets are counted from the beginning of the file:
bare MPEG audio, for example, has no timestamps, and FFmpeg only estimates where a seek in it lands."""

EXACT_LENGTH_FORMATS = frozenset({"aiff", "flac", MOV})
"""Containers that state the exact length of their sound."""

SEEK_LEAD_SECONDS = 1
"""Seeks go this far before the wanted time: in a video, the sound of a key frame may be stored well after it."""

RESTART_SECONDS = 1
"""Timestamps that jump back by more than this are taken as the start of a new count."""

XING_SLACK_FRAMES = 4
"""Encoders disagree on whether the frame count in an mp3 header includes that header and the encoder's delay."""


class Demuxer:
    """The best sound stream of an open file.

    Raises:
        MediaError: the file holds no sound, or none that can be decoded.
        av.FFmpegError: the file is not one that FFmpeg reads.
    """

    format: str  # FFmpeg's name of the container
    codec: str  # FFmpeg's name of the codec
    time_base: Fraction  # seconds per tick
    stream: AudioStream
    windows_media: WindowsMedia | None  # its header, where it is of that codec
    packets: Iterator[SoundPacket]  # from the beginning, to be read once

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._file_bytes = file.seek(0, os.SEEK_END)
        self._open()

    def close(self) -> None:
        """Close the container; the file object stays open."""
        self._container.close()

    def seek(self, ticks: int) -> Iterator[SoundPacket]:
        """Packets from the seek point before timestamp `ticks` on, or from the beginning where seeking fails."""
        if not self._is_seekable():
            return self.packets
        guide: AudioStream | VideoStream = self.stream
        if self.format == MATROSKA and self._pictures:
            guide = self._pictures[0]  # the index mostly lists its key frames
        seconds = ticks * self.time_base - SEEK_LEAD_SECONDS
        try:
            self._container.seek(int(seconds / (guide.time_base or self.time_base)), stream=guide)
        except (av.FFmpegError, OverflowError):  # no such time in the file
            return self._reopen()
        packets = self._read()
        first = next(packets, None)
        if first is None or first.pts is None or first.pts > ticks:
            return self._reopen()
        return chain([first], packets)

    def start_seconds(self) -> Fraction | None:
        """Seconds at which the earlier of picture and sound begins, the encoder's delay left out; None: not known."""
        streams = [*self._pictures, self.stream]
        starts = {s.index: s.start_time * s.time_base for s in streams if s.start_time is not None and s.time_base}
        if self.stream.index in starts:
            starts[self.stream.index] += Fraction(self.encoder_delay, self.stream.sample_rate)
        return min(starts.values(), default=None)

    @property
    def encoder_delay(self) -> int:
        """Samples that the decoder gives before the sound begins, beyond those that FFmpeg drops."""
        return 0 if self.windows_media is None else self.windows_media.delay

    @property
    def has_pictures(self) -> bool:
        """Whether it is a video; cover art is not."""
        return bool(self._pictures)

    def stated_stop(self) -> int | None:
        """Timestamp at which the sound ends, as the container states or FFmpeg estimates it; None: not known."""
        if self.stream.duration is not None:
            return (self.stream.start_time or 0) + self.stream.duration
        if self._container.duration is not None:
            seconds = Fraction((self._container.start_time or 0) + self._container.duration, av.time_base)
            return int(seconds / self.time_base)
        return None

    def exact_stop(self) -> int | None:
        """Timestamp at which the sound ends, where the container states it exactly."""
        return self.stated_stop() if self.format in EXACT_LENGTH_FORMATS else None

    def is_truncated(self, last: SoundPacket) -> bool:
        """Whether bytes are missing at the end of the file, whose last readable packet is `last`."""
        if self.format == "mp3":
            return self._lacks_mp3_frames(last)
        if self.format == "ogg":
            return framing.ogg_is_truncated(self._read_bytes(-framing.LONGEST_OGG_PAGE_BYTES))
        head = self._read_bytes(0, framing.LONGEST_EBML_HEADER_BYTES)
        if self.format in {"wav", "avi"}:
            return framing.riff_is_truncated(head, self._file_bytes)
        if self.format == MATROSKA:
            return framing.matroska_is_truncated(head, self._file_bytes)
        return last.is_corrupt

    def _open(self) -> None:
        self._file.seek(0)
        self._container = open_container(self._file)
        self.format = self._container.format.name
        self.stream = _choose_stream(self._container, self._name)
        for stream in self._container.streams:
            stream.discard = Discard.default if stream is self.stream else Discard.all
        self._pictures = [
            stream for stream in self._container.streams.video if not stream.disposition & Disposition.attached_pic
        ]
        self.codec = self.stream.codec_context.codec.canonical_name
        self.time_base = self.stream.time_base or Fraction(1, av.time_base)
        self.windows_media = WindowsMedia.of(self.stream)
        packets = self._read()
        first = list(islice(packets, 1))
        self._sound_offset = (first[0].pos or 0) if first else 0
        self.packets = chain(first, packets)

    def _reopen(self) -> Iterator[SoundPacket]:
        """All packets from the beginning: for files in which a seek fails, such as truncated ones."""
        self.close()
        self._open()
        return self.packets

    def _read(self) -> Iterator[SoundPacket]:
        """Packets from the container's current position to the end, or to where the file cannot be read on."""
        near = int(RESTART_SECONDS / self.time_base)
        stop = self.stated_stop()
        demuxed = self._container.demux(self.stream)
        if self.windows_media is not None:
            demuxed = self.windows_media.retimed(demuxed, self.stream.sample_rate)
        packets = repair_timestamps(
            demuxed,
            near=near,
            latest=sys.maxsize if stop is None else stop + near,
            lost_frames=framing.LostFrames() if self.format == "mp3" else None,
        )
        try:
            yield from packets
        except (av.FFmpegError, IndexError):  # IndexError: PyAV's, at the end of files in which streams appear late
            return

    def _is_seekable(self) -> bool:
        if self.windows_media is not None and self.windows_media.has_reservoir:
            return False  # where a packet belongs is known by counting those before it
        if self.format in {"wav", "w64"}:
            return self.codec.startswith("pcm_")  # else FFmpeg guesses timestamps from the byte rate
        if self.format == "ogg":
            first_page = self._read_bytes(0, framing.OGG_PAGE_HEADER_BYTES)
            return not framing.ogg_is_chained(first_page, self._read_bytes(-framing.LONGEST_OGG_PAGE_BYTES))
        return self.format in SEEKABLE_FORMATS

    def _lacks_mp3_frames(self, last: SoundPacket) -> bool:
        """Whether the last frame is incomplete, or the header before the first frame states more than there are."""
        if last.size < (framing.mp3_frame_bytes(bytes(last)[:4]) or 0):
            return True
        header_start = max(0, self._sound_offset - framing.LONGEST_MP3_FRAME_BYTES)
        promised = framing.mp3_frame_count(self._read_bytes(header_start, self._sound_offset - header_start))
        if promised is None or last.pts is None or not last.duration:
            return False
        return promised - XING_SLACK_FRAMES > last.pts // last.duration + 1

    def _read_bytes(self, start: int, count: int = -1) -> bytes:
        """`count` bytes from `start`, counted from the end if negative; the file's position is restored for FFmpeg."""
        place = self._file.tell()
        self._file.seek(start if start >= 0 else max(0, self._file_bytes + start))
        data = self._file.read(count)
        self._file.seek(place)
        return data


def _choose_stream(container: InputContainer, name: str) -> AudioStream:
    """FFmpeg's choice of the best sound stream, as players make it, or else the first that can be decoded."""
    streams = container.streams
    if not streams.audio:
        raise MediaError(f"{name} holds no sound: give a sound file, or a video with sound")
    for stream in (streams.best("audio"), *streams.audio):
        if isinstance(stream, AudioStream) and stream.codec_context is not None:
            return stream
    raise MediaError(f"{name}: there is no decoder for its sound; convert it to FLAC or MP3 first")
