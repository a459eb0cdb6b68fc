"""Which files and servers a request names: a stranger's are shown before they are followed, one's own are not told."""

import dataclasses
from collections.abc import Container, Iterator

from soundreel.request import Request, ShotRequest
from soundreel.request.fields import Field, fields_of, plain


def places_in(request: Request) -> Iterator[tuple[Field, str]]:
    """Every path and every server that is not the default, with its field."""
    for field in fields_of(Request):
        declared, value = field.option, plain(field.of(request), field.option)
        usual = None if field.default is dataclasses.MISSING else plain(field.default, declared)
        leads_somewhere = declared.is_place(value) or declared.is_address or declared.make_absolute is not None
        if leads_somewhere and value != usual:
            yield from ((field, entry) for entry in (value if isinstance(value, list) else [value]))
    for field in fields_of(ShotRequest, "shots."):
        if field.option.is_path:
            named = (getattr(shot, field.leaf) for shot in request.shots)
            yield from ((field, str(path)) for path in dict.fromkeys(named) if field.option.is_place(path))


def named_places(request: Request, but: Container[str] = ()) -> str:
    """What a request names, each after the name of its option, in one line.

    Args:
        but: names of fields that are not to be told.
    """
    told = (
        f"{field.shown.replace('_', '-')} {place!r}" for field, place in places_in(request) if field.name not in but
    )
    return ", ".join(told) or "neither paths nor servers"
