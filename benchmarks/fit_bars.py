"""Fit the weights of the model of bars (`soundreel.analysis.bar_model`) to songs of known truth, and print them.

    python -m benchmarks.fit_bars --seeds 200 201 202 203 --epochs 8

A structured perceptron with a margin (M. Collins, 2002; I. Tsochantaridis et al., 2005): the beats that the present
weights find, where wrong ones are made a little more attractive, are compared with the true ones, and the weights move
by the difference of what both add up to. The result is the mean over the second half of the epochs.
"""

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.songs import BEAT_SECONDS, KINDS, listen, matched, synthesize
from soundreel.analysis.accents import accents_of
from soundreel.analysis.bar_model import ALIKE, BEFORE, FIRSTS, INTERVALS, METER_OF, METERS, OCTAVES, WEIGHTS, Weights
from soundreel.analysis.bar_tracking import Beat, parts_before, track
from soundreel.analysis.sections import rests_of
from soundreel.analysis.song import sounding
from soundreel.analysis.spectrum import HOPS_PER_SECOND, Rows

MARGIN = 0.15
"""What a wrong beat is worth more, and a right one less."""

NEAR_HOPS = 4
"""A beat that is so near is right."""

BATCH = 8

Example = tuple[list[Beat], Rows]
"""True beats of a stretch without silence, and its accents [H, X]."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, and print the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(200, 212)))
    parser.add_argument("--seconds", type=float, default=110.0)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--step", type=float, default=0.05)
    options = parser.parse_args(arguments)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = list(product(KINDS, options.seeds))
        songs = list(pool.map(examples_of, *zip(*jobs, strict=True), [options.seconds] * len(jobs)))
        examples = [example for song in songs for example in song if example[0]]
        values = WEIGHTS.to_vector()
        kept: list[NDArray[np.float64]] = []
        random = np.random.default_rng(0)
        for epoch in range(options.epochs):
            order = random.permutation(len(examples)).tolist()
            hits = []
            for first in range(0, len(order), BATCH):
                batch = [examples[index] for index in order[first : first + BATCH]]
                found = list(pool.map(compare, batch, [values] * len(batch)))
                values = values + options.step * np.mean([difference for difference, _ in found], axis=0)
                hits += [hit for _, hit in found]
                if 2 * epoch >= options.epochs:
                    kept.append(values)
            print(f"epoch {epoch + 1}: beats {np.mean(hits):.3f}, with the margin against them")
    print(Weights.from_vector(np.asarray(np.mean(kept, axis=0)).round(2)))


def examples_of(kind: str, seed: int, seconds: float) -> list[Example]:
    """True beats and accents of the stretches of a song."""
    truth, sound = synthesize(kind, seed, seconds)
    spectrum = listen(sound)
    accents = accents_of(spectrum)
    examples = []
    for stretch in sounding(rests_of(spectrum), spectrum.seconds):
        first, last = (round(second * HOPS_PER_SECOND) for second in (stretch.start, stretch.stop))
        examples.append((true_beats(truth, accents, first, last), accents[first:last]))
    return examples


def true_beats(truth: dict[str, Any], accents: Rows, first: int, last: int) -> list[Beat]:
    """True beats between two hops, counted from the first, each on the strongest accent within 30 ms."""
    meter = [str(meter) for meter in METERS].index(truth["meter"])
    loud = accents[:, :4].sum(axis=1)
    places: list[tuple[int, int]] = []
    downbeats = set(truth["downbeats"])
    place = 0
    for second in truth["beats"]:
        place = 0 if second in downbeats else (place + 1) % METERS[meter].beats
        hop = round(second * HOPS_PER_SECOND)
        if first <= hop < last - NEAR_HOPS:
            begin = max(first, hop - 3)
            places.append((begin + int(loud[begin : hop + 4].argmax()) - first, FIRSTS[meter] + place))
    if len(places) < 2:
        return []
    hops = [hop for hop, _ in places]
    intervals = np.diff([2 * hops[0] - hops[1], *hops])
    return [
        Beat(hop=hop, place=place, interval=int(np.abs(INTERVALS - interval).argmin()))
        for (hop, place), interval in zip(places, intervals, strict=True)
    ]


def compare(example: Example, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """How true beats differ from those found with a margin against them, per beat, and the F-measure of these."""
    true, accents = example
    against = np.full((len(accents), len(METER_OF)), MARGIN, np.float32)
    for beat in true:
        near = slice(max(0, beat.hop - NEAR_HOPS), beat.hop + NEAR_HOPS + 1)
        against[near] = 0
        against[near, beat.place] = -MARGIN
    found = track(accents, Weights.from_vector(values), against)
    difference = (features(true, accents) - features(found, accents)) / len(true)
    right, heard = ([beat.hop / HOPS_PER_SECOND for beat in beats] for beats in (true, found))
    return difference, matched(right, heard, BEAT_SECONDS)


def features(beats: Sequence[Beat], accents: Rows) -> NDArray[np.float64]:
    """What each weight is multiplied with in the worth of beats, in the order of `Weights.to_vector`."""
    sums = Weights.from_vector(np.zeros(len(WEIGHTS.to_vector())))
    change = surprise = 0.0
    accent = accents[:, :4].mean(axis=1)
    for index, beat in enumerate(beats):
        sums.place[ALIKE[beat.place]] += [1, *accents[beat.hop]]
        if not index:
            continue
        before, meter = beats[index - 1], METER_OF[beat.place]
        middle, early, late = (accent[max(0, beat.hop - part[beat.interval])] for part in parts_before())
        sums.middle[meter] += middle
        sums.thirds[meter] += (early + late) / 2
        sums.tempo[METERS[meter].division - 2] += [OCTAVES[beat.interval], OCTAVES[beat.interval] ** 2]
        if abs(beat.interval - before.interval) > 1:
            change -= abs(OCTAVES[beat.interval] - OCTAVES[before.interval])
        surprise -= before.place != BEFORE[beat.place]
    return np.concatenate([sums.to_vector()[:-2], [change, surprise]])


if __name__ == "__main__":
    main()
