"""What a joined video says about itself: which videos it was joined from, and whose sound is heard when."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from soundreel.disk.digests import file_digest
from soundreel.errors import InputError
from soundreel.render.recipe import JOIN_KEY, parse_recipe
from soundreel.render.sound_windows import SoundWindow, Stretch
from soundreel.units import StrPath
from soundreel.version import __version__


def write_record(
    pieces: Sequence[Mapping[str, Any]], sound: Sequence[Stretch], *, fps: Fraction, notes: Sequence[str]
) -> dict[str, Any]:
    """The record of a joined video, ready for JSON; `pieces` are by `piece_record`."""
    return {
        "soundreel": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "frames": sum(stretch.frames for stretch in sound),
        "fps": str(fps),
        "pieces": list(pieces),
        "sound": [asdict(stretch) for stretch in sound],
        "notes": list(notes),
    }


def piece_record(path: StrPath, name: str, metadata: Mapping[str, str], frames: int) -> dict[str, Any]:
    """What is told of one of the videos: its content, and what it says about itself."""
    recipe = None
    with suppress(InputError):  # damaged: it says nothing
        recipe = parse_recipe(metadata, name)
    return {
        "name": name,
        "sha256": file_digest(path),
        "frames": frames,
        "recipe": recipe,
        "joined": parse_record(metadata),
    }


def parse_record(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The record in a video's metadata; None where there is none, or it is damaged."""
    with suppress(ValueError):
        record = json.loads(metadata.get(JOIN_KEY, ""))
        return record if _is_record(record) else None
    return None


def _is_record(data: Any) -> bool:
    """Whether data are of the form that `write_record` gives them."""
    if not isinstance(data, dict) or not all(
        isinstance(data.get(name), str) for name in ("soundreel", "created", "fps")
    ):
        return False
    lists = [data.get(name) for name in ("pieces", "sound", "notes")]
    return all(isinstance(entries, list) for entries in lists) and (
        all(_is_piece(piece) for piece in data["pieces"])
        and all(_is_stretch(stretch) for stretch in data["sound"])
        and all(isinstance(note, str) for note in data["notes"])
    )


def _is_piece(data: Any) -> bool:
    is_told = isinstance(data, dict) and isinstance(data.get("name"), str) and isinstance(data.get("frames"), int)
    recipe = data.get("recipe") if is_told else None
    return is_told and (recipe is None or (isinstance(recipe, dict) and "engine" in recipe))


def _is_stretch(data: Any) -> bool:
    if not isinstance(data, dict) or not isinstance(data.get("frames"), int) or data["frames"] < 1:
        return False
    window = data.get("window")
    return window is None or SoundWindow.from_data(window) is not None


def recorded_sound(metadata: Mapping[str, str], *, frames: int, fps: Fraction) -> tuple[Stretch, ...]:
    """Whose sound is heard in a joined video of so many frames; () where it was not joined, or changed since."""
    record = parse_record(metadata)
    if record is None or record["fps"] != str(fps) or sum(said["frames"] for said in record["sound"]) != frames:
        return ()
    return tuple(
        Stretch(frames=said["frames"], window=said["window"] and SoundWindow.from_data(said["window"]))
        for said in record["sound"]
    )
