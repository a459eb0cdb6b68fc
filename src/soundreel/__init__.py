"""Sound in, synchronized video out.

    from soundreel import Request, generate

    result = generate(Request(audio="song.mp3", ref_image="cover.png"))
    print(result.path)

Importing the package loads neither PyAV nor torch; each name brings what it needs when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from soundreel.version import __version__

if TYPE_CHECKING:
    from soundreel.errors import (
        Cancelled,
        EngineError,
        InputError,
        MediaError,
        SoundreelError,
        WeightsError,
    )
    from soundreel.pipeline import generate, plan
    from soundreel.request import ClipSplit, Keeping, Request
    from soundreel.types import Clip, Plan, Progress, Result, Stage

_MODULE_OF = {
    "Cancelled": "errors",
    "Clip": "types",
    "ClipSplit": "request",
    "EngineError": "errors",
    "InputError": "errors",
    "Keeping": "request",
    "MediaError": "errors",
    "Plan": "types",
    "Progress": "types",
    "Request": "request",
    "Result": "types",
    "SoundreelError": "errors",
    "Stage": "types",
    "WeightsError": "errors",
    "generate": "pipeline",
    "plan": "pipeline",
}

__all__ = [
    "Cancelled",
    "Clip",
    "ClipSplit",
    "EngineError",
    "InputError",
    "Keeping",
    "MediaError",
    "Plan",
    "Progress",
    "Request",
    "Result",
    "SoundreelError",
    "Stage",
    "WeightsError",
    "__version__",
    "generate",
    "plan",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'soundreel' has no attribute {name!r}")
    return getattr(import_module(f"soundreel.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
