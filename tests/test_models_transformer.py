"""The S2V transformer: the reference's numbers, what a conditioning holds, and a pure `forward`."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from library_networks import library_network
from official_transformer import official_transformer, official_velocity
from parity.case import read_cases
from parity.transformer import build_transformer, condition_case
from parity.transformer import official_transformer as golden_transformer
from soundreel.errors import InputError
from soundreel.models import diffusers_model
from soundreel.models.kernels import reference
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.weights.catalog import Component
from soundreel.weights.precision import round_layers, step_layers

FRAMES, HEIGHT, WIDTH = (
    3,
    10,
    12,
)  # of the latents; 10 rows are not whole patches of the coarser motion tokens
TOKENS_PER_FRAME = HEIGHT // 2 * WIDTH // 2
NOISE_TOKENS = FRAMES * TOKENS_PER_FRAME
SIZE: dict[str, Any] = {"frames": FRAMES, "height": HEIGHT, "width": WIDTH}
CONFIG: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 48,
    "text_dim": 24,
    "text_len": 16,
    "freq_dim": 32,
    "ffn_dim": 80,
    "num_layers": 3,
    "audio_dim": 20,
    "num_audio_states": 3,
    "audio_inject_layers": (0, 2),
}
OFFICIAL_CONFIG: dict[str, Any] = {
    "model_type": "s2v",
    "freq_dim": 64,
    "cond_dim": 16,
    "enable_adain": True,
    "adain_mode": "attn_norm",
    "zero_timestep": True,
    "enable_motioner": False,
    "enable_framepack": True,
}


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model() -> WanS2VTransformer3DModel:
    return random_model()


def random_model(**config: Any) -> WanS2VTransformer3DModel:
    """A tiny transformer in which every parameter matters."""
    model = WanS2VTransformer3DModel(**{**CONFIG, **config}).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 and "table" not in name else 4
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan_in**-0.5)
    return model


def inputs(seed: int = 1, **other: Tensor | None) -> dict[str, Any]:
    """A clip's conditions, all given; `other` replaces some."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        **SIZE,
        "text": noise(5, 24),
        "audio": noise(3, 20, 4 * FRAMES),
        "reference": noise(16, 1, HEIGHT, WIDTH),
        "motion": noise(16, 19, HEIGHT, WIDTH),
        "pose": noise(16, FRAMES, HEIGHT, WIDTH),
        **other,
    }


LATENTS = torch.randn(1, 16, FRAMES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
T = torch.tensor(701)


class TestAgainstTheReference:
    @pytest.mark.parametrize("drop_motion", [False, True])
    @pytest.mark.parametrize(
        ("sizes", "size", "text_rows"),
        [
            (
                {"dim": 192, "num_heads": 2, "ffn_dim": 200, "num_layers": 4, "audio_inject_layers": [0, 2, 3],
                 "audio_dim": 24, "text_dim": 40, "text_len": 48, "framepack_drop_mode": "padd"},
                (3, 10, 14), 5,
            ),
            (
                {"dim": 320, "num_heads": 4, "ffn_dim": 96, "num_layers": 3, "audio_inject_layers": [1, 2],
                 "audio_dim": 48, "text_dim": 24, "text_len": 512, "framepack_drop_mode": "drop",
                 "num_audio_token": 3, "add_last_motion": False},
                (2, 20, 12), 512,
            ),
            (
                {"dim": 256, "num_heads": 2, "ffn_dim": 64, "num_layers": 2, "audio_inject_layers": [0],
                 "audio_dim": 16, "text_dim": 16, "text_len": 32, "framepack_drop_mode": "padd",
                 "add_last_motion": False},
                (1, 12, 22), 1,
            ),
        ],
    )  # fmt: skip
    def test_official_code(
        self, sizes: dict[str, Any], size: tuple[int, int, int], text_rows: int, drop_motion: bool
    ) -> None:
        config = {**OFFICIAL_CONFIG, **sizes}
        official = official_transformer(config, seed=text_rows)
        ours = build_transformer(dict(official.state_dict()), config)
        frames, *area = size
        tensors = {
            "text": torch.randn(text_rows, config["text_dim"]),
            "audio": torch.randn(25, config["audio_dim"], 4 * frames),
            "reference": torch.randn(16, 1, *area),
            "motion": torch.randn(16, 19, *area),
            "pose": torch.randn(16, *size),
        }
        latents = torch.randn(16, *size)
        expected = official_velocity(official, drop_motion=drop_motion, latents=latents, t=T, **tensors)
        if drop_motion:
            del tensors["motion"]
        conditioning = ours.condition(frames=frames, height=area[0], width=area[1], **tensors)
        velocity = ours(latents[None], T, conditioning)[0]
        assert (velocity - expected).norm() < 1e-5 * expected.norm()

    def test_bfloat16_stays_within_three_percent(self, golden: Path) -> None:
        model = deepcopy(golden_transformer(golden / "tiny_official")).to(torch.bfloat16)
        cases = [case for case in read_cases(golden) if case.kind == "transformer_forward"]
        for case in cases[:2]:
            velocity = model(case["in.x"][None], case["in.t"], condition_case(model, case))[0]
            assert velocity.dtype is torch.float32
            assert (velocity - case["out.v"]).norm() < 0.03 * case["out.v"].norm(), case.name


class TestConditioning:
    def test_holds_no_tokens_of_what_is_not_given(self, model: WanS2VTransformer3DModel) -> None:
        bare = model.condition(**inputs(reference=None, motion=None, pose=None))
        assert bare.clean_tokens.shape == (1, 0, 96)
        assert len(bare.rotary.cos) == NOISE_TOKENS
        assert bare.noise_offset.shape == (1, 1, 96)
        assert model(LATENTS, T, bare).isfinite().all()

    def test_reference_and_motion_are_tokens_and_matter(self, model: WanS2VTransformer3DModel) -> None:
        full = model.condition(**inputs())
        motion_tokens = TOKENS_PER_FRAME + (10 // 4) * (12 // 4) + 4 * (10 // 8) * (12 // 8)
        assert full.clean_tokens.shape[1] == TOKENS_PER_FRAME + motion_tokens
        velocity = model(LATENTS, T, full)
        for name in ("reference", "motion", "pose"):
            without = model(LATENTS, T, model.condition(**inputs(**{name: None})))
            assert (velocity - without).norm() > 0.01 * velocity.norm(), name

    def test_no_pose_is_a_pose_of_zero_latents(self, model: WanS2VTransformer3DModel) -> None:
        zeros = model.condition(**inputs(pose=torch.zeros(16, FRAMES, HEIGHT, WIDTH)))
        velocity = model(LATENTS, T, model.condition(**inputs(pose=None)))
        torch.testing.assert_close(velocity, model(LATENTS, T, zeros), rtol=1e-4, atol=1e-5)

    def test_latents_smaller_than_the_coarsest_patch(self, model: WanS2VTransformer3DModel) -> None:
        small = inputs(pose=None, reference=None, motion=torch.ones(16, 19, 4, 6))
        small |= {"height": 4, "width": 6}
        conditioning = model.condition(**small)
        assert conditioning.clean_tokens.shape[1] == 2 * 3 + 1 * 1
        assert len(conditioning.rotary.cos) == FRAMES * 2 * 3 + 2 * 3 + 1 * 1
        assert model(LATENTS[..., :4, :6], T, conditioning).shape == (1, 16, FRAMES, 4, 6)

    @pytest.mark.parametrize("frame", range(4 * FRAMES))
    def test_sound_reaches_its_own_latent_frame_and_later_ones(
        self, model: WanS2VTransformer3DModel, frame: int
    ) -> None:
        before, moved = inputs(), inputs()
        moved["audio"][:, :, frame] += 1
        own = frame // 4
        for block, other in zip(heard(model, before), heard(model, moved), strict=True):
            assert torch.equal(block[:own], other[:own]) or frame == 0  # frame 0 is what the lead repeats
            assert not torch.equal(block[own], other[own])

    def test_sound_enters_at_its_own_frame(self, model: WanS2VTransformer3DModel) -> None:
        before, moved = inputs(), inputs()
        moved["audio"][:, :, -1] += 1
        hidden = torch.randn(1, NOISE_TOKENS + 7, 96)
        block = model.blocks[0]
        injected = [
            block.inject_audio(hidden, model.condition(**clip).blocks[0].audio, NOISE_TOKENS)
            for clip in (before, moved)
        ]
        changed = (injected[0] != injected[1]).any(dim=-1)[0]
        assert not changed[: NOISE_TOKENS - TOKENS_PER_FRAME].any()
        assert changed[NOISE_TOKENS - TOKENS_PER_FRAME : NOISE_TOKENS].all()
        assert not changed[NOISE_TOKENS:].any()
        assert torch.equal(injected[0][:, NOISE_TOKENS:], hidden[:, NOISE_TOKENS:])

    def test_null_audio_is_heard_alike_in_every_frame(self, model: WanS2VTransformer3DModel) -> None:
        null = inputs()
        null["audio"] = null["audio"] * 0
        for block in heard(model, null):
            torch.testing.assert_close(block, block[:1].expand_as(block))

    def test_clean_tokens_follow_the_noise_without_zero_timestep(self) -> None:
        model = random_model(zero_timestep=False)
        conditioning = model.condition(**inputs())
        assert conditioning.clean_modulation is None
        _, modulation = model.condition_embedder.time(T.reshape(1))
        explicit = replace(conditioning, clean_modulation=modulation)
        assert torch.equal(model(LATENTS, T, conditioning), model(LATENTS, T, explicit))

    def test_model_without_adaptive_audio_norm_or_pose(self) -> None:
        model = random_model(adaptive_audio_norm=False, pose_channels=0)
        assert model(LATENTS, T, model.condition(**inputs(pose=None))).isfinite().all()

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"audio": torch.zeros(3, 20, 11)}, r"audio has shape \[3, 20, 11\]: expected \[3, 20, 12\]"),
            ({"text": torch.zeros(17, 24)}, "text has 17 rows: expected at most 16"),
            ({"motion": torch.zeros(16, 19, 8, 12)}, r"motion .* expected \[16, any, 10, 12\]"),
            ({"reference": torch.zeros(1, 16, 1, 10, 12)}, "reference has shape"),
            ({"pose": torch.zeros(16, 2, 10, 12)}, r"pose .* expected \[16, 3, 10, 12\]"),
            ({"height": 9}, r"latents are \(3, 9, 12\)"),
            ({"frames": 0}, r"latents are \(0, 10, 12\)"),
        ],
    )
    def test_wrong_shapes_are_named(self, model: WanS2VTransformer3DModel, wrong: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            model.condition(**inputs(**wrong))


def heard(model: WanS2VTransformer3DModel, clip: dict[str, Any]) -> list[Tensor]:
    """[F, …] of all that each block knows of the sound, per latent frame."""
    audios = [block.audio for block in model.condition(**clip).blocks if block.audio is not None]
    parts = [(a.tokens.key, a.tokens.value, a.shift, a.scale) for a in audios]
    return [torch.cat([part[0].flatten(1) for part in block], dim=1) for block in parts]


class TestForward:
    def test_branches_together_equal_separate_passes(self, model: WanS2VTransformer3DModel) -> None:
        positive = model.condition(**inputs())
        null = inputs()
        negative = model.condition(**inputs(text=torch.randn(11, 24), audio=null["audio"] * 0))
        together = model.forward_branches(LATENTS, T, [positive, negative])
        separate = [model(LATENTS, T, branch) for branch in (positive, negative)]
        assert all(torch.equal(one, other) for one, other in zip(together, separate, strict=True))
        assert not torch.allclose(separate[0], separate[1], atol=0.1)

    def test_is_pure(self, model: WanS2VTransformer3DModel) -> None:
        conditioning = model.condition(**inputs())
        state = {name: dict(vars(module)) for name, module in model.named_modules()}
        weights = {name: parameter.clone() for name, parameter in model.named_parameters()}
        latents, tokens = LATENTS.clone(), conditioning.clean_tokens.clone()
        first, second = (model(LATENTS, T, conditioning) for _ in range(2))
        assert torch.equal(first, second)
        assert torch.equal(latents, LATENTS)
        assert torch.equal(tokens, conditioning.clean_tokens)
        assert {name: dict(vars(module)) for name, module in model.named_modules()} == state
        assert all(torch.equal(weights[name], parameter) for name, parameter in model.named_parameters())

    @pytest.mark.parametrize("absent", [(), ("motion", "pose"), ("reference", "motion", "pose")])
    def test_compiles_to_one_graph(self, model: WanS2VTransformer3DModel, absent: tuple[str, ...]) -> None:
        conditioning = model.condition(**inputs(**dict.fromkeys(absent)))
        torch.compiler.reset()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(LATENTS, T, conditioning), model(LATENTS, T, conditioning))

    def test_last_block_leaves_out_only_what_nobody_reads(self, model: WanS2VTransformer3DModel) -> None:
        known = model.condition(**inputs())
        hidden = torch.randn(1, known.rotary.cos.shape[0], 96)
        modulation = torch.randn(1, 2, 6, 96)
        whole, live = (
            model.blocks[2](hidden, modulation, known.rotary, known.blocks[2], NOISE_TOKENS, live_tokens)
            for live_tokens in (None, NOISE_TOKENS)
        )
        torch.testing.assert_close(live[:, :NOISE_TOKENS], whole[:, :NOISE_TOKENS])
        assert torch.equal(live[:, NOISE_TOKENS:], hidden[:, NOISE_TOKENS:])

    def test_linear_layers_may_be_replaced(self, model: WanS2VTransformer3DModel) -> None:
        """Quantized linear layers have no weight to look at: the model only calls them."""
        quantized = deepcopy(model)
        linears = [name for name, module in quantized.named_modules() if isinstance(module, nn.Linear)]
        for name in linears:
            parent, _, child = name.rpartition(".")
            setattr(quantized.get_submodule(parent), child, Opaque(quantized.get_submodule(name)))
        assert len(linears) > 3 * 10
        expected = model(LATENTS, T, model.condition(**inputs()))
        assert torch.equal(quantized(LATENTS, T, quantized.condition(**inputs())), expected)


class TestFloat8Rows:
    """Products of float8 rows, which PyTorch has on CPUs too; each layer asks for its own input."""

    def test_are_near_and_none_is_made_twice(
        self, model: WanS2VTransformer3DModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rounded = deepcopy(model).to(torch.bfloat16)
        round_layers(rounded)
        expected = rounded(LATENTS, T, rounded.condition(**inputs()))
        for holder, name in step_layers(rounded):
            getattr(holder, name).takes_float8 = True
        conditioning = rounded.condition(**inputs())
        made = recorded_operations(monkeypatch)
        velocity = rounded(LATENTS, T, conditioning)
        assert 0 < (velocity - expected).norm() < 0.1 * expected.norm()
        sum_and_norm = "add_norm to float8"
        block = [
            *("rms_norm", "rms_norm", "quantize"),
            *(sum_and_norm, "attend_few to float8"),
            *(sum_and_norm, "gelu to float8"),
        ]
        injection = [sum_and_norm, "attend_few to float8"]
        first, *others = [*block, *injection], block, [*block, *injection]
        later = [made_here for other in others for made_here in (sum_and_norm, *other)]
        assert made == ["norm to float8", *first, *later, "add"]

    def test_a_layer_that_takes_none_is_given_none(
        self, model: WanS2VTransformer3DModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As one with an adapter: its whole attention reads wide rows, the layers after it do not."""
        rounded = deepcopy(model).to(torch.bfloat16)
        round_layers(rounded)
        for holder, name in step_layers(rounded):
            getattr(holder, name).takes_float8 = True
        rounded.blocks[1].attn1.to_k = deepcopy(model.blocks[1].attn1.to_k).to(torch.bfloat16)
        conditioning = rounded.condition(**inputs())
        made = recorded_operations(monkeypatch)
        assert rounded(LATENTS, T, conditioning).isfinite().all()
        attention = ["add_norm", "quantize", "rms_norm", "quantize", "rms_norm", "quantize"]
        assert made[10:17] == [*attention, "add_norm to float8"]


def recorded_operations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The row operations that are asked for from now on, each one kernel on a GPU."""
    made: list[str] = []
    inside = [False]

    def recorded(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            if inside[0]:
                return operation(*arguments, **options)
            made.append(f"{name} to float8" if options.get("float8") else name)
            inside[0] = True
            try:
                return operation(*arguments, **options)
            finally:
                inside[0] = False

        return run

    for name in ("norm", "add", "add_norm", "rms_norm", "gelu", "quantize", "attend_few"):
        monkeypatch.setattr(reference, name, recorded(name, getattr(reference, name)))
    return made


class Opaque(nn.Module):
    """A layer that shows nothing but its call."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.call = layer.forward

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


class TestAsDiffusersModel:
    def test_has_the_same_defaults(self) -> None:
        with torch.device("meta"):
            ours = WanS2VTransformer3DModel(num_layers=0).config
            theirs = diffusers_model.WanS2VTransformer3DModel(num_layers=0).config
        assert {name: theirs[name] for name in ours} == ours

    def test_saves_and_loads(self, model: WanS2VTransformer3DModel, tmp_path: Path) -> None:
        library_network(Component.TRANSFORMER, model, {}).save_pretrained(tmp_path)
        loaded = diffusers_model.WanS2VTransformer3DModel.from_pretrained(tmp_path)
        weights = loaded.state_dict()
        assert weights.keys() == model.state_dict().keys()
        assert all(torch.equal(weights[name], weight) for name, weight in model.state_dict().items())
        expected = model(LATENTS, T, model.condition(**inputs()))
        # not to the last bit: weights mapped from a file lie elsewhere in memory, and some CPUs then add up otherwise
        torch.testing.assert_close(loaded(LATENTS, T, loaded.condition(**inputs())), expected, rtol=1e-4, atol=1e-4)

    def test_takes_a_lora(self, model: WanS2VTransformer3DModel) -> None:
        merged, adapted = deepcopy(model), library_network(Component.TRANSFORMER, model, {})
        lora: dict[str, Tensor] = {}
        for name in (
            "blocks.0.attn1.to_q",
            "blocks.1.attn2.to_k",
            "blocks.2.ffn.net.0.proj",
            "blocks.2.attn1.to_out.0",
        ):
            weight = merged.get_submodule(name).weight
            down, up = torch.randn(4, weight.shape[1]), 0.1 * torch.randn(weight.shape[0], 4)
            weight += up @ down
            lora |= {f"transformer.{name}.lora_A.weight": down, f"transformer.{name}.lora_B.weight": up}
        adapted.load_lora_adapter(lora, adapter_name="tiny")
        velocity = adapted(LATENTS, T, adapted.condition(**inputs()))
        torch.testing.assert_close(velocity, merged(LATENTS, T, merged.condition(**inputs())), rtol=1e-4, atol=1e-4)
        adapted.disable_adapters()
        expected = model(LATENTS, T, model.condition(**inputs()))
        torch.testing.assert_close(adapted(LATENTS, T, adapted.condition(**inputs())), expected)
