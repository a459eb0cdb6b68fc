"""What a render does to a sound without being asked is said in a note."""

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media_files import write_sound, write_video
from soundreel.media.audio import probe_sound
from soundreel.pipeline import prepare
from soundreel.request import Request

RATE = 8000


def notes(sound: Path, **asked: Any) -> tuple[str, ...]:
    """Of a draft."""
    given = {"frames": 16, "width": 64, "height": 64, "engine": "draft"}
    return prepare(Request(audio=sound, **(given | asked))).notes


def noise(seconds: float, channels: int) -> np.ndarray:
    sound = np.random.default_rng(1).uniform(-0.3, 0.3, (round(seconds * RATE), channels))
    return sound.astype(np.float32)


# channels


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        (1, ()),
        (2, ()),
        (6, ("the sound has 6 channels: in the video they are mixed down to stereo, without LFE",)),
    ],
)
def test_surround_becomes_stereo(tmp_path: Path, channels: int, said: tuple[str, ...]) -> None:
    assert notes(write_sound(tmp_path / "sound.wav", noise(1.0, channels), RATE)) == said


def test_channels_without_names_are_taken_as_players_take_them(tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    write_plain_wav(sound, noise(1.0, 6))
    assert probe_sound(sound).channel_names == ("NONE",) * 6
    assert notes(sound) == ("the sound has 6 channels: in the video they are mixed down to stereo, without LFE",)


def write_plain_wav(path: Path, samples: np.ndarray) -> None:
    """16 bits a sample, in a file of the oldest form: it does not say what its channels are."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


# sound that sets in late


def test_silence_before_a_late_sound_is_said(tmp_path: Path) -> None:
    video = write_video(tmp_path / "late.mkv", noise(2.0, 1), RATE, "pcm_s16le", sound_start=0.75)
    assert probe_sound(video).silence == pytest.approx(0.75, abs=0.001)
    says = "the sound sets in 0.75 s into the file: the video begins with {} s of silence"
    assert notes(video) == (says.format("0.75"),)
    assert notes(video, audio_start=0.25) == (says.format("0.50"),)
    assert notes(video, audio_start=0.75) == ()
    assert notes(video, frames=8) == (says.format("0.50"),)


def test_less_than_a_frame_is_not(tmp_path: Path) -> None:
    video = write_video(tmp_path / "late.mkv", noise(2.0, 1), RATE, "pcm_s16le", sound_start=0.05)
    assert notes(video) == ()


# more sound than video, less than a second of it: 305 frames and 20 s are meant as one length


def test_a_little_more_sound_than_video_is_said(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "sound.wav", noise(22.0, 1), RATE)
    assert notes(sound, frames=305, audio_duration=20) == (
        "--audio-duration is 20 s: the video ends before, at 19.06 s",
    )
    assert notes(sound, frames=81, audio_duration=5) == (
        "the sound ends at 5.00 s, the video at 5.06 s: 0.06 s of silence follow",
    )
    assert notes(sound, frames=80, audio_duration=5) == ()
    assert notes(sound, frames=5, audio_duration=20, av_align="reference") == ()  # heard, and not shown
