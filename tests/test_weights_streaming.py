"""Streamed blocks: the same numbers as resident ones, whatever their weights are stored in and however many wait."""

from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter
from safetensors.torch import save_file
from torch import Tensor, nn

from soundreel.models.layers import FusedFeedForward
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.weights.lora import apply_loras, open_lora
from soundreel.weights.lora_files import LoraSource
from soundreel.weights.precision import block_layers, clip_layers, round_layers
from soundreel.weights.streaming import BlockStream, OffloadedLayers, matrices, places, spread, to_host
from test_models_transformer import LATENTS, T, inputs, random_model
from test_weights_lora import peft_tensors, random_pairs, tiny_model

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model() -> WanS2VTransformer3DModel:
    with torch.no_grad():
        return random_model(num_layers=6, audio_inject_layers=(0, 2, 3))


def velocity(model: WanS2VTransformer3DModel) -> Tensor:
    return model(LATENTS, T, model.condition(**inputs()))


def stream(model: WanS2VTransformer3DModel, streamed: int, **options: Any) -> BlockStream:
    """As the engine does it: what is used once per clip is offloaded, of the blocks so many are streamed."""
    blocks = list(model.blocks)
    apart = [layer for block in blocks for layer in clip_layers(block)]
    OffloadedLayers(apart, CPU)
    waiting = [blocks[k] for k in spread(len(blocks), streamed)]
    return BlockStream(waiting, CPU, apart=apart, **options)


@pytest.mark.parametrize("buffers", [1, 2, 3, 7])
@pytest.mark.parametrize("streamed", [1, 3, 5, 6])
def test_streamed_is_resident_bit_for_bit(model: WanS2VTransformer3DModel, streamed: int, buffers: int) -> None:
    expected, changed = velocity(model), deepcopy(model)
    stream(changed, streamed, buffers=buffers)
    for _ in range(2):  # a second pass finds the buffers as the first one left them
        assert torch.equal(velocity(changed), expected)


def test_any_order_of_blocks_and_one_that_broke_off(model: WanS2VTransformer3DModel) -> None:
    expected, changed = velocity(model), deepcopy(model)
    held = stream(changed, 6)
    held._before(4)  # a pass that was cancelled in the middle of block 4
    assert torch.equal(velocity(changed), expected)


def test_only_matrices_that_steps_use_travel(model: WanS2VTransformer3DModel) -> None:
    changed = deepcopy(model)
    held = stream(changed, 6, buffers=2)
    used = [getattr(holder, leaf).weight for block in model.blocks for holder, leaf in block_layers(block)]
    assert waiting_bytes(held) >= sum(weight.nbytes for weight in used)
    largest = max(sum(place.tensor.nbytes for place in matrices(block, clip_layers(block))) for block in model.blocks)
    buffers = {weight.untyped_storage().data_ptr(): weight.untyped_storage() for weight in stepping_weights(changed)}
    assert len(buffers) == 2, "all blocks are views of two buffers"
    assert all(largest <= buffer.nbytes() < 1.2 * largest for buffer in buffers.values())
    assert {place.tensor.shape for place in places(changed)} == {place.tensor.shape for place in places(model)}


def waiting_bytes(held: BlockStream) -> int:
    return sum(len(flat.memory) for flat in held._blocks)


def stepping_weights(model: WanS2VTransformer3DModel) -> list[Tensor]:
    return [getattr(holder, leaf).weight for block in model.blocks for holder, leaf in block_layers(block)]


def test_float8_blocks(model: WanS2VTransformer3DModel) -> None:
    rounded = deepcopy(model)
    round_layers(rounded)
    expected = velocity(rounded)
    assert not torch.equal(expected, velocity(model))
    stream(rounded, 4)
    assert torch.equal(velocity(rounded), expected)


def pack(layer: nn.Linear) -> GGUFLinear:
    kind = gguf.GGMLQuantizationType.Q8_0
    values = torch.from_numpy(gguf.quants.quantize(layer.weight.numpy(), kind))
    packed = GGUFLinear(layer.in_features, layer.out_features, True, compute_dtype=torch.float32)
    packed.weight, packed.bias = GGUFParameter(values, quant_type=kind), layer.bias
    return packed


def test_gguf_blocks(model: WanS2VTransformer3DModel) -> None:
    packed = deepcopy(model)
    for block in packed.blocks:
        for name in ("to_q", "to_k", "to_v"):
            setattr(block.attn1, name, pack(getattr(block.attn1, name)))
    expected = velocity(packed)
    stream(packed, 6)
    assert isinstance(packed.blocks[0].attn1.to_q.weight, GGUFParameter)
    assert torch.equal(velocity(packed), expected)


def test_adapters_beside_float8_weights_travel_along(tmp_path: Path) -> None:
    model = tiny_model()
    round_layers(model)
    path = tmp_path / "lora.safetensors"
    save_file(peft_tensors(random_pairs(model)), path)
    apply_loras(model, [open_lora(LoraSource(path=path, strength=0.7), model)])
    given: dict[str, Any] = {
        "text": torch.randn(4, 32, generator=torch.Generator().manual_seed(1)),
        "audio": torch.randn(3, 20, 8, generator=torch.Generator().manual_seed(2)),
        "frames": 2,
        "height": 8,
        "width": 8,
    }
    latents = torch.randn(1, 16, 2, 8, 8, generator=torch.Generator().manual_seed(3))
    expected = model(latents, T, model.condition(**given))
    held = stream(model, 3)
    assert any("lora_A" in name for name, _ in model.named_parameters())
    assert torch.equal(model(latents, T, model.condition(**given)), expected)
    assert waiting_bytes(held) > sum(weight.nbytes for weight in stepping_weights(model) if weight.dtype is torch.int8)


def test_both_branches_share_a_block_s_way(model: WanS2VTransformer3DModel) -> None:
    """The same numbers as one after the other, and half the copies."""
    branches = [model.condition(**inputs(seed)) for seed in (1, 2)]
    expected = [model(LATENTS, T, branch) for branch in branches]
    changed = deepcopy(model)
    held = stream(changed, 6, uses=2)
    copies: list[int] = []
    original = held._timeline.copy
    held._timeline.copy = lambda source, buffer: (copies.append(len(source)), original(source, buffer))
    made = changed.forward_branches(LATENTS, T, branches)
    assert all(torch.equal(one, other) for one, other in zip(made, expected, strict=True))
    together = len(copies)
    for branch, wanted in zip(branches, expected, strict=True):
        assert torch.equal(changed(LATENTS, T, branch), wanted)
    assert together == 6
    assert len(copies) == 3 * together - 1, "each of the other two passes has its own; the last block is not left yet"


def test_offloaded_layers_go_back(model: WanS2VTransformer3DModel) -> None:
    changed = deepcopy(model)
    layer = changed.blocks[0].attn2.to_k
    OffloadedLayers([layer], torch.device("meta"))
    home = layer.weight
    assert layer(torch.zeros(1, 1, 96, device="meta")).is_meta, "it computes on the device"
    assert torch.equal(layer.weight, home)
    assert layer.weight.device == CPU


def test_to_host_keeps_the_kind_of_parameter(model: WanS2VTransformer3DModel) -> None:
    changed = deepcopy(model)
    to_host(places(changed))
    assert [type(place.tensor) for place in places(changed)] == [type(place.tensor) for place in places(model)]


@pytest.mark.parametrize(("count", "streamed"), [(40, 0), (40, 1), (40, 13), (40, 40), (3, 2)])
def test_streamed_blocks_are_spread_evenly(count: int, streamed: int) -> None:
    chosen = spread(count, streamed)
    assert len(chosen) == streamed
    gaps = [after - before for before, after in pairwise(chosen)]
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("tokens", [1, 3, 5, 100])
def test_feed_forward_in_pieces_is_the_same(tokens: int) -> None:
    torch.manual_seed(0)
    layers = FusedFeedForward(24, 40)
    x = torch.randn(2, 7, 24)
    expected = layers(x)
    layers.tokens_at_once = tokens
    assert torch.allclose(layers(x), expected, rtol=1e-6, atol=1e-7)
