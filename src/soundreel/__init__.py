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
        SessionError,
        SoundreelError,
        WeightsError,
    )
    from soundreel.pipeline import generate, plan, redo, reprint
    from soundreel.request import (
        Attention,
        AvAlign,
        ClipSplit,
        Compute,
        EngineName,
        Guide,
        Interpolation,
        Memory,
        Output,
        Precision,
        RefFit,
        Request,
        Sampling,
        Server,
        Solver,
        VaePrecision,
        Window,
        WorkOptions,
    )
    from soundreel.scoring import Scores, score
    from soundreel.server.client import Client
    from soundreel.session import Session
    from soundreel.types import CancelFlag, Clip, Plan, Progress, Report, Result, Shot, Stage

_MODULES = {
    "errors": (
        "Cancelled",
        "EngineError",
        "InputError",
        "MediaError",
        "SessionError",
        "SoundreelError",
        "WeightsError",
    ),
    "pipeline": ("generate", "plan", "redo", "reprint"),
    "request": (
        "Attention",
        "AvAlign",
        "ClipSplit",
        "Compute",
        "EngineName",
        "Guide",
        "Interpolation",
        "Memory",
        "Output",
        "Precision",
        "RefFit",
        "Request",
        "Sampling",
        "Server",
        "Solver",
        "VaePrecision",
        "Window",
        "WorkOptions",
    ),
    "scoring": ("Scores", "score"),
    "server.client": ("Client",),
    "session": ("Session",),
    "types": ("CancelFlag", "Clip", "Plan", "Progress", "Report", "Result", "Shot", "Stage"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Attention",
    "AvAlign",
    "CancelFlag",
    "Cancelled",
    "Client",
    "Clip",
    "ClipSplit",
    "Compute",
    "EngineError",
    "EngineName",
    "Guide",
    "InputError",
    "Interpolation",
    "MediaError",
    "Memory",
    "Output",
    "Plan",
    "Precision",
    "Progress",
    "RefFit",
    "Report",
    "Request",
    "Result",
    "Sampling",
    "Scores",
    "Server",
    "Session",
    "SessionError",
    "Shot",
    "Solver",
    "SoundreelError",
    "Stage",
    "VaePrecision",
    "WeightsError",
    "Window",
    "WorkOptions",
    "__version__",
    "generate",
    "plan",
    "redo",
    "reprint",
    "score",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'soundreel' has no attribute {name!r}")
    return getattr(import_module(f"soundreel.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
