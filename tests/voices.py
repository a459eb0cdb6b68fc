"""Songs with a voice in a known place, and shots with a drive of their own, for tests of what drives."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.separated import Samples, read_stereo

from media_files import write_sound
from soundreel.separation.masking import RATE
from soundreel.weights.voice_separator import why_not_installed

# without its weights, what takes the separator is skipped
needs_separator = pytest.mark.skipif(why_not_installed() is not None, reason=str(why_not_installed()))

VOICE_BEGINS, VOICE_ENDS = 3.0, 8.0
"""Seconds, within the song of `song_with_voice`, of 10 s."""


def voice_in_place(speech: Path, seconds: float = 10.0) -> Samples:
    """Real speech of 5 s from `VOICE_BEGINS` on, silence around it, [n, 2]."""
    sound = np.zeros((round(seconds * RATE), 2), np.float32)
    begin, count = round(VOICE_BEGINS * RATE), round((VOICE_ENDS - VOICE_BEGINS) * RATE)
    sound[begin : begin + count] = read_stereo(speech)[:count]
    return sound


def song_with_voice(path: Path, speech: Path, tune: Path, seconds: float = 10.0) -> Path:
    """Speech over the example tune, as loud as it."""
    voice = voice_in_place(speech, seconds)
    music = np.resize(read_stereo(tune), voice.shape)
    music *= np.sqrt(np.square(voice[voice[:, 0] != 0]).mean() / np.square(music).mean())
    return write_sound(path, 0.7 * (voice + music), RATE, "pcm_s16le")


def per_shot(monkeypatch: pytest.MonkeyPatch, *drives: Path | str) -> None:
    """Let each shot have a drive of its own."""
    for user in ("engines.draft.engine", "engines.native.scene", "engines.comfyui.engine"):
        monkeypatch.setattr(f"soundreel.{user}.drive_of", lambda plan, shot: drives[shot.index])
