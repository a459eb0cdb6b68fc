"""How long the command line takes to answer: whole processes, the median of several."""

import statistics
import subprocess
import sys
import time

RUNS = 7
GOAL_SECONDS = 0.3


def seconds(*arguments: str) -> float:
    """Median wall time of `python -m soundreel ARGUMENTS`, after one run that is not counted."""
    times = []
    for _ in range(RUNS + 1):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "soundreel", *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def main() -> None:
    """Print the table."""
    bare = statistics.median(_bare() for _ in range(RUNS))
    print(f"{'command':<28}{'seconds':>9}{'goal':>8}")
    print(f"{'python -c pass':<28}{bare:>9.3f}{'':>8}")
    print(f"{'soundreel --help':<28}{seconds('--help'):>9.3f}{GOAL_SECONDS:>8.1f}")
    print(f"{'soundreel generate --help':<28}{seconds('generate', '--help'):>9.3f}")


def _bare() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
