"""A folder laid out like the golden data, in the making: cases, their index, and random numbers by name."""

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

Normal = Callable[..., Tensor]
"""Shape → standard normal numbers, others with every call."""


def normal(seed: int, name: str) -> Normal:
    """A source of numbers that depends on nothing but the seed and the name."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
    return lambda *shape: torch.randn(shape, generator=generator)


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Where references are written; `index` grows with every case."""

    path: Path
    seed: int
    index: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def official(self) -> Path:
        """The tiny checkpoint in the official layout."""
        return self.path / "tiny_official"

    @property
    def comfy(self) -> Path:
        """The same weights as ComfyUI's single files."""
        return self.path / "tiny_comfy"

    @property
    def inputs(self) -> Path:
        """Sounds, pictures and a pose video."""
        return self.path / "inputs"

    def normal(self, name: str) -> Normal:
        """Numbers for what has this name."""
        return normal(self.seed, name)

    def case(
        self,
        name: str,
        kind: str,
        params: Mapping[str, Any],
        given: Mapping[str, Tensor],
        expected: Mapping[str, Tensor],
    ) -> None:
        """Write tensors that go in and that must come out."""
        tensors = {f"in.{key}": value for key, value in given.items()}
        tensors |= {f"out.{key}": value for key, value in expected.items()}
        file = self._cases() / f"{name}.safetensors"
        save_file({key: value.detach().contiguous().clone() for key, value in tensors.items()}, file)
        self.index[name] = {"file": file.name, "kind": kind, "params": dict(params)}

    def table(self, name: str, kind: str, table: Mapping[str, Any]) -> None:
        """Write a case that is no more than a table."""
        file = self._cases() / f"{name}.json"
        file.write_text(json.dumps(table))
        self.index[name] = {"file": file.name, "kind": kind}

    def finish(self) -> None:
        """Write the index of all cases, by name."""
        index = {"format": 1, "cases": dict(sorted(self.index.items()))}
        (self._cases() / "index.json").write_text(json.dumps(index, ensure_ascii=False, indent=1))

    def _cases(self) -> Path:
        folder = self.path / "cases"
        folder.mkdir(parents=True, exist_ok=True)
        return folder
