"""Every golden case, or every reference of our own in their place, as `make parity` runs them; and its table."""

from pathlib import Path

import pytest

from conftest import GIVEN, GOLDEN
from parity.__main__ import OWN_KINDS, RUNNERS, compare, main, run
from parity.case import read_cases
from parity.end_to_end import RUNNERS as WHOLE_RENDERS
from references.render_cases import RENDERS

KINDS = sorted((set(RUNNERS) if GIVEN else OWN_KINDS) - set(WHOLE_RENDERS))
"""Known before our own references are made."""

WHOLE = [case.name for case in read_cases(GOLDEN) if case.kind in WHOLE_RENDERS] if GIVEN else list(RENDERS)


@pytest.mark.skipif(not GIVEN, reason="../shared/golden is not here")
def test_all_given_cases_are_there() -> None:
    assert len(read_cases(GOLDEN)) == 93


@pytest.mark.parametrize("kind", KINDS)
def test_every_case_of_a_kind(golden: Path, kind: str) -> None:
    cases = [case for case in read_cases(golden) if case.kind == kind]
    assert cases
    compared = [(case.name, one) for case in cases for one in compare(case)]
    assert [f"{name} {one.name}: {one.error:.3g} > {one.limit:.3g}" for name, one in compared if not one.passed] == []


@pytest.mark.parametrize("name", WHOLE)
def test_whole_renders(golden: Path, name: str) -> None:
    (case,) = (case for case in read_cases(golden) if case.name == name)
    assert [f"{one.name}: {one.error:.3g} > {one.limit:.3g}" for one in compare(case) if not one.passed] == []


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
    write_case(tmp_path, row, '{"first_T": 205, "n30": [123]}')
    assert main(tmp_path) == 1
    assert says in capsys.readouterr().out


def test_a_kind_that_is_missing_fails_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_case(tmp_path, '{"kind": "feature_length", "file": "lengths.json"}', '{"first_T": 205, "n30": [122]}')
    assert run([str(tmp_path)]) == 0
    assert main(tmp_path, frozenset({"feature_length", "t5", "block"})) == 1
    assert "1 of 1 cases pass; no case of block, t5" in capsys.readouterr().out


def test_without_the_official_package_the_run_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("references.store.STORE", tmp_path)
    monkeypatch.setattr("references.official._folders", list)
    assert run(["--seed", "1"]) == 2
    assert "the wan22 package is not installed" in capsys.readouterr().err
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def write_case(golden: Path, row: str, table: str) -> None:
    (golden / "cases").mkdir()
    (golden / "cases" / "index.json").write_text(f'{{"cases": {{"lengths": {row}}}}}')
    (golden / "cases" / "lengths.json").write_text(table)
