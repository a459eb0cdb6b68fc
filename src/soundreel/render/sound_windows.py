"""Which part of which sound is heard in a finished video: what its recipe says, and where that sound is now.

A recipe comes with a video, and a video may come from anyone: of a sound it counts what it is called and what its
content is, and a file is that sound only if it has that content.
"""

import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Self

from soundreel.disk.digests import file_digest
from soundreel.disk.state import recall_path
from soundreel.errors import InputError
from soundreel.media.files import check_file
from soundreel.render.recipe import parse_recipe, stated_request
from soundreel.render.recipe_files import file_name, holds
from soundreel.units import MODEL_FPS, StrPath

NEAR_SECONDS: Final = Fraction(1, 2 * MODEL_FPS)
"""A window begins where another ends if it does so to within half a frame of the model: starts are given in rounded
seconds, and nobody sees a picture that is so little late, but everybody hears a sound that jumps."""


@dataclass(frozen=True, kw_only=True)
class SoundWindow:
    """A window of a sound, which is known by its content."""

    name: str  # of the file
    digest: str
    start: float  # seconds into the sound
    seconds: float  # of it that are heard

    @classmethod
    def from_data(cls, data: Any) -> Self | None:
        """The window that `asdict` made data of; None where they are of none."""
        try:
            window = cls(
                name=file_name(str(data["name"])),
                digest=str(data["digest"]),
                start=float(data["start"]),
                seconds=float(data["seconds"]),
            )
        except (KeyError, TypeError, ValueError):
            return None
        return window if window._is_possible() else None

    def _is_possible(self) -> bool:
        return all(math.isfinite(value) and value >= 0 for value in (self.start, self.seconds))


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Pictures in a row of one video, and the window of a sound that belongs to them."""

    frames: int
    window: SoundWindow | None = None  # None: nothing says which


def by_recipe(metadata: Mapping[str, str], name: str, *, frames: int, fps: Fraction) -> Stretch:
    """All `frames` of a video, with the window that its recipe tells, if that is the recipe of so many frames."""
    whole = Stretch(frames=frames)
    with suppress(InputError, KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        recipe = parse_recipe(metadata, name)
        if recipe is None:
            return whole
        request = stated_request(recipe, is_trusted=False)
        seconds = Fraction(recipe["frames"]) / Fraction(recipe["fps"])
        if abs(seconds - frames / fps) > NEAR_SECONDS:  # it was cut since
            return whole
        said = {
            "name": os.fspath(request.audio),
            "digest": recipe["inputs"]["audio"],
            "start": request.window.start,
            "seconds": recipe["plan"]["audio_seconds"],
        }
        return Stretch(frames=frames, window=SoundWindow.from_data(said))
    return whole


def find_sounds(
    windows: Iterable[SoundWindow], folders: Iterable[Path], given: StrPath | None = None
) -> dict[str, Path]:
    """Where the sounds of windows are, by their digests.

    They are looked for as `given`, where this user last had them, and in `folders` under their names.

    Raises:
        InputError: `given` is none of them.
    """
    wanted = {window.digest: window.name for window in windows}
    found: dict[str, Path] = {}
    if given is not None:
        check_file(given, "sound")
        digest = file_digest(given)
        if digest not in wanted:
            names = " or ".join(map(repr, sorted(set(wanted.values()))))
            raise InputError(
                f"--sound is {os.fspath(given)!r}, which no recipe of these videos is about: expected "
                + (f"{names}, unchanged" if names else "none, for they have no recipes")
            )
        found[digest] = Path(given)
    places = list(dict.fromkeys(folders))
    for digest in wanted.keys() - found.keys():
        known = recall_path(digest)
        near = [folder / wanted[digest] for folder in places]
        same = (place for place in ([known] if known else []) + near if place.is_file() and holds(place, digest))
        if place := next(same, None):
            found[digest] = place
    return found
