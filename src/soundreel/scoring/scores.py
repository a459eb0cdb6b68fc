"""What is scored of a finished video, and how scores are kept in a recipe.

Times are in seconds of the video as it is played. An offset or a lag is positive where the sound comes after the
picture: moving the sound of a video by 100 ms to a later time raises it by 100 ms.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from soundreel.disk.json_form import Form, misfit

LARGEST: Final = 1e9
"""No score, time or number of frames is greater."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number, and the same number for the same pictures against their sound moved by random times."""

    value: float
    control: float  # mean of what moved sound gives
    chance: float  # 0..1 how often moved sound gives as much: near 0 it is no chance, from 0.05 on it may be

    @property
    def gain(self) -> float:
        """How much of what is possible beyond the control is reached, 0..1."""
        room = 1.0 - self.control
        return min(1.0, max(0.0, (self.value - self.control) / room)) if room > 1e-6 else 0.0


@dataclass(frozen=True, kw_only=True)
class BeatScore:
    """How the accents of the movement follow those of the sound.

    Alignments are 0..1: the mean over the accents of the movement, weighted by their strength, of exp(-d²/2σ²) with
    σ = 50 ms and the distance d to the nearest onset or beat (R. Li et al., AI Choreographer, ICCV 2021).
    """

    onsets: Measured  # alignment with all onsets
    beats: Measured | None  # alignment with beats; None: there is no beat
    offset_ms: float | None  # None: nothing repeats itself in picture and sound
    confidence: float  # 0..1 correlation of the accents of picture and sound at that offset
    rival_ms: float | None  # another offset that fits nearly as well: a steady beat is the same a beat later
    accents: int  # of the movement

    @property
    def alignment(self) -> Measured:
        """With beats where there are any, else with onsets."""
        return self.onsets if self.beats is None else self.beats


@dataclass(frozen=True, kw_only=True)
class LipsScore:
    """How a mouth opens with what is heard."""

    faces: float  # 0..1 share of the frames in which a face is found
    correlation: Measured | None  # at the best lag; None: too few frames with a face, or no sound to compare with
    lag_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Drifted:
    """How far a look has gone from that of the shot's first clip, and how far that clip's halves are apart."""

    value: float
    control: float


@dataclass(frozen=True, kw_only=True)
class DriftScore:
    """How the picture changes from clip to clip of a shot; of the clip that is furthest from the first."""

    colour: Drifted  # ΔE (CIE 1976) of the mean colours: from 2 or 3 on it can be seen side by side
    contrast: Drifted  # in multiples: 1 is the same, 0.5 half as much
    sharpness: Drifted  # in multiples


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """From when to when something is so."""

    start: float
    stop: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True)
class ShotScores:
    """One shot by itself."""

    index: int
    name: str  # "": it has none
    start: float
    stop: float
    beat: Measured | None  # alignment with beats, or with onsets where there are none; None: too few accents
    lips: Measured | None  # correlation at the video's lag
    drift: DriftScore | None  # None: too short
    still: float  # 0..1 share of it that is frozen while there is sound, or black
    weakness: float  # 0..1 what there is to mend, 1 the most
    weak_in: str  # in what: "beat", "lips", "drift", "still", or "" where nothing could be judged


@dataclass(frozen=True, kw_only=True)
class Scores:
    """All scores of a video. What could not be scored is None, and `notes` say why."""

    seconds: float
    frames: int
    beat: BeatScore | None
    lips: LipsScore | None
    drift: DriftScore | None  # of the shot that drifts most
    frozen: tuple[Stretch, ...]  # nothing moves while there is sound
    black: tuple[Stretch, ...]
    flicker: Drifted | None  # mean jitter of the brightness in silence, 0..255, and elsewhere; None: no silence
    shots: tuple[ShotScores, ...]
    notes: tuple[str, ...] = ()

    def worst(self, count: int) -> tuple[ShotScores, ...]:
        """So many shots, the weakest first."""
        judged = [shot for shot in self.shots if shot.weak_in]
        return tuple(sorted(judged, key=lambda shot: -shot.weakness)[:count])

    def to_data(self) -> dict[str, Any]:
        """Ready for JSON; numbers to four digits after the point."""
        data: dict[str, Any] = _rounded(dataclasses.asdict(self))
        return data


def _rounded(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _rounded(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_rounded(value) for value in data]
    return round(data, 4) if isinstance(data, float) else data


_MEASURED: Final[Form] = {"value": float, "control": float, "chance": float}
_DRIFTED: Final[Form] = {"value": float, "control": float}
_DRIFT: Final[Form] = {"colour": _DRIFTED, "contrast": _DRIFTED, "sharpness": _DRIFTED}
_STRETCHES: Final[Form] = [{"start": float, "stop": float}]
_SHOT: Final[Form] = {
    "index": int,
    "name": str,
    "start": float,
    "stop": float,
    "beat?": _MEASURED,
    "lips?": _MEASURED,
    "drift?": _DRIFT,
    "still": float,
    "weakness": float,
    "weak_in": str,
}

SCORES: Final[Form] = {
    "seconds": float,
    "frames": int,
    "beat?": {
        "onsets": _MEASURED,
        "beats?": _MEASURED,
        "offset_ms?": float,
        "confidence": float,
        "rival_ms?": float,
        "accents": int,
    },
    "lips?": {"faces": float, "correlation?": _MEASURED, "lag_ms?": float},
    "drift?": _DRIFT,
    "frozen": _STRETCHES,
    "black": _STRETCHES,
    "flicker?": _DRIFTED,
    "shots": [_SHOT],
    "notes": [str],
}
"""Of `Scores.to_data`, in a recipe that may come from anyone."""


def read_scores(data: Any) -> Scores | None:
    """The scores in a recipe; None where there are none, or what is there is none."""
    if data is None or misfit(data, SCORES) is not None or not _is_measured(data):
        return None
    beat, lips, flicker = data.get("beat"), data.get("lips"), data.get("flicker")
    return Scores(
        seconds=data["seconds"],
        frames=data["frames"],
        beat=None if beat is None else _beat(beat),
        lips=None if lips is None else _lips(lips),
        drift=_drift(data.get("drift")),
        frozen=_stretches(data["frozen"]),
        black=_stretches(data["black"]),
        flicker=None if flicker is None else _drifted(flicker),
        shots=tuple(map(_shot, data["shots"])),
        notes=tuple(data["notes"]),
    )


def _is_measured(data: Any) -> bool:
    """Whether all numbers in it are such as can be measured; JSON that was read may hold any."""
    if isinstance(data, dict | list):
        return all(map(_is_measured, data.values() if isinstance(data, dict) else data))
    return not isinstance(data, int | float) or -LARGEST < data < LARGEST


def _measured(data: Mapping[str, Any] | None) -> Measured | None:
    return None if data is None else Measured(value=data["value"], control=data["control"], chance=data["chance"])


def _drifted(data: Mapping[str, Any]) -> Drifted:
    return Drifted(value=data["value"], control=data["control"])


def _drift(data: Mapping[str, Any] | None) -> DriftScore | None:
    return (
        None
        if data is None
        else DriftScore(**{name: _drifted(data[name]) for name in ("colour", "contrast", "sharpness")})
    )


def _stretches(data: list[Mapping[str, Any]]) -> tuple[Stretch, ...]:
    return tuple(Stretch(start=stretch["start"], stop=stretch["stop"]) for stretch in data)


def _beat(data: Mapping[str, Any]) -> BeatScore:
    onsets = _measured(data["onsets"])
    assert onsets is not None, "it has its form"
    return BeatScore(
        onsets=onsets,
        beats=_measured(data.get("beats")),
        offset_ms=data.get("offset_ms"),
        confidence=data["confidence"],
        rival_ms=data.get("rival_ms"),
        accents=data["accents"],
    )


def _lips(data: Mapping[str, Any]) -> LipsScore:
    return LipsScore(faces=data["faces"], correlation=_measured(data.get("correlation")), lag_ms=data.get("lag_ms"))


def _shot(data: Mapping[str, Any]) -> ShotScores:
    plain = ("index", "name", "start", "stop", "still", "weakness", "weak_in")
    return ShotScores(
        **{name: data[name] for name in plain},
        beat=_measured(data.get("beat")),
        lips=_measured(data.get("lips")),
        drift=_drift(data.get("drift")),
    )
