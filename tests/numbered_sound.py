"""A sound that says at every moment which frame of a video it belongs to, so that pictures can tell what they heard."""

import io
import wave
from pathlib import Path
from typing import Final

import numpy as np

RATE: Final = 16_000
SAMPLES_PER_FRAME: Final = RATE // 16

STEP: Final = 12
"""Between the values of two frames: far more than what rounding changes."""

SILENT: Final = -2
"""The number of a frame without sound."""


def write_numbered_sound(path: Path, frames: int) -> Path:
    """A WAV file as the model hears sound, 16 kHz mono: all samples of frame j are (j + 1) · `STEP`."""
    values = np.repeat((np.arange(frames) + 1) * STEP, SAMPLES_PER_FRAME).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, len(values), "NONE", ""))
        file.writeframes(values.tobytes())
    return path


def heard_frame(sound: bytes, frame: int) -> int:
    """The number that a WAV file holds at its own frame `frame`, 1/16 s each."""
    with wave.open(io.BytesIO(sound)) as file:
        values = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    value = values[frame * SAMPLES_PER_FRAME + SAMPLES_PER_FRAME // 2]
    return SILENT if value == 0 else round(int(value) / STEP) - 1
