"""`Request`: what a user asks for, as a whole, and how its fields are given."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeVar

from soundreel.errors import InputError
from soundreel.request.checks import check_lengths, check_shots, check_side
from soundreel.request.choices import AvAlign, Drive, EngineName
from soundreel.request.compute import Compute, Server, split_lora
from soundreel.request.fields import Role, Seconds, fields_of, group, option, required, settle
from soundreel.request.groups import Guide, Output, Sampling, Window
from soundreel.request.panels import LENGTH, MODEL, PICTURE, WHAT
from soundreel.request.shots import ShotRequest
from soundreel.units import MAX_SECONDS, StrPath

T = TypeVar("T", bound=type)


def _takes_flat_names(kind: T) -> T:
    """Let a dataclass of groups take the fields of its groups as well: `Request(steps=4)`, as version 0.1.0 did."""
    init: Any = kind.__init__  # type: ignore[misc]

    @functools.wraps(init)
    def take(self: Any, **given: Any) -> None:
        init(self, **grouped(given))

    kind.__init__ = take  # type: ignore[misc]
    return kind


@_takes_flat_names
@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asks for. Paths are checked when they are opened.

    Fields of the groups may be given by themselves, under the names of version 0.1.0: `Request(audio=…, steps=4)`.
    """

    audio: StrPath = required("Any file with sound in it", role=Role.PIXELS, is_path=True, is_file=True)
    drive: StrPath = option(  # the file's sound track is `audio`, whatever drives
        Drive.MIX.value,
        "What moves the picture, the mix being heard: mix, vocals, vocals+mix (the mix where nobody sings), or a FILE",
        role=Role.PIXELS, panel=WHAT, is_path=True, is_file=True, words=tuple(Drive),
    )  # fmt: skip
    ref_image: StrPath | None = option(
        None, "Picture that gives style and subject",
        role=Role.PIXELS, panel=WHAT, flags=("ref-image", "image"), is_path=True, is_file=True,
    )  # fmt: skip
    prompt: str | None = option(  # None: the engine's default; so for the negative one
        None, "What to see", role=Role.PIXELS, panel=WHAT, flags=("prompt", "positive")
    )
    negative_prompt: str | None = option(
        None, "What not to see", role=Role.PIXELS, panel=WHAT, flags=("negative-prompt", "negative")
    )
    width: int = option(480, "Pixels, a multiple of 16", role=Role.PIXELS, panel=PICTURE)
    height: int = option(832, "Pixels, a multiple of 16", role=Role.PIXELS, panel=PICTURE)
    seed: int = option(  # clip k is drawn with seed + k
        0, "Same seed, same video; -1 draws one",
        role=Role.PIXELS, panel=MODEL, flags=("seed", "base-seed"), at_least=0,
    )  # fmt: skip
    clip_seeds: tuple[int, ...] = option(  # every clip's fingerprint has its own
        (), "Seeds of the first clips, where they are others", role=Role.PLAN, at_least=0
    )
    cuts: tuple[Seconds, ...] = option(
        (), "Hard cut at this time of the sound, in seconds or as 1:23.5; several times if need be",
        role=Role.PLAN, panel=LENGTH, flags=("cut",), above=0, at_most=MAX_SECONDS,
    )  # fmt: skip
    shots: tuple[ShotRequest, ...] = option(  # every clip's fingerprint has what its shot says
        (), "The shots of a storyboard, in order; they replace cuts", role=Role.PLAN
    )
    engine: EngineName = option(EngineName.AUTO, "What renders", role=Role.IDENTITY, panel=MODEL)
    recipe: StrPath | None = option(  # what differs from it by now is said
        None, "A finished video to render again; single options win over its recipe",
        role=Role.NEITHER, panel=WHAT, is_path=True,
    )  # fmt: skip

    storyboard: StrPath | None = option(  # what is made of it is found by it
        None, "The file that its shots are from", role=Role.NEITHER, is_path=True
    )

    window: Window = group(Window)
    guide: Guide = group(Guide)
    sampling: Sampling = group(Sampling)
    compute: Compute = group(Compute)
    server: Server = group(Server)
    output: Output = group(Output)

    def replace(self, **given: Any) -> "Request":
        """A copy with other fields; fields of the groups may be given by themselves."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Request(**grouped(given, fields))

    def of_shot(self, shot: ShotRequest) -> "Request":
        """What is asked of one shot: its own words, pictures and sound over those of the whole; the window is all's."""
        own = {name: value for name in SHOT_FIELDS if (value := getattr(shot, name)) is not None}
        return self.replace(cuts=(), shots=(), **own)

    def __post_init__(self) -> None:
        settle(self)
        check_shots(self.shots, self.cuts)
        window, is_heard_apart = self.window, self.guide.av_align is AvAlign.REFERENCE
        check_lengths(frames=window.frames, duration=window.duration, full=window.full, is_heard_apart=is_heard_apart)
        for name in ("width", "height"):
            check_side(name, getattr(self, name))
        if self.guide.start_from_ref and self.ref_image is None:
            raise InputError(
                "start_from_ref begins with the reference image: give one with --ref-image",
                field="guide.start_from_ref",
            )


RENAMED: Final = {
    "audio_start": "window.start",
    "audio_duration": "window.duration",
    "output_dir": "output.dir",
    "interpolate_weights": "output.weights",
}
"""Names of version 0.1.0 → where they are now, where the leaf is another word."""

FLAT_NAMES: Final[Mapping[str, str]] = RENAMED | {
    field.leaf: field.name
    for field in fields_of(Request)
    if "." in field.name and not field.name.startswith("server.") and field.name not in RENAMED.values()
}
"""Names under which the fields of the groups may be given to `Request`; not those of `Server`, which never were."""


SHOT_FIELDS: Final = tuple(
    name
    for name in ("prompt", "negative_prompt", "ref_image", "pose_video", "drive")
    if name in {field.leaf for field in fields_of(Request)}
)
"""What a shot has of its own in place of the request's, by names that both know."""


def grouped(given: Mapping[str, Any], before: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Fields of `Request`: those `before`, with the ones given put over them, flat names into their groups."""
    flat = {name: value for name, value in given.items() if name in FLAT_NAMES}
    if "output" in given and isinstance(given["output"], str | os.PathLike | None):  # as 0.1.0 named the file
        flat["path"] = given["output"]
    moved = {*flat, "output"} if "path" in flat else flat
    kept = {name: value for name, value in given.items() if name not in moved}
    fields = {**before, **kept}
    for name, value in flat.items():
        place, _, leaf = FLAT_NAMES[name].partition(".")
        fields[place] = {**members(fields.get(place, {})), leaf: value}
    return fields


def members(group_or_data: Any) -> Mapping[str, Any]:
    """The fields of a group by name, whether it is one already or its data."""
    if isinstance(group_or_data, Mapping):
        return group_or_data
    return {field.name: getattr(group_or_data, field.name) for field in dataclasses.fields(group_or_data)}


def files_read(request: Request) -> Iterator[tuple[str, StrPath]]:
    """What a request names to be read, files and folders: what each is, for messages, and its path."""
    for field in fields_of(Request):
        path = field.of(request)
        if field.option.is_place(path) and not field.option.is_written:
            yield "the sound" if field.name == "audio" else f"the {field.flag}", path
    for lora in request.compute.loras:
        path, _ = split_lora(lora)
        if path:
            yield "the --lora", path
    for field in fields_of(ShotRequest):
        if field.option.is_path:
            named = dict.fromkeys(field.of(shot) for shot in request.shots)
            yield from ((f"the {field.leaf} of a shot", path) for path in named if field.option.is_place(path))
