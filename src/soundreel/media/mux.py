"""Muxing: segments and sound into one finished mp4 file, and its verification against the A/V contract.

The contract: N pictures, the i-th at exactly i / fps seconds, and a sound track N / fps seconds long that is the chosen
window of the sound from its first sample on. Both begin at 0: edit lists remove what the codecs need before (B-frame
delay, AAC priming). Axes of sound: n samples, c channels.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, TypeAlias

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from soundreel.errors import MediaError
from soundreel.media.audio import Block, SoundInfo, probe_sound, stream_sound
from soundreel.media.containers import TICKS_PER_FRAME, NewFile, mp4_options, opened, unexpected
from soundreel.media.downmix import stereo_gains
from soundreel.media.files import check_file
from soundreel.media.video import REORDER_FRAMES, scan_packets, sound_stream, video_stream
from soundreel.types import Check, go_on, heard
from soundreel.units import StrPath

TRACK_SAMPLE_RATES: Final = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Sample rates of AAC in Hz that every player supports."""

AAC_FRAME_SAMPLES: Final = 1024
"""Samples per frame of AAC: the track's length is exact to within one frame."""

BITS_PER_SAMPLE: Final = 8 / 3
"""Bit rate of the AAC track per sample and channel: 128 kbit/s in mono and 256 kbit/s in stereo at 48 kHz."""

PicturePacket: TypeAlias = "av.Packet[av.VideoStream]"


AAC_OPTIONS: Final = {"aac_pns": "0"}
"""FFmpeg's encoder is not to put noise in place of what sounds like noise, as it does unless told: where a window began
within a tone, the first 20 ms of its track had a burst as loud as the tone. Our bit rates do without."""


@dataclass(frozen=True, kw_only=True)
class SoundTrack:
    """The window of a sound file that becomes the sound track."""

    path: StrPath
    start: float  # seconds into the file
    seconds: float  # silence follows where this, or the sound, is shorter than the video


def assemble(
    segments: Sequence[Path],
    output: Path,
    *,
    fps: int,
    sound: SoundTrack | None,
    metadata: Mapping[str, str],
    check: Check = go_on,
) -> None:
    """Join segments written by `SegmentWriter` without re-encoding, add sound and metadata, write `output`.

    The sound keeps its sample rate where AAC has it, else it gets the next higher one, at most 48 kHz; more than two
    channels are mixed down to stereo. Sound and pictures are streamed: memory does not grow with the video's length.
    Metadata keys may have any name. The index comes first (faststart), and the file is synced to the disk on return.
    What was at `output` before is overwritten; after an error there is no file. `check` may raise to stop.

    Raises:
        InputError: the sound or a segment is not a readable file.
        MediaError: segments that do not fit together, unreadable sound, or `output` cannot be written.
    """
    track = _open_track(sound, fps) if sound else None
    needed_bytes = _needed_bytes(segments, sound, track, metadata)
    with NewFile(output, options=_mp4_options(fps, track), needed_bytes=needed_bytes) as file:
        file.container.metadata.update(metadata)
        pictures = _add_picture_stream(file.container, segments[0])
        if track:
            track.add_to(file.container)
        interleave(file, pictures, heard(_joined_packets(segments, fps), check), track)


def interleave(
    file: NewFile, pictures: av.VideoStream, packets: Iterator[PicturePacket], track: "TrackEncoder | None"
) -> None:
    """Write the packets of all pictures in decoding order, the sound in step with them."""
    for count, packet in enumerate(packets, start=1):
        packet.stream = pictures
        with file.reporting():
            file.container.mux(packet)
        if track:
            track.write(file, frames=count)


def verify(
    path: StrPath,
    *,
    frames: int,
    fps: int | Fraction,
    sound: bool,
    size: tuple[int, int] | None = None,
    check: Check = go_on,
) -> None:
    """Raise `MediaError`, naming what was found and expected, unless the video at `path` keeps the A/V contract.

    Every packet is read: there are exactly `frames` pictures, the i-th at exactly i / fps; with `sound`, a track that
    begins at 0 and is frames / fps seconds long to within one AAC frame, else none; no packet is truncated. All
    keyframes are decoded. `size` is (width, height) in pixels; `check` may raise to stop.
    """
    with opened(path) as container:
        scan = scan_packets(container, check)
        stream, track = video_stream(container), sound_stream(container)
        rate = track.sample_rate if track else 0
        width, height = size or (stream.width, stream.height)
        _expect(path, f"{stream.width}×{stream.height} pixels", f"{width}×{height} pixels")
    _expect(path, f"{len(scan.pictures)} frames", f"{frames} frames")
    _expect(path, f"{scan.fps} frames per second", f"{fps} frames per second")
    for index, time in enumerate(scan.pictures):
        _expect(path, f"frame {index} at {time} s", f"frame {index} at {Fraction(index, fps)} s")
    _expect(path, "a sound track" if rate else "no sound track", "a sound track" if sound else "no sound track")
    if rate:
        _expect(path, f"sound that begins at {scan.sound_start} s", "sound that begins at 0 s")
        _expect_seconds(path, scan.sound_seconds, float(frames / fps), tolerance=AAC_FRAME_SAMPLES / rate)
    _expect(path, "a broken end" if scan.is_truncated else "whole packets", "whole packets")
    _expect(path, f"{_decodable_keyframes(path, check)} decodable keyframes", f"{scan.keyframes} decodable keyframes")


def _expect(path: StrPath, found: str, expected: str) -> None:
    if found != expected:
        raise unexpected(path, found, expected)


def _expect_seconds(path: StrPath, found: Fraction, expected: float, *, tolerance: float) -> None:
    if abs(found - expected) > tolerance:
        _expect(path, f"{float(found):.3f} s of sound", f"{expected:.3f} s of sound")


def _decodable_keyframes(path: StrPath, check: Check) -> int:
    """How many keyframes give a picture by themselves, as where a player begins with them.

    The other packets are looked at, not drawn, where the decoder can do that: in H.264, which is ours. To the decoder a
    keyframe may be a picture like any other: it begins anew at each, and skips none.
    """
    decodable = 0
    with opened(path) as container:
        stream = video_stream(container)
        decoder = stream.codec_context
        for packet in heard(container.demux(stream), check):
            begins = packet.is_keyframe and packet.size > 0
            if not begins and decoder.codec.canonical_name != "h264":
                continue
            decoder.skip_frame = "DEFAULT" if begins else "NONKEY"
            pictures = decoder.decode(packet)
            if begins:
                decodable += bool(pictures + decoder.decode(None))
                decoder.flush_buffers()
    return decodable


def _mp4_options(fps: int, track: "TrackEncoder | None") -> dict[str, str]:
    return mp4_options(math.lcm(fps, track.rate) if track else fps * TICKS_PER_FRAME)


def _needed_bytes(
    segments: Sequence[Path],
    sound: SoundTrack | None,
    track: "TrackEncoder | None",
    metadata: Mapping[str, str],
) -> int:
    """Estimated size of the finished file."""
    for segment in segments:
        check_file(segment, "segment")
    pictures = sum(segment.stat().st_size for segment in segments)
    recipe = sum(len(value.encode(errors="replace")) for value in metadata.values())
    return pictures + recipe + (round(track.bit_rate / 8 * sound.seconds) if sound and track else 0)


def _add_picture_stream(container: OutputContainer, segment: Path) -> av.VideoStream:
    with opened(segment, "segment") as source:
        return container.add_stream_from_template(video_stream(source))


def _joined_packets(segments: Sequence[Path], fps: int) -> Iterator[PicturePacket]:
    """The packets of all segments in decoding order, with the timestamps of one video, in frames.

    Every segment begins with a keyframe and is decoded `REORDER_FRAMES` ahead of presentation, so that decoding times
    continue across segments and every picture is decoded before it is shown.
    """
    joined = 0
    settings = None
    for segment in segments:
        with opened(segment, "segment") as container:
            stream = video_stream(container)
            settings = settings or _settings(stream)
            if _settings(stream) != settings or stream.average_rate != fps:
                raise MediaError(
                    f"{os.fspath(segment)!r} cannot be joined to {os.fspath(segments[0])!r} at {fps} frames "
                    "per second: it was written with another size, rate or quality; render it again"
                )
            count = 0
            for packet in container.demux(stream):
                if packet.pts is None:  # the empty packet at the stream's end
                    continue
                packet.pts = joined + round(packet.pts * packet.time_base * fps)
                packet.dts = joined + count - REORDER_FRAMES
                packet.duration = 1
                packet.time_base = Fraction(1, fps)
                count += 1
                yield packet
            joined += count


def _settings(stream: av.VideoStream) -> tuple[int, int, bytes | None]:
    """What segments must have in common to be joined: size and H.264 parameter sets."""
    return stream.width, stream.height, stream.codec_context.extradata


class TrackEncoder:
    """Encodes sound to an AAC track in step with the pictures, so that both are interleaved.

    Args:
        blocks: the sound, float32 [n, `channels`] at `rate` Hz; silence follows where it ends before the pictures.
    """

    def __init__(self, blocks: Iterator[Block], *, rate: int, channels: int, fps: int | Fraction) -> None:
        self.rate, self.channels = rate, channels
        self.bit_rate = round(BITS_PER_SAMPLE * rate * channels)
        self._blocks, self._fps = blocks, fps
        self._pending = np.zeros((0, channels), dtype=np.float32)
        self._written = 0

    def add_to(self, container: OutputContainer) -> None:
        layout = "mono" if self.channels == 1 else "stereo"
        self._stream = container.add_stream(
            "aac", rate=self.rate, options=AAC_OPTIONS, layout=layout, bit_rate=self.bit_rate
        )

    def write(self, file: NewFile, *, frames: int) -> None:
        """Extend the track to the duration of `frames` pictures."""
        samples = self._take(round(frames * self.rate / self._fps) - self._written)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=self._stream.layout)
        frame.sample_rate, frame.time_base, frame.pts = self.rate, Fraction(1, self.rate), self._written
        self._written += len(samples)
        with file.reporting():
            file.container.mux(self._stream.encode(frame))

    def _take(self, count: int) -> NDArray[np.float32]:
        """The next `count` samples, float32 [n, c]; silence after the sound's end."""
        while len(self._pending) < count:
            block = next(self._blocks, None)
            if block is None:
                block = np.zeros((count - len(self._pending), self.channels), dtype=np.float32)
            self._pending = np.concatenate([self._pending, block])
        taken, self._pending = self._pending[:count], self._pending[count:]
        return taken


def _open_track(sound: SoundTrack, fps: int) -> TrackEncoder:
    info = probe_sound(sound.path)
    rate, gains = track_rate(info.sample_rate), mixdown(sound.path, info)
    return TrackEncoder(mixed(sound, gains, rate), rate=rate, channels=gains.shape[1], fps=fps)


def mixdown(path: StrPath, info: SoundInfo) -> NDArray[np.float32]:
    """Gain of each channel of a sound in those of its track, float32 [c, 1 or 2]."""
    return stereo_gains(_channel_names(path, info.channels))


def mixed(sound: SoundTrack, gains: NDArray[np.float32], rate: int) -> Iterator[Block]:
    """The window of a sound as a track has it: at `rate` Hz, mono or stereo."""
    for block in stream_sound(sound.path, start=sound.start, seconds=sound.seconds, sample_rate=rate):
        yield np.clip(block @ gains, -1, 1)  # float files may exceed full scale, which AAC cannot encode


def track_rate(sample_rate: int) -> int:
    """The AAC sample rate for a sound at `sample_rate`: the next one at or above it, at most 48 kHz."""
    return next((rate for rate in TRACK_SAMPLE_RATES if rate >= sample_rate), TRACK_SAMPLE_RATES[-1])


def _channel_names(path: StrPath, count: int) -> list[str]:
    """FFmpeg's names of the `count` channels of the sound at `path`; "NONE" where the file does not name them."""
    with opened(path, "sound") as container:
        layouts = [stream.layout for stream in container.streams.audio]
        named = next((layout for layout in layouts if layout.nb_channels == count), None)
        return [channel.name for channel in named.channels] if named else ["NONE"] * count
