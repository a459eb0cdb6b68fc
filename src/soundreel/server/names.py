"""What a request from outside may name, and what each name stands for.

It names nothing on this machine. Files are uploads, by their ids; models, LoRAs and workflows go by the server's own
names; what computes and where the video goes is the server's to say. A new field of `Request` is not taken before it is
clear that it cannot say such a thing.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin

from soundreel.request import FLAT_NAMES, Request, ShotRequest
from soundreel.request.fields import Field, Seconds, fields_of

SERVERS_OWN: Final = frozenset(
    {
        "engine", "server.timeout", "server.workflow", "output.preview", "output.recipe_paths", "output.write_recipe",
    }
)  # fmt: skip
"""Fields that could name no place, and are yet not a client's to set, or go by another name."""

TEXTS: Final = frozenset(
    {
        "prompt", "negative_prompt", "name", "section",
        "server.diffusion_model", "server.text_encoder", "server.vae", "server.audio_encoder",
    }
)  # fmt: skip
"""Fields of free text that a client sets: words, and names that a ComfyUI server has. No other text is taken, for it
could be a path."""


def kind_of(hint: Any) -> Any:
    """`hint` without None."""
    if get_origin(hint) in (Union, UnionType):
        return kind_of(next(kind for kind in get_args(hint) if kind is not NoneType))
    return hint


def _is_asked_for(field: Field) -> bool:
    """Whether a client sets it: its values cannot say where something is, nor what computes."""
    declared, kind = field.option, kind_of(field.hint)
    if declared.is_secret or declared.is_address or declared.is_of_machine or field.name in SERVERS_OWN:
        return False
    kinds = [kind for kind in get_args(kind) if kind is not Ellipsis] if get_origin(kind) is tuple else [kind]
    is_plain = all(
        kind in {int, float, bool, Seconds} or (isinstance(kind, type) and issubclass(kind, StrEnum)) for kind in kinds
    )
    return is_plain or (kinds == [str] and field.name in TEXTS)


def _is_sent(field: Field) -> bool:
    """Whether it is a file that a client sends."""
    return field.option.is_path and field.option.is_file and field.name not in SERVERS_OWN


FIELDS: Final[Mapping[str, Field]] = {field.name: field for field in fields_of(Request) if _is_asked_for(field)}
"""Fields of `Request` that a client sets, by their names as `sampling.steps`."""

UPLOADED: Final[Mapping[str, Field]] = {field.name: field for field in fields_of(Request) if _is_sent(field)}
"""Fields that are files: a client sends them, or names an upload; some may be one of a few words instead."""

SHOTS: Final = "shots"

SHOT_FIELDS: Final = {field.name: field for field in fields_of(ShotRequest) if _is_asked_for(field)}
SHOT_FILES: Final = {field.name: field for field in fields_of(ShotRequest) if _is_sent(field)}
"""The same of one shot; a file of the third one is called `shots.2.ref_image`."""

MOST_SHOTS: Final = 2_000


def uploaded_field(name: str) -> Field | None:
    """The field that is a file with this name, also of a shot; None: there is none."""
    found = re.fullmatch(rf"{SHOTS}\.\d{{1,4}}\.(\w+)", name)
    return UPLOADED.get(name) if found is None else SHOT_FILES.get(found[1])


OPENAI_NAMES: Final = {
    "input_reference": "ref_image",
    "seconds": "window.duration",
    "num_frames": "window.frames",
    "num_inference_steps": "sampling.steps",
    "guidance_scale": "sampling.guide_scale",
    "flow_shift": "sampling.shift",
}
"""Names that the clients of other servers use."""

WORDS: Final = {
    "model": "One of GET /v1/models, by its id; the first of them unless given",
    "size": "WIDTHxHEIGHT in one word",
    "preset": "Length, size, steps and guidance; single fields win over it",
    "mood": "A prompt for this kind of sound, in place of prompt",
    "loras": "NAME or NAME:STRENGTH of GET /v1/models; several",
    "workflow": "A ComfyUI graph of GET /v1/models, by its name",
    "priority": "The larger the sooner, -100 to 100",
}
"""What a request may say beside fields of `Request`."""

MOST_PRIORITY: Final = 100

GROUPS: Final = frozenset(name.partition(".")[0] for name in {**FIELDS, **UPLOADED} if "." in name)


def is_word(field: Field, value: Any) -> bool:
    """Whether a field that is a file may have this value, which is none."""
    return isinstance(value, str) and value in field.option.words


def known_name(name: str) -> str:
    """The name that a field has here, for one that others or the command line use."""
    return name if name in WORDS else OPENAI_NAMES.get(name, FLAT_NAMES.get(name, name))
