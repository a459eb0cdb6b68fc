"""Encoding frames to H.264 files, decoding frames of any video, and probing video files.

Frames are uint8 sRGB [T, H, W, 3]. In written files they are YCbCr 4:2:0 with BT.709's matrix in limited range, and
tagged so.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, Final, Self

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from numpy.typing import NDArray

from soundreel.errors import InputError, MediaError
from soundreel.media.containers import NewFile, opened
from soundreel.types import Check, go_on, heard
from soundreel.units import DEFAULT_CRF, MAX_SIDE_PIXELS, MODEL_FPS, Frames, StrPath

CHROMA_MULTIPLE: Final = 2
"""Width and height in pixels are multiples of this: 4:2:0 has one chroma sample per 2 × 2 pixels."""

REORDER_FRAMES: Final = 2
"""Frames by which decoding runs ahead of presentation with x264's B-frame pyramid."""

PRESET: Final = "veryfast"
"""Measured at 480×832, crf 18, over three real videos, colour conversion included, on 2 cores: veryfast 117–229
frames/s; faster 96–188, for files 2–11 % larger and 0.2–0.7 dB better; fast 64–140, 11–18 % and 0.5–1.1 dB."""

ENCODER_THREADS: Final = 4
"""Fixed, because x264's output depends on it; 4 keeps 2 cores busy and costs under 1 % in file size."""

KEYFRAME_SECONDS: Final = 4
"""Largest distance between keyframes, to which players can seek."""

_X86_INSTRUCTIONS: Final = "sse4.2"
"""x264's AVX-512 code for macroblock trees (core 165) reads uninitialised memory, so that the same frames give other
bytes in every run. The instruction sets from SSSE3 to AVX2 give equal bytes; every x86-64 CPU that NumPy supports has
SSE4.2, which takes at most 10 % longer."""

RATE_TOLERANCE: Final = Fraction(1, 2000)
DRIFT_FRAMES: Final = Fraction(1, 2)
"""A standard rate is taken instead of a file's own where the two differ by less than this part, and by less than this
many frames over the whole file."""

_UNSPECIFIED: Final = 2
"""AVCOL_SPC_UNSPECIFIED: the file does not state its YCbCr matrix."""

_SD_SIZE: Final = (1024, 576)
"""Width and height in pixels up to which untagged video is taken as BT.601; larger video is taken as BT.709."""

_Span = tuple[Fraction, Fraction]
"""Beginning and end in seconds."""

_TO_YUV: Final = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
_TO_RGB: Final = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Properties of a video file, as a player shows it."""

    width: int  # pixels, after the file's rotation
    height: int
    fps: Fraction  # the average, where the rate varies
    constant_rate: bool  # every frame i is within half a frame of i / fps
    frames: int
    seconds: float  # first frame's beginning to last frame's end
    codec: str  # FFmpeg's name: h264, vp9, …
    sound_codec: str | None  # None: no sound track
    sound_rate: int | None
    sound_channels: int | None
    sound_seconds: float | None  # as played: without priming samples
    metadata: dict[str, str]


def usual_rate(info: VideoInfo) -> Fraction:
    """The standard rate that a file's rounded timestamps stand for, as 24000/1001 for 23.9758; else its own rate."""
    whole, broken = Fraction(round(info.fps)), Fraction(round(info.fps * 1001 / 1000) * 1000, 1001)
    usual = min(whole, broken, key=lambda rate: abs(rate - info.fps))
    if usual == 0 or not info.constant_rate:
        return info.fps
    apart = abs(usual / info.fps - 1)
    return usual if apart < RATE_TOLERANCE and apart * info.frames < DRIFT_FRAMES else info.fps


def check_size(width: int, height: int) -> None:
    """Raise `InputError` unless H.264 with 4:2:0 chroma can carry pictures of `width` × `height` pixels."""
    valid = [_nearest_side(width), _nearest_side(height)]
    if valid != [(width,), (height,)]:
        nearest = " or ".join(f"{w}×{h}" for w in valid[0] for h in valid[1])
        raise InputError(
            f"{width}×{height} pixels: expected even width and height from {CHROMA_MULTIPLE} to "
            f"{MAX_SIDE_PIXELS}; nearest: {nearest}"
        )


def _nearest_side(pixels: int) -> tuple[int, ...]:
    below = min(max(pixels // CHROMA_MULTIPLE * CHROMA_MULTIPLE, CHROMA_MULTIPLE), MAX_SIDE_PIXELS)
    above = min(below + CHROMA_MULTIPLE, MAX_SIDE_PIXELS)
    return (below, above) if below < pixels < above else (below,)


class SegmentWriter:
    """Encodes frames to one H.264 file at a constant rate, frame i at i / fps seconds; a context manager.

    After the `with` block the file is complete and synced to the disk; after an exception it is removed. The same
    frames give the same bytes, whatever the number of cores. Segments of the same size, rate and crf can be joined by
    `soundreel.media.mux.assemble`.

    Args:
        crf: H.264 quality, 0 (lossless) to `MAX_CRF`.
        needed_bytes: estimated size, for the message when the disk is full.

    Raises:
        InputError: width or height that H.264 cannot carry, or frames of another size.
        MediaError: the file cannot be written (disk full, no permission, …), or no frame was written.
    """

    def __init__(
        self,
        path: StrPath,
        *,
        width: int,
        height: int,
        fps: int | Fraction = MODEL_FPS,
        crf: int = DEFAULT_CRF,
        needed_bytes: int = 0,
    ) -> None:
        check_size(width, height)
        self._width, self._height, self._fps, self._crf = width, height, Fraction(fps), crf
        self._file = NewFile(path, needed_bytes=needed_bytes)
        self._to_yuv = VideoReformatter()
        self._written = 0

    def __enter__(self) -> Self:
        self._file.__enter__()
        self._stream = self._add_stream()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def write(self, frames: Frames) -> None:
        """Append frames, uint8 [T, H, W, 3]."""
        if frames.shape[1:] != (self._height, self._width, 3) or frames.dtype != np.uint8:
            expected = f"uint8 (T, {self._height}, {self._width}, 3)"
            raise InputError(f"frames are {frames.dtype} {frames.shape}: expected {expected}")
        with self._file.reporting():
            for picture in frames:
                self._file.container.mux(self._stream.encode(self._encodable(picture)))
                self._written += 1

    def _add_stream(self) -> av.VideoStream:
        options = {
            "preset": PRESET,
            "crf": str(self._crf),
            "b-pyramid": "normal",  # the reason why REORDER_FRAMES is 2
        }
        if platform.machine() in {"x86_64", "AMD64"}:
            options["x264-params"] = f"asm={_X86_INSTRUCTIONS}"
        stream = self._file.container.add_stream("libx264", rate=self._fps, options=options)
        stream.width, stream.height, stream.pix_fmt = self._width, self._height, "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / self._fps
        context.gop_size = round(KEYFRAME_SECONDS * self._fps)
        context.max_b_frames = 3
        context.thread_count, context.thread_type = ENCODER_THREADS, "FRAME"
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        return stream

    def _encodable(self, picture: NDArray[np.uint8]) -> av.VideoFrame:
        frame = self._to_yuv.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=_TO_YUV,
        )
        frame.pts = self._written
        frame.time_base = 1 / self._fps
        return frame


@contextmanager
def decoding(path: StrPath) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """A video opened for decoding its pictures on all cores; raises as `read_frames`."""
    with opened(path) as container:
        stream = video_stream(container)
        stream.thread_type = "AUTO"
        yield container, stream


def read_frames(
    path: StrPath, *, exact: bool = True, untagged: Colorspace | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Decode the frames of a video one by one, in presentation order and upright: uint8 RGB [H, W, 3].

    Args:
        exact: convert colours with full chroma resolution and accurate rounding; else by libswscale's defaults, which
            are faster and what most other programs use.
        untagged: YCbCr matrix of video that does not state its own; by default BT.601 up to 1024×576 pixels, BT.709
            above.

    Raises:
        InputError: there is no such file, or it may not be read.
        MediaError: not a video, or damaged.
    """
    with decoding(path) as (container, stream):
        to_rgb = VideoReformatter()
        for frame in container.decode(stream):
            yield as_rgb(frame, to_rgb, untagged) if exact else upright(frame.to_ndarray(format="rgb24"), frame)


def read_swscale_frames(path: StrPath) -> Iterator[NDArray[np.uint8]]:
    """As `read_frames`, for files of programs that use libswscale's defaults: untagged video is BT.601 at any size.

    The videos of ComfyUI 0.3.64 and 0.30 are such files.
    """
    return read_frames(path, untagged=Colorspace.ITU601)


def as_rgb(frame: av.VideoFrame, to_rgb: VideoReformatter, untagged: Colorspace | None) -> NDArray[np.uint8]:
    """A decoded frame as `read_frames` gives it, uint8 RGB [H, W, 3]."""
    matrix = _assumed_matrix(frame, untagged)
    rgb = to_rgb.reformat(frame, format="rgb24", src_colorspace=matrix, interpolation=_TO_RGB)
    return upright(rgb.to_ndarray(), frame)


def upright(pixels: NDArray[Any], frame: av.VideoFrame) -> NDArray[np.uint8]:
    """A decoded picture [H, W] or [H, W, 3] as a player shows it, after the file's rotation."""
    return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90), dtype=np.uint8)


def _assumed_matrix(frame: av.VideoFrame, untagged: Colorspace | None) -> Colorspace | None:
    """The matrix to assume for a frame that does not state its own; None for one that does."""
    if frame.colorspace != _UNSPECIFIED or frame.format.is_rgb:
        return None
    if untagged is not None:
        return untagged
    small = frame.width <= _SD_SIZE[0] and frame.height <= _SD_SIZE[1]
    return Colorspace.ITU601 if small else Colorspace.ITU709


def picture_times(path: StrPath) -> list[Fraction]:
    """Presentation times of a video's frames in seconds, ascending; raises as `read_frames`."""
    with opened(path) as container:
        return scan_packets(container).pictures


def probe_video(path: StrPath) -> VideoInfo:
    """Probe a video file; every packet is read, so that the numbers are counted, not taken from its header.

    Raises:
        InputError: there is no such file, or it may not be read.
        MediaError: not a video, damaged, or without a single frame.
    """
    with opened(path) as container:
        first = next(container.decode(video_stream(container)), None)
    if first is None:
        raise MediaError(f"{os.fspath(path)!r} has no picture that can be decoded")
    is_upright = first.rotation % 180 == 0
    with opened(path) as container:
        stream, sound = video_stream(container), sound_stream(container)
        scan = scan_packets(container)
        return VideoInfo(
            width=first.width if is_upright else first.height,
            height=first.height if is_upright else first.width,
            fps=scan.fps,
            constant_rate=scan.constant_rate(tolerance=Fraction(1, 2) / scan.fps),
            frames=len(scan.pictures),
            seconds=float(scan.picture_seconds),
            codec=stream.codec_context.codec.canonical_name,
            sound_codec=sound.codec_context.codec.canonical_name if sound else None,
            sound_rate=sound.sample_rate if sound else None,
            sound_channels=sound.layout.nb_channels if sound else None,
            sound_seconds=float(scan.sound_seconds) if sound else None,
            metadata=dict(container.metadata),
        )


def read_metadata(path: StrPath) -> dict[str, str]:
    """What the header of a video file says of it; quick, whatever its length: no packet is read.

    Raises:
        InputError: there is no such file, or it may not be read.
        MediaError: not a video.
    """
    with opened(path) as container:
        video_stream(container)
        return dict(container.metadata)


def has_pictures(path: StrPath) -> bool:
    """Whether a file holds pictures other than a cover, so that it is a video.

    Raises:
        InputError: there is no such file, or it may not be read.
        MediaError: it is no media file.
    """
    with opened(path) as container:
        return any(not stream.disposition & Disposition.attached_pic for stream in container.streams.video)


@dataclass(frozen=True, kw_only=True)
class PacketScan:
    """Presentation times in a video file, in exact seconds, read from its packets."""

    fps: Fraction
    pictures: list[Fraction]  # start of each, ascending
    picture_stop: Fraction
    sound_start: Fraction  # 0 also where priming samples come before
    sound_stop: Fraction
    keyframes: int  # their number
    is_truncated: bool  # a packet is incomplete

    @property
    def picture_seconds(self) -> Fraction:
        """From the start of the first picture to the end of the last."""
        return self.picture_stop - self.pictures[0]

    @property
    def sound_seconds(self) -> Fraction:
        """Duration of the sound, without priming samples."""
        return self.sound_stop - self.sound_start

    def constant_rate(self, *, tolerance: Fraction) -> bool:
        """Whether every picture i is i / fps seconds after the first, to within `tolerance` seconds."""
        return all(
            abs(time - self.pictures[0] - index / self.fps) <= tolerance for index, time in enumerate(self.pictures)
        )


def scan_packets(container: InputContainer, check: Check = go_on) -> PacketScan:
    """Read all packets of the video stream and the first sound stream, without decoding them.

    `check` is called before each of them and may raise to stop.

    Raises:
        MediaError: there is no video stream, or no complete picture in it.
    """
    stream, sound = video_stream(container), sound_stream(container)
    fps = stream.average_rate or stream.guessed_rate or Fraction(MODEL_FPS)
    pictures: list[_Span] = []
    sound_span: _Span | None = None
    keyframes, is_truncated = 0, False
    for packet in heard(container.demux([stream, sound] if sound else [stream]), check):
        if packet.size == 0:  # the empty packet at a stream's end
            continue
        is_truncated |= packet.is_corrupt
        if packet.stream_index != stream.index:
            start, stop = _span(packet, fps)
            sound_span = (min(sound_span[0], start), max(sound_span[1], stop)) if sound_span else (start, stop)
        elif not packet.is_discard:
            pictures.append(_span(packet, fps, len(pictures)))
            keyframes += packet.is_keyframe
    if not pictures:
        raise MediaError(f"{_name(container)!r} has not a single whole picture in it")
    sound_start, sound_stop = sound_span or (Fraction(0), Fraction(0))
    return PacketScan(
        fps=fps,
        pictures=sorted(start for start, _ in pictures),
        picture_stop=max(stop for _, stop in pictures),
        sound_start=max(Fraction(0), sound_start),
        sound_stop=sound_stop,
        keyframes=keyframes,
        is_truncated=is_truncated,
    )


def _span(packet: "av.Packet[Any]", fps: Fraction, index: int = 0) -> _Span:
    """Start and end of a packet's presentation in seconds; in raw H.264, without timestamps, by its `index`."""
    if packet.pts is None:
        return index / fps, (index + 1) / fps
    start = packet.pts * packet.time_base
    return start, start + (packet.duration or 0) * packet.time_base


def video_stream(container: InputContainer) -> av.VideoStream:
    """The first video stream that is no cover picture. Raises `MediaError` where there is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise MediaError(f"{_name(container)!r} has no pictures in it: expected a video")


def _name(container: InputContainer) -> str:
    return str(container.name)


def sound_stream(container: InputContainer) -> av.AudioStream | None:
    """The first sound stream; None where there is none."""
    return next(iter(container.streams.audio), None)
