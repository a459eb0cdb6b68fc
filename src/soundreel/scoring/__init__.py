"""Scores of a finished video: whether it moves with its sound, whether lips do, and whether the picture drifts.

`looking` makes a few numbers of each frame, `listening` of the sound; `beat`, `lips` and `drift` compare them, each
number beside its control (`moved_sound`); `scored` puts them together.
"""

from soundreel.scoring.scored import score
from soundreel.scoring.scores import (
    BeatScore,
    Drifted,
    DriftScore,
    LipsScore,
    Measured,
    Scores,
    ShotScores,
    Stretch,
    read_scores,
)

__all__ = [
    "BeatScore",
    "DriftScore",
    "Drifted",
    "LipsScore",
    "Measured",
    "Scores",
    "ShotScores",
    "Stretch",
    "read_scores",
    "score",
]
