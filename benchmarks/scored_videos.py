"""Videos whose scores are known: drafts of clicks, mouths that open with a voice, noise; with their sound moved."""

import tempfile
import wave
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from soundreel import EngineName, Output, Request, Window, generate
from soundreel.media.audio import stream_sound
from soundreel.media.mux import SoundTrack, assemble
from soundreel.media.video import SegmentWriter, read_frames
from soundreel.scoring.face_networks import FaceNetworks
from soundreel.units import MODEL_FPS, StrPath

Mono = NDArray[np.float32]
Picture = NDArray[np.uint8]

RATE = 32_000
"""Hz of the sounds here."""

MOUTH = (61, 291)
"""Landmarks at the corners of the mouth."""


def write_sound(path: Path, sound: Mono) -> None:
    """A sound as a WAV file of 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


def clicks(times: Iterable[float], seconds: float) -> Mono:
    """Clicks of 2 ms at these times."""
    sound = np.zeros(round(seconds * RATE), np.float32)
    click = (0.8 * np.exp(-np.arange(64) / 16)).astype(np.float32)
    for time in times:
        part = sound[round(time * RATE) :][: len(click)]
        part += click[: len(part)]
    return sound


def irregular_times(seed: int, seconds: float) -> list[float]:
    """Times that repeat nothing, 0.3 to 0.9 s apart."""
    random = np.random.default_rng(seed)
    times = np.cumsum(random.uniform(0.3, 0.9, round(4 * seconds)))
    return [float(time) for time in times if time < seconds - 0.2]


def sound_of(path: StrPath, seconds: float | None = None) -> Mono:
    """A sound file as mono."""
    blocks = stream_sound(path, seconds=seconds, sample_rate=RATE, mono=True)
    return np.concatenate([block[:, 0] for block in blocks])


def moved_sound(sound: Mono, milliseconds: float) -> Mono:
    """The sound so much later; earlier where it is negative."""
    samples = round(abs(milliseconds) / 1000 * RATE)
    return np.concatenate([np.zeros(samples, np.float32), sound]) if milliseconds > 0 else sound[samples:]


def draft(sound: Mono, path: Path, *, size: int = 96) -> Path:
    """The draft of a sound."""
    with tempfile.TemporaryDirectory() as folder:
        heard = Path(folder) / "sound.wav"
        write_sound(heard, sound)
        request = Request(
            audio=heard,
            engine=EngineName.DRAFT,
            width=size,
            height=size,
            window=Window(full=True),
            output=Output(path=path),
        )
        generate(request)
    return path


def video_with(pictures: Iterable[Picture], sound: Mono | None, path: Path, *, fps: int = MODEL_FPS) -> Path:
    """A video of pictures, uint8 [H, W, 3] each, with a sound."""
    with tempfile.TemporaryDirectory() as folder:
        segment, heard = Path(folder) / "pictures.mp4", Path(folder) / "sound.wav"
        frames = np.stack(list(pictures))
        with SegmentWriter(segment, width=frames.shape[2], height=frames.shape[1], fps=fps) as writer:
            writer.write(frames)
        track = None
        if sound is not None:
            write_sound(heard, sound)
            track = SoundTrack(path=heard, start=0.0, seconds=len(frames) / fps)
        assemble([segment], path, fps=fps, sound=track, metadata={})
    return path


def with_sound(video: Path, sound: Mono, path: Path) -> Path:
    """The pictures of a video with another sound."""
    return video_with(read_frames(video), sound, path)


def noise_pictures(seed: int, frames: int, *, size: int = 96) -> Iterable[Picture]:
    """Pictures that know nothing of each other."""
    random = np.random.default_rng(seed)
    return (random.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(frames))


def loudness(sound: Mono, frames: int, fps: int) -> NDArray[np.float64]:
    """Mean amplitude around each frame, [frames] 0..1."""
    width = round(0.06 * RATE)
    smooth = np.convolve(np.abs(sound), np.ones(width) / width, mode="same")
    curve = np.interp(np.arange(frames) / fps, np.arange(len(smooth)) / RATE, smooth)
    return np.asarray(curve / curve.max(), np.float64)


def speaking(portrait: Picture, openings: NDArray[np.float64]) -> Iterable[Picture]:
    """A portrait, uint8 [H, W, 3], whose mouth is pulled open, 0..1 in each frame."""
    networks = FaceNetworks()
    face = networks.find(portrait)
    points = None if face is None else networks.landmarks(portrait, face)
    assert points is not None, "the portrait has a face"
    left, right = points[list(MOUTH)]
    width = float(np.linalg.norm(right - left)) / 2
    x, y = (left + right) / 2
    rows, columns = np.mgrid[: portrait.shape[0], : portrait.shape[1]].astype(np.float32)
    bell = np.clip(1 - ((columns - x) / width) ** 2, 0, 1) * np.clip(1 - np.abs(rows - y) / (1.6 * width), 0, 1)
    pull = 0.45 * width * bell * np.tanh((rows - y) / 2)
    for opening in openings.tolist():
        moved = (rows - opening * pull).astype(np.float32)
        yield np.asarray(cv2.remap(portrait, columns, moved, cv2.INTER_LINEAR), np.uint8)
