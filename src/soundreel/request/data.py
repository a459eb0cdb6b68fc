"""A request from plain data, as recipes and work folders hold it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin

from soundreel.errors import InputError
from soundreel.request import Request, grouped
from soundreel.request.fields import Option


def from_data(data: Any, *, leave_out: Callable[[Option], bool] = lambda _: False) -> Request:
    """The request that `to_data` made data of; fields that this version does not know are left out.

    Args:
        leave_out: whether a field keeps its default, whatever the data say.

    Raises:
        InputError: the data are of no request.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"this is no request that soundreel wrote: {type(data).__name__}, expected an object")
    try:
        return Request(**_known(_of_one_length(grouped(data)), Request, leave_out))
    except TypeError as error:
        raise InputError(f"this is no request that soundreel wrote: {error}") from error


def _of_one_length(fields: dict[str, Any]) -> dict[str, Any]:
    """Without the `full` that in 0.1.0 could stand beside a length, which won over it."""
    window = fields.get("window")
    if isinstance(window, Mapping) and any(window.get(name) is not None for name in ("frames", "duration")):
        return {**fields, "window": {**window, "full": False}}
    return fields


def _known(data: Mapping[str, Any], kind: Any, leave_out: Callable[[Option], bool]) -> dict[str, Any]:
    """Those of the data that are fields of a group and not to be left out, groups in it likewise."""
    kinds = {
        field.name: field.type
        for field in dataclasses.fields(kind)
        if "option" not in field.metadata or not leave_out(field.metadata["option"])
    }
    return {name: _known_value(value, kinds[name], leave_out) for name, value in data.items() if name in kinds}


def _known_value(value: Any, kind: Any, leave_out: Callable[[Option], bool]) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return _known(value, kind, leave_out)
    inner = get_args(kind)
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return [_known_value(entry, inner[0], leave_out) for entry in value]
    return value
