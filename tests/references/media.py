"""Sounds, pictures and a pose video for renders: drawn from the seed, small, and like nothing in particular."""

from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image, ImageDraw

from references.folder import Folder

SPEECH, STEREO, LONG, COMPRESSED = "speech_2s.wav", "stereo44k_2p3s.wav", "long_5s.flac", "sung_3s.mp3"
SQUARE, WIDE, POSE = "square_70x70.png", "wide_140x90.png", "pose_96x54_30fps_50frames.mp4"

_POSE_SIZE = 96, 54


def write_inputs(folder: Folder) -> None:
    """Write all files."""
    folder.inputs.mkdir(parents=True)
    numbers = np.random.default_rng(folder.seed)
    soundfile.write(folder.inputs / SPEECH, voice(numbers, 2.0, 16_000), 16_000, subtype="PCM_16")
    soundfile.write(folder.inputs / STEREO, _stereo(numbers, 2.3), 44_100, subtype="PCM_16")
    soundfile.write(folder.inputs / LONG, _stereo(numbers, 5.1), 44_100)
    soundfile.write(folder.inputs / COMPRESSED, _stereo(numbers, 3.0), 44_100)
    picture(numbers, 70, 70).save(folder.inputs / SQUARE)
    picture(numbers, 140, 90).save(folder.inputs / WIDE)
    _write_pose(numbers, folder.inputs / POSE)


def voice(numbers: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Syllables of gliding harmonics with a little noise, as float64 samples within ±0.9."""
    times = np.arange(round(seconds * rate)) / rate
    pitch = 150 + 40 * np.sin(2 * np.pi * numbers.uniform(0.4, 0.9) * times + numbers.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    strengths = numbers.uniform(0.2, 1.0, 12) / np.arange(1, 13)
    tone = sum(strength * np.sin((k + 1) * phase) for k, strength in enumerate(strengths))
    syllables = np.clip(np.sin(2 * np.pi * numbers.uniform(2.5, 4.0) * times + numbers.uniform(0, 6)), 0, 1)
    sound = tone * syllables + 0.02 * numbers.standard_normal(len(times))
    return 0.6 * sound / np.abs(sound).max()


def picture(numbers: np.random.Generator, width: int, height: int) -> Image.Image:
    """Soft colours under fine grain."""
    soft = Image.fromarray(numbers.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    grain = numbers.integers(-24, 25, (height, width, 3))
    pixels = np.array(soft.resize((width, height), Image.Resampling.BICUBIC)).astype(int) + grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _stereo(numbers: np.random.Generator, seconds: float) -> np.ndarray:
    return np.stack([voice(numbers, seconds, 44_100) for _ in range(2)], axis=1)


def _write_pose(numbers: np.random.Generator, path: Path) -> None:
    """Fifty frames of sticks that swing, 30 per second."""
    width, height = _POSE_SIZE
    colours = [tuple(int(value) for value in numbers.integers(80, 256, 3)) for _ in range(3)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(50):
            image = Image.new("RGB", _POSE_SIZE)
            for k, colour in enumerate(colours):
                swing = 20 * np.sin(number / 6 + k)
                ends = (width / 2, height / 2, width / 2 + swing * (k - 1.5), height * (0.1 + 0.4 * k))
                ImageDraw.Draw(image).line(ends, fill=colour, width=4)
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
