"""Save Video (exact A/V): pictures and sound of exactly one length, verified, in a form that every player takes."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import folder_paths
import numpy as np

from soundreel.media.audio import wav_bytes
from soundreel.media.mux import SoundTrack, assemble, verify
from soundreel.media.video import SegmentWriter
from soundreel.units import DEFAULT_CRF, MAX_CRF, MODEL_FPS

from .sound import CATEGORY, Audio, seconds_of, to_samples


class SaveVideoExact:
    """H.264 and AAC in mp4; the sound is cut, or silence added, to the length of the pictures."""

    CATEGORY = CATEGORY
    FUNCTION = "save"
    OUTPUT_NODE = True
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("path",)
    DESCRIPTION = "An mp4 whose sound and pictures are equally long to the sample, read again and verified."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """Pictures, sound and how they are saved."""
        return {
            "required": {
                "images": ("IMAGE",),
                "fps": ("INT", {"default": MODEL_FPS, "min": 1, "max": 240}),
                "crf": ("INT", {"default": DEFAULT_CRF, "min": 0, "max": MAX_CRF, "tooltip": "0 best"}),
                "filename_prefix": ("STRING", {"default": "video/soundreel"}),
            },
            "optional": {"sound": ("AUDIO",)},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def save(
        self,
        images: Any,
        fps: int,
        crf: int,
        filename_prefix: str,
        sound: Audio | None = None,
        prompt: Any = None,
        extra_pnginfo: Any = None,
    ) -> dict[str, Any]:
        """Write the video; raises `MediaError` where it is not as it must be."""
        count, height, width = images.shape[:3]
        place, stem, number, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), width, height
        )
        target = Path(place) / f"{stem}_{number:05}_.mp4"
        tags = {"prompt": prompt, **(extra_pnginfo or {})}
        metadata = {key: json.dumps(value) for key, value in tags.items() if value is not None}
        with TemporaryDirectory(dir=place) as folder:
            segment, wave = Path(folder) / "pictures.mp4", Path(folder) / "sound.wav"
            with SegmentWriter(segment, width=width, height=height, fps=fps, crf=crf) as writer:
                for image in images:
                    writer.write((image.cpu().numpy() * 255).round().clip(0, 255).astype(np.uint8)[np.newaxis])
            track = None
            if sound is not None:
                wave.write_bytes(wav_bytes(to_samples(sound), int(sound["sample_rate"])))
                track = SoundTrack(path=wave, start=0.0, seconds=min(seconds_of(sound), count / fps))
            finished = Path(folder) / "finished.mp4"
            assemble([segment], finished, fps=fps, sound=track, metadata=metadata)
            verify(finished, frames=count, fps=fps, sound=track is not None)
            finished.rename(target)
        listed = {"filename": target.name, "subfolder": subfolder, "type": "output"}
        return {"ui": {"images": [listed], "animated": (True,)}, "result": (str(target),)}
