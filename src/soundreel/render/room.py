"""How much room a render takes on the disk, and whether there is as much."""

import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from soundreel.disk.outputs import WORK_FOLDER
from soundreel.errors import MediaError
from soundreel.render.prepared import PreparedRender
from soundreel.request import Interpolation
from soundreel.types import Clip
from soundreel.wording import readable_size

BYTES_PER_PIXEL: Final = 0.1
"""Of an encoded picture at crf 18, guessed; 6 more halve it."""

SOUND_BYTES_PER_SECOND: Final = 25_000
"""Of the finished file's sound track, about: stereo at 48 kHz."""

CARRIES: Final = 2
"""That a process has on the disk at once: the one before goes when the newest is there."""


@dataclass(frozen=True, kw_only=True)
class DiskNeed:
    """What a render takes at its peak, in bytes, about."""

    latents: int
    carries: int  # what the next clip continues, while the render is under way
    segments: int
    video: int  # where it goes: the finished one, and beside it the clips so far

    @property
    def work(self) -> int:
        """In the work folder."""
        return self.latents + self.carries + self.segments

    @property
    def total(self) -> int:
        """On all file systems."""
        return self.work + self.video

    @property
    def kept(self) -> int:
        """In a work folder that stays."""
        return self.latents + self.segments


def segment_bytes(render: PreparedRender, clip: Clip) -> int:
    """What a clip takes encoded, about."""
    request = render.request
    share = BYTES_PER_PIXEL * 2 ** ((18 - request.output.crf) / 6)
    return round(request.width * request.height * render.frames_between(clip) * share)


def disk_need(
    render: PreparedRender,
    *,
    encoded: Collection[int] = (),
    sampled: Collection[int] = (),
    bytes_of: Callable[[Clip], int] | None = None,
) -> DiskNeed:
    """What a render takes, beside what is there of it.

    Args:
        encoded: indices of the clips whose segments are there.
        sampled: those of the clips whose negatives are there.
        bytes_of: about what the segment of a clip takes; None: as `segment_bytes` guesses.
    """
    plan, guess = render.plan, bytes_of or (lambda clip: segment_bytes(render, clip))
    keeps = render.engine.kept_bytes(plan)
    segments = {clip.index: guess(clip) for clip in plan.clips}
    missing = [clip for clip in plan.clips if clip.index not in encoded]
    continued = [clip.index for clip in missing if not plan.is_last_of_chain(clip)]
    carries = sum(index + 1 not in {*sampled, *encoded} for index in continued)
    picture = render.request.width * render.request.height * 3
    contexts = 0 if render.interpolation is Interpolation.NONE else len(continued) * picture
    video = sum(segments.values()) + round(SOUND_BYTES_PER_SECOND * plan.seconds)
    return DiskNeed(
        latents=sum(size for index, size in enumerate(keeps.negatives) if index not in {*sampled, *encoded}),
        carries=min(carries, CARRIES * max(1, len(render.division.processes))) * keeps.carry,
        segments=contexts + sum(segments[clip.index] for clip in missing),
        video=video * (2 if len(plan.clips) > 1 else 1),
    )


class NoRoomError(MediaError):
    """A disk has less room than a render needs.

    Attributes:
        shortage: the message without what is to be done.
    """

    shortage: str = ""


def check_room(need: DiskNeed, work: Path, output: Path) -> None:
    """Raise `NoRoomError` unless there is as much room in the work folder and where the video is made."""
    work, output = _existing(work), _existing(output)
    if work.stat().st_dev == output.stat().st_dev:
        _check(work, need.total, "clips, latents and the video", "--work-dir and --output")
    else:
        _check(work, need.work, "clips and latents", "--work-dir")
        _check(output, need.video, "the video", "--output")


def _check(folder: Path, needed: int, what: str, option: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        shortage = f"{str(folder)!r} has {readable_size(free)} free, {what} take about {readable_size(needed)}"
        error = NoRoomError(f"{shortage}: free some, or name another place with {option}")
        error.shortage = shortage
        raise error


def _existing(path: Path) -> Path:
    """A folder, or the next one above it that is there and that users know."""
    return next(place for place in (path, *path.absolute().parents) if place.exists() and place.name != WORK_FOLDER)
