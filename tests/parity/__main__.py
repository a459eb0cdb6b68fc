"""`PYTHONPATH=tests python -m parity [DIR] [--seed N]`: every case of a golden folder through our own code, as a table.

Without a folder the official package makes one, with weights drawn from the seed; then a kind of case that is missing
is a failure too. Exit code 1 if any case fails, 2 if the folder holds none or cannot be made.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch

from parity import encoders, end_to_end, film, plumbing, transformer
from parity.case import Case, Comparison, read_cases
from references import NotInstalledError
from references.store import SEED, references

RUNNERS: dict[str, Callable[[Case], list[Comparison]]] = {
    **plumbing.RUNNERS,
    **encoders.RUNNERS,
    **transformer.RUNNERS,
    **end_to_end.RUNNERS,
    **film.RUNNERS,
}

OWN_KINDS = frozenset(RUNNERS) - frozenset(film.RUNNERS)
"""What the official package can answer: FILM is of others."""


def compare(case: Case) -> list[Comparison]:
    """Run one case; a kind that nobody runs is a failure, not a skip."""
    runner = RUNNERS.get(case.kind)
    if runner is None:
        return [Comparison(name=f"no runner for {case.kind!r}", error=float("inf"), limit=0.0)]
    with torch.inference_mode():
        return runner(case)


def rows(cases: list[Case]) -> Iterator[tuple[str, bool]]:
    """A printed row per case, with the comparison that is nearest to its limit, and whether all hold."""
    for case in cases:
        comparisons = compare(case)
        worst = max(comparisons, key=lambda one: one.error / one.limit if one.limit else one.error)
        passed = all(comparison.passed for comparison in comparisons)
        mark = "pass" if passed else f"FAIL {', '.join(one.name for one in comparisons if not one.passed)}"
        yield (
            f"{case.name:<34}{case.kind:<22}{worst.error:>10.2e}{worst.limit:>10.1e}  {worst.measure:<8}{mark}",
            passed,
        )


def main(golden: Path, kinds: frozenset[str] = frozenset()) -> int:
    """Print the table; the exit code. Of `kinds` there must be a case each."""
    cases = read_cases(golden)
    print(f"{'case':<34}{'kind':<22}{'error':>10}{'limit':>10}  {'measure':<8}result")
    failed = 0
    for row, passed in rows(cases):
        print(row, flush=True)
        failed += not passed
    missing = sorted(kinds - {case.kind for case in cases})
    print(
        f"{len(cases) - failed} of {len(cases)} cases pass" + (f"; no case of {', '.join(missing)}" if missing else "")
    )
    return 2 if not cases else int(failed > 0 or bool(missing))


def run(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="parity")
    parser.add_argument("golden", nargs="?", type=Path, help="a folder laid out like the golden data")
    parser.add_argument("--seed", type=int, default=SEED, help="of references of our own, where no folder is given")
    asked = parser.parse_args(arguments)
    with TemporaryDirectory() as cache, patch.dict("os.environ", XDG_CACHE_HOME=cache):  # nothing is taken from before
        return main(asked.golden) if asked.golden is not None else _run_on_own(asked.seed)


def _run_on_own(seed: int) -> int:
    try:
        folder = references(seed)
    except NotInstalledError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"the official package's own answers on random weights, seed {seed}: {folder}")
    return main(folder, OWN_KINDS)


if __name__ == "__main__":
    sys.exit(run())
