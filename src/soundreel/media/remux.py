"""Remuxing: new pictures for a video, its sound copied packet by packet without re-encoding."""

import heapq
import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import av
from av.container import InputContainer, OutputContainer

from soundreel.media.containers import TICKS_PER_FRAME, NewFile, mp4_options, opened, unexpected
from soundreel.media.video import REORDER_FRAMES, scan_packets, video_stream
from soundreel.types import Check, go_on, heard
from soundreel.units import StrPath

FILE_FORMATS: Final[Mapping[str, str]] = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""File name extension → FFmpeg's name of the container format; all can hold H.264."""

TIMESTAMP_ROUNDING: Final[Mapping[str, Fraction]] = {"matroska": Fraction(1, 1000)}
"""Seconds to which a format rounds timestamps; other formats keep them exactly."""

FILE_METADATA_KEYS: Final = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", "creation_time"})
"""Metadata that describe the source file itself, not its content; they are not copied."""

ADTS_HEADER_BYTES: Final = 9
"""Longest header before each AAC frame in a transport stream; other formats have none."""

_MAX_TICKS_PER_SECOND: Final = 2**31 - 1

_TICK_DIVISION: Final = 1000
"""Parts into which the source's ticks are divided, so that sound can be shifted by a fraction of a tick."""

_AnyPacket = Any  # PyAV's packets carry the type of their stream


def sound_codecs(source: StrPath) -> list[str]:
    """The codecs of all sound tracks of a video, by FFmpeg's names."""
    with opened(source) as container:
        return [stream.codec_context.name if stream.codec_context else "" for stream in container.streams.audio]


def other_tracks(source: StrPath) -> int:
    """Number of tracks that are neither the first picture track nor sound: subtitles, covers, data."""
    with opened(source) as container:
        return len(container.streams) - len(container.streams.audio) - 1


def can_hold(file_format: str, codecs: Sequence[str]) -> bool:
    """Whether a container format, by FFmpeg's name, can hold sound of all these codecs."""
    with av.open(os.devnull, "w", format=file_format) as container:
        known = container.supported_codecs
    return all(_common_name(codec) in known for codec in codecs)


def replace_pictures(
    source: StrPath,
    pictures: Path,
    output: Path,
    *,
    fps: Fraction,
    file_format: str,
    metadata: Mapping[str, str],
    check: Check = go_on,
) -> None:
    """Write `output` with the pictures of a segment by `SegmentWriter` and every sound track of `source` unchanged.

    The first picture is at 0, and sound keeps its offset to it. The metadata of `source` are kept and `metadata` added.
    On return the file is synced to the disk; after an error there is no file.

    Args:
        file_format: FFmpeg's name of the container format.
        check: called before each packet; may raise to stop.

    Raises:
        MediaError: a file cannot be read or written.
    """
    with opened(source) as sounds, opened(pictures, "segment") as seen:
        origin = _first_picture(source)
        options = {} if file_format == "matroska" else _mp4_options(fps)
        needed = Path(source).stat().st_size + pictures.stat().st_size
        with NewFile(output, options=options, needed_bytes=needed, file_format=file_format) as file:
            kept = {key: value for key, value in sounds.metadata.items() if key.lower() not in FILE_METADATA_KEYS}
            file.container.metadata.update(kept | dict(metadata))
            packets = [_picture_packets(seen, file.container, fps), _sound_packets(sounds, file.container, origin)]
            for _, packet in heard(heapq.merge(*packets, key=lambda timed: timed[0]), check):
                with file.reporting():
                    file.container.mux(packet)


def _mp4_options(fps: Fraction) -> dict[str, str]:
    """Options with a time scale that frame times are whole numbers of ticks in, and fine enough for sound."""
    return mp4_options(fps.numerator * max(1, min(TICKS_PER_FRAME, _MAX_TICKS_PER_SECOND // fps.numerator)))


def verify_replaced(
    source: StrPath, output: Path, *, frames: int, fps: Fraction, file_format: str, check: Check = go_on
) -> None:
    """Raise `MediaError` unless `output` has `frames` pictures, the i-th at i / fps, and the sound of `source`.

    The message names what was found and what was expected; `check` may raise to stop.
    """
    rounding = TIMESTAMP_ROUNDING.get(file_format, Fraction(0))
    with opened(output) as container:
        scan = scan_packets(container, check)
    _expect(output, f"{len(scan.pictures)} frames", f"{frames} frames")
    for index, time in enumerate(scan.pictures):
        late = time - scan.pictures[0] - index / fps
        _expect(
            output, f"frame {index} {float(abs(late)):.4f} s off", f"frame {index} {0:.4f} s off", abs(late) <= rounding
        )
    pairs = zip_longest(_sounds(source), _sounds(output))
    for number, (before, after) in enumerate(heard(pairs, check)):
        _expect(output, f"other sound in packet {number}", "the sound of the source", _is_same(before, after, rounding))


def _is_same(
    before: tuple[int, Fraction, bytes] | None, after: tuple[int, Fraction, bytes] | None, rounding: Fraction
) -> bool:
    """Whether two packets have the same track, the same bytes (but for an ADTS header) and the same time."""
    if before is None or after is None:
        return False
    header = len(before[2]) - len(after[2])
    same = before[2][header:] == after[2] if 0 <= header <= ADTS_HEADER_BYTES else False
    return same and before[0] == after[0] and abs(before[1] - after[1]) <= 2 * rounding + Fraction(1, 1000)


def _expect(path: Path, found: str, expected: str, holds: bool | None = None) -> None:
    if not (found == expected if holds is None else holds):
        raise unexpected(path, found, expected)


def _first_picture(source: StrPath) -> Fraction:
    with opened(source) as container:
        return scan_packets(container).pictures[0]


def _sounds(path: StrPath) -> Iterator[tuple[int, Fraction, bytes]]:
    """Track number, seconds since the first picture, and bytes of every sound packet, track by track."""
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
    """Decoding time in seconds and packet of each picture; its track is added to `output` before the first is drawn."""
    stream = output.add_stream_from_template(video_stream(seen))

    def packets() -> Iterator[tuple[Fraction, _AnyPacket]]:
        count = 0
        for packet in seen.demux(video_stream(seen)):
            if packet.pts is None:  # the empty packet at the stream's end
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
    """As `_picture_packets`, the packets of all sound tracks, `origin` seconds earlier than in the source."""
    streams = {track.index: output.add_stream_from_template(track) for track in sounds.streams.audio}

    def packets() -> Iterator[tuple[Fraction, _AnyPacket]]:
        for packet in sounds.demux(list(sounds.streams.audio)) if streams else ():
            if packet.size == 0:
                continue
            dts = packet.dts if packet.dts is not None else packet.pts
            pts = packet.pts if packet.pts is not None else packet.dts
            base = packet.time_base / _TICK_DIVISION  # a tick of AVI is a whole packet
            shift = round(origin / base)
            packet.dts, packet.pts = (dts or 0) * _TICK_DIVISION - shift, (pts or 0) * _TICK_DIVISION - shift
            packet.duration, packet.time_base = (packet.duration or 0) * _TICK_DIVISION, base
            packet.stream = streams[packet.stream_index]
            yield packet.dts * packet.time_base, packet

    return packets()


def _common_name(codec: str) -> str:
    """The name of the codec that the decoder `codec` decodes."""
    try:
        return av.codec.Codec(codec, "r").canonical_name
    except av.codec.codec.UnknownCodecError:
        return codec
