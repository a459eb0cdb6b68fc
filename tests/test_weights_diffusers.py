"""Both public conversions of S2V to diffusers' folders: whole, strictly loaded, rendered as the official files.

The names are those that public code shows: the conversion scripts of diffusers' pull request (its author's repository)
and of FastVideo, and what people who loaded the former were told of its names.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from command import run_here
from library_networks import library_network
from native_renders import native_plan, printed, rendered
from soundreel.errors import WeightsError
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.weights.catalog import BUNDLES, Component, known_file
from soundreel.weights.components import SPECS, load_part
from soundreel.weights.find import find_model
from soundreel.weights.load import outline_component
from weight_files import OFFICIAL, official_transformer_tensors, rewrite, shape_only_file, writable_copy

pytestmark = pytest.mark.usefixtures("golden")

TRANSFORMER, TEXT, VAE, AUDIO = Component

REPOS = {
    "s2v-diffusers": "tolgacangoz/Wan2.2-S2V-14B-Diffusers",
    "s2v-fastvideo": "FastVideo/Wan2.2-S2V-14B-Diffusers",
}

AUDIO_PREFIX = "condition_embedder.causal_audio_encoder"

RENAMED_SINCE = {
    f"{AUDIO_PREFIX}.weights": f"{AUDIO_PREFIX}.weighted_avg.weights",
    f"{AUDIO_PREFIX}.encoder.conv2.conv.weight": f"{AUDIO_PREFIX}.encoder.conv2.conv.conv.weight",
    f"{AUDIO_PREFIX}.encoder.conv2.conv.bias": f"{AUDIO_PREFIX}.encoder.conv2.conv.conv.bias",
    f"{AUDIO_PREFIX}.encoder.conv3.conv.weight": f"{AUDIO_PREFIX}.encoder.conv3.conv.conv.weight",
    f"{AUDIO_PREFIX}.encoder.conv3.conv.bias": f"{AUDIO_PREFIX}.encoder.conv3.conv.conv.bias",
}
"""The five tensors that diffusers did not find under their new names in the files published first."""

BLOCK_WORDS = {
    "self_attn": "attn1", "cross_attn": "attn2", "q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0",
    "norm3": "norm2", "modulation": "scale_shift_table",
}  # fmt: skip

BEGINNINGS = {
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "casual_audio_encoder": AUDIO_PREFIX,
    "cond_encoder": "condition_embedder.pose_embedder",
    "trainable_cond_mask": "trainable_condition_mask",
    "head.modulation": "scale_shift_table",
    "head.head": "proj_out",
}


def first_name(official: str) -> str:
    """Of the pull request's first published files, for an official name."""
    if re.match(r"blocks\.|audio_injector\.injector\.", official):
        words = ".".join(BLOCK_WORDS.get(word, word) for word in official.split("."))
        return words.replace("ffn.0.", "ffn.net.0.proj.").replace("ffn.2.", "ffn.net.2.")
    for beginning, name in BEGINNINGS.items():
        if official.startswith(beginning):
            return official.replace(beginning, name, 1)
    return official


def second_name(official: str) -> str:
    """As its code names them since."""
    return RENAMED_SINCE.get(first_name(official), first_name(official))


NAMES: dict[str, Callable[[str], str]] = {"first": first_name, "second": second_name, "fastvideo": str}


def diffusers_config(official: dict[str, Any]) -> dict[str, Any]:
    """transformer/config.json as the pull request's script writes it."""
    width, heads = official["dim"], official["num_heads"]
    same = ("eps", "ffn_dim", "freq_dim", "num_layers", "audio_dim", "audio_inject_layers", "enable_adain")
    same += ("adain_mode", "enable_framepack", "framepack_drop_mode", "add_last_motion", "zero_timestep")
    return {name: official[name] for name in same} | {
        "_class_name": "WanS2VTransformer3DModel",
        "_diffusers_version": "0.36.0.dev0",
        "added_kv_proj_dim": None,
        "attention_head_dim": width // heads,
        "cross_attn_norm": True,
        "in_channels": 16,
        "num_attention_heads": heads,
        "out_channels": 16,
        "patch_size": [1, 2, 2],
        "pose_dim": 16,
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 1024,
        "text_dim": official.get("text_dim", 4096),
    }


def network(folder: Path, component: Component) -> nn.Module:
    return load_part(find_model(folder)[component], nn.Module, device="cpu", dtype=torch.float32)


def write_shards(folder: Path, tensors: dict[str, Tensor], count: int) -> None:
    """With the index that diffusers writes beside them."""
    folder.mkdir(parents=True)
    shards = [list(tensors)[k::count] for k in range(count)]
    files = [f"diffusion_pytorch_model-{k:05d}-of-{count:05d}.safetensors" for k in range(1, count + 1)]
    for file, names in zip(files, shards, strict=True):
        save_file({name: tensors[name] for name in names}, folder / file, {"format": "pt"})
    table = {name: file for file, names in zip(files, shards, strict=True) for name in names}
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": table}))


@pytest.fixture(scope="module")
def others(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders besides `transformer/`, as both conversions have them."""
    folder = tmp_path_factory.mktemp("diffusers")
    text = library_network(TEXT, network(OFFICIAL, TEXT), {})
    text.save_pretrained(folder / "text_encoder", max_shard_size="2MB")
    library_network(VAE, network(OFFICIAL, VAE), {}).save_pretrained(folder / "vae")
    shutil.copytree(golden / "tiny_official" / "google" / "umt5-xxl", folder / "tokenizer")
    (folder / "model_index.json").write_text('{"_class_name": "WanSpeechToVideoPipeline"}')
    return folder


@pytest.fixture(scope="module", params=["first", "second", "fastvideo"])
def conversion(request: pytest.FixtureRequest, others: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint as one of the two repositories has it: the former under its first and its second names."""
    folder = writable_copy(others, tmp_path_factory.mktemp("hub") / request.param)
    config = json.loads((OFFICIAL / "config.json").read_text())
    tensors = {NAMES[request.param](name): value for name, value in official_transformer_tensors().items()}
    write_shards(folder / "transformer", tensors, 4 if request.param == "fastvideo" else 7)
    written = config if request.param == "fastvideo" else diffusers_config(config)
    (folder / "transformer" / "config.json").write_text(json.dumps(written))
    wav2vec = folder / "audio_encoder"
    wav2vec.mkdir()
    source = OFFICIAL / "wav2vec2-large-xlsr-53-english"
    shutil.copyfile(source / "config.json", wav2vec / "config.json")
    if request.param == "fastvideo":
        shutil.copyfile(source / "model.safetensors", wav2vec / "model.safetensors")
        torch.save(load_file(source / "model.safetensors"), wav2vec / "pytorch_model.bin")
    else:  # as transformers saves a Wav2Vec2ForCTC today
        content = load_file(source / "model.safetensors")
        parametrized = {
            "weight_g": "parametrizations.weight.original0",
            "weight_v": "parametrizations.weight.original1",
        }
        save_file(
            {re.sub("weight_[gv]$", lambda end: parametrized[end[0]], name): value for name, value in content.items()},
            wav2vec / "model.safetensors",
        )
    return folder


# full size


@pytest.mark.parametrize("names", NAMES)
def test_all_1260_full_size_tensors_have_their_place(manifest: Path, tmp_path: Path, names: str) -> None:
    published = json.loads(manifest.read_text())["components"]["transformer"]
    shapes = {NAMES[names](name): tuple(shape) for name, shape in published["keys"].items()}
    assert len(shapes) == 1260
    if names != "fastvideo":
        assert (shapes.keys() >= RENAMED_SINCE.keys()) is (names == "first")
        assert (shapes.keys() >= set(RENAMED_SINCE.values())) is (names == "second")
    path = shape_only_file(tmp_path / "diffusion_pytorch_model.safetensors", shapes)
    config = published["config"] if names == "fastvideo" else diffusers_config(published["config"])
    for given in (config, {}):
        transformer, stored = outline_component(SPECS[TRANSFORMER], [path], given)
        assert len(stored) == len(shapes)
        assert transformer.state_dict().keys() == stored.keys()
        with torch.device("meta"):
            ours = WanS2VTransformer3DModel(num_layers=0).config
        different = {name for name in ours if not name.startswith("_") and ours[name] != transformer.config[name]}
        assert different == {"num_layers"}


def test_names_of_the_pull_request() -> None:
    assert {first_name(name) for name in ("blocks.7.cross_attn.o.bias", "audio_injector.injector.3.o.weight")} == {
        "blocks.7.attn2.to_out.0.bias",
        "audio_injector.injector.3.to_out.0.weight",
    }
    assert first_name("audio_injector.injector_adain_layers.3.linear.bias").endswith("adain_layers.3.linear.bias")


# the same model


def test_every_part_is_the_official_one(conversion: Path) -> None:
    model = find_model(conversion)
    assert model.tokenizer == conversion / "tokenizer" / "tokenizer.json"
    assert len(model[TRANSFORMER].files) in {4, 7}
    for component in Component:
        assert model[component].files[0].is_relative_to(conversion)
        expected, ours = network(OFFICIAL, component), network(conversion, component)
        if component is TRANSFORMER:
            assert expected.config == ours.config
        for name, value in expected.state_dict().items():
            assert torch.equal(value, ours.state_dict()[name]), name


@pytest.fixture(scope="module")
def expected_pixels(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    return pixels(OFFICIAL, tmp_path_factory.mktemp("official"))


def pixels(models: Path, folder: Path) -> Tensor:
    """What a render of one clip of two latent frames decodes to."""
    planned = native_plan(width=32, height=32, frames=5, steps=1, models=models)
    rendered(planned, folder=folder)
    return printed(planned, folder)


def test_it_renders_the_official_pictures(conversion: Path, expected_pixels: Tensor, tmp_path: Path) -> None:
    assert torch.equal(pixels(conversion, tmp_path), expected_pixels)


# what is refused


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """The pull request's transformer in one file."""
    path = tmp_path / "transformer" / "diffusion_pytorch_model.safetensors"
    path.parent.mkdir()
    save_file({first_name(name): value for name, value in official_transformer_tensors().items()}, path)
    return path


def outline(path: Path, config: dict[str, Any] | None = None) -> None:
    outline_component(SPECS[TRANSFORMER], [path], config)


@pytest.mark.parametrize(
    "name",
    [
        "motion_in.patch_embedding.weight",
        "audio_injector.injector.1.add_k_proj.weight",
        "audio_injector.injector_pre_norm_feat.0.weight",
        "blocks.0.attn2.add_k_proj.weight",
        f"{AUDIO_PREFIX}.encoder.norm1.weight",
        "head.head.weight",
    ],
)
def test_a_tensor_that_it_does_not_know_is_named(single: Path, name: str) -> None:
    outline(single)
    rewrite(single, {name: torch.zeros(2, 2)})
    with pytest.raises(WeightsError, match=rf"1 tensor unexpected: {re.escape(name)}$"):
        outline(single)


@pytest.mark.parametrize("older", RENAMED_SINCE)
def test_a_tensor_under_its_old_and_its_new_name_is_named(single: Path, older: str) -> None:
    newer = RENAMED_SINCE[older]
    rewrite(single, {newer: load_file(single)[older]})
    with pytest.raises(WeightsError, match="holds one tensor twice, as") as caught:
        outline(single)
    assert repr(older) in str(caught.value)
    assert repr(newer) in str(caught.value)


def test_a_tensor_that_is_missing_is_named(single: Path) -> None:
    rewrite(single, {"audio_injector.injector.1.to_k.weight": None})
    with pytest.raises(WeightsError, match=r"1 tensor missing: blocks\.2\.audio_attn\.to_k\.weight"):
        outline(single)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"enable_framepack": False}, "enable_framepack = False"),
        ({"adain_mode": "cross"}, "adain_mode = 'cross'"),
        ({"audio_inject_layers": [0, 2]}, "names 2 blocks .* hold 3 injectors"),
    ],
)
def test_a_config_of_another_model_is_refused(single: Path, change: dict[str, Any], says: str) -> None:
    config = diffusers_config(json.loads((OFFICIAL / "config.json").read_text()))
    outline(single, config)
    with pytest.raises(WeightsError, match=says):
        outline(single, config | change)


# names and downloads


def test_the_list_names_both_repositories(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    told = run_here(capsys, "models", "list", "--models", tmp_path).out
    for bundle, repo in REPOS.items():
        assert re.search(rf"^{bundle}: diffusers' folders", told, re.MULTILINE)
        assert {file.repo for file in BUNDLES[bundle].files} == {repo}
        assert re.search(rf"^{bundle}: .*\n  from {repo}\n", told, re.MULTILINE)


@pytest.mark.parametrize("bundle", REPOS)
def test_their_files_make_a_whole_model_of_the_bundle_s_size(tmp_path: Path, bundle: str) -> None:
    total = {"s2v-diffusers": 45.7e9, "s2v-fastvideo": 57.1e9}[bundle]
    assert BUNDLES[bundle].size_bytes == pytest.approx(total, rel=0.01)
    for file in BUNDLES[bundle].files:
        path = BUNDLES[bundle].place(tmp_path) / file.path
        found = known_file(path)
        assert found is not None
        assert (found.path, found.component) == (file.path, file.component)


def test_the_same_shard_is_known_by_its_folder() -> None:
    name = "diffusion_pytorch_model-00001-of-00004.safetensors"
    repos = {
        place: known.repo if (known := known_file(Path(place) / name)) is not None else None
        for place in ("/models/transformer", "/models/Wan2.2-S2V-14B")
    }
    assert repos == {"/models/transformer": REPOS["s2v-fastvideo"], "/models/Wan2.2-S2V-14B": "Wan-AI/Wan2.2-S2V-14B"}
    assert known_file(Path("/models/other/diffusion_pytorch_model-00001-of-00007.safetensors")) is None


def test_a_missing_part_is_fetched_from_where_the_others_are(conversion: Path, tmp_path: Path) -> None:
    folder = writable_copy(conversion, tmp_path / "model")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    bundle = "s2v-fastvideo" if conversion.name == "fastvideo" else "s2v-diffusers"
    with pytest.raises(WeightsError, match=rf"no VAE \(vae/diffusion.*soundreel models download {bundle} --models"):
        find_model(folder)
    assert BUNDLES[bundle].place(folder) == folder
