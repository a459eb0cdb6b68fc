"""What the native engine decides: once for a render, kept as its identity, and followed by whoever goes on with it."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from functools import cache, wraps
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import torch
from safetensors.torch import save_file

from command import Outcome, run_here
from native_renders import CHAIN, SPEECH, native_plan, native_request, prepared, rendered
from soundreel.engines.base import Identity
from soundreel.engines.native.memory import choose_memory
from soundreel.engines.native.prepared import Placement
from soundreel.errors import EngineError, InputError, SoundreelError, WeightsError
from soundreel.pipeline import generate
from soundreel.request import Memory, VaePrecision
from soundreel.types import RenderedClip
from soundreel.weights.load import load_component, outline_component
from weight_files import OFFICIAL, needs_golden, official_transformer_tensors

pytestmark = needs_golden

QUICK: dict[str, Any] = {"width": 32, "height": 32, "frames": 5, "steps": 1}

WIDTH = 256
"""Of the tiny transformer."""


@cache
def identity() -> Identity:
    """What is decided for a quick render, as plan.json gives it back."""
    return as_read_back(prepared(native_plan(**QUICK)).identity)


def as_read_back(decided: Identity) -> Identity:
    return json.loads(json.dumps(dict(decided)))


def changed(kept: Identity, **fields: Any) -> Identity:
    """With other decisions; those of the memory plan are in `bits`."""
    bits = {**kept["bits"], **{name: value for name, value in fields.items() if name in kept["bits"]}}
    return {**kept, **{name: value for name, value in fields.items() if name in kept}, "bits": bits}


def one_line(error: pytest.ExceptionInfo[SoundreelError]) -> str:
    (line,) = str(error.value).splitlines()
    return line


# what is kept


def test_an_identity_says_all_that_rounds() -> None:
    assert identity() == {
        "device": "cpu",
        "attention": "sdpa",
        "products": "bf16",
        "vae": "fp32",
        "bits": {"rounds": False, "tokens_at_once": None, "vae_step": 1, "vae_bands": 1},
    }


@pytest.mark.parametrize(
    "decisions",
    [
        {},
        {"rounds": True},
        {"tokens_at_once": 7},
        {"vae_step": 2},
        {"vae_bands": 2},
        {"vae": "bf16"},
        {"rounds": True, "tokens_at_once": 7, "vae_step": 2, "vae": "bf16"},
    ],
)
@pytest.mark.parametrize("memory", [Memory.AUTO, Memory.GB12])
def test_what_was_decided_is_followed_whatever_the_memory_here(memory: Memory, decisions: Mapping[str, Any]) -> None:
    kept = changed(identity(), **decisions)
    found = prepared(native_plan(**QUICK, memory=memory), kept)
    placement: Placement = found.placement
    assert as_read_back(found.identity) == kept
    assert vars(placement.memory.bits) == kept["bits"]
    assert placement.arithmetic.vae is VaePrecision(kept["vae"])
    assert placement.memory.mode == (Memory.HIGH if memory is Memory.AUTO else memory), "what lies where is of here"


@pytest.fixture(scope="module")
def begun_small() -> list[RenderedClip]:
    """Two clips with the large matrices rounded to fp8."""
    return rendered(native_plan(**CHAIN, guide_scale=1.0, memory=Memory.GB24))


def test_a_render_that_was_begun_small_goes_on_the_same_where_there_is_room(begun_small: list[RenderedClip]) -> None:
    kept = as_read_back(prepared(native_plan(**CHAIN, memory=Memory.GB24)).identity)
    roomy = native_plan(**CHAIN, guide_scale=1.0)
    assert prepared(roomy).identity != kept
    first, second = begun_small
    (same,) = rendered(prepared(roomy, kept), start=1, carry=first.carry)
    (other,) = rendered(roomy, start=1, carry=first.carry)
    assert (same.frames == second.frames).all()
    assert (other.frames != second.frames).any(), "or rounding would prove nothing"


# what cannot be followed


@pytest.mark.parametrize(
    ("decisions", "says"),
    [
        ({"device": "cuda"}, "was begun on cuda, here it would go on on cpu"),
        ({"attention": "flash"}, "--attention flash does not run on cpu"),
        ({"attention": "sage"}, "--attention sage does not run on cpu"),
        ({"products": "fp8"}, "needs a GPU with float8 products"),
        ({"products": "auto"}, "needs a GPU with float8 products"),
    ],
)
def test_what_this_machine_cannot_follow_is_refused(decisions: Mapping[str, Any], says: str) -> None:
    with pytest.raises(EngineError) as error:
        prepared(native_plan(**QUICK), changed(identity(), **decisions))
    assert says in one_line(error)
    assert "--no-resume" in one_line(error)


@pytest.mark.parametrize(("then", "here"), [(None, 1), (1, None)])
def test_other_convolutions_of_the_vae_are_refused(
    monkeypatch: pytest.MonkeyPatch, then: int | None, here: int | None
) -> None:
    """Our own let its pieces be any, which the identity then says; PyTorch's bind them."""
    for module in ("device", "prepared"):
        patched = f"soundreel.engines.native.{module}.has_own_convolutions"
        monkeypatch.setattr(patched, lambda device, dtype: here is None)
    kept = changed(identity(), vae_step=then, vae_bands=then)
    with pytest.raises(EngineError) as error:
        prepared(native_plan(**QUICK), kept)
    assert "its VAE ran with " + ("soundreel's own" if then is None else "PyTorch's") in one_line(error)
    kept = changed(identity(), vae_step=here, vae_bands=here)
    assert as_read_back(prepared(native_plan(**QUICK), kept).identity) == kept


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: {},
        lambda kept: {name: value for name, value in kept.items() if name != "vae"},
        lambda kept: {**kept, "attention": "bogus"},
        lambda kept: {**kept, "bits": {"rounds": False}},
        lambda kept: {**kept, "bits": 5},
    ],
)
def test_what_cannot_be_read_is_refused(damage: Callable[[Identity], Identity]) -> None:
    with pytest.raises(InputError) as error:
        prepared(native_plan(**QUICK), damage(identity()))
    assert "what the render was begun with cannot be read" in one_line(error)
    assert "--no-resume" in one_line(error)


def test_the_command_refuses_in_one_line_and_begins_anew_when_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def soundreel(*more: str) -> Outcome:
        size = ("--width", "32", "--height", "32", "--frames", "5", "--steps", "1")
        native = ("--engine", "native", "--device", "cpu", "--models", OFFICIAL, "--keep-work", "--quiet")
        return run_here(capsys, "generate", SPEECH, *native, *size, "-o", tmp_path / "a.mp4", *more)

    assert soundreel().code == 0
    (path,) = tmp_path.rglob("plan.json")
    plan = json.loads(path.read_text())
    path.write_text(json.dumps(plan | {"identity": {**plan["identity"], "device": "cuda"}}))
    refused = soundreel()
    assert (refused.code, refused.out) == (5, "")
    assert refused.err.startswith("soundreel: the render was begun on cuda")
    assert len(refused.err.splitlines()) == 1
    assert soundreel("--no-resume").code == 0
    assert json.loads(path.read_text())["identity"] == plan["identity"]


# LoRAs


def write_lora(folder: Path, *, inputs: int = WIDTH, prefix: str = "diffusion_model") -> str:
    """Of rank 2, on one layer."""
    path, layer = folder / "own.safetensors", f"{prefix}.blocks.0.self_attn.q"
    save_file({f"{layer}.lora_A.weight": torch.ones(2, inputs), f"{layer}.lora_B.weight": torch.ones(WIDTH, 2)}, path)
    return str(path)


def test_a_lora_that_does_not_fit_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"'own\.safetensors' is a LoRA for a model of another size"):
        prepared(native_plan(**QUICK, loras=(write_lora(tmp_path, inputs=8),)))


def test_what_is_to_know_of_a_lora_is_said(tmp_path: Path) -> None:
    (note,) = prepared(native_plan(**QUICK, loras=(write_lora(tmp_path, prefix="base_model.model"),))).notes
    assert note == "LoRA 'own.safetensors' changes 1 layer; it does not say its alpha: taken as its rank"


def few_step_lora(path: Path) -> dict[str, torch.Tensor]:
    """As the public one of Live-Avatar: rank 128, bare names, no alpha; also written to `path`."""
    targets = re.compile(r"(.*\.(?:[qkvo]|ffn\.[02]))\.weight")
    tensors = {}
    for name, weight in official_transformer_tensors().items():
        if match := targets.fullmatch(name):
            outer, inner = weight.shape
            tensors[f"{match[1]}.lora_A.default.weight"] = torch.ones(128, inner, dtype=torch.bfloat16)
            tensors[f"{match[1]}.lora_B.default.weight"] = torch.ones(outer, 128, dtype=torch.bfloat16)
    save_file(tensors, path)
    return tensors


def plan_with_lora(capsys: pytest.CaptureFixture[str], path: Path) -> Outcome:
    size = ("--width", "32", "--height", "32", "--frames", "5", "--steps", "1")
    native = ("--engine", "native", "--device", "cpu", "--models", OFFICIAL)
    return run_here(capsys, "plan", SPEECH, *native, *size, "--lora", path)


def test_the_plan_says_what_a_lora_changes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tensors = few_step_lora(tmp_path / "liveavatar.safetensors")
    shown = plan_with_lora(capsys, tmp_path / "liveavatar.safetensors")
    assert shown.code == 0
    assert f"'liveavatar.safetensors' changes {len(tensors) // 2} layers; it does not say its alpha" in shown.out
    assert "taken as 64, as its layout is that of Live-Avatar" in shown.out


@pytest.mark.parametrize(
    ("kept", "message"),
    [(r"text_encoder\..*", "changes no layer of Wan S2V"), (r".*", "is not a LoRA for Wan S2V: of its")],
    ids=["none", "some"],
)
def test_a_lora_that_fits_nowhere_or_in_part_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kept: str, message: str
) -> None:
    path = tmp_path / "other.safetensors"
    foreign = {f"text_encoder.q.lora_{half}.weight": torch.ones(4, 4) for half in "AB"}
    tensors = {name: tensor for name, tensor in (few_step_lora(path) | foreign).items() if re.fullmatch(kept, name)}
    save_file(tensors, path)
    refused = plan_with_lora(capsys, path)
    assert (refused.code, refused.out) == (4, "")
    (line,) = refused.err.splitlines()
    assert f"'other.safetensors' {message}" in line


# once


def counted(patch: pytest.MonkeyPatch, function: Callable[..., Any], note: Callable[..., object]) -> None:
    """Let every module that uses `function` call `note` with its arguments first."""

    @wraps(function)
    def counting(*args: Any, **kwargs: Any) -> Any:
        note(*args)
        return function(*args, **kwargs)

    users = [module for name, module in sys.modules.items() if name.startswith("soundreel")]
    for module in users:
        for name in [name for name, value in vars(module).items() if value is function]:
            patch.setattr(module, name, counting)


@pytest.mark.parametrize("with_lora", [False, True])
def test_a_render_is_decided_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, with_lora: bool) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # or the sound may have been heard before
    calls: list[str] = []
    counted(monkeypatch, choose_memory, lambda *_: calls.append("memory"))
    counted(monkeypatch, outline_component, lambda spec, *_: calls.append(f"outline {spec.name}"))
    counted(monkeypatch, load_component, lambda spec, *_: calls.append(f"load {spec.name}"))
    loras = (write_lora(tmp_path),) if with_lora else ()
    generate(native_request(**QUICK, loras=loras, output=tmp_path / "a.mp4"))
    parts = ("S2V transformer", "UMT5 text encoder", "Wan VAE", "wav2vec2 audio encoder")
    before = len(parts) + 1
    assert sorted(calls[:before]) == sorted(["memory", *(f"outline {part}" for part in parts)])
    assert sorted(calls[before:]) == sorted(f"load {part}" for part in parts)
