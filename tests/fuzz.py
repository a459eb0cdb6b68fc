"""Damaged recipes, work folders and media, one after the other, given to the commands that read them.

    python fuzz.py TARGET RUNS [SEED]

Every command ends with a documented exit code and plain words, what was rendered before has its frames, and nothing
crashes. Where atheris is installed, what is drawn is guided by the lines of soundreel that it reaches; elsewhere it is
drawn at random. The first that fails ends the program, with what was damaged in its message.
"""

import importlib
import os
import random
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from mutations import Seeded

HANGS_SECONDS: Final = 300
"""A command that takes so long does not come to an end by itself."""

TEXTS: Final = 32
TEXT_BYTES: Final = 256
"""What atheris begins with: so many random texts of so many bytes, far more than an attempt draws from."""


TARGETS: Final = {
    "recipe": ("fuzz_targets", "Recipe"),
    "work": ("fuzz_targets", "WorkFolder"),
    "media": ("fuzz_targets", "Media"),
    "latents": ("fuzz_native", "Latents"),
    "server": ("fuzz_server", "Doors"),
}
"""Name → module and class: what reads the damage is imported with it."""


class Guided:
    """Chance from the bytes that atheris gives."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def integer(self, least: int, most: int) -> int:
        """A number from `least` to `most`, both included."""
        return int(self._data.ConsumeIntInRange(least, most))


def find_atheris() -> ModuleType | None:
    """The fuzzer, where it is installed."""
    try:
        return importlib.import_module("atheris")
    except ModuleNotFoundError:
        return None


def draw_guided(atheris: ModuleType, name: str, runs: int, seed: int) -> None:
    """Let atheris draw; it ends the process."""
    with atheris.instrument_imports(include=["soundreel"]):
        target = open_target(name)

    def attempt(data: bytes) -> None:
        target(Guided(atheris.FuzzedDataProvider(data)))

    texts = Path(tempfile.mkdtemp())
    for number in range(TEXTS):
        (texts / str(number)).write_bytes(random.Random(seed * TEXTS + number).randbytes(TEXT_BYTES))
    limits = [f"-runs={runs}", f"-seed={seed}", f"-max_len={TEXT_BYTES}", f"-timeout={HANGS_SECONDS}"]
    atheris.Setup([sys.argv[0], *limits, "-rss_limit_mb=0", f"-artifact_prefix={texts}/", str(texts)], attempt)
    atheris.Fuzz()


def draw_at_random(name: str, runs: int, seed: int) -> None:
    """Draw from seeds."""
    target = open_target(name)
    for number in range(runs):
        target(Seeded(f"{seed} {number}"))


def open_target(name: str) -> Any:
    """A target with a workshop of its own."""
    module, kind = TARGETS[name]
    return getattr(importlib.import_module(module), kind)(Path(tempfile.mkdtemp()))


def main(name: str, runs: str, seed: str = "1") -> None:
    """So many attempts at a target. What they leave goes with the folder for temporary files."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for variable in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        os.environ[variable] = tempfile.mkdtemp()
    atheris = find_atheris()
    if atheris is None:
        draw_at_random(name, int(runs), int(seed))
    else:
        draw_guided(atheris, name, int(runs), int(seed))


if __name__ == "__main__":
    main(*sys.argv[1:])
