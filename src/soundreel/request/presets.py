"""Presets and defaults."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from soundreel.errors import InputError
from soundreel.request import Precision, Sampling, VaePrecision
from soundreel.units import LEAD_IN_FRAMES

DEFAULT_FRAMES = Sampling().infer_frames - LEAD_IN_FRAMES
"""77 frames, 4.8 s: the default length of a video, one clip of default size less its lead-in."""

DEFAULT_PROMPT = "rhythmic motion, synchronized movement, dynamic energy, pulsing to the beat"

MOODS: Mapping[str, str] = MappingProxyType(
    {
        "music": DEFAULT_PROMPT,
        "calm": "smooth flowing motion, gentle movements, serene atmosphere, soft dynamics",
        "speech": "subtle motion, speaking gestures, natural animation, conversational flow",
    }
)
"""What a sound is like → a prompt for how pictures move to it."""

DEFAULT_NEGATIVE_PROMPT = (
    "画面模糊，最差质量，画面模糊，细节模糊不清，情绪激动剧烈，手快速抖动，字幕，丑陋的，残缺的，多余的手指，画得不好的手部，"
    "画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
"""The negative prompt that Wan 2.2 S2V was tuned with (Wan-Video/Wan2.2, Apache-2.0)."""

TURBO_SIGMAS = (1.0, 0.8576923, 0.6021506, 0.0089286)
"""Noise levels of the public 4-step S2V weights (Live-Avatar), for Euler without guidance."""

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "quick": {
            "default_clips": 1,
            "infer_frames": 48,
            "steps": 25,
            "guide_scale": 4.0,
            "width": 480,
            "height": 832,
        },
        "balanced": {
            "default_clips": 1,
            "infer_frames": 80,
            "steps": 30,
            "guide_scale": 4.5,
            "width": 480,
            "height": 832,
        },
        "high": {
            "default_clips": 1,
            "infer_frames": 112,
            "steps": 40,
            "guide_scale": 5.0,
            "width": 1024,
            "height": 704,
            "shift": 5.0,
            "precision": Precision.BF16,
            "vae_precision": VaePrecision.FP32,
        },
        "long": {
            "default_clips": 3,
            "infer_frames": 80,
            "steps": 35,
            "guide_scale": 4.5,
            "width": 480,
            "height": 832,
        },
        # native needs a few-step --lora, comfyui has its template's; experimental until tried with real weights
        "turbo": {"turbo": True, "steps": 4, "guide_scale": 1.0, "width": 480, "height": 832},
    }
)
"""Preset name → fields of `Request`; options given beside a preset override it, a length its `default_clips`."""

SHIFT_480P, SHIFT_720P = 3.0, 5.0
"""Flow shift of the noise schedule."""

SHORT_SIDE_720P_PIXELS = 704
"""Short side from which `SHIFT_720P` applies, so that 1024×704 counts as 720p."""


def preset(name: str) -> Mapping[str, Any]:
    """The fields of `Request` that preset `name` sets; `InputError` for an unknown name."""
    try:
        return PRESETS[name]
    except KeyError:
        raise InputError(f"there is no preset {name!r}: choose one of {', '.join(PRESETS)}") from None


def mood(name: str) -> str:
    """The prompt for a sound of mood `name`; `InputError` for an unknown name."""
    try:
        return MOODS[name]
    except KeyError:
        raise InputError(f"there is no mood {name!r}: choose one of {', '.join(MOODS)}", field="prompt") from None


def default_shift(width: int, height: int) -> float:
    """Default flow shift of the noise schedule for a video of `width` × `height` pixels."""
    return SHIFT_720P if min(width, height) >= SHORT_SIDE_720P_PIXELS else SHIFT_480P
