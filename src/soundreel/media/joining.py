"""Joining: the pictures of several videos in one track, packet by packet, over sound that may come from anywhere.

Packets keep their bytes and get new times: picture i of the joined video is at exactly i / fps. Axes of sound:
n samples, c channels.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from soundreel.errors import MediaError
from soundreel.media.audio import Block, probe_sound
from soundreel.media.containers import TICKS_PER_FRAME, NewFile, mp4_options, opened, unexpected
from soundreel.media.mux import (
    PicturePacket,
    SoundTrack,
    TrackEncoder,
    interleave,
    mixdown,
    mixed,
    track_rate,
    verify,
)
from soundreel.media.remux import can_hold
from soundreel.media.video import VideoInfo, sound_stream, usual_rate, video_stream
from soundreel.types import Check, go_on, heard
from soundreel.units import StrPath

_MAX_TICKS_PER_SECOND: Final = 2**31 - 1

_START_CODES: Final = (b"\0\0\1", b"\0\0\0\1")
"""A stream that begins so is written otherwise in mp4: with lengths in place of these."""


@dataclass(frozen=True, kw_only=True)
class PictureFormat:
    """What the pictures of videos must have in common to go on one after the other in one track."""

    size: str
    rate: str
    codec: str
    pixels: str
    aspect: str
    rotation: str
    colours: tuple[Any, ...]
    settings: bytes  # parameter sets, without which no packet can be decoded

    def differences(self, other: "PictureFormat") -> list[str]:
        """In what `other` differs from this one, in a few words each."""
        names = [field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)]
        untold = {"colours": "other colour tags", "settings": "other encoder settings (as by another --crf)"}
        return [
            untold.get(name) or f"{getattr(other, name)} instead of {getattr(self, name)}"
            for name in names
            if name != "settings" or len(names) == 1  # they differ with all else
        ]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The picture track of a video, as far as it matters for joining."""

    path: StrPath
    form: PictureFormat
    fps: Fraction
    frames: int
    first: Fraction  # seconds at which the first picture is shown
    sound_before: float  # seconds of sound that are heard before it
    delay: int  # frames by which decoding runs ahead of presentation
    flaw: str  # why its packets cannot be joined to any others, "" if they can


def read_pictures(path: StrPath, info: VideoInfo) -> Pictures:
    """Look at the packets of a video, which `info` describes.

    Raises:
        InputError: there is no such file, or it may not be read.
        MediaError: no video, or damaged.
    """
    fps, form = usual_rate(info), _picture_format(path, info)
    starts_whole, is_cut = False, False
    times: list[Fraction | None] = []
    sound_start: Fraction | None = None
    with opened(path) as container:
        stream, sound = video_stream(container), sound_stream(container)
        for packet in container.demux([stream, sound] if sound else [stream]):
            time = None if packet.pts is None else packet.pts * packet.time_base
            if packet.size and packet.stream_index != stream.index:
                sound_start = time if sound_start is None else sound_start
            elif packet.size:
                starts_whole = packet.is_keyframe if not times else starts_whole
                is_cut |= packet.is_discard
                times.append(time)
    known = [time for time in times if time is not None]
    first = min(known, default=Fraction(0))
    order = [round((time - first) * fps) for time in known]
    flaw = ""
    if not info.constant_rate or sorted(order) != list(range(len(times))):
        flaw = f"it has a variable frame rate ({float(info.fps):.2f} per second on average)"
    elif is_cut or not starts_whole or order[0] != 0:
        flaw = "it begins in the middle of a group of pictures, as where it was cut out without encoding it"
    elif not can_hold("mp4", [form.codec]):
        flaw = f"an mp4 file cannot hold its pictures ({form.codec})"
    return Pictures(
        path=path,
        form=form,
        fps=fps,
        frames=len(times),
        first=first,
        sound_before=float(max(Fraction(0), first - max(Fraction(0), first if sound_start is None else sound_start))),
        delay=max(count - index for count, index in enumerate(order)) if order else 0,
        flaw=flaw,
    )


def _picture_format(path: StrPath, info: VideoInfo) -> PictureFormat:
    with opened(path) as container:
        stream = video_stream(container)
        context, first = stream.codec_context, next(container.decode(stream))
        return PictureFormat(
            size=f"{info.width}×{info.height} pixels",
            rate=f"{float(usual_rate(info)):g} frames per second",
            codec=info.codec,
            pixels=str(context.pix_fmt),
            aspect=f"pixels of {stream.sample_aspect_ratio or 1}",
            rotation=f"turned by {first.rotation}°",
            colours=(context.colorspace, context.color_primaries, context.color_trc, context.color_range),
            settings=bytes(context.extradata or b""),
        )


@dataclass(frozen=True, kw_only=True)
class SoundPart:
    """Pictures in a row, and what is heard with them."""

    frames: int
    track: SoundTrack | None  # None: silence


def join(
    pieces: Sequence[Pictures],
    output: Path,
    *,
    parts: Sequence[SoundPart],
    metadata: Mapping[str, str],
    check: Check = go_on,
) -> None:
    """Join the pictures of `pieces`, which are alike, without encoding them, and add the sound of `parts`.

    The sound is encoded once, at the highest sample rate and the most channels of the parts. Where all are silent,
    there is no track. The index comes first (faststart), and the file is synced to the disk on return. What was at
    `output` before is overwritten; after an error there is no file.

    Args:
        check: called before each packet; may raise to stop.

    Raises:
        InputError: a piece or sound cannot be read.
        MediaError: it is damaged, or `output` cannot be written.
    """
    fps = pieces[0].fps
    track = _open_track(parts, fps)
    needed = sum(Path(piece.path).stat().st_size for piece in pieces)
    with NewFile(output, options=_mp4_options(fps, track), needed_bytes=needed) as file:
        file.container.metadata.update(metadata)
        with opened(pieces[0].path) as container:
            stream = file.container.add_stream_from_template(video_stream(container))
        stream.time_base = Fraction(1, fps.numerator)
        if track is not None:
            track.add_to(file.container)
        interleave(file, stream, heard(_packets(pieces, fps), check), track)


def verify_joined(
    pieces: Sequence[Pictures], output: Path, *, parts: Sequence[SoundPart], check: Check = go_on
) -> None:
    """Raise `MediaError` unless `output` keeps the A/V contract, and has the packets of `pieces` bit for bit.

    `check` is called before each packet, and may raise to stop.
    """
    frames, has_sound = sum(piece.frames for piece in pieces), any(part.track is not None for part in parts)
    verify(output, frames=frames, fps=pieces[0].fps, sound=has_sound, check=check)
    if pieces[0].form.settings.startswith(_START_CODES):
        return
    before = (data for piece in pieces for data in _bytes_of_pictures(piece.path))
    for number, (one, other) in enumerate(heard(zip_longest(before, _bytes_of_pictures(output)), check)):
        if one != other:
            raise unexpected(output, f"another picture packet {number}", "that of the video it is made of")


def _bytes_of_pictures(path: StrPath) -> Iterator[bytes]:
    with opened(path) as container:
        for packet in container.demux(video_stream(container)):
            if packet.size:
                yield bytes(packet)


def _packets(pieces: Sequence[Pictures], fps: Fraction) -> Iterator[PicturePacket]:
    """The packets of all pieces in decoding order, with the times of one video, in frames."""
    delay = max(piece.delay for piece in pieces)
    joined = 0
    for piece in pieces:
        with opened(piece.path) as container:
            packets = (packet for packet in container.demux(video_stream(container)) if packet.size)
            for count, packet in enumerate(packets):
                if packet.pts is None:
                    raise MediaError(f"{os.fspath(piece.path)!r} has changed while it was joined")
                packet.pts = joined + round((packet.pts * packet.time_base - piece.first) * fps)
                packet.dts = joined + count - delay
                packet.duration, packet.time_base = 1, 1 / fps
                yield packet
        joined += piece.frames


def _mp4_options(fps: Fraction, track: TrackEncoder | None) -> dict[str, str]:
    """With a time scale in which frames and samples are whole numbers of ticks, where there is one."""
    ticks = fps.numerator * TICKS_PER_FRAME if track is None else math.lcm(fps.numerator, track.rate)
    return mp4_options(ticks if ticks <= _MAX_TICKS_PER_SECOND else fps.numerator)


def _open_track(parts: Sequence[SoundPart], fps: Fraction) -> TrackEncoder | None:
    tracks = [part.track for part in parts if part.track is not None]
    if not tracks:
        return None
    infos = {track.path: probe_sound(track.path) for track in tracks}
    gains = {path: mixdown(path, info) for path, info in infos.items()}
    rate = max(track_rate(info.sample_rate) for info in infos.values())
    channels = max(gain.shape[1] for gain in gains.values())
    return TrackEncoder(_blocks(parts, gains, rate, channels, fps), rate=rate, channels=channels, fps=fps)


def _blocks(
    parts: Sequence[SoundPart], gains: Mapping[StrPath, NDArray[np.float32]], rate: int, channels: int, fps: Fraction
) -> Iterator[Block]:
    """The sound of all parts, each exactly as long as its pictures: cut there, or silence to there."""
    frames = done = 0
    for part in parts:
        frames += part.frames
        stop = round(frames * rate / fps)
        for block in [] if part.track is None else mixed(part.track, gains[part.track.path], rate):
            widened = np.repeat(block, channels // block.shape[1], axis=1)[: stop - done]
            done += len(widened)
            yield widened
            if done == stop:
                break
        while done < stop:
            silence = np.zeros((min(stop - done, rate), channels), np.float32)
            done += len(silence)
            yield silence
