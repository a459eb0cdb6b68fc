"""What each shot shows of the song: which part it is, how strong it is there, and the words for it."""

import re
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis import Role, Section, Song, SoundFeatures
from soundreel.types import Plan, Shot
from soundreel.units import MODEL_FPS

LIFT: Final = {
    Role.INTRO: -0.22,
    Role.VERSE: -0.12,
    Role.CHORUS: 0.30,
    Role.BRIDGE: -0.05,
    Role.OUTRO: -0.22,
    Role.PART: 0.0,
    Role.SILENCE: -0.4,
}
"""What a role adds to the strength of a scene: a chorus is to look bigger than its verse however it is mastered."""

ROLES: Final = {
    **{role.value: role for role in Role},
    **dict.fromkeys(("refrain", "hook", "drop"), Role.CHORUS),
    **dict.fromkeys(("prechorus", "strophe"), Role.VERSE),
    **dict.fromkeys(("break", "solo", "interlude", "middle"), Role.BRIDGE),
    **dict.fromkeys(("opening", "prelude"), Role.INTRO),
    **dict.fromkeys(("coda", "ending", "end"), Role.OUTRO),
}
"""Words by which storyboards call sections."""

NAMED_PARTS: Final = 997
"""Numbers that the name of a section may give to its part."""

LOUDNESS_SHARE, HIGH_SHARE, LOW_SHARE = 0.5, 0.3, 0.2


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What decides the look of a shot, beside the song's character and the seed."""

    role: Role = Role.PART
    part: int = 0  # which of the song's parts: those that sound alike have one number
    strength: float = 0.5  # 0..1, the strongest moments of the song as 1
    prompt: str | None = None
    has_others: bool = False  # the song has other parts, too


def needs_song(plan: Plan) -> bool:
    """Whether sections have to be heard: there are several shots, and not all say what they show."""
    return len(plan.shots) > 1 and not all(shot.section for shot in plan.shots)


def scenes_of(plan: Plan, features: SoundFeatures, song: Song | None) -> tuple[Scene, ...]:
    """The scene of every shot of a plan; `song` is what is heard in its window, where `needs_song` asks for it.

    A shot's scene depends on the song and on nothing of the other shots.
    """
    vigour = _vigour(features)
    return tuple(_scene(shot, song, vigour, plan.request_of(shot).prompt) for shot in plan.shots)


def _scene(shot: Shot, song: Song | None, vigour: NDArray[np.float64], prompt: str | None) -> Scene:
    if shot.section:
        words = re.findall(r"[a-z]+", shot.section.lower())
        role = next((ROLES[word] for word in words if word in ROLES), Role.PART)
        part = zlib.crc32(" ".join(words).encode()) % NAMED_PARTS
    elif song is not None and len({section.letter for section in song.sections}) > 1:
        section = _section_of(song, shot)
        role = section.role
        part = list(dict.fromkeys(each.letter for each in song.sections)).index(section.letter)
    else:
        return Scene(prompt=prompt)
    strength = float(vigour[shot.start : shot.stop].mean()) + LIFT[role]
    return Scene(role=role, part=part, strength=float(np.clip(strength, 0, 1)), prompt=prompt, has_others=True)


def _section_of(song: Song, shot: Shot) -> Section:
    """The section that most of a shot lies in."""
    begin, end = shot.start / MODEL_FPS, shot.stop / MODEL_FPS
    return max(song.sections, key=lambda section: min(end, section.stop) - max(begin, section.start))


def _vigour(features: SoundFeatures) -> NDArray[np.float64]:
    """How strong each frame is, against what is weak and strong in this sound, [N] about 0..1."""
    raw = LOUDNESS_SHARE * features.loudness + HIGH_SHARE * features.high + LOW_SHARE * features.low
    low, high = np.percentile(raw, [5, 95])
    vigour: NDArray[np.float64] = np.clip((raw - low) / max(float(high - low), 0.1), 0, 1).astype(np.float64)
    return vigour
