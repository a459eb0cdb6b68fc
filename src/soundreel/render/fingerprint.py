"""What the pictures of a render depend on, as fingerprints: of what was asked, and of every clip by itself.

A render is found again by what was *asked*: request, inputs, model files, clips. A stored clip counts by its own
fingerprint: what all clips share, what it has for itself, and what it continues of the clips before it in its shot. So
another cut or another seed draws anew only what depends on it, and another `--crf` stands beside what is there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from soundreel.disk.digests import data_digest, file_digest
from soundreel.errors import InputError
from soundreel.fields import Field, Role, fields_of, plain
from soundreel.media.files import check_file, reason
from soundreel.request import Interpolation, Request
from soundreel.types import Clip, Plan
from soundreel.version import PIXELS_VERSION

_FILES: Final = frozenset(field.name for field in fields_of(Request) if field.option.is_file)


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
    parts: dict[str, Any] = {}
    for field in fields_of(Request):
        value = field.of(request)
        if field.option.role is role and not (field.option.is_file and value is None):
            parts[field.name] = _content(field, Path(value)) if field.option.is_file else plain(value, field.option)
    return parts


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
            **request_parts(plan.request, Role.PIXELS),
            "pixels version": PIXELS_VERSION,
            "engine": engine,
            "model files": dict(model_files),
            "clips": clips,
            "audio_seconds": plan.audio_seconds,
        }
    )


def check_unchanged(request: Request, what_was_asked: Fingerprint) -> None:
    """Raise `InputError` where a file that the pictures were made from is by now another one."""
    changed = [name for name in what_was_asked.differences(request_parts(request, Role.PIXELS)) if name in _FILES]
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
            another holds the other's.
    """
    shared = {name: part for name, part in what_was_asked.parts.items() if name != "clips"}
    common = data_digest([shared, dict(identity), plan.frames])
    digests: list[str] = []
    for clip in plan.clips:
        own = [clip.shot, clip.start, clip.frames, clip.size, clip.lead_in, clip.seed]  # a draft's look: by the shot
        before = digests[-1] if are_chained and plan.continues(clip) else ""
        digests.append(data_digest([common, own, before]))
    return digests


def clip_fingerprints(plan: Plan, pixels: Sequence[str], encoding: Mapping[str, Any]) -> list[str]:
    """A digest of each clip as it is encoded, from those of the pixels that it is made of."""
    return [
        data_digest(
            [
                pixels[clip.index],
                dict(encoding),
                [plan.is_last_of_shot(clip), clip.stop == plan.frames],
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
        return [clip.index - 1, plan.shots[clip.shot].clips[0].index]
    return [] if encoding["output.interpolate"] == Interpolation.NONE else [clip.index - 1]
