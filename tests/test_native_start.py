"""How a native render begins: what is imported for it, and what is not."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

from command import finish, start
from native_renders import SPEECH
from weight_files import COMFY, OFFICIAL, needs_golden

pytestmark = needs_golden

SLOW = (
    "accelerate", "diffusers", "gguf", "pandas", "peft", "scipy", "sklearn", "sympy", "torch._dynamo",
    "torch.distributed.tensor", "transformers",
)  # fmt: skip
"""What takes seconds to import, and is for files and options that a usual render does not have."""

PROGRAM = f"""
import atexit, json, sys
atexit.register(lambda: print(json.dumps([name for name in {SLOW} if name in sys.modules])))
from soundreel.__main__ import main
main()
"""

TINY = ("--width", "64", "--height", "64", "--frames", "9", "--infer-frames", "8", "--steps", "1", "--seed", "3")


def imported(*arguments: str | Path) -> list[str]:
    """Of `SLOW`, by the command with these arguments."""
    done = finish(start(*arguments, program=("-c", PROGRAM)))
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1])


@pytest.mark.parametrize("models", [OFFICIAL, COMFY], ids=["official", "comfy"])
def test_a_render_imports_nothing_slow(models: Path, tmp_path: Path) -> None:
    """To the end of it: two clips with guidance, from words, sound and a reference image."""
    asked = ("generate", SPEECH, "--engine", "native", "--device", "cpu", "--models", models, *TINY)
    picture = SPEECH.with_name("square_70x70.png")
    assert imported(*asked, "--ref-image", picture, "-o", tmp_path / "video.mp4", "--progress", "none") == []
