"""How long 1,000 songs take on so many GPUs: computed from figures that were measured on one card, not measured itself.

`python -m benchmarks.fleet_size [SONGS]`: each GPU takes the next song when it is free, as `soundreel batch` hands them
out. Spot nodes are lost at random; what was rendered counts, the clip under way is begun again.
"""

import heapq
import random
import sys
from dataclasses import dataclass

CLIP_SECONDS = 5.0
"""Of sound: clips of 80 frames at 16 a second."""

STEPS = 30
FIRST_CLIP, LATER_CLIP = 4.73, 5.33
"""Seconds of a guided step at 480×832 on an H100 with fp8 files (docs/speed.md)."""

BETWEEN_CLIPS, AFTER_LAST, LOADING = 1.9, 3.1, 11.5
"""Seconds beside the steps, there, too."""

SONG_SECONDS = (150.0, 270.0)
"""Songs are so long, any length as likely as another: an assumption."""

BACK_SECONDS = 300.0
"""Until a spot node that was lost has another in its place: an assumption."""


@dataclass(frozen=True)
class Fleet:
    """What came of it."""

    hours: float  # until the last song
    gpu_hours: float  # that are paid for
    busy: float  # share of them that was sampled or written in
    lost: int  # nodes


def clip_seconds(number: int) -> float:
    """What a clip takes, from 0."""
    return STEPS * (LATER_CLIP if number else FIRST_CLIP) + BETWEEN_CLIPS


def simulate(songs: int, gpus: int, lost_each_hours: float | None, seed: int = 0) -> Fleet:
    """The fleet at work on so many songs; a node of one GPU is lost once in so many hours, or never."""
    chance = random.Random(seed)
    lengths = [chance.uniform(*SONG_SECONDS) for _ in range(songs)]
    waiting = [(max(1, round(length / CLIP_SECONDS)), 0) for length in reversed(lengths)]  # clips, of them done
    free = [(0.0, number) for number in range(gpus)]
    paid = busy = end = 0.0
    lost = 0
    heapq.heapify(free)
    fresh = set(range(gpus))
    while waiting:
        now, gpu = heapq.heappop(free)
        clips, done = waiting.pop()
        begun = now
        dies = now + chance.expovariate(1 / (3600 * lost_each_hours)) if lost_each_hours else float("inf")
        now += LOADING if gpu in fresh else 0.0
        fresh.discard(gpu)
        while done < clips and now + clip_seconds(done) <= dies:
            now += clip_seconds(done)
            busy += clip_seconds(done)
            done += 1
        if done < clips:
            lost += 1
            waiting.append((clips, done))
            paid += dies - begun
            fresh.add(gpu)
            heapq.heappush(free, (dies + BACK_SECONDS, gpu))
            continue
        now += AFTER_LAST
        paid += now - begun
        end = max(end, now)
        heapq.heappush(free, (now, gpu))
    paid += sum(max(0.0, end - at) for at, _ in free)  # those that have nothing to do any more
    return Fleet(hours=end / 3600, gpu_hours=paid / 3600, busy=busy / paid, lost=lost)


def main(songs: int = 1000) -> None:
    """Print a table for docs/fleet.md."""
    low, high = SONG_SECONDS
    print(f"{songs:,} songs of {low:.0f} to {high:.0f} s, {STEPS} guided steps of 480×832, computed\n")
    print("| GPUs | nodes are lost | hours | GPU hours | busy | lost |")
    print("|---|---|---|---|---|---|")
    for gpus in (8, 64, 256):
        for often, says in ((None, "never"), (8.0, "once in 8 h"), (2.0, "once in 2 h")):
            of = simulate(songs, gpus, often)
            print(f"| {gpus} | {says} | {of.hours:.1f} | {of.gpu_hours:,.0f} | {100 * of.busy:.1f} % | {of.lost} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
