"""Exchanges that a benchmark compares with that of a render compute what it computes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.exchanges_apart import VARIANTS, in_use

from several_ranks import run_ranks
from soundreel.models.parallel.ranks import Mesh
from test_parallel_tokens import LIMIT, float8_velocities, shared_velocities


def velocities_of_all(mesh: Mesh, heads: int, size: tuple[int, int, int], given: dict[str, bool]) -> Any:
    """Of each, exact and in float8."""
    found = []
    for variant in VARIANTS:
        with in_use(variant):
            found.append((shared_velocities(mesh, heads, size, given), float8_velocities(mesh, heads, size, given)[0]))
    return found


@torch.inference_mode()
def test_all_compute_the_same(tmp_path: Path) -> None:
    size, given = (3, 10, 6), {"has_motion": True, "has_pose": False}  # 15 tokens per frame
    for found in run_ranks(tmp_path, 1, 2, velocities_of_all, 3, size, given):
        for exact, in_float8 in found:
            assert np.linalg.norm(exact - found[0][0]) < LIMIT * np.linalg.norm(exact)
            assert np.linalg.norm(in_float8 - found[0][1]) < LIMIT * np.linalg.norm(in_float8)
