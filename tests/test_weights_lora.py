"""LoRAs: every key style lands in the right layer with the right scale, fused or beside the weights."""

import json
import math
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from official_transformer import official_transformer
from parity.transformer import build_transformer
from soundreel.errors import InputError, WeightsError
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.weights.lora import Lora, apply_loras, open_lora
from soundreel.weights.lora_files import LoraSource
from soundreel.weights.quantized import Fp8Linear
from soundreel.weights.transformer_keys import to_ours
from weight_files import GOLDEN, OFFICIAL, official_transformer_tensors, relative_error, shape_only_file

WIDTH, HEADS, FFN, LAYERS = 48, 2, 40, 3
INJECT_LAYERS = (0, 2)
LIVE = GOLDEN / "live"

LAYERS_BY_NAME = {
    "blocks.0.self_attn.q": "blocks.0.attn1.to_q",
    "blocks.1.self_attn.o": "blocks.1.attn1.to_out.0",
    "blocks.2.cross_attn.k": "blocks.2.attn2.to_k",
    "blocks.1.ffn.0": "blocks.1.ffn.net.0.proj",
    "blocks.1.ffn.2": "blocks.1.ffn.net.2",
    "audio_injector.injector.1.v": "blocks.2.audio_attn.to_v",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
}
"""Official name → ours, a layer of every kind."""


def tiny_model(seed: int = 0) -> WanS2VTransformer3DModel:
    torch.manual_seed(seed)
    model = WanS2VTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        ffn_dim=FFN,
        num_layers=LAYERS,
        audio_inject_layers=INJECT_LAYERS,
        text_dim=32,
        text_len=8,
        freq_dim=16,
        audio_dim=20,
        num_audio_states=3,
    )
    return model.eval().requires_grad_(False)


Pairs = Mapping[str, tuple[Tensor, Tensor]]
"""Official layer name → down [r, in] and up [out, r]."""


def random_pairs(model: nn.Module, rank: int = 4, seed: int = 1, names: Mapping[str, str] = LAYERS_BY_NAME) -> Pairs:
    numbers = torch.Generator().manual_seed(seed)

    def pair(layer: nn.Module) -> tuple[Tensor, Tensor]:
        assert isinstance(layer, nn.Linear)
        down = torch.randn(rank, layer.in_features, generator=numbers) / math.sqrt(layer.in_features)
        return down, torch.randn(layer.out_features, rank, generator=numbers) / math.sqrt(rank)

    return {official: pair(model.get_submodule(ours)) for official, ours in names.items()}


def peft_tensors(pairs: Pairs, prefix: str = "base_model.model.", adapter: str = ".default") -> dict[str, Tensor]:
    tensors = {}
    for name, (down, up) in pairs.items():
        tensors[f"{prefix}{name}.lora_A{adapter}.weight"] = down
        tensors[f"{prefix}{name}.lora_B{adapter}.weight"] = up
    return tensors


def comfy_tensors(pairs: Pairs, alpha: float | None, prefix: str = "diffusion_model.") -> dict[str, Tensor]:
    tensors = {}
    for name, (down, up) in pairs.items():
        tensors[f"{prefix}{name}.lora_down.weight"] = down
        tensors[f"{prefix}{name}.lora_up.weight"] = up
        if alpha is not None:
            tensors[f"{prefix}{name}.alpha"] = torch.tensor(alpha)
    return tensors


def written(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> LoraSource:
    path.parent.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    return LoraSource(path=path)


def fused(source: LoraSource, model: WanS2VTransformer3DModel | None = None) -> WanS2VTransformer3DModel:
    model = tiny_model() if model is None else model
    apply_loras(model, [open_lora(source, model)])
    return model


def assert_changed(model: nn.Module, pairs: Pairs, scale: float) -> None:
    """Every layer of `pairs` is changed by scale·up·down, and nothing else is."""
    original = tiny_model().state_dict()
    expected = dict(original)
    for official, (down, up) in pairs.items():
        weight = f"{LAYERS_BY_NAME[official]}.weight"
        expected[weight] = original[weight] + scale * up @ down
    state = model.state_dict()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, msg=lambda text, name=name: f"{name}: {text}")


def in_diffusers_names(pairs: Pairs) -> Pairs:
    return {LAYERS_BY_NAME[name]: pair for name, pair in pairs.items()}


def with_underscores(pairs: Pairs) -> Pairs:
    return {name.replace(".", "_"): pair for name, pair in pairs.items()}


STYLES: dict[str, Callable[[Pairs], dict[str, Tensor]]] = {
    "bare": lambda pairs: peft_tensors(pairs, prefix="", adapter=""),
    "PEFT": peft_tensors,
    "PEFT saved": lambda pairs: peft_tensors(pairs, adapter=""),
    "PEFT in diffusers' names": lambda pairs: peft_tensors(in_diffusers_names(pairs)),
    "diffusers": lambda pairs: peft_tensors(in_diffusers_names(pairs), prefix="transformer.", adapter=""),
    "ComfyUI": lambda pairs: comfy_tensors(pairs, None),
    "ComfyUI with A and B": lambda pairs: peft_tensors(pairs, prefix="diffusion_model.", adapter=""),
    "ComfyUI of a whole model": lambda pairs: comfy_tensors(pairs, None, prefix="model.diffusion_model."),
    "Kohya": lambda pairs: comfy_tensors(with_underscores(pairs), alpha=4, prefix="lora_unet_"),
}


@pytest.mark.parametrize("style", STYLES)
def test_key_styles(tmp_path: Path, style: str) -> None:
    pairs = random_pairs(tiny_model())
    assert_changed(fused(written(tmp_path / "style.safetensors", STYLES[style](pairs))), pairs, scale=1.0)


class TestScale:
    def test_alpha_of_each_layer(self, tmp_path: Path) -> None:
        pairs = random_pairs(tiny_model(), rank=8)
        assert_changed(fused(written(tmp_path / "a.safetensors", comfy_tensors(pairs, alpha=2))), pairs, 0.25)

    def test_alpha_zero_is_an_alpha(self, tmp_path: Path) -> None:
        pairs = random_pairs(tiny_model())
        assert_changed(fused(written(tmp_path / "a.safetensors", comfy_tensors(pairs, alpha=0))), pairs, 0.0)

    @pytest.mark.parametrize("strength", [-0.5, 0.0, 0.8, 2.0])
    def test_strength(self, tmp_path: Path, strength: float) -> None:
        pairs = random_pairs(tiny_model(), rank=8)
        path = written(tmp_path / "a.safetensors", comfy_tensors(pairs, alpha=4)).path
        assert_changed(fused(LoraSource(path=path, strength=strength)), pairs, strength * 0.5)

    def test_alpha_in_the_metadata_that_diffusers_writes(self, tmp_path: Path) -> None:
        pairs = random_pairs(tiny_model())
        metadata = {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 12})}
        tensors = STYLES["diffusers"](pairs)
        assert_changed(fused(written(tmp_path / "a.safetensors", tensors, metadata)), pairs, 3.0)

    @pytest.mark.parametrize(
        ("config", "scale"),
        [
            ({"r": 4, "lora_alpha": 8}, 2.0),
            ({"r": 4, "lora_alpha": 8, "use_rslora": True}, 4.0),
            ({"r": 4, "lora_alpha": 1, "alpha_pattern": {r".*": 8}}, 2.0),
        ],
        ids=["alpha", "rank-stabilized", "pattern"],
    )
    def test_folder_with_peft_configuration(self, tmp_path: Path, config: object, scale: float) -> None:
        pairs = random_pairs(tiny_model())
        written(tmp_path / "style" / "adapter_model.safetensors", STYLES["PEFT saved"](pairs))
        (tmp_path / "style" / "adapter_config.json").write_text(json.dumps(config))
        assert_changed(fused(LoraSource(path=tmp_path / "style")), pairs, scale)

    def test_pattern_is_for_its_layers_only(self, tmp_path: Path) -> None:
        pairs = random_pairs(tiny_model())
        written(tmp_path / "style" / "adapter_model.safetensors", STYLES["PEFT saved"](pairs))
        config = {"lora_alpha": 4, "alpha_pattern": {"ffn.0": 40}}
        (tmp_path / "style" / "adapter_config.json").write_text(json.dumps(config))
        model = tiny_model()
        lora = open_lora(LoraSource(path=tmp_path / "style"), model)
        scales = {official: lora.layers[ours].scale for official, ours in LAYERS_BY_NAME.items()}
        assert {name for name, scale in scales.items() if scale == 10.0} == {"blocks.1.ffn.0"}
        assert sum(scale == 1.0 for scale in scales.values()) == len(scales) - 1

    @pytest.mark.parametrize("style", ["bare", "PEFT"])
    def test_unsaid_alpha_is_the_rank_with_a_note(self, tmp_path: Path, style: str) -> None:
        source = written(tmp_path / "a.safetensors", STYLES[style](random_pairs(tiny_model())))
        assert open_lora(source, tiny_model()).notes == (
            "LoRA 'a.safetensors' changes 9 layers; it does not say its alpha: taken as its rank",
        )

    def test_a_note_says_how_many_layers_are_changed(self, tmp_path: Path) -> None:
        source = written(tmp_path / "a.safetensors", comfy_tensors(random_pairs(tiny_model()), alpha=2))
        assert open_lora(source, tiny_model()).notes == ("LoRA 'a.safetensors' changes 9 layers",)


class TestPublicFewStepLayout:
    """Rank 128 on q, k, v, o, ffn.0 and ffn.2 of all blocks and injectors; alpha 64 is not in the file."""

    @pytest.mark.parametrize("prefix", ["", "base_model.model."], ids=["bare", "prefixed"])
    def test_is_known_by_bare_names_and_by_those_of_a_peft_model(self, tmp_path: Path, prefix: str) -> None:
        pairs = few_step_pairs()
        lora = open_lora(written(tmp_path / "a.safetensors", peft_tensors(pairs, prefix=prefix)), tiny_model())
        assert {change.scale for change in lora.layers.values()} == {0.5}
        assert len(lora.layers) == len(pairs) == 10 * LAYERS + 4 * len(INJECT_LAYERS)
        assert lora.notes == (
            "LoRA 'a.safetensors' changes 38 layers; it does not say its alpha: taken as 64, as its layout is that of "
            "Live-Avatar",
        )

    @pytest.mark.parametrize(
        "other",
        [
            lambda: peft_tensors(few_step_pairs(rank=64)),
            lambda: peft_tensors({name: pair for name, pair in few_step_pairs().items() if "ffn" not in name}),
            lambda: peft_tensors({name: pair for name, pair in few_step_pairs().items() if "inject" not in name}, ""),
            lambda: peft_tensors(few_step_pairs(), prefix="diffusion_model."),
        ],
        ids=["other rank", "other layers", "without the injectors", "other keys"],
    )
    def test_others_are_not_taken_for_it(self, tmp_path: Path, other: Callable[[], dict[str, Tensor]]) -> None:
        lora = open_lora(written(tmp_path / "other.safetensors", other()), tiny_model())
        assert {change.scale for change in lora.layers.values()} == {1.0}

    def test_the_published_size(self, tmp_path: Path) -> None:
        """448 layers and 676,331,520 values, as counted by those who have the file."""
        with torch.device("meta"):
            model = WanS2VTransformer3DModel()
        layers = few_step_layers(blocks=40, injectors=12, width=5120, inner=13824)
        shapes = {
            f"{name}.lora_{half}.default.weight": shape
            for name, (inner, outer) in layers.items()
            for half, shape in (("A", (128, inner)), ("B", (outer, 128)))
        }
        assert sum(math.prod(shape) for shape in shapes.values()) == 676_331_520
        lora = open_lora(LoraSource(path=shape_only_file(tmp_path / "liveavatar.safetensors", shapes)), model)
        assert (len(lora.layers), {change.scale for change in lora.layers.values()}) == (448, {0.5})


@pytest.mark.skipif(not LIVE.is_dir(), reason="../shared/golden/live is not here")
def test_merging_the_few_step_lora_gives_what_its_own_code_gives() -> None:
    """Rows 0:24 of seven weights, merged there in float32; alpha is half the rank."""
    config = json.loads((OFFICIAL / "config.json").read_text())
    model = build_transformer(official_transformer_tensors(), config)
    lora = open_lora(LoraSource(path=LIVE / "liveavatar_tiny.safetensors", strength=0.5), model)
    assert len(lora.layers) == 62
    apply_loras(model, [lora])
    state = model.state_dict()
    for name, expected in load_file(LIVE / "lora_merge.safetensors").items():
        if layer := re.fullmatch(r"out\.float32\.(.+)", name):
            ours = to_ours(f"{layer[1]}.weight", model.config["audio_inject_layers"])
            assert relative_error(state[ours][:24], expected) < 1e-6


def few_step_pairs(rank: int = 128) -> Pairs:
    layers = few_step_layers(LAYERS, len(INJECT_LAYERS), WIDTH, FFN)
    return {name: (torch.randn(rank, inner), torch.randn(outer, rank)) for name, (inner, outer) in layers.items()}


def few_step_layers(blocks: int, injectors: int, width: int, inner: int) -> dict[str, tuple[int, int]]:
    """Official name → inputs and outputs."""
    attention = [
        *(f"blocks.{i}.{kind}" for i in range(blocks) for kind in ("self_attn", "cross_attn")),
        *(f"audio_injector.injector.{i}" for i in range(injectors)),
    ]
    layers = {f"{name}.{part}": (width, width) for name in attention for part in "qkvo"}
    for i in range(blocks):
        layers |= {f"blocks.{i}.ffn.0": (width, inner), f"blocks.{i}.ffn.2": (inner, width)}
    return layers


def test_peft_on_the_official_model_changes_the_same(tmp_path: Path) -> None:
    """Trained as the public few-step weights were: PEFT picks the layers, and merges them there."""
    config = {
        "model_type": "s2v", "dim": 192, "num_heads": 2, "ffn_dim": 72, "num_layers": 3, "freq_dim": 64,
        "audio_inject_layers": [0, 2], "audio_dim": 24, "text_dim": 40, "cond_dim": 16, "enable_adain": True,
        "adain_mode": "attn_norm", "zero_timestep": True, "enable_motioner": False, "enable_framepack": True,
    }  # fmt: skip
    official = official_transformer(config, seed=1)
    ours = build_transformer(dict(official.state_dict()), config)
    settings = LoraConfig(
        r=8, lora_alpha=4, target_modules=["q", "k", "v", "o", "ffn.0", "ffn.2"], init_lora_weights=False
    )
    adapted = get_peft_model(official, settings)
    tensors = {name: tensor for name, tensor in adapted.state_dict().items() if "lora_" in name}
    saved = written(tmp_path / "style" / "adapter_model.safetensors", tensors).path.parent
    (saved / "adapter_config.json").write_text(json.dumps({"r": 8, "lora_alpha": 4}))
    apply_loras(ours, [open_lora(LoraSource(path=saved), ours)])

    merged = build_transformer(dict(adapted.merge_and_unload().state_dict()), config)
    for (name, value), expected in zip(ours.state_dict().items(), merged.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, msg=lambda text, name=name: f"{name}: {text}")


class TestSeveral:
    def test_changes_add_up(self, tmp_path: Path) -> None:
        model = tiny_model()
        first, second = random_pairs(model, seed=1), random_pairs(model, rank=2, seed=2)
        sources = [
            LoraSource(path=written(tmp_path / "1.safetensors", peft_tensors(first)).path, strength=0.5),
            LoraSource(path=written(tmp_path / "2.safetensors", comfy_tensors(second, None)).path, strength=-1.0),
        ]
        apply_loras(model, [open_lora(source, model) for source in sources])
        original = tiny_model().state_dict()
        for official, ours in LAYERS_BY_NAME.items():
            expected = (
                original[f"{ours}.weight"]
                + 0.5 * first[official][1] @ first[official][0]
                - second[official][1] @ second[official][0]
            )
            torch.testing.assert_close(model.state_dict()[f"{ours}.weight"], expected)

    def test_half_precision_weights_are_rounded_once(self, tmp_path: Path) -> None:
        model = tiny_model().bfloat16()
        pairs = random_pairs(model)
        source = written(tmp_path / "a.safetensors", peft_tensors(pairs))
        apply_loras(model, [open_lora(source, model), open_lora(source, model)])
        down, up = pairs["blocks.0.self_attn.q"]
        expected = tiny_model().bfloat16().blocks[0].attn1.to_q.weight.float() + 2 * (up @ down)
        assert torch.equal(model.blocks[0].attn1.to_q.weight, expected.bfloat16())


class TestBesideTheWeights:
    def test_computes_what_fusing_computes(self, tmp_path: Path) -> None:
        sources = [
            LoraSource(path=written(tmp_path / "1.safetensors", peft_tensors(random_pairs(tiny_model()))).path),
            LoraSource(path=written(tmp_path / "2.safetensors", mixed_tensors()).path, strength=0.7),
        ]
        beside = float8_model()
        whole = widened(beside)
        plain = velocity(whole)
        apply_loras(whole, [open_lora(source, whole) for source in sources])
        apply_loras(beside, [open_lora(source, beside) for source in sources])
        assert any("lora_A" in name for name, _ in beside.named_parameters())
        assert not any("lora_A" in name for name, _ in whole.named_parameters())
        assert not any(parameter.requires_grad for parameter in beside.parameters())
        expected, ours = velocity(whole), velocity(beside)
        assert (expected - plain).norm() > 0.05 * plain.norm()
        assert (ours - expected).norm() < 1e-5 * expected.norm()

    def test_can_be_switched_off(self, tmp_path: Path) -> None:
        model = float8_model()
        expected = velocity(model)
        source = written(tmp_path / "1.safetensors", peft_tensors(random_pairs(tiny_model())))
        apply_loras(model, [open_lora(source, model)])
        assert not torch.equal(velocity(model), expected)
        for layer in model.modules():
            if isinstance(layer, BaseTunerLayer):
                layer.enable_adapters(False)
        assert torch.equal(velocity(model), expected)

    def test_float8_weights_keep_their_bits(self, tmp_path: Path) -> None:
        model = tiny_model()
        model.blocks[0].attn1.to_q = float8(model.blocks[0].attn1.to_q)
        pairs = random_pairs(model)
        bits = model.blocks[0].attn1.to_q.weight.clone()
        x = torch.randn(2, 5, WIDTH)
        before = model.blocks[0].attn1.to_q(x)

        fused(written(tmp_path / "a.safetensors", comfy_tensors(pairs, alpha=2)), model)
        down, up = pairs["blocks.0.self_attn.q"]
        torch.testing.assert_close(model.blocks[0].attn1.to_q(x), before + 0.5 * x @ down.T @ up.T)
        assert torch.equal(model.blocks[0].attn1.to_q.base_layer.weight, bits)
        assert type(model.blocks[1].attn1.to_out[0]) is nn.Linear  # 16- and 32-bit weights are still fused


def mixed_tensors() -> dict[str, Tensor]:
    """Other ranks and alphas per layer, as converted files have them."""
    model = tiny_model()
    low, high = random_pairs(model, rank=2, seed=5), random_pairs(model, rank=6, seed=6)
    tensors = comfy_tensors({name: pair for name, pair in low.items() if "attn" in name}, alpha=3)
    return tensors | comfy_tensors({name: pair for name, pair in high.items() if "ffn" in name}, alpha=2)


def float8(layer: nn.Module) -> Fp8Linear:
    assert isinstance(layer, nn.Linear)
    replacement = Fp8Linear(layer.in_features, layer.out_features, bias=True, float8=torch.float8_e4m3fn)
    scale = layer.weight.abs().max() / 448
    bits = (layer.weight / scale).to(torch.float8_e4m3fn).view(torch.int8)
    replacement.weight = nn.Parameter(bits, requires_grad=False)
    replacement.bias = layer.bias
    replacement.scale = scale
    return replacement


def float8_model() -> WanS2VTransformer3DModel:
    """Its linear layers in float8, as a file that has all of them so is loaded."""
    return with_linear_layers(tiny_model(), float8)


def widened(model: WanS2VTransformer3DModel) -> WanS2VTransformer3DModel:
    """The same weights in float32."""

    def widen(layer: nn.Module) -> nn.Linear:
        assert isinstance(layer, Fp8Linear)
        wide = nn.Linear(layer.in_features, layer.out_features).requires_grad_(False)
        wide.weight.copy_(layer.dequantize(torch.float32))
        wide.bias.copy_(layer.bias)
        return wide

    return with_linear_layers(deepcopy(model), widen)


def with_linear_layers(
    model: WanS2VTransformer3DModel, changed: Callable[[nn.Module], nn.Module]
) -> WanS2VTransformer3DModel:
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, changed(layer))
    return model


@torch.no_grad()
def velocity(model: WanS2VTransformer3DModel) -> Tensor:
    numbers = torch.Generator().manual_seed(9)
    conditioning = model.condition(
        text=torch.randn(5, 32, generator=numbers),
        audio=torch.randn(3, 20, 8, generator=numbers),
        frames=2,
        height=8,
        width=8,
        reference=torch.randn(16, 1, 8, 8, generator=numbers),
    )
    latents = torch.randn(1, 16, 2, 8, 8, generator=numbers)
    result: Tensor = model(latents, torch.tensor(700), conditioning)
    return result


class TestWholeDifferences:
    def test_of_weights_biases_and_norms(self, tmp_path: Path) -> None:
        weight, bias, norm = torch.randn(FFN, WIDTH), torch.randn(WIDTH), torch.randn(WIDTH)
        tensors = {
            "diffusion_model.blocks.1.ffn.0.diff": weight,
            "diffusion_model.blocks.1.self_attn.q.diff_b": bias,
            "diffusion_model.blocks.1.norm3.diff": norm,
        }
        path = written(tmp_path / "a.safetensors", tensors).path
        state, before = fused(LoraSource(path=path, strength=0.5)).state_dict(), tiny_model().state_dict()
        changed = {name for name in before if not torch.equal(state[name], before[name])}
        assert changed == {
            "blocks.1.ffn.net.0.proj.weight",
            "blocks.1.attn1.to_q.bias",
            "blocks.1.norm2.weight",
        }
        name = "blocks.1.ffn.net.0.proj.weight"
        torch.testing.assert_close(state[name], before[name] + 0.5 * weight)

    def test_bias_beside_a_product_is_scaled_with_it(self, tmp_path: Path) -> None:
        pairs = {name: pair for name, pair in random_pairs(tiny_model()).items() if name == "blocks.1.ffn.2"}
        bias = torch.randn(WIDTH)
        tensors = peft_tensors(pairs) | {"base_model.model.blocks.1.ffn.2.lora_B.default.bias": bias}
        metadata = {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 2})}
        path = written(tmp_path / "a.safetensors", tensors, metadata).path
        model = fused(LoraSource(path=path, strength=0.5))
        expected = tiny_model().blocks[1].ffn.net[2].bias + 0.5 * 0.5 * bias
        torch.testing.assert_close(model.blocks[1].ffn.net[2].bias, expected)

    def test_convolution(self, tmp_path: Path) -> None:
        down, up = torch.randn(4, 16, 1, 2, 2), torch.randn(WIDTH, 4, 1, 1, 1)
        tensors = {
            "diffusion_model.patch_embedding.lora_down.weight": down,
            "diffusion_model.patch_embedding.lora_up.weight": up,
        }
        model = fused(written(tmp_path / "a.safetensors", tensors))
        expected = tiny_model().patch_embedding.weight + torch.einsum("or,rityx->oityx", up[..., 0, 0, 0], down)
        torch.testing.assert_close(model.patch_embedding.weight, expected)

    @pytest.mark.parametrize("ending", ["modulation.diff", "diff_m"])
    def test_of_modulation_tables(self, tmp_path: Path, ending: str) -> None:
        block, head = torch.randn(1, 6, WIDTH), torch.randn(1, 2, WIDTH)
        tensors = {f"diffusion_model.blocks.1.{ending}": block, f"diffusion_model.head.{ending}": head}
        path = written(tmp_path / "a.safetensors", tensors).path
        lora = open_lora(LoraSource(path=path, strength=0.5), tiny_model())
        assert lora.notes == ("LoRA 'a.safetensors' changes 2 layers",)
        model, before = fused(lora.source), tiny_model()
        torch.testing.assert_close(model.blocks[1].scale_shift_table, before.blocks[1].scale_shift_table + 0.5 * block)
        torch.testing.assert_close(model.scale_shift_table, before.scale_shift_table + 0.5 * head)

    def test_not_of_quantized_weights(self, tmp_path: Path) -> None:
        model = tiny_model()
        model.blocks[1].ffn.net[0].proj = float8(model.blocks[1].ffn.net[0].proj)
        tensors = {"diffusion_model.blocks.1.ffn.0.diff": torch.randn(FFN, WIDTH)}
        lora = open_lora(written(tmp_path / "a.safetensors", tensors), model)
        with pytest.raises(WeightsError, match="which is quantized: take 16-bit weights"):
            apply_loras(model, [lora])


def test_opening_needs_neither_the_weights_nor_the_tensors(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = tiny_model()
    source = written(tmp_path / "a.safetensors", peft_tensors(random_pairs(tiny_model())))
    lora = open_lora(source, model)
    assert isinstance(lora, Lora)
    assert set(lora.layers) == set(LAYERS_BY_NAME.values())


class TestRefused:
    def test_layers_of_images_are_left_out_and_that_is_said(self, tmp_path: Path) -> None:
        """LoRAs for image-to-video are used with S2V: nothing of it reads their images."""
        pairs = random_pairs(tiny_model())
        images = {f"blocks.{i}.cross_attn.k_img": (torch.randn(4, WIDTH), torch.randn(WIDTH, 4)) for i in range(2)}
        tensors = comfy_tensors(pairs | images, None) | {
            "diffusion_model.blocks.0.cross_attn.norm_k_img.diff": torch.randn(WIDTH),
            "diffusion_model.img_emb.proj.1.diff_b": torch.randn(WIDTH),
        }
        source = written(tmp_path / "i2v.safetensors", tensors)
        assert open_lora(source, tiny_model()).notes == (
            "LoRA 'i2v.safetensors' changes 9 layers; 4 layers for images have no place in Wan S2V and are left out",
        )
        assert_changed(fused(source), pairs, 1.0)

    @pytest.mark.parametrize(
        "stranger",
        ["blocks.3.self_attn.q", "blocks.0.self_attn.w", "audio_injector.injector.2.q", "vace_blocks.0.ffn.0"],
    )
    def test_a_lora_that_fits_in_part_is_refused(self, tmp_path: Path, stranger: str) -> None:
        pairs = {**random_pairs(tiny_model()), stranger: (torch.randn(4, WIDTH), torch.randn(WIDTH, 4))}
        message = rf"of its 10 layers 9 are in this model, 2 tensors \(base_model\.model\.{stranger}\.lora_A.* no place"
        with pytest.raises(WeightsError, match=message):
            open_lora(written(tmp_path / "a.safetensors", peft_tensors(pairs)), tiny_model())

    def test_tensors_of_no_known_form_are_refused(self, tmp_path: Path) -> None:
        tensors = {**peft_tensors(random_pairs(tiny_model())), "blocks.0.self_attn.q.lora_C.weight": torch.randn(4)}
        with pytest.raises(WeightsError, match=r"1 tensor \(blocks\.0\.self_attn\.q\.lora_C\.weight\) have no place"):
            open_lora(written(tmp_path / "a.safetensors", tensors), tiny_model())

    @pytest.mark.parametrize(
        "again", ["diffusion_model.{}.lora_A.default.weight", "base_model.model.{}.lora_A.b.weight"]
    )
    def test_a_layer_is_changed_once(self, tmp_path: Path, again: str) -> None:
        """Of two styles or of two adapters of PEFT one would be lost."""
        pairs = {name: pair for name, pair in random_pairs(tiny_model()).items() if name == "blocks.1.ffn.2"}
        tensors = peft_tensors(pairs)
        for half in "AB":
            name = again.format("blocks.1.ffn.2").replace("lora_A", f"lora_{half}")
            tensors[name] = tensors[f"base_model.model.blocks.1.ffn.2.lora_{half}.default.weight"].clone()
        with pytest.raises(WeightsError, match=r"changes one layer twice, by \w+_model\..* and \w+_model\."):
            open_lora(written(tmp_path / "a.safetensors", tensors), tiny_model())

    def test_lora_of_another_model(self, tmp_path: Path) -> None:
        tensors = peft_tensors({"down_blocks.0.to_q": (torch.randn(4, 8), torch.randn(8, 4))}, adapter="")
        with pytest.raises(WeightsError, match=r"changes no layer of Wan S2V: it has 2 tensors \(base_model"):
            open_lora(written(tmp_path / "a.safetensors", tensors), tiny_model())

    def test_model_of_another_size(self, tmp_path: Path) -> None:
        tensors = peft_tensors({"blocks.0.self_attn.q": (torch.randn(4, 64), torch.randn(64, 4))})
        with pytest.raises(WeightsError, match=r"another size: .*lora_A.* has shape \[4, 64\], the layer \[48, 48\]"):
            open_lora(written(tmp_path / "a.safetensors", tensors), tiny_model())

    def test_more_blocks_than_the_model(self, tmp_path: Path) -> None:
        tensors = peft_tensors({"blocks.30.self_attn.q": (torch.randn(4, WIDTH), torch.randn(WIDTH, 4))})
        with pytest.raises(WeightsError, match="changes no layer"):
            open_lora(written(tmp_path / "a.safetensors", tensors), tiny_model())

    def test_an_alpha_alone(self, tmp_path: Path) -> None:
        tensors = comfy_tensors(random_pairs(tiny_model()), alpha=2)
        del tensors["diffusion_model.blocks.1.ffn.0.lora_down.weight"]
        del tensors["diffusion_model.blocks.1.ffn.0.lora_up.weight"]
        with pytest.raises(WeightsError, match=r"ffn\.0\.alpha' without its counterpart"):
            open_lora(written(tmp_path / "a.safetensors", tensors), tiny_model())

    def test_half_a_pair(self, tmp_path: Path) -> None:
        tensors = peft_tensors(random_pairs(tiny_model()))
        del tensors["base_model.model.blocks.1.ffn.0.lora_B.default.weight"]
        with pytest.raises(WeightsError, match=r"ffn\.0\.lora_A\.default\.weight' without its counterpart"):
            open_lora(written(tmp_path / "a.safetensors", tensors), tiny_model())

    @pytest.mark.parametrize(
        ("key", "method"),
        [
            ("blocks.0.self_attn.q.lora_magnitude_vector", "DoRA"),
            ("diffusion_model.blocks.0.self_attn.q.dora_scale", "DoRA"),
            ("lycoris_blocks_0_self_attn_q.lokr_w1", "LoKr"),
            ("lora_unet_blocks_0_self_attn_q.hada_w1_a", "LoHa"),
        ],
    )
    def test_other_methods_are_named(self, tmp_path: Path, key: str, method: str) -> None:
        tensors = {**peft_tensors(random_pairs(tiny_model())), key: torch.randn(4)}
        with pytest.raises(WeightsError, match=f"made by {method}"):
            open_lora(written(tmp_path / "a.safetensors", tensors), tiny_model())

    def test_damaged_settings(self, tmp_path: Path) -> None:
        written(tmp_path / "style" / "adapter_model.safetensors", peft_tensors(random_pairs(tiny_model())))
        (tmp_path / "style" / "adapter_config.json").write_text('{"lora_alpha": 8')
        with pytest.raises(WeightsError, match=r"adapter_config\.json' are not readable"):
            open_lora(LoraSource(path=tmp_path / "style"), tiny_model())

    def test_truncated_file(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.safetensors", peft_tensors(random_pairs(tiny_model()))).path
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(WeightsError, match=r"a\.safetensors"):
            open_lora(LoraSource(path=path), tiny_model())

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"no such LoRA: .*nowhere\.safetensors'; expected FILE\[:strength\]"):
            open_lora(LoraSource(path=tmp_path / "nowhere.safetensors"), tiny_model())

    @pytest.mark.parametrize("names", [[], ["a.safetensors", "b.safetensors"]], ids=["none", "two"])
    def test_folder_without_one_lora(self, tmp_path: Path, names: list[str]) -> None:
        for name in names:
            written(tmp_path / name, {"x": torch.zeros(1)})
        with pytest.raises(WeightsError, match="expected one LoRA file"):
            open_lora(LoraSource(path=tmp_path), tiny_model())


class TestParse:
    @pytest.mark.parametrize(
        ("text", "path", "strength"),
        [
            ("style.safetensors", "style.safetensors", 1.0),
            ("style.safetensors:0.8", "style.safetensors", 0.8),
            ("style.safetensors:-1", "style.safetensors", -1.0),
            ("C:/loras/style.safetensors", "C:/loras/style.safetensors", 1.0),
            ("C:/loras/style.safetensors:2", "C:/loras/style.safetensors", 2.0),
            ("a:b.safetensors", "a:b.safetensors", 1.0),
        ],
    )
    def test_file_and_strength(self, text: str, path: str, strength: float) -> None:
        assert LoraSource.parse(text) == LoraSource(path=Path(path), strength=strength)

    def test_existing_file_with_a_colon_is_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "style:2"
        path.touch()
        assert LoraSource.parse(str(path)) == LoraSource(path=path)

    @pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
    def test_strength_is_finite(self, number: str) -> None:
        with pytest.raises(InputError, match="expected a finite number"):
            LoraSource.parse(f"style.safetensors:{number}")

    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_any_finite_strength(self, strength: float) -> None:
        assert LoraSource.parse(f"x.safetensors:{strength!r}").strength == strength
