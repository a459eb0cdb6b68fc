"""What the pictures of a render depend on, as fingerprints: of what was asked, and of every clip by itself.

A render is found again by what was *asked*: request, inputs, model files, clips. A stored clip counts by its own
fingerprint: what all clips share, what it has for itself, and what it continues of the clips before it in its shot. So
another cut or another seed draws anew only what depends on it, and another `--crf` stands beside what is there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from soundreel.disk.digests import data_digest, file_digest
from soundreel.driving_sound import drive_of
from soundreel.errors import InputError
from soundreel.media.files import check_file, reason
from soundreel.planning import composition_seeds
from soundreel.request import FLAT_NAMES, SEPARATED, SHOT_FIELDS, Interpolation, Request, ShotRequest
from soundreel.request.fields import Field, Role, fields_of, plain
from soundreel.separation.drive import VOICE
from soundreel.types import Clip, Plan
from soundreel.version import PIXELS_VERSION

_FILES: Final = frozenset(field.name for field in fields_of(Request) if field.option.is_file)
_SHOT_FIELDS: Final = fields_of(ShotRequest)
_OF_SHOTS: Final = frozenset(FLAT_NAMES.get(name, name) for name in SHOT_FIELDS)
"""Fields of `Request` that a shot may have of its own."""

SHOTS: Final = "shots"
"""The part that holds what the shots of a storyboard have of their own; there is none without a storyboard."""


@dataclass(frozen=True)
class Fingerprint:
    """All that something depends on, each part in a few words or as a digest."""

    parts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The same for the same parts."""
        return data_digest(self.parts)

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Names of the parts in which `other` is not the same."""
        names = [*self.parts, *(name for name in other if name not in self.parts)]
        return [name for name in names if self.parts.get(name) != other.get(name)]


def request_parts(request: Request, role: Role) -> dict[str, Any]:
    """The fields of a role by name; of files their content, which is read for it.

    Raises:
        InputError: a file is not there or cannot be read.
    """
    return {field.name: _part(field, request) for field in fields_of(Request) if _counts(field, request, role)}


def _counts(field: Field, owner: Any, role: Role) -> bool:
    return field.option.role is role and not (field.option.is_file and field.of(owner) == field.default)


def _part(field: Field, owner: Any, content: Callable[[Field, Path], str] | None = None) -> Any:
    value = field.of(owner)
    is_file = field.option.is_file and field.option.is_place(value)
    return (content or _content)(field, Path(value)) if is_file else plain(value, field.option)


def shot_parts(request: Request) -> list[dict[str, Any]]:
    """What each shot of a storyboard has of its own that is seen, by name; of files their content.

    A file that several shots have is read once.

    Raises:
        InputError: as `request_parts`.
    """
    content = cache(_content)
    return [
        {
            field.leaf: _part(field, shot, content)
            for field in _SHOT_FIELDS
            if field.option.role is Role.PIXELS and field.of(shot) is not None
        }
        for shot in request.shots
    ]


def _content(field: Field, path: Path) -> str:
    kind = field.shown.replace("_", " ")
    check_file(path, kind)
    try:
        return file_digest(path)
    except OSError as error:
        raise InputError(f"cannot read {kind} {str(path)!r}: {reason(error)}", field=field.name) from error


def asked(plan: Plan, engine: str, model_files: Mapping[str, str]) -> Fingerprint:
    """Of what was asked: everything that decides pictures, except what `prepare` decides from it."""
    clips = [[clip.shot, clip.start, clip.frames, clip.size, clip.lead_in] for clip in plan.clips]
    return Fingerprint(
        {
            **_seen(plan.request),
            "pixels version": PIXELS_VERSION,
            "engine": engine,
            "model files": dict(model_files),
            "clips": clips,
            "audio_seconds": plan.audio_seconds,
        }
    )


def folder_digest(what_was_asked: Fingerprint) -> str:
    """What a render's folder is named by: all that was asked; of a storyboard what its versions have in common.

    So one that was changed finds the clips of the shots that are as they were.
    """
    parts = what_was_asked.parts
    if SHOTS not in parts:
        return what_was_asked.digest
    return data_digest({name: part for name, part in parts.items() if name not in {"clips", "seed", SHOTS, *_OF_SHOTS}})


def _seen(request: Request) -> dict[str, Any]:
    """All fields that decide pictures by themselves, those of shots among them."""
    shots = {SHOTS: shot_parts(request)} if request.shots else {}
    return {**request_parts(request, Role.PIXELS), **shots}


def check_unchanged(request: Request, what_was_asked: Fingerprint) -> None:
    """Raise `InputError` where a file that the pictures were made from is by now another one."""
    changed = [name for name in what_was_asked.differences(_seen(request)) if name in _FILES | {SHOTS}]
    if changed:
        raise InputError(
            f"{', '.join(changed)} changed while the video was rendered: put back what was there and resume, or give "
            "the command again for what is there now"
        )


def pixel_fingerprints(
    plan: Plan, what_was_asked: Fingerprint, identity: Mapping[str, Any], *, are_chained: bool = True
) -> list[str]:
    """A digest of the pixels of each clip of a plan.

    Args:
        are_chained: the engine renders a clip from the one before it in its shot, so the digest of one that continues
            another holds the other's. Otherwise it is rendered from what its shot shows of the song, and the seed of a
            shot that it goes on with.
    """
    parts, of_voices = _without_voices(what_was_asked.parts)
    shared = {name: part for name, part in parts.items() if name not in {"clips", "seed", SHOTS, *_OF_SHOTS}}
    common = data_digest([shared, dict(identity), plan.frames])
    of_shots = [data_digest(own) for own in _parts_of_shots(plan, parts)]
    composed = composition_seeds(plan)
    digests: list[str] = []
    for clip in plan.clips:
        shot = plan.shot_of(clip)
        place = clip.index - shot.clips[0].index if plan.request.shots else [clip.index, clip.shot]
        own: list[Any] = [of_shots[shot.index], place, clip.start, clip.frames, clip.size, clip.lead_in, clip.seed]
        own += [of_voices] if drive_of(plan, shot) in SEPARATED else []
        if are_chained:
            context: str | list[Any] = digests[-1] if plan.continues(clip) else ""
        else:
            goes_on_with = [composed[clip.index]] if shot.continues else []
            context = [shot.start, shot.stop, shot.section, *goes_on_with]
        digests.append(data_digest([common, own, context]))
    return digests


def _without_voices(parts: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The parts without the files that separate voices, and these: they count for shots that a voice drives."""
    models: Mapping[str, str] = parts["model files"]
    of_voices = {name: digest for name, digest in models.items() if name.startswith(VOICE)}
    others = {name: digest for name, digest in models.items() if name not in of_voices}
    return {**parts, "model files": others}, of_voices


def _parts_of_shots(plan: Plan, parts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What each shot of a plan is drawn from that another may have otherwise: its own, else the request's.

    A pose video of its own begins with the shot, the request's with the video.
    """
    whole = {name: parts[name] for name in sorted(_OF_SHOTS) if name in parts}
    own = dict(zip(plan.request.shots, parts.get(SHOTS, ()), strict=True))
    for shot in plan.shots:
        mine = own.get(shot.asked, {})
        yield {
            **whole,
            **{FLAT_NAMES.get(name, name): part for name, part in mine.items()},
            **({"poses from": shot.start} if "pose_video" in mine else {}),
        }


def clip_fingerprints(plan: Plan, pixels: Sequence[str], encoding: Mapping[str, Any]) -> list[str]:
    """A digest of each clip as it is encoded, from those of the pixels that it is made of."""
    return [
        data_digest(
            [
                pixels[clip.index],
                dict(encoding),
                [plan.is_last_of_chain(clip), clip.stop == plan.frames],
                [pixels[index] for index in _looks_back_at(plan, clip, encoding)],
            ]
        )
        for clip in plan.clips
    ]


def _looks_back_at(plan: Plan, clip: Clip, encoding: Mapping[str, Any]) -> list[int]:
    """Indexes of the clips whose pictures post-processing needs beside those of a clip that continues another."""
    if not plan.continues(clip):
        return []
    if encoding["output.color_match"]:  # glides from the clip before to the colours of the shot's first one
        return [clip.index - 1, plan.shot_of(clip).clips[0].index]
    return [] if encoding["output.interpolate"] == Interpolation.NONE else [clip.index - 1]
