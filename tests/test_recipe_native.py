"""The recipe of a native render: models, LoRAs and networks are found where this user has them, and told nowhere."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import torch
from safetensors.torch import load_file, save_file

from command import run_here
from native_videos import Render
from weight_files import OFFICIAL, needs_golden, writable_copy

pytestmark = needs_golden

LAYER = "blocks.0.self_attn.q"


def write_lora(path: Path, models: Path) -> None:
    (width, _) = next(
        tensors[f"{LAYER}.weight"].shape
        for tensors in map(load_file, models.glob("*.safetensors"))
        if f"{LAYER}.weight" in tensors
    )
    tensors = {f"diffusion_model.{LAYER}.lora_A.weight": torch.ones(2, width)}
    save_file(tensors | {f"diffusion_model.{LAYER}.lora_B.weight": torch.ones(width, 2)}, path)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder whose name nobody is to know, with a model and a LoRA."""
    home = tmp_path / "ann-home"
    home.mkdir()
    writable_copy(OFFICIAL, home / "models")
    write_lora(home / "style.safetensors", home / "models")
    return home


def test_models_and_loras_are_found_where_they_were(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    render = Render(home)
    made = render(frames=5, models=home / "models", loras=["style.safetensors:0.5"], preview=True)
    assert [note for note in made.notes if "previews are rough" in note and "ann-home" in note]
    assert b"ann-home" not in render.video.read_bytes()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    def plan(*words: str | Path) -> dict[str, list[str]]:
        done = run_here(capsys, "plan", "--recipe", render.video, "--json", *words)
        assert done.code == 0, done.err
        told: dict[str, list[str]] = json.loads(done.out)
        return told

    assert not [note for note in plan()["notes"] if "since the recipe was made" in note]
    other = plan("--lora", home / "style.safetensors")["notes"]
    assert "since the recipe was made, model file LoRA 1 × 0.5 style.safetensors is gone" in other

    (home / "style.safetensors").rename(home / "moved.safetensors")
    done = run_here(capsys, "plan", "--recipe", render.video)
    assert (done.code, "no such LoRA: 'style.safetensors'" in done.err) == (4, True), done.err
    draft = run_here(capsys, "plan", "--recipe", render.video, "--engine", "draft")
    assert (draft.code, "no such LoRA: 'style.safetensors'" in draft.err) == (4, True), "what is asked for and missing"
