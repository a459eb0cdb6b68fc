"""Text encoder, sound encoder and VAE make the bits of the library networks that they are named after."""

from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import torch
from torch import Tensor, nn

from library_networks import library_network
from soundreel.models.text_encoder import UMT5Encoder
from soundreel.models.vae_network import WanVae
from soundreel.models.wav2vec2 import Wav2Vec2
from soundreel.weights.catalog import Component

SOUND: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96,
    "conv_dim": [16, 16, 16], "conv_kernel": [10, 3, 2], "conv_stride": [5, 2, 2], "conv_bias": True,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "vocab_size": 200, "d_model": 64, "num_heads": 4, "d_kv": 16, "d_ff": 96, "num_layers": 3,
    "relative_attention_num_buckets": 32,
}  # fmt: skip


def with_random_weights(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.eval().requires_grad_(False)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_text(dtype: torch.dtype) -> None:
    ours = with_random_weights(UMT5Encoder(**TEXT)).to(dtype)
    theirs = library_network(Component.TEXT_ENCODER, ours, {}).to(dtype)
    for length in (1, 2, 40, 300):
        ids = torch.randint(0, 200, (1, length), generator=torch.Generator().manual_seed(length))
        assert torch.equal(ours(ids), theirs(input_ids=ids).last_hidden_state), length


@pytest.mark.parametrize("is_stable", [True, False])
@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize("positions", [16, 15])
def test_sound(*, is_stable: bool, norm: str, positions: int) -> None:
    said = {"do_stable_layer_norm": is_stable, "feat_extract_norm": norm, "conv_stride": SOUND["conv_stride"]}
    ours = with_random_weights(Wav2Vec2(**SOUND | said | {"num_conv_pos_embeddings": positions}))
    theirs = library_network(Component.AUDIO_ENCODER, ours, said | {"num_attention_heads": 4})
    samples = noise(1, 4001)
    made = theirs(samples, output_hidden_states=True)
    states = ours(samples)
    expected = [*made.hidden_states[:-1], made.last_hidden_state]
    assert len(states) == len(expected) == 4
    assert all(torch.equal(one, other) for one, other in zip(states, expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", [{}, {"dim_mult": [1, 2, 2, 2]}, {"temperal_downsample": [True, True, False]}])
def test_vae(sizes: dict[str, Any], dtype: torch.dtype) -> None:
    """Its layers are those of diffusers; what `models.vae` makes of them is compared in test_native_vae.py."""
    ours = with_random_weights(WanVae(base_dim=8, decoder_base_dim=16, **sizes)).to(dtype)
    assert isinstance(ours, WanVae)
    theirs = library_network(Component.VAE, ours, {})
    assert {name: theirs.config[name] for name in ours.config} == {
        name: list(value) if isinstance(value, tuple) else value for name, value in ours.config.items()
    }
    attention, other = ours.decoder.mid_block.attentions[0], theirs.to(dtype).decoder.mid_block.attentions[0]
    x = noise(1, attention.proj.in_channels, 1, 6, 5).to(dtype)
    assert torch.equal(attention(x), other(x))
