"""The commands of the guide that users have, each as it stands there, on small pictures."""

import re
import shlex
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from PIL import Image

from command import REPO, run_script_here
from conftest import SHARED
from media_files import write_sound
from soundreel.media.video import probe_video

SCRIPT: Final = "scripts/generate_wan22_sound_video.py"

GUIDES: Final = sorted((SHARED / "seeds").glob("*.txt"))

COMMANDS: Final = [
    line.removeprefix(f"python {SCRIPT}").strip()
    for guide in GUIDES
    for line in guide.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    if line.startswith(f"python {SCRIPT}")
]

RATE: Final = 8000
SECONDS: Final = 106
"""The guide takes 15 s from 1:30 on."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With all files that the commands name."""
    place = tmp_path_factory.mktemp("guide")
    named = {Path(name) for line in COMMANDS for name in re.findall(r"input/[\w.-]+", line)}
    (place / "input").mkdir()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (SECONDS * RATE, 1)).astype(np.float32)
    sound = write_sound(place / "input" / "any.mp3", noise, RATE).read_bytes()
    for path in named:
        if path.suffix == ".mp3":
            (place / path).write_bytes(sound)
        else:
            Image.new("RGB", (96, 96), "teal").save(place / path)
    return place


@pytest.mark.skipif(not GUIDES, reason="../shared/seeds is not here")
@pytest.mark.parametrize("words", COMMANDS)
def test_each_command_makes_what_it_says(
    folder: Path, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = run_script_here(capsys, REPO / SCRIPT, *shlex.split(words), "--width", "64", "--height", "64")
    assert done.code == 0, done.err
    asked = re.search(r"--frames (\d+)", words)
    frames = 77 if asked is None else int(asked[1])
    has_picture = "with_ref" if "--ref-image" in words else "no_ref"
    stem = Path(shlex.split(words)[0]).stem
    name = rf"{stem}_64x64_{frames}f_[\d.]+s_{has_picture}_s2v-draft_\d{{8}}_\d{{6}}(_\d+)?\.mp4"
    assert re.fullmatch(name, done.path.name)
    assert done.path.parent == Path("output/video")
    video = probe_video(done.path)
    assert (video.frames, video.fps) == ((2 * frames, 32) if "--interpolate" in words else (frames, 16))
    assert video.sound_seconds == pytest.approx(frames / 16, abs=0.1)
