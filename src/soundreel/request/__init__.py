"""What a user asks for: `Request` and its groups. Wrong values raise `InputError` before anything is opened.

Each field is declared once. The command line, JSON, recipes and fingerprints follow from its declaration.
"""

from soundreel.request.choices import (
    SEPARATED,
    Attention,
    AvAlign,
    ClipSplit,
    Drive,
    EngineName,
    Interpolation,
    Memory,
    Parallel,
    Precision,
    RefFit,
    Solver,
    VaePrecision,
)
from soundreel.request.compute import (
    ALL_GPUS,
    DEFAULT_SERVER_URL,
    MOST_GPUS,
    Compute,
    Server,
    memory_bytes,
    split_lora,
)
from soundreel.request.groups import Guide, Output, Sampling, Window
from soundreel.request.panels import LENGTH, MODEL, OUTPUT, PICTURE, SERVER, SPEED, WHAT
from soundreel.request.request import FLAT_NAMES, RENAMED, SHOT_FIELDS, Request, files_read, grouped, members
from soundreel.request.shots import NOTHING_OF_ITS_OWN, STORYBOARD_ENDINGS, Cut, ShotRequest, is_storyboard
from soundreel.request.work_options import BESIDE_THE_OUTPUT, WorkOptions

__all__ = [
    "ALL_GPUS",
    "BESIDE_THE_OUTPUT",
    "DEFAULT_SERVER_URL",
    "FLAT_NAMES",
    "LENGTH",
    "MODEL",
    "MOST_GPUS",
    "NOTHING_OF_ITS_OWN",
    "OUTPUT",
    "PICTURE",
    "RENAMED",
    "SEPARATED",
    "SERVER",
    "SHOT_FIELDS",
    "SPEED",
    "STORYBOARD_ENDINGS",
    "WHAT",
    "Attention",
    "AvAlign",
    "ClipSplit",
    "Compute",
    "Cut",
    "Drive",
    "EngineName",
    "Guide",
    "Interpolation",
    "Memory",
    "Output",
    "Parallel",
    "Precision",
    "RefFit",
    "Request",
    "Sampling",
    "Server",
    "ShotRequest",
    "Solver",
    "VaePrecision",
    "Window",
    "WorkOptions",
    "files_read",
    "grouped",
    "is_storyboard",
    "members",
    "memory_bytes",
    "split_lora",
]
