"""Load Sound (window): a stretch of any sound file, cut to the sample, at its own rate and channels."""

from pathlib import Path
from typing import Any

import folder_paths
import numpy as np

from soundreel.errors import InputError
from soundreel.media.audio import probe_sound, stream_sound

from .sound import CATEGORY, Audio, to_audio

ENDINGS = frozenset(
    (".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".opus", ".wma", ".aiff", ".mka", ".mp4", ".mov", ".mkv", ".webm")
)
"""Of files of the input folder that are offered; videos have sound, too."""


class LoadSoundWindow:
    """The window of `seconds` from `start` on; 0 seconds: to the end."""

    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES = ("AUDIO", "FLOAT")
    RETURN_NAMES = ("sound", "seconds")
    DESCRIPTION = "A stretch of a sound or video file, cut to the sample, with its own sample rate and channels."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """Files of the input folder, and the window."""
        folder = Path(folder_paths.get_input_directory())
        files = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in ENDINGS)
        seconds = {"default": 0.0, "min": 0.0, "max": 86400.0, "step": 0.01}
        return {
            "required": {
                "audio": (files, {"audio_upload": True}),
                "start": ("FLOAT", {**seconds, "tooltip": "Where it begins, in seconds"}),
                "seconds": ("FLOAT", {**seconds, "tooltip": "How long it is; 0: to the end"}),
            }
        }

    @classmethod
    def IS_CHANGED(cls, audio: str, start: float, seconds: float) -> tuple[Any, ...]:  # noqa: N802
        """A file under the same name may be another."""
        facts = Path(folder_paths.get_annotated_filepath(audio)).stat()
        return facts.st_mtime_ns, facts.st_size, start, seconds

    @classmethod
    def VALIDATE_INPUTS(cls, audio: str) -> bool | str:  # noqa: N802
        """True, or what is wrong."""
        return True if folder_paths.exists_annotated_filepath(audio) else f"there is no {audio!r} in the input folder"

    def load(self, audio: str, start: float, seconds: float) -> tuple[Audio, float]:
        """The sound, and how long it is; shorter than asked for where the file ends."""
        path = folder_paths.get_annotated_filepath(audio)
        info = probe_sound(path)
        blocks = list(stream_sound(path, start=start, seconds=seconds or None))
        if not blocks:
            raise InputError(f"{audio} is {info.seconds:.2f} s long: there is no sound from {start:g} s on")
        samples = np.concatenate(blocks)
        return to_audio(samples, info.sample_rate), len(samples) / info.sample_rate
