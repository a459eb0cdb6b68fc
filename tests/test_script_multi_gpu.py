"""scripts/run_s2v_multi_gpu_fixed.py: settings in the script, all GPUs, one name of the video."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from command import REPO, finish, run_script_here, start
from soundreel.cli.commands import rendering
from soundreel.media.video import probe_video
from soundreel.request import Request

SCRIPT = REPO / "scripts" / "run_s2v_multi_gpu_fixed.py"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What is rendered for a command line, without rendering it."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))

    def ask(*words: str) -> Request:
        requests: list[Request] = []
        with monkeypatch.context() as patch:
            patch.setattr(rendering, "render", requests.append)
            assert run_script_here(capsys, SCRIPT, *words).code == 0
        return requests[0]

    return ask


def test_its_settings_are_those_of_its_text(asked: Any) -> None:
    request = asked()
    assert (request.window.num_clip, request.sampling.infer_frames, request.sampling.steps) == (1, 80, 30)
    assert (request.sampling.guide_scale, request.sampling.shift, request.seed) == (4.5, 3.0, 42)
    assert str(request.output.path) == "outputs/s2v_output.mp4"


def test_it_takes_all_gpus_where_there_are_any(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked().compute.gpus is None
    monkeypatch.setattr("soundreel.engines.driver.find_gpu", lambda: "2 NVIDIA A40")
    assert asked().compute.gpus == "all"
    assert asked("--ulysses_size", "2").compute.gpus == "2"
    assert asked("--device", "cuda:1").compute.gpus is None


@pytest.mark.parametrize(
    "words",
    [
        line.split()
        for line in re.findall(r"`(--[^`]+)`", SCRIPT.read_text(encoding="utf-8").replace("\n", " "))
        if "…" not in line
    ],
    ids=" ".join,
)
def test_the_settings_that_it_proposes_can_be_typed(asked: Any, words: list[str]) -> None:
    request = asked(*words)
    assert request.sampling.steps == int(words[words.index("--sample_steps") + 1])


def test_a_draft_of_it(tmp_path: Path) -> None:
    words = ("--engine", "draft", "--infer_frames", "8", "--size", "480*832")
    done = finish(start(*words, program=(str(SCRIPT),), cwd=tmp_path, env=os.environ))
    assert done.code == 0, done.err
    assert done.out == f"{tmp_path / 'outputs' / 's2v_output.mp4'}\n"
    assert probe_video(tmp_path / "outputs" / "s2v_output.mp4").frames == 5
