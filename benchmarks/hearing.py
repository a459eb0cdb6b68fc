"""How well songs are heard: beats, downbeats, sections, voice, on synthesized songs of known truth.

    python -m benchmarks.hearing --seeds 1 2 3 4 --seconds 180

F-measures: beats and downbeats within 70 ms, section boundaries within 0.5 s (the song's beginning and end are not
counted), letters of sections pairwise; share of time for the voice, of songs for the meter. The weights of the model of
bars were fitted on seeds 200 to 211, the costs of section boundaries on those and on 300 to 303: take others. Where
librosa is installed, its beat tracker is beside it.
"""

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

import numpy as np

from benchmarks.songs import BEAT_SECONDS, BOUNDARY_SECONDS, KINDS, Mono, listen, matched, paired, same_time, synthesize
from soundreel.analysis import Song
from soundreel.analysis.hearing import song_of
from soundreel.analysis.spectrum import SAMPLE_RATE

GOALS = {"beats": 0.95, "downbeats": 0.9, "sections": 0.8}
COLUMNS = ("beats", "downbeats", "sections", "letters", "voice", "meter", "librosa")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--each", action="store_true", help="a row for each song")
    parser.add_argument("--no-librosa", action="store_true")
    options = parser.parse_args(arguments)
    jobs = [
        (kind, seed, options.seconds, not options.no_librosa) for kind, seed in product(options.kinds, options.seeds)
    ]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        scores = list(pool.map(measure, *zip(*jobs, strict=True)))
    print(f"{'kind':<14}{'seed':>6}" + "".join(f"{column:>11}" for column in COLUMNS))
    for kind in options.kinds:
        of_kind = [(seed, score) for (name, seed, *_), score in zip(jobs, scores, strict=True) if name == kind]
        for seed, score in of_kind if options.each else ():
            print(_row(kind, str(seed), score))
        print(_row(kind, "mean" if options.each else "", _mean([score for _, score in of_kind])))
    print(_row("all", "", _mean(scores)))
    print(_row("goal", "", GOALS))


def measure(kind: str, seed: int, seconds: float, beside: bool) -> dict[str, float]:
    """Measures of one song."""
    truth, sound = synthesize(kind, seed, seconds)
    scores = score_song(truth, song_of(listen(sound)))
    if beside and (beats := _librosa_beats(sound)) is not None:
        scores["librosa"] = matched(truth["beats"], beats, BEAT_SECONDS)
    return scores


def score_song(truth: dict[str, Any], song: Song) -> dict[str, float]:
    """How well a song is heard."""
    boundaries = [section["start"] for section in truth["sections"][1:]]
    return {
        "beats": matched(truth["beats"], song.beats, BEAT_SECONDS),
        "downbeats": matched(truth["downbeats"], song.downbeats, BEAT_SECONDS),
        "sections": matched(boundaries, [section.start for section in song.sections[1:]], BOUNDARY_SECONDS),
        "letters": paired(truth, song),
        "voice": same_time(truth["voice"], song),
        "meter": float(str(song.meter) == truth["meter"]),
    }


def _librosa_beats(sound: Mono) -> list[float] | None:
    try:
        import librosa  # noqa: PLC0415 - only to compare with
    except ModuleNotFoundError:
        return None
    _, beats = librosa.beat.beat_track(y=sound, sr=SAMPLE_RATE, units="time")
    return [float(beat) for beat in beats]


def _mean(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    return {column: float(np.mean([score[column] for score in scores])) for column in COLUMNS if column in scores[0]}


def _row(kind: str, seed: str, score: dict[str, float]) -> str:
    cells = (f"{score[column]:>11.3f}" if column in score else f"{'':>11}" for column in COLUMNS)
    return f"{kind:<14}{seed:>6}{''.join(cells)}".rstrip()


if __name__ == "__main__":
    main()
