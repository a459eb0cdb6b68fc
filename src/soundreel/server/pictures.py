"""Pictures of finished videos: drawn when somebody first asks for one, and kept beside the video."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from soundreel.server.helper import PLAN_SECONDS, Helper
from soundreel.server.worker import VIDEO

THUMBNAIL, SPRITESHEET = "thumbnail", "spritesheet"

DRAWN_BY: Final[Mapping[str, str]] = {THUMBNAIL: "first_frame", SPRITESHEET: "contact_sheet"}
"""The function of `inspection` that draws each."""


def picture_of(folder: Path, variant: str, helper: Helper) -> Path:
    """The JPEG of a finished job: `thumbnail` or `spritesheet`.

    Raises:
        SoundreelError: the video cannot be read.
    """
    place = folder / f"{variant}.jpg"
    if not place.exists():
        helper.ask(DRAWN_BY[variant], str(folder / VIDEO), str(place), seconds=PLAN_SECONDS)
    return place
