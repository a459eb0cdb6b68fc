"""How long the command line takes to answer: whole processes, the median of several."""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

RUNS = 7

SONG = Path(__file__).parents[1] / "examples" / "tune.flac"

COMMANDS = {
    "python -c pass": (("-c", "pass"), None, None),
    "soundreel --help": (("-m", "soundreel", "--help"), 0.3, None),
    "soundreel generate --help": (("-m", "soundreel", "generate", "--help"), None, None),
    "soundreel plan --engine auto": (("-m", "soundreel", "plan", str(SONG), "--engine", "auto"), 1.0, 1.2),
}
"""What is measured: arguments of python, and goals in seconds of wall and of CPU time."""


@dataclass(frozen=True)
class Taken:
    """Seconds that a process took."""

    wall: float
    cpu: float  # user and system, of all its threads


def measure(arguments: tuple[str, ...]) -> Taken:
    """The median of `RUNS` processes `python ARGUMENTS`, after one that is not counted."""
    taken = [_run(arguments) for _ in range(RUNS + 1)][1:]
    return Taken(statistics.median(one.wall for one in taken), statistics.median(one.cpu for one in taken))


def _run(arguments: tuple[str, ...]) -> Taken:
    before, begun = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    wall, after = time.perf_counter() - begun, os.times()
    user, system = after.children_user - before.children_user, after.children_system - before.children_system
    return Taken(wall, user + system)


def main() -> None:
    """Print the table."""
    print(f"{'command':<30}{'wall s':>9}{'goal':>6}{'CPU s':>9}{'goal':>6}")
    for name, (arguments, wall_goal, cpu_goal) in COMMANDS.items():
        taken = measure(arguments)
        print(f"{name:<30}{taken.wall:>9.3f}{_goal(wall_goal):>6}{taken.cpu:>9.3f}{_goal(cpu_goal):>6}")


def _goal(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"


if __name__ == "__main__":
    main()
