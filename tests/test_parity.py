"""Every golden case, as `make parity` runs it, and the table that it prints."""

from pathlib import Path

import pytest

from conftest import SHARED
from parity.__main__ import compare, main
from parity.case import Case, read_cases

GOLDEN = SHARED / "golden"
CASES = read_cases(GOLDEN) if GOLDEN.is_dir() else []


@pytest.mark.skipif(not CASES, reason="../shared/golden is not here")
def test_all_cases_are_there() -> None:
    assert len(CASES) == 93


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    failed = [f"{one.name}: {one.error:.3g} > {one.limit:.3g}" for one in compare(case) if not one.passed]
    assert not failed


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"kind": "feature_length", "file": "lengths.json"}', "FAIL n30"),  # 205 states make 122 features, not 123
        ('{"kind": "unheard-of", "file": "lengths.json"}', "FAIL no runner for 'unheard-of'"),
    ],
)
def test_a_wrong_value_or_an_unknown_kind_fails_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: str, says: str
) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "index.json").write_text(f'{{"cases": {{"lengths": {row}}}}}')
    (tmp_path / "cases" / "lengths.json").write_text('{"first_T": 205, "n30": [123]}')
    assert main(tmp_path) == 1
    assert says in capsys.readouterr().out
