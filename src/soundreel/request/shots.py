"""What a storyboard says of one shot: where it begins, and what it has of its own."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from soundreel.request.choices import Drive
from soundreel.request.fields import Role, Seconds, option, settle
from soundreel.units import MAX_SECONDS, StrPath


class Cut(StrEnum):
    """How a shot follows the one before."""

    HARD = "hard"  # nothing passes from one to the other
    CONTINUE = "continue"  # the movement goes on, with other words, another picture or another seed


@dataclass(frozen=True, kw_only=True)
class ShotRequest:
    """One shot, up to the start of the next one. What is None is the request's own."""

    start: Seconds = option(
        0.0, "Where it begins, in seconds of the sound", role=Role.PLAN, at_least=0, at_most=MAX_SECONDS
    )
    name: str = option("", "What it is called; else by its number", role=Role.NEITHER)
    section: str = option("", "The part of the song that it shows", role=Role.NEITHER)
    cut: Cut = option(Cut.HARD, "A hard cut before it, or its movement continues the shot before", role=Role.PLAN)
    prompt: str | None = option(None, "What to see", role=Role.PIXELS)
    negative_prompt: str | None = option(None, "What not to see", role=Role.PIXELS)
    ref_image: StrPath | None = option(
        None, "Picture that gives style and subject", role=Role.PIXELS, is_path=True, is_file=True
    )
    pose_video: StrPath | None = option(  # begins with the shot; the request's own runs through all of them
        None, "Video whose movements to follow", role=Role.PIXELS, is_path=True, is_file=True
    )
    seed: int | None = option(  # clip k of the shot is drawn with seed + k
        None, "Of its first clip", role=Role.PLAN, at_least=0
    )
    drive: StrPath | None = option(
        None, "What the motion follows", role=Role.PIXELS, is_path=True, is_file=True, words=tuple(Drive)
    )

    def __post_init__(self) -> None:
        settle(self, "shots.")


STORYBOARD_ENDINGS: Final = (".toml", ".json")
"""Of the names of files that shots stand in."""


def is_storyboard(path: StrPath | None) -> bool:
    """Whether a file is called as storyboards are."""
    return path is not None and Path(path).suffix.lower() in STORYBOARD_ENDINGS


NOTHING_OF_ITS_OWN: Final = ShotRequest()
"""A shot from the beginning that is as the request says."""
