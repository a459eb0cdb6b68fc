"""Official names and ours, both ways, and the config that tensors and config.json tell."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from soundreel.errors import WeightsError
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.weights.transformer_keys import (
    config_from_official,
    official_name,
    spread_inject_layers,
    to_official,
    to_ours,
)

LAYERS_14B = (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39)

Shapes = dict[str, list[int]]


def official_tensors(checkpoint: Path) -> dict[str, Tensor]:
    """All transformer tensors of a folder in the official layout."""
    shards = sorted(checkpoint.glob("diffusion_pytorch_model*.safetensors"))
    return {name: tensor for shard in shards for name, tensor in load_file(shard).items()}


@pytest.fixture(scope="module")
def published(manifest: Path) -> dict[str, Any]:
    transformer: dict[str, Any] = json.loads(manifest.read_text())["components"]["transformer"]
    return transformer


@pytest.fixture(scope="module")
def full_size(published: dict[str, Any]) -> Shapes:
    keys: Shapes = published["keys"]
    return keys


@pytest.fixture(scope="module")
def tiny(golden: Path) -> tuple[dict[str, Any], Shapes]:
    checkpoint = golden / "tiny_official"
    config = json.loads((checkpoint / "config.json").read_text())
    return config, {name: list(tensor.shape) for name, tensor in official_tensors(checkpoint).items()}


class TestFullSize:
    def test_every_tensor_has_its_place_and_shape(self, full_size: Shapes) -> None:
        config = config_from_official(None, full_size)
        with torch.device("meta"):
            model = WanS2VTransformer3DModel(**config)
        ours = {to_ours(name, LAYERS_14B): tuple(shape) for name, shape in full_size.items()}
        assert len(ours) == len(full_size) == 1260
        assert ours == {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        assert [to_official(name, LAYERS_14B) for name in ours] == list(full_size)

    def test_defaults_are_the_published_model(self, full_size: Shapes) -> None:
        with torch.device("meta"):
            published = WanS2VTransformer3DModel(num_layers=0).config
        config = config_from_official(None, full_size)
        assert config == {name: published[name] for name in config} | {"num_layers": 40}

    def test_config_json_agrees(self, published: dict[str, Any], full_size: Shapes) -> None:
        assert config_from_official(published["config"], full_size) == config_from_official(None, full_size)


class TestConfig:
    def test_shapes_tell_all_of_the_tiny_model(self, tiny: tuple[dict[str, Any], Shapes]) -> None:
        config, shapes = tiny
        assert config_from_official(None, shapes) == config_from_official(config, shapes)
        assert config_from_official(None, shapes)["audio_inject_layers"] == (0, 2, 4)

    def test_config_json_decides_what_shapes_do_not_show(self, tiny: tuple[dict[str, Any], Shapes]) -> None:
        config, shapes = tiny
        other = {
            "num_heads": 4,
            "audio_inject_layers": [3, 1, 0, 12],
            "framepack_drop_mode": "drop",
            "add_last_motion": False,
            "zero_timestep": False,
            "eps": 1e-5,
            "text_len": 64,
        }
        ours = config_from_official(config | other, shapes)
        assert (ours["num_attention_heads"], ours["attention_head_dim"]) == (4, 64)
        assert ours["audio_inject_layers"] == (0, 1, 3)
        assert (ours["frame_pack_drop_mode"], ours["frame_pack_level"]) == ("drop", 0)
        assert (ours["zero_timestep"], ours["eps"], ours["text_len"]) == (False, 1e-5, 64)

    @pytest.mark.parametrize(
        ("layers", "injectors", "expected"),
        [
            (40, 12, LAYERS_14B),
            (28, 8, (0, 4, 8, 12, 16, 20, 24, 27)),
            (5, 3, (0, 2, 4)),
            (4, 4, (0, 1, 2, 3)),
            (6, 2, (0, 5)),
            (6, 1, (0,)),
            (6, 0, ()),
        ],
    )
    def test_unnamed_inject_layers_spread(self, layers: int, injectors: int, expected: tuple[int, ...]) -> None:
        assert spread_inject_layers(layers, injectors) == expected

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"audio_inject_layers": [0, 4]}, "names 2 blocks .* hold 3 injectors"),
            ({"enable_framepack": False}, "enable_framepack = False"),
            ({"enable_motioner": True}, "enable_motioner = True"),
            ({"adain_mode": "cross"}, "adain_mode = 'cross'"),
        ],
    )
    def test_refuses_what_it_cannot_run(
        self, tiny: tuple[dict[str, Any], Shapes], change: dict[str, Any], message: str
    ) -> None:
        config, shapes = tiny
        with pytest.raises(WeightsError, match=message):
            config_from_official(config | change, shapes)

    def test_names_what_another_model_lacks(self, tiny: tuple[dict[str, Any], Shapes]) -> None:
        config, shapes = tiny
        video_only = {name: shape for name, shape in shapes.items() if "audio" not in name}
        with pytest.raises(WeightsError, match=r"casual_audio_encoder.* is missing.*not .* S2V"):
            config_from_official(config, video_only)


class TestNames:
    @pytest.mark.parametrize(
        ("official", "ours"),
        [
            ("blocks.12.self_attn.o.weight", "blocks.12.attn1.to_out.0.weight"),
            ("blocks.3.norm3.bias", "blocks.3.norm2.bias"),
            ("blocks.3.ffn.0", "blocks.3.ffn.net.0.proj"),
            ("blocks.0.cross_attn.k.scale_weight", "blocks.0.attn2.to_k.scale_weight"),
            ("blocks.0.cross_attn.q.lora_A.weight", "blocks.0.attn2.to_q.lora_A.weight"),
            ("audio_injector.injector.2.norm_k.weight", "blocks.9.audio_attn.norm_k.weight"),
            ("audio_injector.injector_adain_layers.1.linear.bias", "blocks.4.audio_norm.linear.bias"),
            ("head.modulation", "scale_shift_table"),
            ("casual_audio_encoder.encoder.conv2.conv.weight", "audio_encoder.conv2.weight"),
        ],
    )
    def test_both_ways(self, official: str, ours: str) -> None:
        assert to_ours(official, (0, 4, 9)) == ours
        assert to_official(ours, (0, 4, 9)) == official

    @pytest.mark.parametrize(
        "unknown", ["blocks.0.img_attn.q.weight", "audio_injector.injector.3.q.weight", "headless.weight"]
    )
    def test_unknown_names_stay(self, unknown: str) -> None:
        assert to_ours(unknown, (0, 4, 9)) == unknown
        assert to_official(unknown, (0, 4, 9)) == unknown

    @pytest.mark.parametrize("prefix", ["", "model.", "diffusion_model.", "model.diffusion_model."])
    def test_prefixes_of_single_files(self, prefix: str) -> None:
        assert official_name(f"{prefix}blocks.0.ffn.0.bias") == "blocks.0.ffn.0.bias"
