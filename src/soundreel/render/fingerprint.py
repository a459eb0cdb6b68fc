"""A request as plain data: into recipes and work folders without its secrets, back again, and as a fingerprint.

What each field means for the pictures stands in one table. A field that is not in it is a `KeyError` at the first
render, and a failing test: whoever adds one decides what it is.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from pathlib import Path
from typing import Any, get_args, get_type_hints

from soundreel.disk.digests import data_digest, file_digest
from soundreel.errors import InputError
from soundreel.request import Request, without_password


class Role(StrEnum):
    """What a field of a request is for the pictures."""

    VALUE = "value"  # another value, other pictures
    FILE = "file"  # another content, other pictures; the name is nobody's business
    ELSEWHERE = "elsewhere"  # makes a difference by something that the fingerprint has for itself
    NEVER = "never"  # where to, how to, what to tell
    ADDRESS = "address"  # as NEVER; a name and password in it are kept nowhere
    SECRET = "secret"  # noqa: S105 - as NEVER, and kept nowhere


ROLES: Mapping[str, Role] = {
    "audio": Role.FILE,
    "ref_image": Role.FILE,
    "prompt": Role.VALUE,
    "negative_prompt": Role.VALUE,
    "audio_start": Role.VALUE,
    "frames": Role.ELSEWHERE,  # the four lengths: by the plan
    "audio_duration": Role.VALUE,  # with av_align reference it is what is heard, too
    "full": Role.ELSEWHERE,
    "num_clip": Role.ELSEWHERE,
    "width": Role.VALUE,
    "height": Role.VALUE,
    "infer_frames": Role.ELSEWHERE,
    "clip_split": Role.ELSEWHERE,
    "seed": Role.VALUE,
    "clip_seeds": Role.ELSEWHERE,  # every stored clip has its own
    "pose_video": Role.FILE,
    "start_from_ref": Role.VALUE,
    "ref_fit": Role.VALUE,
    "av_align": Role.VALUE,
    "steps": Role.VALUE,
    "guide_scale": Role.VALUE,
    "shift": Role.VALUE,
    "solver": Role.VALUE,
    "sigmas": Role.VALUE,
    "turbo": Role.VALUE,
    "loras": Role.ELSEWHERE,  # by the engine's model files
    "engine": Role.ELSEWHERE,  # by the engine that was chosen
    "models": Role.ELSEWHERE,
    "attention": Role.VALUE,
    "precision": Role.VALUE,
    "vae_precision": Role.VALUE,
    "memory": Role.VALUE,
    "cache": Role.VALUE,
    "cfg_interval": Role.VALUE,
    "device": Role.VALUE,  # other devices round otherwise
    "interpolate": Role.ELSEWHERE,  # by the method that is used
    "interpolate_weights": Role.ELSEWHERE,  # by the file's digest
    "fps": Role.ELSEWHERE,  # by the rate that is made
    "color_match": Role.VALUE,
    "server.urls": Role.ADDRESS,
    "server.headers": Role.SECRET,
    "server.timeout": Role.NEVER,
    "server.workflow": Role.FILE,
    "server.diffusion_model": Role.VALUE,
    "server.text_encoder": Role.VALUE,
    "server.vae": Role.VALUE,
    "server.audio_encoder": Role.VALUE,
    "server.first_frame_fix": Role.VALUE,
    "preview": Role.NEVER,
    "crf": Role.VALUE,
    "output": Role.NEVER,
    "output_dir": Role.NEVER,
    "settings": Role.NEVER,
    "recipe": Role.NEVER,
}
"""By name; the fields of a dataclass inside the request are `name.field`."""


def field_names(kind: Any, prefix: str = "") -> Iterator[str]:
    """Names of a dataclass's fields, those of dataclasses in it as `name.field`."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        inner = hints[field.name]
        if dataclasses.is_dataclass(inner):
            yield from field_names(inner, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


PATHS = (
    "audio",
    "ref_image",
    "pose_video",
    "models",
    "interpolate_weights",
    "server.workflow",
    "output",
    "output_dir",
    "recipe",
)
"""Fields that mean something else in another folder."""


def to_data(request: Any, *, absolute: bool = False, roles: Mapping[str, Role] = ROLES) -> dict[str, Any]:
    """Fields by name, ready for JSON: without secrets, and with `absolute` independent of the current folder."""
    data: dict[str, Any] = {}
    for name in field_names(type(request)):
        if roles[name] is not Role.SECRET:
            *groups, last = name.split(".")
            group = reduce(lambda inner, key: inner.setdefault(key, {}), groups, data)
            group[last] = _plain(value_of(request, name), absolute=absolute and name in PATHS, role=roles[name])
    if absolute:
        data["loras"] = [_absolute_lora(lora) for lora in request.loras]
    return data


def _absolute_lora(lora: str) -> str:
    """`FILE` or `FILE:strength`; what is no file here is a name on a server, and stays as it is."""
    is_here = any(Path(name).is_file() for name in (lora, lora.rpartition(":")[0]) if name)
    return str(Path(lora).absolute()) if is_here else lora


def value_of(request: Any, name: str) -> Any:
    """The value of a field by its name in `ROLES`."""
    return reduce(getattr, name.split("."), request)


def _plain(value: Any, *, absolute: bool = False, role: Role = Role.VALUE) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(entry, absolute=absolute, role=role) for entry in value]
    if isinstance(value, str) and role is Role.ADDRESS:
        return without_password(value)
    if absolute and value is not None:
        return str(Path(value).absolute())
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def from_data(data: Mapping[str, Any]) -> Request:
    """The request that `to_data` made data of; fields that this version does not know are left out.

    Raises:
        InputError: the data are of no request.
    """
    try:
        request: Request = _build(Request, data)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"this is no request that soundreel wrote: {error}") from error
    return request


def _build(kind: Any, data: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: _typed(hints[name], value) for name, value in data.items() if name in known})


def _typed(hint: Any, value: Any) -> Any:
    """JSON has neither tuples nor enumerations."""
    if dataclasses.is_dataclass(hint):
        return _build(hint, value)
    if isinstance(value, list):
        return tuple(value)
    kinds = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and issubclass(kind, StrEnum)]
    return kinds[0](value) if kinds else value


@dataclass(frozen=True)
class Fingerprint:
    """All that the pictures of a render depend on, each part in a few words or as a digest."""

    parts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The same for the same pictures."""
        return data_digest(self.parts)

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Names of the parts in which `other` is not the same."""
        names = [*self.parts, *(name for name in other if name not in self.parts)]
        return [name for name in names if self.parts.get(name) != other.get(name)]


def request_parts(request: Any, roles: Mapping[str, Role] = ROLES) -> dict[str, Any]:
    """What of a request itself makes a difference to the pictures; files are read."""
    parts: dict[str, Any] = {}
    for name in field_names(type(request)):
        value = value_of(request, name)
        if roles[name] is Role.VALUE:
            parts[name] = _plain(value)
        elif roles[name] is Role.FILE and value is not None:
            parts[name] = file_digest(Path(value))
    return parts
