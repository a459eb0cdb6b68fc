"""The VAE in large steps makes what diffusers makes in small ones, and only what is kept."""

from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor

from soundreel.engines.native import vae as native_vae
from soundreel.engines.native.device import vae_dtype
from soundreel.engines.native.vae import Vae
from soundreel.models.vae import Starts, decode, encode
from soundreel.presets import preset
from soundreel.request import VaePrecision

LIMIT = 1e-5
"""Of the largest difference; float32 rounding leaves 4e-6."""


def network(**sizes: Any) -> AutoencoderKLWan:
    torch.manual_seed(0)
    made = AutoencoderKLWan(
        **({"base_dim": 8, "z_dim": 4, "latents_mean": [0.1] * 4, "latents_std": [2.0] * 4} | sizes)
    )
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "gamma" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tiny() -> AutoencoderKLWan:
    return network()


def latents(frames: int, channels: int = 4, rows: int = 4, columns: int = 3) -> Tensor:
    return torch.randn(channels, frames, rows, columns, generator=torch.Generator().manual_seed(frames))


def far_off(one: Tensor, other: Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).abs().max())


@pytest.mark.parametrize("step", [1, 2, 5])
@pytest.mark.parametrize("frames", [1, 2, 3, 7])
def test_all_is_decoded_however_it_is_cut(tiny: AutoencoderKLWan, frames: int, step: int) -> None:
    z = latents(frames)
    assert far_off(decode(tiny, z, step=step), tiny.decode(z[None]).sample[0]) < LIMIT


@pytest.mark.parametrize("step", [1, 2, 5])
@pytest.mark.parametrize(("frames", "keep"), [(39, 80), (39, 77), (24, 20), (21, 1), (12, 13), (2, 3), (3, 99)])
def test_the_frames_that_are_kept_are_those_of_the_whole(
    tiny: AutoencoderKLWan, frames: int, keep: int, step: int
) -> None:
    z = latents(frames, rows=2, columns=2)
    whole = tiny.decode(z[None]).sample[0]
    assert far_off(decode(tiny, z, keep, step), whole[:, -min(keep, whole.shape[1]) :]) < LIMIT


def test_stages_begin_where_the_specification_says() -> None:
    """Section 18, item 8: 39 latent frames of which the last 80 frames are kept."""
    assert Starts.of(153, 80) == Starts(latent=0, half_rate=10, half_size=47, full=59)


def test_stages_do_not_begin_earlier_than_they_must(tiny: AutoencoderKLWan) -> None:
    """A frame later and the kept frames change: the look-backs are tight."""
    z = latents(60, rows=2, columns=2)
    starts = Starts.of(237, 20)
    assert starts.latent > 0
    exact = decode(tiny, z, 20, 1)
    changed = z.clone()
    changed[:, : starts.latent] = 0
    assert torch.equal(decode(tiny, changed, 20, 1), exact)
    changed[:, starts.latent] += 5
    assert not torch.equal(decode(tiny, changed, 20, 1), exact)


@pytest.mark.parametrize("step", [1, 2, 5])
@pytest.mark.parametrize("frames", [1, 4, 5, 9, 73, 75])
def test_encoded_the_same_however_it_is_cut(tiny: AutoencoderKLWan, frames: int, step: int) -> None:
    pixels = torch.rand(3, frames, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    whole = 1 + (frames - 1) // 4 * 4
    expected = tiny.encode(pixels[None, :, :whole]).latent_dist.mean[0]
    assert far_off(encode(tiny, pixels, step), expected) < LIMIT


def test_other_shapes_of_the_network_work() -> None:
    wide = network(base_dim=12, dim_mult=[1, 2, 2, 2], num_res_blocks=2)
    z = latents(5)
    assert far_off(decode(wide, z, 6, 2), wide.decode(z[None]).sample[0][:, -6:]) < LIMIT


def test_memory_that_runs_out_halves_the_pieces(tiny: AutoencoderKLWan, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def short_of_memory(network: AutoencoderKLWan, z: Tensor, keep: int | None, step: int) -> Tensor:
        tried.append(step)
        if step > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(network, z, keep, step)

    monkeypatch.setattr(native_vae, "decode", short_of_memory)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    vae = Vae(tiny)
    vae.most_at_once = 4
    assert vae.decode(latents(3), keep=2).shape == (3, 2, 32, 24)
    assert tried == [4, 2, 1]


def test_the_float_type_is_half_on_gpus_but_not_for_high() -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert vae_dtype(VaePrecision.AUTO, gpu) is torch.bfloat16
    assert vae_dtype(VaePrecision.AUTO, cpu) is torch.float32
    assert vae_dtype(VaePrecision.BF16, cpu) is torch.bfloat16
    assert vae_dtype(preset("high")["vae_precision"], gpu) is torch.float32
