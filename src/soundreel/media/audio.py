"""Sound from any file: its length, a window of it in blocks, and the mono 16 kHz signal that the model takes.

Files are streamed: reading a window takes memory for one block; packets before the window are skipped undecoded.
Axes: n samples, c channels.
"""

import math
import wave
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

from soundreel.errors import InputError
from soundreel.media.sound_file import SoundFile, open_sound
from soundreel.types import Check, go_on, heard
from soundreel.units import StrPath

MODEL_SAMPLE_RATE = 16_000
"""Hz: sample rate of the model's audio encoder."""

RESAMPLER_QUALITY = "HQ"
"""soxr's high quality, librosa's default."""

MODEL_BLOCK_SECONDS = 10.0

LARGEST_SAMPLE: Final = 2.0**31
"""In full scales. Some programs store integers as floating-point numbers as they are; nothing is larger than those."""

Block = NDArray[np.float32]
"""Sound, float32 -1..1, shape [n, c]. Files of floating-point numbers may exceed that, up to `LARGEST_SAMPLE`."""


@dataclass(frozen=True, kw_only=True)
class SoundInfo:
    """The sound in a file as a player plays it."""

    seconds: float  # that can be decoded, encoder delay and padding removed
    sample_rate: int
    channels: int
    codec: str  # FFmpeg's name: mp3, aac, pcm_s16le, …
    truncated: bool  # the file states clearly more sound than it holds: an incomplete download
    channel_names: tuple[str, ...] = ()  # FFmpeg's: FL, FR, FC, LFE, …; NONE where the file does not name them
    silence: float = 0.0  # seconds before the first sample, in a video whose sound sets in later than its picture


@dataclass(frozen=True, kw_only=True)
class SoundLevels:
    """How the samples of a window keep to what sound is."""

    peak: float  # the largest sample in full scales; 1 where none exceeds it
    lost: int  # samples that are no sound: not a number, or beyond `LARGEST_SAMPLE`


def probe_sound(path: StrPath) -> SoundInfo:
    """Probe the sound in `path`; its length is measured, not taken from headers that only estimate it.

    Raises:
        InputError: there is no such file, or it is a directory, empty, or may not be read.
        MediaError: the file is not readable as sound, or holds none.
    """
    with open_sound(path) as sound:
        ending = sound.ending()
        return SoundInfo(
            seconds=ending.stop / sound.sample_rate,
            sample_rate=sound.sample_rate,
            channels=sound.channels,
            codec=sound.codec,
            truncated=ending.truncated,
            channel_names=sound.channel_names,
            silence=sound.begins / sound.sample_rate,
        )


def stream_sound(
    path: StrPath,
    *,
    start: float = 0.0,
    seconds: float | None = None,
    sample_rate: int | None = None,
    mono: bool = False,
    block_seconds: float = 1.0,
) -> Iterator[Block]:
    """Read the window of `seconds` from `start` on, in float32 blocks [n, c] of `block_seconds`, the last one shorter.

    The window begins at sample ⌊start · rate⌋ of the source and holds ⌊seconds · rate⌋ samples, as in librosa, fewer
    where the sound ends before: a window that begins after the end yields nothing. Gaps in the sound become silence,
    and so do samples that are no sound (`SoundLevels.lost`).

    Args:
        path: any file with sound in it.
        start: seconds from what a player plays first.
        seconds: length; None for all from `start` on.
        sample_rate: Hz; None for the source's.
        mono: the mean over the channels as one channel.
        block_seconds: length of a block.

    Raises:
        InputError: there is no such file, it cannot be opened, or `start` or `seconds` is negative or not finite.
        MediaError: the file is not readable as sound, or holds none.
    """
    _check_window(start, seconds)
    with open_sound(path) as sound:
        rate = sample_rate or sound.sample_rate
        blocks = _window(sound, start, seconds)
        if mono:
            blocks = (block.mean(axis=1, keepdims=True) for block in blocks)
        if rate != sound.sample_rate:
            blocks = _resample(blocks, sound.sample_rate, rate, channels=1 if mono else sound.channels)
        yield from _regroup(blocks, max(1, round(block_seconds * rate)))


def measure_levels(path: StrPath, *, start: float, seconds: float, check: Check = go_on) -> SoundLevels:
    """Look at every sample of a window. Integers are not looked at: none of them exceeds full scale.

    `check` is called before each block and may raise to stop. Other arguments and errors as in `stream_sound`.
    """
    _check_window(start, seconds)
    peak, lost = 1.0, 0
    with open_sound(path) as sound:
        for block in heard(_stored_window(sound, start, seconds) if sound.is_float else (), check):
            sizes = np.abs(block)
            is_sound = sizes <= LARGEST_SAMPLE
            peak = max(peak, float(sizes.max(where=is_sound, initial=0.0)))
            lost += block.size - int(np.count_nonzero(is_sound))
    return SoundLevels(peak=peak, lost=lost)


def wav_bytes(samples: NDArray[np.float32], sample_rate: int) -> bytes:
    """Sound [n] or [n, channels] as a WAV file with 16 bits a sample; what exceeds -1..1 is clipped."""
    out = BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((np.clip(samples, -1, 1) * np.float32(32767)).round().astype("<i2").tobytes())
    return out.getvalue()


def read_model_sound(
    path: StrPath, *, start: float = 0.0, seconds: float | None = None, check: Check = go_on
) -> NDArray[np.float32]:
    """Read a window as input for the model: mono, 16 kHz, float32 [n], the values of `librosa.load(sr=16000)`.

    Of r source samples per second, m samples become ⌈m · 16000 / r⌉. `check` is called before each block and may raise
    to stop. Errors as in `stream_sound`.
    """
    blocks = heard(model_sound_blocks(path, start=start, seconds=seconds), check)
    return np.concatenate([np.empty(0, np.float32), *blocks])


def model_sound_blocks(
    path: StrPath, *, start: float = 0.0, seconds: float | None = None
) -> Iterator[NDArray[np.float32]]:
    """As `read_model_sound`, but streamed in blocks [n] of `MODEL_BLOCK_SECONDS`, the last one shorter."""
    blocks = stream_sound(
        path,
        start=start,
        seconds=seconds,
        sample_rate=MODEL_SAMPLE_RATE,
        mono=True,
        block_seconds=MODEL_BLOCK_SECONDS,
    )
    return (block[:, 0] for block in blocks)


def _check_window(start: float, seconds: float | None) -> None:
    if not (math.isfinite(start) and start >= 0):
        raise InputError(f"the sound cannot begin at {start} s: expected a number of seconds from 0 on")
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        raise InputError(f"{seconds} s of sound cannot be read: expected a number of seconds from 0 on")


def _window(sound: SoundFile, start: float, seconds: float | None) -> Iterator[Block]:
    """The window's blocks, with silence in the place of samples that are no sound."""
    for block in _stored_window(sound, start, seconds):
        sizes = np.abs(block)
        is_all_sound = sizes.max(initial=0.0) <= LARGEST_SAMPLE  # not if there is a NaN
        yield block if is_all_sound else np.where(sizes <= LARGEST_SAMPLE, block, np.float32(0.0))


def _stored_window(sound: SoundFile, start: float, seconds: float | None) -> Iterator[Block]:
    """The window's blocks as they are decoded; gaps are filled with blocks of silence of at most a second."""
    cursor = int(start * sound.sample_rate)
    stop = None if seconds is None else cursor + int(seconds * sound.sample_rate)
    for decoded in sound.blocks(cursor):
        gap_stop = decoded.position if stop is None else min(decoded.position, stop)
        while cursor < gap_stop:
            silence = min(gap_stop - cursor, sound.sample_rate)
            yield np.zeros((silence, sound.channels), np.float32)
            cursor += silence
        if cursor == stop:
            return
        if decoded.stop > cursor:
            block = decoded.samples[cursor - decoded.position : None if stop is None else stop - decoded.position]
            yield block
            cursor += len(block)


def _resample(blocks: Iterable[Block], source_rate: int, rate: int, *, channels: int) -> Iterator[Block]:
    """Resample a stream; m samples become ⌈m · rate / source_rate⌉."""
    resampler = soxr.ResampleStream(source_rate, rate, channels, dtype="float32", quality=RESAMPLER_QUALITY)
    taken = given = 0
    for block in blocks:
        taken += len(block)
        resampled = resampler.resample_chunk(block)
        given += len(resampled)
        yield resampled
    rest = resampler.resample_chunk(np.empty((0, channels), np.float32), last=True)
    missing = -(-taken * rate // source_rate) - given
    yield rest[:missing]
    yield np.zeros((max(0, missing - len(rest)), channels), np.float32)


def _regroup(blocks: Iterable[Block], size: int) -> Iterator[Block]:
    """The same sound in blocks of `size` samples; the last one holds the rest."""
    waiting: list[Block] = []
    count = 0
    for block in blocks:
        waiting.append(block)
        count += len(block)
        if count < size:
            continue
        joined = np.concatenate(waiting)
        whole = count - count % size
        yield from (joined[first : first + size] for first in range(0, whole, size))
        waiting, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(waiting)
