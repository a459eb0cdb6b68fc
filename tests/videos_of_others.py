"""Videos as someone else may have made them: the recipe in them may say anything."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from soundreel.media.mux import assemble
from soundreel.media.video import SegmentWriter


def recipe(engine: str = "draft", **request: Any) -> dict[str, Any]:
    """One that renders 4 frames of 64×64 from `song.wav`, unless `request` says otherwise."""
    size = {"width": 64, "height": 64, "window": {"frames": 4}}
    return {
        "soundreel": "0.2.0",
        "created": "2026-01-01T00:00:00+00:00",
        "engine": engine,
        "versions": {},
        "models": {},
        "inputs": {},
        "request": {"audio": "song.wav", **size, **request},
        "plan": {"frames": 4, "audio_seconds": 0.25, "clips": []},
        "notes": [],
    }


def video_with(told: dict[str, Any], path: Path = Path("video.mp4")) -> Path:
    """A video with such a recipe in it."""
    segment = path.with_suffix(".segment.mp4")
    with SegmentWriter(segment, width=32, height=32) as writer:
        writer.write(np.zeros((2, 32, 32, 3), np.uint8))
    assemble([segment], path, fps=16, sound=None, metadata={"soundreel": json.dumps(told)})
    segment.unlink()
    return path
