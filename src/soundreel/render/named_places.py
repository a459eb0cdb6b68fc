"""Which files and servers a request from elsewhere names, to be shown to the user who is about to follow it."""

import dataclasses
from collections.abc import Container, Iterator

from soundreel.fields import fields_of, plain
from soundreel.request import Request


def named_places(request: Request, but: Container[str] = ()) -> list[str]:
    """Every path and every server that is not the default, after the name of its option.

    Args:
        but: names of fields that the user has given.
    """
    return list(_named(request, but))


def _named(request: Request, but: Container[str]) -> Iterator[str]:
    for field in fields_of(Request):
        declared, value = field.option, plain(field.of(request), field.option)
        usual = None if field.default is dataclasses.MISSING else plain(field.default, declared)
        leads_somewhere = declared.is_path or declared.is_address or declared.make_absolute is not None
        if leads_somewhere and field.name not in but and value != usual:
            values = value if isinstance(value, list) else [value]
            yield from (f"{field.shown.replace('_', '-')} {entry!r}" for entry in values)
