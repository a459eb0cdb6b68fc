"""New pictures for a video whose sound stays as it is, packet for packet."""

import heapq
import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import av
from av.container import InputContainer, OutputContainer

from soundreel.errors import MediaError
from soundreel.media.containers import NewFile, opened
from soundreel.media.video import REORDER_FRAMES, scan_packets, video_stream
from soundreel.units import StrPath

KINDS: Final[Mapping[str, str]] = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""FFmpeg's formats by the endings of names; all hold H.264."""

CLOCK_ROUNDING: Final[Mapping[str, Fraction]] = {"matroska": Fraction(1, 1000)}
"""Seconds to which a format rounds times; others keep them exactly."""

FILE_FACTS: Final = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", "creation_time"})
"""Metadata that describe the file that was read, not what is in it."""

ADTS_HEADER_BYTES: Final = 9
"""Longest header that AAC in a transport stream has before each frame, and in other formats does not."""

_TICKS_PER_FRAME: Final = 1000
_MAX_TICKS_PER_SECOND: Final = 2**31 - 1

_TICKS_PER_TICK: Final = 1000
"""How much finer sound is timed while it moves."""

_AnyPacket = Any  # PyAV's packets carry the type of their stream


def sound_codecs(source: StrPath) -> list[str]:
    """The codecs of all sound tracks of a video, by FFmpeg's names."""
    with opened(source) as container:
        return [stream.codec_context.name if stream.codec_context else "" for stream in container.streams.audio]


def other_tracks(source: StrPath) -> int:
    """How many tracks are neither the picture nor sound: subtitles, covers, data."""
    with opened(source) as container:
        return len(container.streams) - len(container.streams.audio) - 1


def holds(kind: str, codecs: Sequence[str]) -> bool:
    """Whether a format can hold sound of these codecs."""
    with av.open(os.devnull, "w", format=kind) as container:
        known = container.supported_codecs
    return all(_common_name(codec) in known for codec in codecs)


def replace_pictures(
    source: StrPath, pictures: Path, output: Path, *, fps: Fraction, kind: str, metadata: Mapping[str, str]
) -> None:
    """Write `output`: the pictures of a segment by `SegmentWriter`, every sound track of `source` unchanged.

    Sound keeps its distance to the first picture, which is at 0. The metadata of `source` are kept and `metadata`
    added. On return the file is on the disk; after an error nothing is there.

    Raises:
        MediaError: a file cannot be read or written.
    """
    with opened(source) as sounds, opened(pictures, "segment") as seen:
        origin = _first_picture(source)
        options = {} if kind == "matroska" else _mp4_options(fps)
        needed = Path(source).stat().st_size + pictures.stat().st_size
        with NewFile(output, options=options, needed_bytes=needed, kind=kind) as file:
            kept = {key: value for key, value in sounds.metadata.items() if key.lower() not in FILE_FACTS}
            file.container.metadata.update(kept | dict(metadata))
            packets = [_picture_packets(seen, file.container, fps), _sound_packets(sounds, file.container, origin)]
            for _, packet in heapq.merge(*packets, key=lambda timed: timed[0]):
                with file.reporting():
                    file.container.mux(packet)


def _mp4_options(fps: Fraction) -> dict[str, str]:
    """Ticks that frames fall on exactly, and sound nearly."""
    ticks = fps.numerator * max(1, min(_TICKS_PER_FRAME, _MAX_TICKS_PER_SECOND // fps.numerator))
    return {"movflags": "faststart+use_metadata_tags", "movie_timescale": str(ticks)}


def verify_replaced(source: StrPath, output: Path, *, frames: int, fps: Fraction, kind: str) -> None:
    """Raise `MediaError`, naming both, unless `output` has `frames` pictures at i / fps and the sound of `source`."""
    rounding = CLOCK_ROUNDING.get(kind, Fraction(0))
    with opened(output) as container:
        scan = scan_packets(container)
    _expect(output, f"{len(scan.pictures)} frames", f"{frames} frames")
    for index, time in enumerate(scan.pictures):
        late = time - scan.pictures[0] - index / fps
        _expect(
            output, f"frame {index} {float(abs(late)):.4f} s off", f"frame {index} {0:.4f} s off", abs(late) <= rounding
        )
    pairs = zip_longest(_sounds(source), _sounds(output))
    for number, (before, after) in enumerate(pairs):
        _expect(output, f"other sound in packet {number}", "the sound of the source", _is_same(before, after, rounding))


def _is_same(
    before: tuple[int, Fraction, bytes] | None, after: tuple[int, Fraction, bytes] | None, rounding: Fraction
) -> bool:
    """The same packet of the same track at the same distance from the first picture."""
    if before is None or after is None:
        return False
    header = len(before[2]) - len(after[2])
    same = before[2][header:] == after[2] if 0 <= header <= ADTS_HEADER_BYTES else False
    return same and before[0] == after[0] and abs(before[1] - after[1]) <= 2 * rounding + Fraction(1, 1000)


def _expect(path: Path, found: str, expected: str, holds: bool | None = None) -> None:
    if not (found == expected if holds is None else holds):
        raise MediaError(f"{os.fspath(path)!r} is not as it was to be written: it has {found}, expected {expected}")


def _first_picture(source: StrPath) -> Fraction:
    with opened(source) as container:
        return scan_packets(container).pictures[0]


def _sounds(path: StrPath) -> Iterator[tuple[int, Fraction, bytes]]:
    """Track number, seconds after the first picture and bytes of every sound packet, track by track."""
    origin = _first_picture(path)
    with opened(path) as container:
        tracks = len(container.streams.audio)
    for track in range(tracks):
        with opened(path) as container:
            for packet in container.demux(container.streams.audio[track]):
                if packet.size:
                    time = packet.pts if packet.pts is not None else packet.dts
                    yield track, (time or 0) * packet.time_base - origin, bytes(packet)


def _picture_packets(
    seen: InputContainer, output: OutputContainer, fps: Fraction
) -> Iterator[tuple[Fraction, _AnyPacket]]:
    """Decoding time and packet of each picture; the tracks are added at once, the packets come later."""
    stream = output.add_stream_from_template(video_stream(seen))

    def packets() -> Iterator[tuple[Fraction, _AnyPacket]]:
        count = 0
        for packet in seen.demux(video_stream(seen)):
            if packet.pts is None:  # the mark at the stream's end
                continue
            packet.pts = round(packet.pts * packet.time_base * fps)
            packet.dts = count - REORDER_FRAMES
            packet.duration = 1
            packet.time_base = 1 / fps
            packet.stream = stream
            yield packet.dts / fps, packet
            count += 1

    return packets()


def _sound_packets(
    sounds: InputContainer, output: OutputContainer, origin: Fraction
) -> Iterator[tuple[Fraction, _AnyPacket]]:
    """Decoding time and packet of all sound tracks, `origin` seconds earlier than they are stored."""
    streams = {track.index: output.add_stream_from_template(track) for track in sounds.streams.audio}

    def packets() -> Iterator[tuple[Fraction, _AnyPacket]]:
        for packet in sounds.demux(list(sounds.streams.audio)) if streams else ():
            if packet.size == 0:
                continue
            dts = packet.dts if packet.dts is not None else packet.pts
            pts = packet.pts if packet.pts is not None else packet.dts
            base = packet.time_base / _TICKS_PER_TICK  # AVI counts in whole packets
            shift = round(origin / base)
            packet.dts, packet.pts = (dts or 0) * _TICKS_PER_TICK - shift, (pts or 0) * _TICKS_PER_TICK - shift
            packet.duration, packet.time_base = (packet.duration or 0) * _TICKS_PER_TICK, base
            packet.stream = streams[packet.stream_index]
            yield packet.dts * packet.time_base, packet

    return packets()


def _common_name(codec: str) -> str:
    """A decoder's name → its codec's."""
    try:
        return av.codec.Codec(codec, "r").canonical_name
    except av.codec.codec.UnknownCodecError:
        return codec
