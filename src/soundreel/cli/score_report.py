"""What `soundreel score` shows of a video, and `soundreel info` of one that was scored when it was rendered."""

from collections.abc import Sequence
from typing import Final

from soundreel.cli.reports import MOST_ROWS, Findings, Rows, some_of
from soundreel.scoring import BeatScore, DriftScore, LipsScore, Measured, Scores, ShotScores, Stretch
from soundreel.wording.durations import clock

CHANCE: Final = 0.05
"""From here on a number may be chance."""

SHOT_COLUMNS: Final = ("shot", "from s", "to s", "beat", "control", "lips", "control", "colour", "still", "weak", "in")


def describe_scores(scores: Scores, *, worst: int | None = None, every_shot: bool = False) -> Findings:
    """All scores of a video; of its shots the `worst`, or else some of a long one, or every one."""
    weakest = scores.worst(len(scores.shots) if worst is None else worst)
    shown: Sequence[ShotScores] = weakest
    if worst is None:
        shown = scores.shots if every_shot else some_of(scores.shots)
    return Findings(
        data=scores.to_data() | {"worst": [shot.index for shot in weakest]},
        rows=score_rows(scores),
        columns=SHOT_COLUMNS if shown else (),
        cells=list(map(_cells, shown)),
        closing=_closing(len(shown), scores, worst),
    )


def score_rows(scores: Scores) -> Rows:
    """The scores of a whole video."""
    rows = []
    if scores.beat is not None:
        rows += _beat_rows(scores.beat)
    if scores.lips is not None and scores.lips.faces:
        rows.append(("lips", _lips(scores.lips)))
    if scores.drift is not None:
        rows.append(("drift", _drift(scores.drift)))
    rows += [(name, _stretches(found)) for name, found in (("frozen", scores.frozen), ("black", scores.black)) if found]
    if scores.flicker is not None:
        silent, elsewhere = scores.flicker.value, scores.flicker.control
        rows.append(("flicker", f"{silent:.2f} of 255 in silence ({elsewhere:.2f} elsewhere)"))
    return rows + [("note", note) for note in scores.notes]


def _beat_rows(beat: BeatScore) -> Rows:
    rows = [("beat", _measured(beat.beats))] if beat.beats is not None else []
    rows.append(("onsets", _measured(beat.onsets)))
    if beat.offset_ms is None:
        return [*rows, ("offset", f"none that is clear (confidence {beat.confidence:.2f})")]
    rival = "" if beat.rival_ms is None else f"; {_side(beat.rival_ms)} fits nearly as well"
    return [*rows, ("offset", f"{_side(beat.offset_ms)} (confidence {beat.confidence:.2f}){rival}")]


def _side(milliseconds: float) -> str:
    """`sound 188 ms late`."""
    if abs(milliseconds) < 0.5:
        return "0 ms"
    return f"sound {abs(milliseconds):.0f} ms {'late' if milliseconds > 0 else 'early'}"


def _measured(measured: Measured) -> str:
    doubt = ", may be chance" if measured.chance >= CHANCE else ""
    return f"{measured.value:.2f} (control {measured.control:.2f}{doubt})"


def _lips(lips: LipsScore) -> str:
    seen = f"a face in {lips.faces:.0%} of the frames"
    if lips.correlation is None:
        return seen
    lag = "no lag that is clear" if lips.lag_ms is None else _side(lips.lag_ms)
    return f"correlation {_measured(lips.correlation)}, {lag}, {seen}"


def _drift(drift: DriftScore) -> str:
    parts = (
        f"colour ΔE {drift.colour.value:.1f} ({drift.colour.control:.1f} within the first clip)",
        f"contrast × {drift.contrast.value:.2f} ({drift.contrast.control:.2f})",
        f"sharpness × {drift.sharpness.value:.2f} ({drift.sharpness.control:.2f})",
    )
    return ", ".join(parts)


def _stretches(found: Sequence[Stretch]) -> str:
    shown = ", ".join(f"{clock(part.start)} for {part.seconds:.1f} s" for part in some_of(found))
    return shown + (f" … ({len(found):,})" if len(found) > MOST_ROWS else "")


def _cells(shot: ShotScores) -> tuple[str, ...]:
    number = str(shot.index + 1)
    return (
        f"{number} {shot.name}" if shot.name else number,
        f"{shot.start:.2f}",
        f"{shot.stop:.2f}",
        *_pair(shot.beat),
        *_pair(shot.lips),
        "" if shot.drift is None else f"{shot.drift.colour.value:.1f}",
        f"{shot.still:.0%}",
        f"{shot.weakness:.2f}",
        shot.weak_in,
    )


def _pair(measured: Measured | None) -> tuple[str, str]:
    return ("", "") if measured is None else (f"{measured.value:.2f}", f"{measured.control:.2f}")


def _closing(shown: int, scores: Scores, worst: int | None) -> str:
    count = len(scores.shots)
    if worst is not None:
        return "" if shown else "no shot has a weakness"
    return f"{shown} of {count:,} shots; --all shows every one, --worst 3 the weakest" if shown < count else ""
