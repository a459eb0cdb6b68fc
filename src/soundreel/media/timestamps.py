"""Timestamps of packets, in ticks of the stream's time base, and positions in samples."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from av.audio.stream import AudioStream
from av.packet import Packet

from soundreel.media.framing import LostFrames

SoundPacket: TypeAlias = "Packet[AudioStream]"


@dataclass(frozen=True, kw_only=True)
class Timestamps:
    """Converts between the timestamps of one stream and positions in samples.

    Many containers round timestamps; Matroska, for example, to 1 ms. Where all frames have the same length, only
    multiples of it are possible positions, which recovers the exact one.
    """

    samples_per_tick: float
    origin: float  # timestamp of position 0, in samples
    frame_samples: int  # length of the second frame, and usually of all that follow
    grid_start: int  # position at which the second frame begins

    @property
    def rounding(self) -> float:
        """Largest error in samples of positions from timestamps; 0 where a tick is one sample or one frame."""
        is_exact = self.samples_per_tick in {1.0, float(self.frame_samples)}
        return 0.0 if is_exact else 1.5 * self.samples_per_tick

    def position(self, ticks: int) -> int:
        """Position of a timestamp."""
        exact = ticks * self.samples_per_tick - self.origin
        if self.frame_samples > 2 * self.rounding > 0:
            frames = round((exact - self.grid_start) / self.frame_samples)
            nearest = self.grid_start + frames * self.frame_samples
            if abs(nearest - exact) <= self.rounding:
                return nearest
        return round(exact)

    def ticks(self, position: int) -> int:
        """Last timestamp at or before a position."""
        return int((position + self.origin) // self.samples_per_tick)


def repair_timestamps(
    packets: Iterable[SoundPacket], *, near: int, latest: int, lost_frames: LostFrames | None
) -> Iterator[SoundPacket]:
    """Repair misleading timestamps of packets in file order, so that they follow each other.

    Timestamps that jump back by more than `near` ticks start a new count, as in files joined end to end, and are
    shifted to continue the old one; so are timestamps after `latest`, the end of the file. A jump forward within the
    file is a gap and stays; one that is followed by a timestamp back where the count was, was a single wrong timestamp.
    The frames that `lost_frames` finds missing in an mp3 file take their time.
    """
    shift = 0
    stop: int | None = None
    before_leap: int | None = None
    for packet in packets:
        stated = packet.pts
        if stated is None:
            yield packet
            continue
        if stop is not None and abs(stated + shift - stop) > near:
            if abs(stated - stop) <= near:
                shift = 0
            elif stop < stated + shift <= latest:
                before_leap = stop
            elif stated + shift > latest or before_leap is None or stated + shift < before_leap:
                shift = stop - stated
        if shift:
            packet.pts = stated + shift
        stop = stated + shift + (packet.duration or 0)
        if lost_frames is not None:
            lost = lost_frames.in_packet(bytes(packet)) * (packet.duration or 0)
            shift += lost
            stop += lost
        yield packet
