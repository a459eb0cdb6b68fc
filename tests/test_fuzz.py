"""A fuzzer over recipes, work folders, latents and media, for as many attempts as minutes allow."""

import os
from pathlib import Path

import pytest

from command import finish, start

PROGRAM = (str(Path(__file__).with_name("fuzz.py")),)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("target", "attempts"), [("recipe", 800), ("work", 600), ("media", 800), ("latents", 60), ("server", 1500)]
)
def test_what_is_damaged_is_said_and_costs_nothing_else(tmp_path: Path, target: str, attempts: int) -> None:
    if target == "latents":
        pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
        pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")
        if not pytest.importorskip("weight_files").GOLDEN.is_dir():
            pytest.skip("../shared/golden is not here")
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = finish(start(target, str(attempts), program=PROGRAM, env=environment), hangs_seconds=3600)
    assert done.code == 0, done.err[-10_000:]
