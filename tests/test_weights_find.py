"""Finding the model: every layout, without being told which, and one clear sentence for what is not there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType
from safetensors.torch import load_file

from conftest import SHARED
from library_networks import library_network
from soundreel.errors import InputError, WeightsError
from soundreel.weights import catalog
from soundreel.weights.catalog import BUNDLES, TOKENIZER_BUNDLE, Component
from soundreel.weights.components import SPECS, load_part
from soundreel.weights.find import ModelFiles, find_model
from soundreel.weights.frame_networks import FILM, RIFE
from soundreel.weights.identify import Storage
from soundreel.weights.verify import verify_file
from weight_files import COMFY, OFFICIAL, needs_golden, shape_only_file, writable_copy, write_gguf

pytestmark = needs_golden

TRANSFORMER, TEXT, VAE, AUDIO = Component
WAN = {"head.modulation": (1, 2, 64)}
"""Tensors that any Wan transformer has."""


def names(model: ModelFiles) -> dict[Component, list[str]]:
    return {component: [path.name for path in part.files] for component, part in model.parts.items()}


@pytest.fixture
def official(tmp_path: Path) -> Path:
    return writable_copy(OFFICIAL, tmp_path / "Wan2.2-S2V-14B")


@pytest.fixture
def comfy(tmp_path: Path) -> Path:
    return writable_copy(COMFY, tmp_path / "ComfyUI" / "models")


# layouts


def test_finding_and_verifying_need_no_torch() -> None:
    code = "import sys; from soundreel.weights import download, find; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_official_folder() -> None:
    model = find_model(OFFICIAL)
    assert names(model) == {
        TRANSFORMER: [f"diffusion_pytorch_model-0000{k}-of-00002.safetensors" for k in (1, 2)],
        TEXT: ["models_t5_umt5-xxl-enc-bf16.pth"],
        VAE: ["Wan2.1_VAE.pth"],
        AUDIO: ["model.safetensors"],
    }
    assert model.tokenizer == OFFICIAL / "google" / "umt5-xxl" / "tokenizer.json"
    assert model[TRANSFORMER].config["audio_inject_layers"] == [0, 2, 4]
    assert model[AUDIO].config["num_attention_heads"] == 4


def test_comfyui_s_models_folder_most_exact_first() -> None:
    model = find_model(COMFY)
    assert names(model) == {
        TRANSFORMER: ["wan2.2_s2v_14B_bf16.safetensors"],
        TEXT: ["umt5_xxl_fp16.safetensors"],
        VAE: ["wan_2.1_vae.safetensors"],
        AUDIO: ["wav2vec2_large_english_fp16.safetensors"],
    }
    assert model.tokenizer.name == "umt5_xxl_fp16.safetensors"


def test_fp8_where_it_is_asked_for_and_there() -> None:
    model = find_model(COMFY, storage=Storage.FP8)
    assert names(model) == {
        TRANSFORMER: ["wan2.2_s2v_14B_fp8_scaled.safetensors"],
        TEXT: ["umt5_xxl_fp8_e4m3fn_scaled.safetensors"],
        VAE: ["wan_2.1_vae.safetensors"],
        AUDIO: ["wav2vec2_large_english_fp16.safetensors"],
    }


def test_comfyui_s_other_folder_names_and_subfolders(comfy: Path) -> None:
    (comfy / "diffusion_models").rename(comfy / "unet")
    (comfy / "text_encoders").rename(comfy / "clip")
    (comfy / "vae" / "wan").mkdir()
    (comfy / "vae" / "wan_2.1_vae.safetensors").rename(comfy / "vae" / "wan" / "mine.safetensors")
    assert names(find_model(comfy))[VAE] == ["mine.safetensors"]


@pytest.mark.parametrize("place", ["ComfyUI", "ComfyUI/models"])
def test_comfyui_s_own_folder_and_a_downloaded_repository(comfy: Path, place: str) -> None:
    repository = comfy / "split_files"
    repository.mkdir()
    for folder in ("diffusion_models", "text_encoders", "vae", "audio_encoders"):
        (comfy / folder).rename(repository / folder)
    assert set(find_model(comfy.parents[1] / place).parts) == set(Component)


def test_a_folder_of_checkpoints(official: Path) -> None:
    (official.parent / "Wan2.2-T2V-A14B").mkdir()
    assert find_model(official.parent)[VAE].files == (official / "Wan2.1_VAE.pth",)


def test_a_diffusers_folder(tmp_path: Path) -> None:
    source = find_model(OFFICIAL)
    folders = {TRANSFORMER: "transformer", TEXT: "text_encoder", VAE: "vae", AUDIO: "audio_encoder"}
    saved = {part: load_part(source[part], torch.nn.Module, device="cpu", dtype=torch.float32) for part in Component}
    for component, network in saved.items():
        as_library = library_network(component, network, source[component].config)
        as_library.save_pretrained(tmp_path / folders[component], max_shard_size="8MB")
    shutil.copytree(source.tokenizer.parent, tmp_path / "tokenizer")
    model = find_model(tmp_path)
    assert len(model[TRANSFORMER].files) > 1
    assert model.tokenizer == tmp_path / "tokenizer" / "tokenizer.json"
    for component, network in saved.items():
        again = load_part(model[component], torch.nn.Module, device="cpu", dtype=torch.float32).state_dict()
        assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items()), component


@pytest.mark.parametrize("folder", ["unet", "diffusion_models/gguf", "."])
def test_a_gguf_file_with_the_other_parts_around_it(comfy: Path, folder: str) -> None:
    tensors = load_file(comfy / "diffusion_models" / "wan2.2_s2v_14B_bf16.safetensors")
    shutil.rmtree(comfy / "diffusion_models")
    (comfy / folder).mkdir(parents=True, exist_ok=True)
    path = write_gguf(comfy / folder / "Wan2.2-S2V-14B-Q8_0.gguf", tensors, GGMLQuantizationType.Q8_0)
    model = find_model(comfy)
    assert (model[TRANSFORMER].files, model[TRANSFORMER].storage) == ((path,), Storage.GGUF)
    if folder != "diffusion_models/gguf":
        assert find_model(path).parts == model.parts


def test_a_file_named_by_the_user_wins_over_its_neighbours() -> None:
    path = COMFY / "diffusion_models" / "wan2.2_s2v_14B_fp8_scaled.safetensors"
    assert find_model(path)[TRANSFORMER].files == (path,)
    assert find_model(COMFY, files={TRANSFORMER: path})[TRANSFORMER].files == (path,)


def test_one_shard_stands_for_all() -> None:
    assert len(find_model(OFFICIAL / "diffusion_pytorch_model-00002-of-00002.safetensors")[TRANSFORMER].files) == 2


def test_the_first_place_wins(comfy: Path) -> None:
    (comfy / "vae" / "wan_2.1_vae.safetensors").unlink()
    model = find_model(comfy, OFFICIAL)
    assert model[TRANSFORMER].files[0].parent.parent == comfy
    assert model[VAE].files[0].parent == OFFICIAL


def test_other_models_in_the_same_folders_are_passed_over(comfy: Path) -> None:
    others = {
        "diffusion_models/a_t2v.safetensors": {
            "head.modulation": (1, 2, 64),
            "patch_embedding.weight": (64, 16, 1, 2, 2),
        },
        "diffusion_models/flux.safetensors": {"double_blocks.0.img_attn.qkv.weight": (9, 3)},
        "text_encoders/a_t5xxl.safetensors": {
            "shared.weight": (32128, 64),
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (32, 4),
            "encoder.block.1.layer.0.layer_norm.weight": (64,),
        },
        "vae/a_wan2.2_vae.safetensors": {"conv2.weight": (48, 48, 1, 1, 1), "decoder.conv1.weight": (8, 48, 3, 3, 3)},
        "audio_encoders/a_base.safetensors": {
            "feature_extractor.conv_layers.0.conv.weight": (512, 1, 10),
            "encoder.layer_norm.weight": (768,),
        },
    }
    for name, shapes in others.items():
        shape_only_file(comfy / name, shapes)
    (comfy / "vae" / "a_broken.safetensors").write_bytes(b"not a tensor file at all, but long enough")
    assert names(find_model(comfy)) == names(find_model(COMFY))


def test_the_default_folder(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(official.parent))
    assert catalog.default_folder() == official.parent / "soundreel" / "models"
    catalog.default_folder().parent.mkdir()
    official.rename(catalog.default_folder())
    assert find_model()[VAE].files[0].parent == catalog.default_folder()


# what is missing, damaged or of another model


def test_a_missing_part_names_file_folders_and_command(official: Path) -> None:
    (official / "Wan2.1_VAE.pth").unlink()
    with pytest.raises(WeightsError) as caught:
        find_model(official)
    assert str(caught.value) == (
        f"no VAE (Wan2.1_VAE.pth) in '{official}' and the model folders there; get it with: "
        f"soundreel models download s2v --models {official}"
    )


def test_an_empty_folder_is_said_in_short(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_model(tmp_path)
    assert str(caught.value) == (
        f"there are no weights of Wan 2.2 S2V in '{tmp_path}' and the model folders there; name the folder that has "
        f"them with --models, or get them (24.02 GB) with: soundreel models download s2v-fp8 --models {tmp_path}"
    )


def test_the_default_folder_need_not_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"with: soundreel models download s2v-fp8$"):
        find_model()


def test_several_missing_parts_are_all_named(comfy: Path) -> None:
    for folder in ("vae", "audio_encoders"):
        shutil.rmtree(comfy / folder)
    with pytest.raises(WeightsError, match=r"^no VAE \(.*\), no audio encoder \(.*\) in .*; get them with: soundreel"):
        find_model(comfy)


@pytest.mark.parametrize(
    ("removed", "bundle", "file"),
    [
        ("diffusion_models/wan2.2_s2v_14B_bf16.safetensors", "s2v-fp8", "fp8"),
        ("vae/wan_2.1_vae.safetensors", "s2v-bf16", "vae/wan_2.1_vae.safetensors"),
        ("audio_encoders/wav2vec2_large_english_fp16.safetensors", "s2v-bf16", "audio_encoders/wav2vec2"),
    ],
)
def test_the_command_fits_what_is_there(comfy: Path, removed: str, bundle: str, file: str) -> None:
    (comfy / "diffusion_models" / "wan2.2_s2v_14B_fp8_scaled.safetensors").unlink()
    (comfy / removed).unlink()
    with pytest.raises(WeightsError, match=f"{file}.*soundreel models download {bundle} --models"):
        find_model(comfy)


def test_a_missing_tokenizer_is_named(official: Path) -> None:
    shutil.rmtree(official / "google")
    with pytest.raises(WeightsError, match=r"no UMT5 tokenizer \(tokenizer\.json or spiece.*download s2v-tokenizer"):
        find_model(official)


def test_a_missing_place_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file or folder .*nowhere' with model weights"):
        find_model(tmp_path / "nowhere")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


@pytest.mark.parametrize(
    "name",
    [
        "diffusion_pytorch_model-00002-of-00002.safetensors",
        "models_t5_umt5-xxl-enc-bf16.pth",
        "Wan2.1_VAE.pth",
        "wav2vec2-large-xlsr-53-english/model.safetensors",
    ],
)
def test_a_file_that_is_cut_off_is_named(official: Path, name: str) -> None:
    cut(official / name)
    with pytest.raises(WeightsError, match=f"{name}' .*is cut off"):
        find_model(official)


def test_a_missing_shard_is_named(official: Path) -> None:
    (official / "diffusion_pytorch_model-00001-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"diffusion_pytorch_model-00001-of-00002\.safetensors is missing in"):
        find_model(official)


def test_a_damaged_file_does_not_matter_where_another_does_its_work(comfy: Path) -> None:
    cut(comfy / "diffusion_models" / "wan2.2_s2v_14B_bf16.safetensors")
    assert names(find_model(comfy))[TRANSFORMER] == ["wan2.2_s2v_14B_fp8_scaled.safetensors"]


@pytest.mark.parametrize(
    ("shapes", "what"),
    [
        (WAN | {"patch_embedding.weight": (64, 16, 1, 2, 2)}, "a Wan T2V transformer, not S2V"),
        (WAN | {"patch_embedding.weight": (64, 36, 1, 2, 2)}, "a Wan I2V transformer, not S2V"),
        (WAN | {"img_emb.proj.0.bias": (64,)}, "a Wan I2V transformer, not S2V"),
        (WAN | {"patch_embedding.weight": (64, 48, 1, 2, 2)}, "a Wan TI2V transformer, not S2V"),
        (WAN | {"vace_blocks.0.norm3.bias": (64,)}, "a Wan VACE transformer, not S2V"),
        (WAN | {"motion_encoder.enc.fc.0.bias": (64,)}, "a Wan Animate transformer, not S2V"),
        (
            {"condition_embedder.time_proj.weight": (64, 64), "patch_embedding.weight": (64, 16, 1, 2, 2)},
            "a Wan T2V transformer, not S2V",
        ),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_another_transformer_says_what_it_is(
    comfy: Path, shapes: dict[str, tuple[int, ...]], what: str, prefix: str
) -> None:
    shutil.rmtree(comfy / "diffusion_models")
    path = comfy / "diffusion_models" / "wan2.2_high_noise.safetensors"
    shape_only_file(path, {f"{prefix}{name}": shape for name, shape in shapes.items()})
    for place in (comfy, path):
        with pytest.raises(
            WeightsError, match=f"no transformer .*wan2.2_high_noise.safetensors is {what}; get it with"
        ):
            find_model(place)
    with pytest.raises(WeightsError, match=f"wan2.2_high_noise.safetensors' is {what}: expected the transformer"):
        find_model(comfy, files={TRANSFORMER: path})


@pytest.mark.parametrize(
    "shapes",
    [
        {"head.modulation": (), "casual_audio_encoder.weights": (25,)},
        {"condition_embedder.time_proj.weight": (), "condition_embedder.causal_audio_encoder.weights": ()},
        {"head.modulation": (), "patch_embedding.weight": (64,)},
        {"blocks.0.pos_embedding.embedding.weight": (), "token_embedding.weight": (8,)},
        {"conv2.weight": (16,), "decoder.conv1.weight": (1, 1, 1, 1, 1)},
        {"feature_extractor.conv_layers.0.conv.weight": (), "encoder.layer_norm.weight": ()},
    ],
)
def test_tensors_with_other_axes_are_told_in_one_line(tmp_path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    shape_only_file(tmp_path / "transformer" / "strange.safetensors", shapes)
    with pytest.raises(WeightsError, match="no "):
        find_model(tmp_path)


def test_an_official_t2v_folder_says_what_it_is(official: Path) -> None:
    for path in official.glob("diffusion_pytorch_model*"):
        path.unlink()
    shape_only_file(
        official / "high_noise_model" / "diffusion_pytorch_model-00001-of-00001.safetensors",
        WAN | {"patch_embedding.weight": (64, 16, 1, 2, 2)},
    )
    with pytest.raises(WeightsError, match="is a Wan T2V transformer, not S2V"):
        find_model(official)


def test_parts_of_another_size_are_named(comfy: Path, tmp_path: Path) -> None:
    base = {"feature_extractor.conv_layers.0.conv.weight": (512, 1, 10), "encoder.layer_norm.weight": (768,)}
    base |= {f"encoder.layers.{k}.layer_norm.weight": (768,) for k in range(12)}
    path = shape_only_file(tmp_path / "base.safetensors", base)
    says = "base.safetensors is a wav2vec2 audio encoder, but its audio width is 768 and the transformer's 32"
    with pytest.raises(WeightsError, match=f"{says}, its audio states is 13 and the transformer's 25"):
        find_model(comfy, files={AUDIO: path})
    shutil.rmtree(comfy / "audio_encoders")
    path.rename(comfy / "base.safetensors")
    with pytest.raises(WeightsError, match=f"no audio encoder .*{says}"):
        find_model(comfy)


def test_an_unreadable_config_is_named(official: Path) -> None:
    (official / "config.json").write_text('{"dim": 256,')
    with pytest.raises(WeightsError, match=r"config\.json' is not readable as JSON"):
        load_part(find_model(official)[TRANSFORMER], torch.nn.Module, device="cpu", dtype=torch.float32)


def test_config_and_weights_of_different_models_are_refused(official: Path) -> None:
    path = official / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"audio_inject_layers": [0, 1]}))
    with pytest.raises(WeightsError, match="audio injection"):
        load_part(find_model(official)[TRANSFORMER], torch.nn.Module, device="cpu", dtype=torch.float32)


# the catalogue


def test_every_model_bundle_has_every_component_and_a_place_for_each_file() -> None:
    for bundle in BUNDLES.values():
        whole = bundle.name not in {TOKENIZER_BUNDLE, FILM, RIFE, "tae"}
        assert {file.component for file in bundle.files} - {None} == (set(SPECS) if whole else set())
        assert len({file.path for file in bundle.files}) == len(bundle.files)
        assert all(file.sha256 is None or len(file.sha256) == 64 for file in bundle.files)


def test_rife_s_checksum_is_that_of_the_real_file() -> None:
    path = SHARED / "weights" / "rife" / "flownet_v4.14.pkl"
    if not path.is_file():
        pytest.skip("../shared/weights is not here")
    (file,) = BUNDLES["rife"].files
    verdict = verify_file(path, file)
    assert (verdict.problem, "sha256" in verdict.checked) == (None, True)


def test_the_tokenizer_s_checksums_are_those_of_the_real_files() -> None:
    folder = SHARED / "weights" / "umt5-xxl"
    if not folder.is_dir():
        pytest.skip("../shared/weights is not here")
    files = [file for file in BUNDLES["s2v"].files if "umt5-xxl/" in file.path]
    verdicts = [verify_file(folder / file.name, file) for file in files]
    assert [verdict.problem for verdict in verdicts] == [None] * 4
    assert all("sha256" in verdict.checked for verdict in verdicts)
