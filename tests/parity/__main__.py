"""`PYTHONPATH=tests python -m parity DIR`: every case of a golden folder through our own code, as a table.

Exit code 1 if any case fails, 2 if the folder holds none.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from parity import encoders, end_to_end, film, plumbing, transformer
from parity.case import Case, Comparison, read_cases

RUNNERS: dict[str, Callable[[Case], list[Comparison]]] = {
    **plumbing.RUNNERS,
    **encoders.RUNNERS,
    **transformer.RUNNERS,
    **end_to_end.RUNNERS,
    **film.RUNNERS,
}


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


def main(golden: Path) -> int:
    """Print the table; the exit code."""
    cases = read_cases(golden)
    print(f"{'case':<34}{'kind':<22}{'error':>10}{'limit':>10}  {'measure':<8}result")
    failed = 0
    for row, passed in rows(cases):
        print(row, flush=True)
        failed += not passed
    print(f"{len(cases) - failed} of {len(cases)} cases pass")
    return 2 if not cases else int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
