"""Renders that are killed at random moments, half of them with the file written last cut short, until they are through.

`python -m benchmarks.kill [ROUNDS]`: each round ends in the frames of an unbroken render and nothing beside the video,
or the benchmark fails. The draft engine, 12 clips, interpolated and colour-matched: every clip has a carry.
"""

import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from soundreel.media.video import read_frames

TUNE = Path(__file__).parents[1] / "examples" / "tune.flac"
OPTIONS = ("--size", "64x64", "--frames", "141", "--infer-frames", "12", "--interpolate", "motion", "--color-match")


def start(folder: Path) -> "subprocess.Popen[bytes]":
    """A render of the tune into `folder`."""
    command = [sys.executable, "-m", "soundreel", str(TUNE), "--engine", "draft", *OPTIONS]
    output = ["--output", str(folder / "a.mp4"), "--quiet"]
    return subprocess.Popen([*command, *output], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def frames_digest(video: Path) -> str:
    """Of all decoded frames."""
    digest = hashlib.sha256()
    for frame in read_frames(video):
        digest.update(frame.data)
    return digest.hexdigest()


def cut_power(folder: Path, chance: random.Random) -> None:
    """The file written last loses its end."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    if files:
        last = max(files, key=lambda path: path.stat().st_mtime_ns)
        os.truncate(last, chance.randrange(last.stat().st_size))


def kill_until_through(folder: Path, chance: random.Random, unbroken_seconds: float) -> int:
    """How often the render was killed before it was through."""
    for kills in range(1000):
        process = start(folder)
        try:
            if process.wait(timeout=chance.uniform(0.3, 1.1) * unbroken_seconds) == 0:
                return kills
            raise SystemExit(f"a render failed in {folder}")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if chance.random() < 0.5 and not (folder / "a.mp4").exists():
            cut_power(folder, chance)
    raise SystemExit("killed 1000 times and still not through")


def main(rounds: int = 50) -> None:
    """Print what came of it."""
    with tempfile.TemporaryDirectory() as place:
        unbroken = Path(place) / "unbroken"
        begun = time.perf_counter()
        start(unbroken).wait()
        seconds = time.perf_counter() - begun
        expected = frames_digest(unbroken / "a.mp4")
        kills = 0
        for number in range(rounds):
            folder = Path(place) / f"round {number}"
            kills += kill_until_through(folder, random.Random(number), seconds)
            left = sorted(path.name for path in folder.rglob("*"))
            if left != ["a.mp4"] or frames_digest(folder / "a.mp4") != expected:
                raise SystemExit(f"round {number} ended in {left} or in other frames")
    print(f"{rounds} rounds, {kills} kills: every video as the unbroken one, nothing left beside it")
    print(f"unbroken render: {seconds:.1f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
