"""Timestamps of packets as positions, in samples, on the time line of a player."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from av.audio.stream import AudioStream
from av.packet import Packet

from soundreel.media.framing import LostFrames

SoundPacket: TypeAlias = "Packet[AudioStream]"


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Converts timestamps (ticks) of one stream.

    Many containers round timestamps, Matroska to 1 ms for one. Where all frames are equally long, only
    multiples of that length are possible, which gives the exact position back.
    """

    samples_per_tick: float
    origin: float  # timestamp of position 0, in samples
    frame_samples: int  # length of the second frame, and usually of all that follow
    grid_start: int  # position at which the second frame begins

    @property
    def rounding(self) -> float:
        """Samples by which positions taken from timestamps may differ; 0 where a tick is a sample or a frame."""
        is_exact = self.samples_per_tick in {1.0, float(self.frame_samples)}
        return 0.0 if is_exact else 1.5 * self.samples_per_tick

    def position(self, ticks: int) -> int:
        """Position that a timestamp stands for."""
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


def steady(
    packets: Iterable[SoundPacket], *, near: int, latest: int, lost_frames: LostFrames | None
) -> Iterator[SoundPacket]:
    """Mend timestamps that mislead, in packets in the order of the file.

    Ones that fall back by more than `near` ticks begin a new count, as in files joined end to end: the sound just
    goes on. So it does at ones behind `latest`, the end of the file. If the next ones are back where they would have
    been, or none falls behind a leap before it, it was only a stray timestamp. The frames that `lost_frames` finds
    missing take their time.
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
