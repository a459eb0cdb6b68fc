"""Small sound and video files for the tests, synthesized and encoded here with PyAV."""

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from av.stream import Disposition
from numpy.typing import NDArray

from soundreel.media.audio import MODEL_SAMPLE_RATE, probe_sound, read_model_sound

Samples = NDArray[np.float32]
"""Sound, float32 -1..1, shape [samples, channels]."""

SAMPLES_PER_FRAME = 1024

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}

DEFAULT_CODECS = {
    ".aac": "aac",
    ".ac3": "ac3",
    ".aiff": "pcm_s16be",
    ".avi": "libmp3lame",
    ".caf": "pcm_s16le",
    ".flac": "flac",
    ".m4a": "aac",
    ".mka": "flac",
    ".mkv": "aac",
    ".mov": "aac",
    ".mp3": "libmp3lame",
    ".mp4": "aac",
    ".ogg": "vorbis",
    ".opus": "libopus",
    ".ts": "aac",
    ".wav": "pcm_s16le",
    ".webm": "libopus",
    ".wma": "wmav2",
    ".wmv": "wmav2",
}

WMA_BIT_RATE = 128_000
"""FFmpeg's WMA encoder has no default."""

VARIABLE_BIT_RATE = {"flags": "+qscale", "global_quality": str(4 * 118)}
"""Encoder options for libmp3lame: quality 4, every frame with the bit rate that it needs."""

NO_MP3_HEADER = {"write_xing": "0", "id3v2_version": "0"}
"""Container options for mp3: no Xing/LAME header and no tag before the first frame."""


def click_train(seconds: float, rate: int, *, every: float = 0.5, first: float = 0.25, channels: int = 1) -> Samples:
    """Bursts of 2 ms at `first`, `first + every`, …, loudest at exactly that time; equal channels."""
    sound = np.zeros(round(seconds * rate), dtype=np.float32)
    burst = 0.8 * np.exp(-np.arange(round(0.002 * rate)) / (0.0005 * rate))
    for time in np.arange(first, seconds, every):
        start = round(time * rate)
        sound[start : start + len(burst)] = burst[: len(sound) - start]
    return np.repeat(sound[:, None], channels, axis=1)


def tone(seconds: float, rate: int, *, hertz: float = 440.0, channels: int = 1, amplitude: float = 0.5) -> Samples:
    """A steady sine, the same in all channels."""
    time = np.arange(round(seconds * rate)) / rate
    sound = (amplitude * np.sin(2 * np.pi * hertz * time)).astype(np.float32)
    return np.repeat(sound[:, None], channels, axis=1)


def sweep(seconds: float, rate: int, *, channels: int = 1, seed: int = 0) -> Samples:
    """A rising sine with a little noise, different in every channel: no two stretches are alike."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.02, (len(time), channels))
    top = min(3000.0, rate / 5)
    phase = 2 * np.pi * (150 * time + (top - 150) * time**2 / (2 * seconds))
    sound = 0.4 * np.sin(phase[:, None] + np.arange(channels)) + noise
    return sound.astype(np.float32)


def write_sound(
    path: Path,
    samples: Samples,
    rate: int,
    codec: str | None = None,
    *,
    bit_rate: int | None = None,
    encoder_options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    cover: bool = False,
) -> Path:
    """Encode float32 `samples` [samples, channels] into `path`; the suffix picks container and codec unless given."""
    codec = codec or DEFAULT_CODECS[path.suffix.lower()]
    if codec == "vorbis" and samples.shape[1] != 2:
        # FFmpeg's own encoder is stereo only; libsndfile's overflows its stack when it gets minutes at once
        with soundfile.SoundFile(path, "w", rate, samples.shape[1], format="OGG", subtype="VORBIS") as file:
            for first in range(0, len(samples), rate):
                file.write(samples[first : first + rate])
        return path
    with av.open(str(path), "w", container_options=dict(container_options or {})) as container:
        stream = _add_sound_stream(container, codec, rate, samples.shape[1], bit_rate, encoder_options)
        if cover:
            _add_cover(container)
        container.mux(_encode(stream, sound_frames(samples, rate)))
    return path


def quick_sound(sound: Path, folder: Path) -> Path:
    """The same under the same name as the model hears it, 16 kHz mono: a track of it takes a fifth of the time."""
    heard = read_model_sound(sound, start=0.0, seconds=probe_sound(sound).seconds)
    return write_sound(folder / sound.name, heard[:, None], MODEL_SAMPLE_RATE)


def write_video(
    path: Path,
    samples: Samples,
    rate: int,
    codec: str | None = None,
    *,
    sound_start: float = 0.0,
    picture_start: float = 0.0,
    gap: tuple[float, float] | None = None,
    second_sound: Samples | None = None,
    default: int = 0,
    fps: int = 16,
) -> Path:
    """A small grey video over which `samples` [samples, channels] are heard from `sound_start` seconds on.

    The timestamps of sound after second `gap[0]` of it are `gap[1]` seconds late. Of two sounds the one with index
    `default` is marked as the one to play.
    """
    codec = codec or DEFAULT_CODECS[path.suffix.lower()]
    seconds = sound_start + len(samples) / rate
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=fps)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        packets = _encode(video, _pictures(round((seconds - picture_start) * fps), fps, start=picture_start))
        for index, sound in enumerate([samples] if second_sound is None else [samples, second_sound]):
            stream = _add_sound_stream(container, codec, rate, sound.shape[1], None, None)
            stream.disposition = Disposition.default if index == default else Disposition(0)
            packets += _encode(stream, sound_frames(sound, rate, start=sound_start, gap=gap))
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def sound_frames(
    samples: Samples, rate: int, *, start: float = 0.0, gap: tuple[float, float] | None = None
) -> Iterator[av.AudioFrame]:
    """Cut [samples, channels] into PyAV frames with timestamps from `start` seconds on."""
    for first in range(0, len(samples), SAMPLES_PER_FRAME):
        planes = np.ascontiguousarray(samples[first : first + SAMPLES_PER_FRAME].T)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=LAYOUTS[samples.shape[1]])
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        late = gap[1] if gap is not None and first >= gap[0] * rate else 0.0
        frame.pts = round((start + late) * rate) + first
        yield frame


def _add_sound_stream(
    container: av.container.OutputContainer,
    codec: str,
    rate: int,
    channels: int,
    bit_rate: int | None,
    options: Mapping[str, str] | None,
) -> av.AudioStream:
    stream = container.add_stream(codec, rate=rate, options={"strict": "experimental", **(options or {})})
    stream.layout = LAYOUTS[channels]
    if bit_rate is not None or codec.startswith("wma"):
        stream.bit_rate = bit_rate or WMA_BIT_RATE
    return stream


def _add_cover(container: av.container.OutputContainer) -> None:
    stream = container.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
    stream.disposition = Disposition.attached_pic
    container.mux(_encode(stream, _pictures(1, 1)))


def _pictures(count: int, fps: int, *, start: float = 0.0) -> Iterator[av.VideoFrame]:
    for index in range(count):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 128, dtype=np.uint8), format="rgb24")
        frame.pts = round(start * fps) + index
        frame.time_base = Fraction(1, fps)
        yield frame


def _encode(stream: av.AudioStream | av.VideoStream, frames: Iterable[av.frame.Frame]) -> list[av.Packet]:
    packets = [packet for frame in frames for packet in stream.encode(frame)]
    return packets + list(stream.encode(None))
