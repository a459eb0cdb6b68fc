"""Loading: the same network from every layout, strictly, each byte once, quantized weights left as they are."""

import itertools
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from soundreel.errors import Cancelled, WeightsError
from soundreel.weights.catalog import Component
from soundreel.weights.components import SPECS, load_part, outline_model
from soundreel.weights.find import find_model
from soundreel.weights.identify import Storage
from soundreel.weights.load import Blueprint, ComponentSpec, LoadProgress, load_component, outline_component
from soundreel.weights.quantized import Fp8Linear
from soundreel.weights.read import open_tensors
from soundreel.weights.scan import Part
from weight_files import (
    COMFY,
    OFFICIAL,
    bytes_loaded,
    needs_golden,
    random_floats,
    relative_error,
    rewrite,
    shape_only_file,
    write_gguf,
)

CPU = torch.device("cpu")


class TwoLayers(nn.Module):
    """A network as small as one that has all that loading must know: linear layers, a norm, tied weights."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, inner)
        self.norm = nn.LayerNorm(inner)
        self.second = nn.Linear(inner, width)
        self.tied = nn.Linear(inner, width, bias=False)
        self.tied.weight = self.second.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.first(x))
        return self.second(hidden) + self.tied(hidden)


def two_layers(shapes: dict[str, tuple[int, ...]], _config: object) -> Blueprint:
    inner, width = shapes["first.weight"]
    return Blueprint(rename=str, build=lambda _: TwoLayers(width, inner))


SPEC = ComponentSpec(name="two-layer network", blueprint=two_layers)


def tensors(width: int = 6, inner: int = 16) -> dict[str, Tensor]:
    return {
        "first.weight": random_floats(inner, width, seed=1),
        "first.bias": random_floats(inner, seed=2),
        "norm.weight": random_floats(inner, seed=3),
        "norm.bias": random_floats(inner, seed=4),
        "second.weight": random_floats(width, inner, seed=5),
        "second.bias": random_floats(width, seed=6),
    }


def saved(path: Path, content: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file(content, path, metadata)
    return path


def load(*paths: Path, **options: Any) -> TwoLayers:
    network = load_component(SPEC, paths, **options)
    assert isinstance(network, TwoLayers)
    return network


# values


def test_values_arrive_in_the_type_asked_for(tmp_path: Path) -> None:
    network = load(saved(tmp_path / "m.safetensors", tensors()), dtype=torch.bfloat16)
    for name, value in tensors().items():
        assert torch.equal(network.state_dict()[name], value.bfloat16()), name


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    network = load(saved(tmp_path / "m.safetensors", tensors()))
    assert network.tied.weight is network.second.weight


def test_a_torch_file_gives_the_same(tmp_path: Path) -> None:
    torch.save(tensors(), tmp_path / "m.pth")
    network = load(tmp_path / "m.pth")
    assert all(torch.equal(network.state_dict()[name], value) for name, value in tensors().items())


def test_shards_give_the_same(tmp_path: Path) -> None:
    items = list(tensors().items())
    paths = [saved(tmp_path / f"{k}.safetensors", dict(items[k::2])) for k in range(2)]
    network = load(*paths)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in items)


def test_nothing_trains(tmp_path: Path) -> None:
    network = load(saved(tmp_path / "m.safetensors", tensors()))
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


# strictness


def drop(name: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda content: content.__delitem__(name)


def put(name: str, value: Tensor) -> Callable[[dict[str, Tensor]], None]:
    return lambda content: content.update({name: value})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop("norm.bias"), r"1 tensor missing: norm\.bias"),
        (drop("first.weight"), r"'first\.weight' is missing"),
        (put("third.weight", torch.ones(2)), r"1 tensor unexpected: third\.weight"),
        (put("second.bias", torch.ones(7)), r"1 tensor misshapen: second\.bias \[7\] instead of \[6\]"),
        (put("norm.bias", torch.ones(16, dtype=torch.int32)), r"no float: norm\.bias I32"),
        (put("norm.scale_weight", torch.ones(())), r"unexpected: norm\.scale_weight"),
    ],
)
def test_every_wrong_tensor_is_named(tmp_path: Path, change: Callable[[dict[str, Tensor]], None], says: str) -> None:
    content = tensors()
    change(content)
    path = saved(tmp_path / "m.safetensors", content)
    for refuse in (load_component, outline_component):
        with pytest.raises(WeightsError, match=rf"m\.safetensors .*two-layer network.*{says}"):
            refuse(SPEC, [path])


def test_a_tensor_in_two_shards_is_named(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{k}.safetensors", tensors()) for k in range(2)]
    with pytest.raises(WeightsError, match=r"'first\.bias' is in both '0\.safetensors' and '1\.safetensors'"):
        load(*paths)


def test_a_torch_file_with_code_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"w": print}, tmp_path / "m.pth")
    with pytest.raises(WeightsError, match="is damaged or holds more than tensors"):
        open_tensors(tmp_path / "m.pth")


# float8


def float8(weight: Tensor, scale: Tensor, dtype: torch.dtype = torch.float8_e4m3fn) -> Tensor:
    return (weight / scale).to(dtype)


def in_float8(scale: Tensor, form: dict[str, Tensor], dtype: torch.dtype = torch.float8_e4m3fn) -> dict[str, Tensor]:
    return tensors() | {"first.weight": float8(tensors()["first.weight"], scale, dtype)} | form


SCALE = torch.tensor(0.0078)
OLD_FORM = {"first.scale_weight": SCALE, "scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
ONE_ELEMENT = {"first.scale_weight": SCALE.view(1), "first.scale_input": torch.tensor(1.5)}
NEW_FORM = {
    "first.weight_scale": SCALE,
    "first.comfy_quant": torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8),
    "first.input_scale": torch.tensor(1.5),
}
METADATA_FORM = {"first.weight_scale": SCALE}
METADATA = {"_quantization_metadata": json.dumps({"layers": {"first": {"format": "float8_e4m3fn"}}})}


@pytest.mark.parametrize(
    ("content", "metadata"),
    [
        (in_float8(SCALE, OLD_FORM), None),
        (
            in_float8(SCALE, OLD_FORM | {"first.scale_weight": SCALE.view(1), "first.scale_input": torch.tensor(1.5)}),
            None,
        ),
        (in_float8(SCALE, NEW_FORM), None),
        (in_float8(SCALE, METADATA_FORM), METADATA),
        (in_float8(SCALE, METADATA_FORM, torch.float8_e5m2), None),
    ],
    ids=["old", "old, scale of one element", "newer", "in the header", "e5m2"],
)
def test_every_float8_form_is_value_times_scale(
    tmp_path: Path, content: dict[str, Tensor], metadata: dict[str, str] | None
) -> None:
    network = load(saved(tmp_path / "m.safetensors", content, metadata))
    expected = content["first.weight"].float() * SCALE
    assert isinstance(network.first, Fp8Linear)
    assert torch.equal(network.first.dequantize(torch.float32), expected)
    x = random_floats(3, 6)
    assert torch.equal(network.first(x), nn.functional.linear(x, expected, content["first.bias"]))


def test_float8_without_scale_is_taken_as_it_is(tmp_path: Path) -> None:
    content = in_float8(torch.tensor(1.0), {})
    network = load(saved(tmp_path / "m.safetensors", content))
    assert isinstance(network.first, Fp8Linear)
    assert torch.equal(network.first.dequantize(torch.float32), content["first.weight"].float())


def test_one_scale_per_row(tmp_path: Path) -> None:
    scales = tensors()["first.weight"].abs().amax(dim=1, keepdim=True) / 448
    content = in_float8(scales, {"first.weight_scale": scales.flatten()})
    network = load(saved(tmp_path / "m.safetensors", content))
    assert isinstance(network.first, Fp8Linear)
    assert torch.equal(network.first.dequantize(torch.float32), content["first.weight"].float() * scales)


def test_float8_stays_float8_in_memory_whatever_type_is_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.safetensors", in_float8(SCALE, OLD_FORM))
    network = load(path, dtype=torch.bfloat16).to(torch.float16)
    assert network.first.weight.element_size() == 1
    assert torch.equal(network.first.weight.view(torch.float8_e4m3fn), in_float8(SCALE, {})["first.weight"])


def test_float8_of_a_layer_that_is_not_linear_is_widened(tmp_path: Path) -> None:
    content = tensors() | {"norm.weight": tensors()["norm.weight"].to(torch.float8_e4m3fn)}
    network = load(saved(tmp_path / "m.safetensors", content))
    assert torch.equal(network.norm.weight, content["norm.weight"].float())


@pytest.mark.parametrize(
    ("form", "metadata", "says"),
    [
        ({"first.comfy_quant": b'{"format": "nvfp4"}'}, None, r"'first\.weight' is stored as 'nvfp4'"),
        ({"first.comfy_quant": b"what?"}, None, r"quantization of tensor 'first\.weight' is not readable"),
        ({}, {"_quantization_metadata": '{"layers": {"first": {"format": "int4"}}}'}, "is stored as 'int4'"),
        ({}, {"_quantization_metadata": "{"}, "quantization table .* is not readable"),
    ],
)
def test_unknown_quantizations_are_named(
    tmp_path: Path, form: dict[str, bytes], metadata: dict[str, str] | None, says: str
) -> None:
    stated = {name: torch.tensor(list(value), dtype=torch.uint8) for name, value in form.items()}
    path = saved(tmp_path / "m.safetensors", in_float8(SCALE, METADATA_FORM | stated), metadata)
    with pytest.raises(WeightsError, match=says):
        load(path)


def test_scales_that_fit_no_row_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.safetensors", in_float8(SCALE, {"first.weight_scale": torch.ones(5)}))
    with pytest.raises(WeightsError, match=r"'first\.weight' has 5 scales: expected one, or one for each of 16"):
        load(path)


# reading


def test_progress_counts_every_byte_once(tmp_path: Path) -> None:
    heard: list[LoadProgress] = []
    load(saved(tmp_path / "m.safetensors", tensors()), on_load=heard.append)
    sizes = sorted(value.nbytes for value in tensors().values())
    steps = [b.done_bytes - a.done_bytes for a, b in itertools.pairwise(heard)]
    assert sorted([heard[0].done_bytes, *steps]) == sizes
    assert heard[-1].done_bytes == heard[-1].total_bytes == sum(sizes)


def test_progress_may_stop_the_loading(tmp_path: Path) -> None:
    def stop(_: LoadProgress) -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        load(saved(tmp_path / "m.safetensors", tensors()), on_load=stop)


@pytest.mark.skipif(sys.platform != "linux", reason="counts bytes as Linux reports them")
def test_a_file_is_read_once(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.safetensors", tensors(width=1000, inner=4000))
    load(path)
    before = bytes_read()
    load(path)
    assert bytes_read() - before < 1.01 * path.stat().st_size


def bytes_read() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(lines[0].removeprefix("rchar: "))


def test_one_tensor_of_a_large_file_takes_no_more_memory_than_itself(tmp_path: Path) -> None:
    path = shape_only_file(tmp_path / "large.safetensors", {"before": (4_000_000_000,), "w": (2000, 2000)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    value = open_tensors(path).read("w", CPU)
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert value.shape == (2000, 2000)
    assert grown_bytes < 64e6


# the real layouts


def part(folder: Path, component: Component, storage: Storage | None = None) -> Part:
    return find_model(folder, storage=storage)[component]


def load_network(found: Part, dtype: torch.dtype = torch.float32) -> nn.Module:
    return load_part(found, nn.Module, device=CPU, dtype=dtype)


@needs_golden
@pytest.mark.parametrize("component", Component)
def test_both_layouts_hold_the_same_network(component: Component) -> None:
    official = load_network(part(OFFICIAL, component)).state_dict()
    comfy = load_network(part(COMFY, component)).state_dict()
    assert official.keys() == comfy.keys()
    for name, value in official.items():  # small values of the text encoder are rounded in float16
        assert torch.allclose(value, comfy[name], rtol=0, atol=1e-7), name


@needs_golden
@pytest.mark.parametrize("component", [Component.TRANSFORMER, Component.TEXT_ENCODER])
def test_float8_files_differ_by_their_rounding_only(component: Component) -> None:
    exact = load_network(part(COMFY, component)).state_dict()
    quantized = load_network(part(COMFY, component, Storage.FP8))
    layers = {name: layer for name, layer in quantized.named_modules() if isinstance(layer, Fp8Linear)}
    assert len(layers) > 20
    for name, layer in layers.items():
        assert relative_error(layer.dequantize(torch.float32), exact[f"{name}.weight"]) < 0.04, name


@needs_golden
def test_prefixes_before_every_name_do_not_matter(tmp_path: Path) -> None:
    source = part(COMFY, Component.TRANSFORMER)
    content = {f"model.diffusion_model.{name}": value for name, value in load_file(source.files[0]).items()}
    path = saved(tmp_path / "prefixed.safetensors", content)
    plain = load_network(source).state_dict()
    prefixed = load_network(find_model(COMFY, files={Component.TRANSFORMER: path})[Component.TRANSFORMER])
    assert all(torch.equal(value, plain[name]) for name, value in prefixed.state_dict().items())


@needs_golden
@pytest.mark.parametrize(("prefix", "old_style"), [("wav2vec2.", True), ("", True), ("wav2vec2.", False), ("", False)])
def test_wav2vec_names_of_either_style(tmp_path: Path, prefix: str, old_style: bool) -> None:
    source = part(COMFY, Component.AUDIO_ENCODER)
    renamed = {}
    for name, value in load_file(source.files[0]).items():
        name = name.removeprefix("wav2vec2.")  # noqa: PLW2901
        if not old_style:
            name = name.replace("weight_g", "parametrizations.weight.original0")  # noqa: PLW2901
            name = name.replace("weight_v", "parametrizations.weight.original1")  # noqa: PLW2901
        renamed[name if name.startswith("lm_head") else prefix + name] = value
    path = saved(tmp_path / "audio.safetensors", renamed)
    expected = load_network(source).state_dict()
    loaded = load_component(SPECS[Component.AUDIO_ENCODER], [path]).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in expected.items())


@needs_golden
@pytest.mark.parametrize(
    ("quantization", "limit"),
    [
        (GGMLQuantizationType.BF16, 0.0),
        (GGMLQuantizationType.F16, 1e-3),
        (GGMLQuantizationType.Q8_0, 0.01),
        (GGMLQuantizationType.Q5_1, 0.05),
        (GGMLQuantizationType.Q4_0, 0.12),
    ],
)
def test_gguf_transformers(tmp_path: Path, quantization: GGMLQuantizationType, limit: float) -> None:
    source = part(COMFY, Component.TRANSFORMER)
    path = write_gguf(tmp_path / "s2v.gguf", load_file(source.files[0]), quantization)
    found = find_model(path, COMFY)[Component.TRANSFORMER]
    assert (found.storage, found.files) == (Storage.GGUF, (path,))
    exact, loaded = load_network(source), load_network(found)
    x = random_floats(5, exact.blocks[0].attn1.to_q.in_features)
    for name in ("blocks.0.attn1.to_q", "blocks.1.ffn.net.2", "condition_embedder.text_embedder.linear_1"):
        ours, theirs = loaded.get_submodule(name), exact.get_submodule(name)
        given = x[:, : theirs.in_features]
        assert relative_error(ours(given), theirs(given)) <= limit, name
    if limit > 1e-3:
        assert bytes_loaded(found, torch.bfloat16) < 0.8 * bytes_loaded(source, torch.bfloat16)


@needs_golden
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("storage", [Storage.HALF, Storage.FP8])
def test_the_memory_estimate_is_what_loading_takes(storage: Storage, dtype: torch.dtype) -> None:
    for component in (Component.TRANSFORMER, Component.TEXT_ENCODER, Component.VAE):
        found = part(COMFY, component, storage)
        network = load_network(found, dtype)
        held = {value.data_ptr(): value.nbytes for value in [*network.parameters(), *network.buffers()]}
        assert bytes_loaded(found, dtype) == sum(held.values()), component


@needs_golden
def test_a_missing_tensor_of_a_real_checkpoint_is_found_before_anything_is_loaded(tmp_path: Path) -> None:
    source = COMFY / "vae" / "wan_2.1_vae.safetensors"
    path = rewrite(source, {"decoder.upsamples.7.time_conv.weight": None}, tmp_path / "vae.safetensors")
    model = find_model(COMFY, files={Component.VAE: path})
    with pytest.raises(
        WeightsError, match=r"1 tensor missing: decoder\.up_blocks\.1\.upsamplers\.0\.time_conv\.weight"
    ):
        outline_model(model)


# full size


TEXT_NAMES_OF_COMFY = {
    "token_embedding": "shared",
    "norm1": "layer.0.layer_norm",
    "norm2": "layer.1.layer_norm",
    "attn": "layer.0.SelfAttention",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}
"""Parts of the official names and what they are called in ComfyUI's files, from the specification."""


def comfy_text_name(name: str) -> str:
    if name.startswith("norm."):
        return name.replace("norm.", "encoder.final_layer_norm.")
    for official, comfy in TEXT_NAMES_OF_COMFY.items():
        if f".{official}." in f".{name}":
            return name.replace("blocks.", "encoder.block.").replace(official, comfy)
    raise AssertionError(name)


LAYOUTS: dict[str, Callable[[str], str]] = {
    "transformer": lambda name: f"model.diffusion_model.{name}",
    "text_encoder": comfy_text_name,
    "vae": str,
    "audio_encoder": lambda name: name.removeprefix("wav2vec2."),
}
"""ComfyUI's names by the manifest's component."""


@pytest.mark.parametrize("layout", ["official", "comfy"])
@pytest.mark.parametrize("component", Component)
def test_every_full_size_key_and_shape_fits(manifest: Path, tmp_path: Path, component: Component, layout: str) -> None:
    row = json.loads(manifest.read_text())["components"][component.name.lower()]
    rename = LAYOUTS[component.name.lower()] if layout == "comfy" else str
    shapes = {rename(name): tuple(shape) for name, shape in row["keys"].items()}
    path = shape_only_file(tmp_path / f"{component.name.lower()}.safetensors", shapes)
    config = row.get("config", {}) if layout == "official" else {}
    outline_component(SPECS[component], [path], config)
    assert path.stat().st_size > 2 * row["parameters"]
    del shapes[next(name for name in shapes if "block" in name or "layers.3" in name or "middle.1" in name)]
    with pytest.raises(WeightsError, match="1 tensor missing|is missing"):
        outline_component(SPECS[component], [shape_only_file(path, shapes)], config)
