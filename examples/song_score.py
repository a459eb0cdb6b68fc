"""Songs of known truth, on paper: what song is wanted, its notes, and what is true of it.

Times are in seconds; pitches are MIDI note numbers (69 = A4 = 440 Hz). `song_composer` writes scores. What is written
here is dedicated to the public domain (CC0 1.0).
"""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

KINDS: Final = ("4/4", "3/4", "6/8", "rubato", "tempo change", "fade", "silence", "live")
"""4/4, 3/4, 6/8: a band to a steady beat (in 6/8 a beat is three eighths); the others in 4/4 or 3/4 besides. rubato:
piano and voice, freely; tempo change: new tempi at sections, one of them reached gradually; fade: the end is faded
out; silence: stretches of silence, after which the beat starts anew; live: the tempo drifts and no note is quite on
time."""

ROLES: Final = {"I": "intro", "V": "verse", "C": "chorus", "B": "bridge", "O": "outro"}

SILENT_DB: Final = -40.0
"""Of a fade: what is faded further is not counted as heard."""

FADED_DB: Final = -60.0
"""Level at the end of a fade."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What song is wanted."""

    seed: int = 0
    kind: str = "4/4"
    seconds: float = 180.0  # about so long
    voice: bool = True


@dataclass(frozen=True, kw_only=True)
class Note:
    """One note or stroke."""

    part: str  # which instrument plays it
    start: float  # seconds
    seconds: float  # length
    pitch: float = 0.0  # of instruments that have one
    loudness: float = 1.0
    sound: int = 0  # vowel of the voice


@dataclass(frozen=True, kw_only=True)
class Score:
    """A song on paper, and what is true of it."""

    wish: Wish
    meter: str
    seconds: float
    beats: NDArray[np.float64]
    downbeats: NDArray[np.float64]
    sections: list[dict[str, Any]]  # start, stop, letter, role
    notes: list[Note]
    silences: list[tuple[float, float]] = field(default_factory=list)
    fade: tuple[float, float] | None = None  # from when to when it is faded out

    def voiced(self) -> list[tuple[float, float]]:
        """Stretches with voice, pauses for breath of up to 0.4 s included."""
        spans: list[tuple[float, float]] = []
        for note in sorted((note for note in self.notes if note.part == "voice"), key=lambda note: note.start):
            if spans and note.start - spans[-1][1] < 0.4:
                spans[-1] = (spans[-1][0], max(spans[-1][1], note.start + note.seconds))
            else:
                spans.append((note.start, note.start + note.seconds))
        return spans

    def truth(self) -> dict[str, Any]:
        """What is true of the song, for JSON; of a fade only what is still heard."""
        end = self.seconds
        if self.fade is not None:
            end = self.fade[0] + (self.fade[1] - self.fade[0]) * min(1.0, SILENT_DB / FADED_DB)
        return {
            "seed": self.wish.seed,
            "kind": self.wish.kind,
            "meter": self.meter,
            "seconds": round(self.seconds, 4),
            "beats": [round(float(beat), 4) for beat in self.beats if beat < end],
            "downbeats": [round(float(beat), 4) for beat in self.downbeats if beat < end],
            "sections": self.sections,
            "voice": [[round(start, 4), round(stop, 4)] for start, stop in self.voiced()],
        }


def named_sections(
    sections: list[tuple[float, float, str]], seconds: float, silences: list[tuple[float, float]]
) -> list[dict[str, Any]]:
    """Sections with names; silences before the first and between two belong to the section before, or are their own."""
    letters: dict[str, str] = {}
    found: list[dict[str, Any]] = []
    for index, (start, stop, letter) in enumerate(sections):
        gap = next((gap for gap in silences if index and abs(gap[1] - start) < 1e-6), None)
        if gap is not None:
            found[-1]["stop"] = round(float(gap[0]), 4)
            found.append({"start": round(gap[0], 4), "stop": round(gap[1], 4), "letter": "", "role": "silence"})
        named = letters.setdefault(letter, "ABCDEFG"[len(letters)])
        found.append(
            {"start": round(float(start), 4), "stop": round(float(stop), 4), "letter": named, "role": ROLES[letter]}
        )
    found[0]["start"] = 0.0
    found[-1]["stop"] = round(seconds, 4)
    return found
