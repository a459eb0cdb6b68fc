"""From 16 frames per second to more: pictures between pictures, the sound untouched."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from soundreel.errors import InputError, WeightsError
from soundreel.media.motion import Picture, compensate_motion

NONE = "none"
"""The method that leaves the frames as they are."""

METHODS: Mapping[str, Callable[..., Iterator[Picture]]] = {"motion": compensate_motion}
"""Methods by name; each takes pictures and a `factor` and yields `factor` pictures for each one."""


def check_method(method: str) -> None:
    """Raise `InputError` for an unknown method, `WeightsError` for one whose weights are missing."""
    if method == "film":
        raise WeightsError(
            "--interpolate film needs the FILM network, which is not part of this version: "
            "--interpolate motion needs no weights"
        )
    if method != NONE and method not in METHODS:
        raise InputError(f"there is no interpolation {method!r}: choose {NONE}, {', '.join(METHODS)} or film")


def interpolate(pictures: Iterable[Picture], *, factor: int, method: str) -> Iterator[Picture]:
    """Yield `factor` pictures [H, W, 3] for each one, the first of them the picture itself, the last one held.

    A factor of 1 and the method "none" leave the pictures as they are. Streams: a few pictures are in memory at a time.
    Errors as in `check_method`.
    """
    check_method(method)
    if factor == 1 or method == NONE:
        return iter(pictures)
    return METHODS[method](pictures, factor=factor)
