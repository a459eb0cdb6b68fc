"""How what is asked is checked, where a type and a range do not say it all. Each check raises `InputError`."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final
from urllib.parse import urlsplit

from soundreel.errors import InputError
from soundreel.request.shots import ShotRequest
from soundreel.units import MAX_SIDE_PIXELS, MODEL_FPS, SIZE_MULTIPLE

ALIKE_SECONDS: Final = 1.0
"""Length of a video and seconds of sound that differ by less are one length: people write 81 frames and 5 s."""


def check_lengths(*, frames: int | None, duration: float | None, full: bool, is_heard_apart: bool) -> None:
    """Raise `InputError` where two lengths are asked for, unless they are alike.

    Args:
        is_heard_apart: `duration` is what the model hears, however much of it is rendered.
    """
    given = {"--frames": frames, "--audio-duration": duration}
    beside = next((f"{name} {value:g}" for name, value in given.items() if value is not None), None)
    if full and beside is not None:
        raise InputError(f"--full and {beside} are two lengths: give one of them", field="window.full")
    if frames is None or duration is None or is_heard_apart:
        return
    seconds = frames / MODEL_FPS
    if abs(seconds - duration) >= ALIKE_SECONDS:
        raise InputError(
            f"--frames {frames} ({seconds:.2f} s) and --audio-duration {duration:g} are two lengths: give one of them",
            field="window.frames",
        )


def check_shots(shots: Sequence[ShotRequest], cuts: Sequence[float]) -> None:
    """Raise `InputError` unless shots begin one after the other, are told apart by their names, and replace cuts."""
    if shots and cuts:
        raise InputError("--cut and the shots of a storyboard both say where cuts are: give one of them", field="cuts")
    for before, shot in pairwise(shots):
        if shot.start < before.start:
            raise InputError(
                f"a shot begins at {shot.start:g} s, the one before it at {before.start:g} s: expected them in order",
                field="shots.start",
            )
    names = Counter(shot.name for shot in shots if shot.name)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise InputError(f"two shots are called {twice!r}: expected a name for each", field="shots.name")
    numeric = next((name for name in names if name.isdecimal()), None)
    if numeric is not None:
        raise InputError(
            f"a shot is called {numeric!r}: expected a name that is no number, which would be a clip's",
            field="shots.name",
        )


def check_side(name: str, value: int) -> None:
    """Raise `InputError` unless `value` is a width or height that a video can have."""
    if not SIZE_MULTIPLE <= value <= MAX_SIDE_PIXELS or value % SIZE_MULTIPLE:
        raise InputError(
            f"{name} is {value}: expected a multiple of {SIZE_MULTIPLE} from {SIZE_MULTIPLE} to "
            f"{MAX_SIDE_PIXELS}; nearest: {_nearest_sizes(value)}",
            field=name,
        )


def _nearest_sizes(value: int) -> str:
    below = min(max(value // SIZE_MULTIPLE * SIZE_MULTIPLE, SIZE_MULTIPLE), MAX_SIDE_PIXELS)
    above = min(below + SIZE_MULTIPLE, MAX_SIDE_PIXELS)
    return f"{below}" if not below < value < above else f"{below} or {above}"


def check_url(url: str) -> None:
    """Raise `InputError` unless `url` may be a server's."""
    if not _is_server_url(url):
        raise InputError(f"--url is {url!r}: expected http://HOST:PORT or https://HOST/PATH", field="server.urls")


def _is_server_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an address that is none
        return False


def check_header(header: str) -> None:
    """Raise `InputError` unless `header` is `Name: value`. The value may be a password: it is never in a message."""
    name, colon, _ = header.partition(":")
    if not colon or not name.strip() or not header.isprintable() or not header.isascii():
        raise InputError(
            "a --header is not understood: expected 'Name: value' in one line of ASCII, with no … in it",
            field="server.headers",
        )
