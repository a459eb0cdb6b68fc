"""One golden case: named input tensors, expected outputs, and the comparison of ours with them."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One output of a case: its error, the limit, and whether it holds."""

    name: str
    error: float
    limit: float
    measure: str = "rel l2"

    @property
    def passed(self) -> bool:
        """NaN never passes."""
        return self.error <= self.limit


@dataclass(frozen=True, kw_only=True)
class Case:
    """A row of `cases/index.json` (or `film/index.json`) in a folder laid out like the golden data."""

    golden: Path
    name: str
    kind: str
    row: dict[str, Any]
    folder: str = "cases"

    @property
    def params(self) -> dict[str, Any]:
        """The case's own settings."""
        return self.row.get("params") or {}

    @property
    def path(self) -> Path:
        """The case's data file."""
        return self.golden / self.folder / self.row["file"]

    @property
    def checkpoint(self) -> Path:
        """The tiny checkpoint in the official layout."""
        return self.golden / "tiny_official"

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """`in.*` and `out.*` tensors of a .safetensors case."""
        return load_file(self.path)

    @cached_property
    def table(self) -> Any:
        """The content of a .json case."""
        return json.loads(self.path.read_text())

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]


def read_cases(golden: Path) -> list[Case]:
    """All cases of a folder, in the order of its indexes; it may lack either."""
    return [*_main_cases(golden), *_film_cases(golden)]


def _main_cases(golden: Path) -> list[Case]:
    index = _read_index(golden / "cases")
    return [Case(golden=golden, name=name, kind=row["kind"], row=row) for name, row in index.get("cases", {}).items()]


def _film_cases(golden: Path) -> list[Case]:
    index = _read_index(golden / "film")
    common = {name: value for name, value in index.items() if name != "cases"}
    cases = [
        Case(golden=golden, name=name, kind="film", row={**common, **row}, folder="film")
        for name, row in index.get("cases", {}).items()
    ]
    manifests = [
        Case(golden=golden, name=path.stem, kind="film_manifest", row={"file": path.name}, folder="film")
        for path in sorted((golden / "film").glob("*manifest*.json"))
    ]
    return cases + manifests


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    index: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return index


def relative(name: str, ours: Tensor, expected: Tensor, limit: float = 1e-5) -> Comparison:
    """‖ours − expected‖₂ / ‖expected‖₂; a wrong shape is an infinite error."""
    if ours.shape != expected.shape:
        return Comparison(name=f"{name} {tuple(ours.shape)} ≠ {tuple(expected.shape)}", error=float("inf"), limit=limit)
    difference = (ours.double() - expected.double()).norm()
    scale = expected.double().norm()
    error = float(difference / scale) if scale > 0 else float(difference)
    return Comparison(name=name, error=error, limit=limit)


def largest(name: str, ours: Tensor, expected: Tensor, limit: float) -> Comparison:
    """max |ours − expected|."""
    if ours.shape != expected.shape:
        return Comparison(name=f"{name} {tuple(ours.shape)} ≠ {tuple(expected.shape)}", error=float("inf"), limit=limit)
    error = float((ours.double() - expected.double()).abs().max()) if ours.numel() else 0.0
    return Comparison(name=name, error=error, limit=limit, measure="max abs")


def equal(name: str, ours: object, expected: object) -> Comparison:
    """Exact equality of counts, lists or tables."""
    return Comparison(name=name, error=0.0 if ours == expected else float("inf"), limit=0.0, measure="equal")
