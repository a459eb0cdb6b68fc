"""Windows Media Audio 1 and 2: how much its encoder delayed the sound, and where its packets belong.

Neither is written in a file in plain words. FFmpeg's decoder drops two frames at the beginning, which is what encoders
of Microsoft delay the sound by; its own encoder delays it by one, so that the first frame of the sound would be lost
and all that follows come one frame, 46 ms, early. And the timestamps of files with a bit reservoir, as Microsoft's
have it, are up to a frame off.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Self

from av.audio.stream import AudioStream
from av.codec.context import Flags2

from soundreel.media.timestamps import SoundPacket

OPTION_BYTES: Final = {"wmav1": (2, 4), "wmav2": (4, 6)}
"""Codec → where its header (extradata) holds the encoder's options; before them, the samples of a block."""

BIT_RESERVOIR: Final = 0x0002
"""Option: frames cross the borders of packets, and every packet counts its frames."""

FRAMES_OF_DELAY_MICROSOFT, FRAMES_OF_DELAY_FFMPEG = 2, 1
"""By which encoders delay the sound. In a file of a live recording by Microsoft's, sound sets in after two frames of
zeros; in one of FFmpeg's, which leaves the samples of a block at zero, after one."""

NEAR_FRAMES: Final = 2
"""A timestamp that is so near to where its packet belongs by count is taken as rounded; one further away as a gap."""


@dataclass(frozen=True, kw_only=True)
class WindowsMedia:
    """What the header of a stream says."""

    frame_samples: int
    delay: int  # samples to drop at the beginning
    has_reservoir: bool

    @classmethod
    def of(cls, stream: AudioStream) -> Self | None:
        """The header of `stream`, and its decoder set to drop nothing by itself; None where it is of another codec."""
        context = stream.codec_context
        if context.codec.canonical_name not in OPTION_BYTES:
            return None
        context.flags2 |= Flags2.skip_manual
        first, stop = OPTION_BYTES[context.codec.canonical_name]
        header = bytes(context.extradata or b"")[:stop]
        is_by_ffmpeg = len(header) == stop and not any(header[:first])
        frames = FRAMES_OF_DELAY_FFMPEG if is_by_ffmpeg else FRAMES_OF_DELAY_MICROSOFT
        samples = frame_samples(context.codec.canonical_name, context.sample_rate)
        options = int.from_bytes(header[first:], "little")
        return cls(frame_samples=samples, delay=frames * samples, has_reservoir=bool(options & BIT_RESERVOIR))

    def retimed(self, packets: Iterator[SoundPacket], sample_rate: int) -> Iterator[SoundPacket]:
        """All packets of a file from the first on, with the times at which the frames before them end; gaps stay."""
        start: Fraction | None = None  # seconds, of the first packet or the last gap
        frames = 0  # decoded since then
        for packet in packets:
            if not self.has_reservoir or packet.pts is None or not packet.size:
                yield packet
                continue
            stated = packet.pts * packet.time_base
            seconds = Fraction(frames * self.frame_samples, sample_rate)
            near = Fraction(NEAR_FRAMES * self.frame_samples, sample_rate)
            ends_frame = start is not None  # begun in the packet before
            if start is None or abs(stated - start - seconds) > near:
                start, seconds, frames = stated, Fraction(0), 0
            packet.pts = round((start + seconds) / packet.time_base)
            frames += frames_in_packet(packet, ends_frame=ends_frame)
            yield packet


def frame_samples(codec: str, sample_rate: int) -> int:
    """Samples of a frame, by the sample rate in Hz."""
    if sample_rate <= 16_000:
        return 512
    return 1024 if sample_rate <= (32_000 if codec == "wmav1" else 22_050) else 2048


def frames_in_packet(packet: SoundPacket, *, ends_frame: bool) -> int:
    """Frames that end in a packet with a bit reservoir: those that it counts, but for one that has no beginning."""
    counted = bytes(packet)[0] & 0x0F
    return counted if ends_frame else max(0, counted - 1)
