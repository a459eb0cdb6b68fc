"""The VAE in large steps makes what diffusers makes in small ones, and only what is kept."""

import math
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanAttentionBlock
from torch import Tensor

from counting import Counting
from soundreel.engines.native import vae as native_vae
from soundreel.engines.native.device import vae_dtype
from soundreel.engines.native.vae import Task, Vae
from soundreel.engines.native.vae_memory import Sizes, decode_bytes_on_a_cpu
from soundreel.errors import Cancelled, EngineError
from soundreel.models import vae as vae_model
from soundreel.models import vae_stages
from soundreel.models.parallel.pictures import rank_works
from soundreel.models.vae import DecodedRows, OnPiece, decode, encode
from soundreel.models.vae_areas import Window, decoder_areas, whole
from soundreel.models.vae_kernels import Part, get_ready
from soundreel.models.vae_network import WanVae
from soundreel.models.vae_stages import Starts
from soundreel.request import VaePrecision
from soundreel.request.presets import preset
from soundreel.types import Check

LIMIT = 1e-5
"""Of the largest difference; float32 rounding leaves 4e-6."""

SEAM_LIMIT = 2e-7
"""Between bands and whole pictures in float64: pixels are float32. PyTorch's sums depend on a tensor's size."""


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


@pytest.fixture(scope="module")
def exact() -> AutoencoderKLWan:
    return network().double()


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


def test_attention_sees_one_frame_whatever_comes_with_it(
    tiny: AutoencoderKLWan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that its library makes the same bits however a video is cut."""
    seen, forward = [], WanAttentionBlock.forward

    def noted(block: WanAttentionBlock, x: Tensor) -> Tensor:
        seen.append(x.shape[2])
        return forward(block, x)

    monkeypatch.setattr(WanAttentionBlock, "forward", noted)
    decode(tiny, latents(7), step=5)
    encode(tiny, torch.rand(3, 13, 16, 16), step=5)
    assert seen == [1] * (7 + 4)


@pytest.mark.parametrize(
    ("frames", "keep", "step", "bands"),
    [(1, None, 2, 3), (1, None, 1, 99), (4, None, 2, 2), (4, None, 2, 5), (7, 6, 1, 2), (7, 6, 2, 3), (7, 1, 1, 5)],
)
def test_decoded_in_bands_without_a_seam(
    exact: AutoencoderKLWan, frames: int, keep: int | None, step: int, bands: int
) -> None:
    z = latents(frames, rows=31, columns=1).double()
    assert far_off(decode(exact, z, keep, step, bands), decode(exact, z, keep, step)) < SEAM_LIMIT


@pytest.mark.parametrize("bands", [2, 3, 5])
@pytest.mark.parametrize(("frames", "step"), [(1, 2), (6, 1), (13, 2)])
def test_encoded_in_bands_without_a_seam(exact: AutoencoderKLWan, frames: int, step: int, bands: int) -> None:
    pixels = torch.rand(3, frames, 15 * 8, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert far_off(encode(exact, pixels, step, bands), encode(exact, pixels, step)) < SEAM_LIMIT


def test_a_window_takes_no_more_than_can_change_it(tiny: AutoencoderKLWan) -> None:
    """The decoder's stages begin with exactly the features that a window depends on."""
    height, width = 37, 36
    base = vae_stages.DecoderBase(tiny)(latents(1, rows=height, columns=width)[None])
    every, (first_area, *_, last) = whole(height, width), decoder_areas(height, width, Window((16, 18), (17, 18)))
    (top, bottom), (left, right) = given = first_area.computed
    assert 0 < top < 16
    assert 18 < bottom < height
    assert 0 < left < 17
    assert 18 < right < width

    def window(x: Tensor) -> Tensor:
        stages = vae_stages.DecoderStages(tiny, Starts.of(1, 1), decoder_areas(height, width, every), every)
        pixels, _ = stages(x, 0)
        assert pixels is not None
        rows, columns = last.kept.slices()
        return pixels[:, :, :, rows, columns]

    rows, columns = given.slices()
    outside = torch.zeros_like(base)
    outside[:, :, :, rows, columns] = base[:, :, :, rows, columns]
    expected = window(base)
    assert torch.equal(window(outside), expected)
    for row, column in ((top, 17), (bottom - 1, 17), (17, left), (17, right - 1)):
        inside = base.clone()
        inside[:, :, :, row, column] += 50
        assert not torch.equal(window(inside), expected)


@pytest.mark.parametrize("bands", [1, 3])
def test_pixels_stay_in_host_memory_as_float32(tiny: AutoencoderKLWan, bands: int) -> None:
    half = AutoencoderKLWan.from_config(tiny.config).eval().requires_grad_(False).to(torch.bfloat16)
    pixels = decode(half, latents(3).bfloat16(), bands=bands)
    assert pixels.device.type == "cpu"
    assert pixels.dtype is torch.float32
    assert encode(half, pixels, bands=bands).dtype is torch.bfloat16
    assert pixels.abs().max() <= 1


@pytest.mark.parametrize("bands", [1, 2])
def test_a_stop_is_heard_before_every_piece(tiny: AutoencoderKLWan, bands: int) -> None:
    vae = Vae(tiny)
    vae.bands = bands
    pixels = vae.decode(latents(5))
    for work in (lambda: vae.decode(latents(5)), lambda: vae.encode(pixels)):
        vae.check = counted = Counting()
        work()
        assert counted.calls >= 3 * bands  # 1 + 2 + 2 latent frames
        vae.check = stopped = Counting(stop_at=counted.calls)
        with pytest.raises(Cancelled):
            work()
        assert stopped.calls == counted.calls


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU stands for a GPU, beside which there is a CPU."""
    monkeypatch.setattr(Vae, "_is_on_a_gpu", True)


@dataclass
class ShortOfMemory:
    """Decodes where there are `enough` bands, and by the CPU; otherwise memory runs out."""

    enough: float
    events: list[Any] = field(default_factory=list)

    def __call__(
        self,
        network: AutoencoderKLWan,
        z: Tensor,
        keep: int | None,
        step: int,
        bands: int,
        *,
        check: Check,
        on_piece: OnPiece,
        pictures: Tensor | None,
        **_: Any,
    ) -> Tensor:
        by_the_cpu = on_piece is not native_vae._hear_nothing
        self.events.append((step, bands, str(z.dtype)) if by_the_cpu else (step, bands))
        if bands < self.enough and not by_the_cpu:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(network, z, keep, step, bands, check=check, on_piece=on_piece, pictures=pictures)

    def make_room(self) -> bool:
        self.events.append("make room")
        return self.events.count("make room") == 1


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> ShortOfMemory:
    memory = ShortOfMemory(enough=0)
    monkeypatch.setattr(native_vae, "decode", memory)
    return memory


@pytest.mark.parametrize("binds", [True, False])
def test_memory_that_runs_out_is_met_step_by_step(
    tiny: AutoencoderKLWan, short: ShortOfMemory, on_a_gpu: None, binds: bool
) -> None:
    vae, z = Vae(tiny), latents(3, rows=9)
    vae.make_room, vae.pieces_bind = short.make_room, binds
    expected = vae.decode(z, keep=2)
    short.enough = 4
    short.events.clear()
    assert far_off(vae.decode(z, keep=2), expected) < LIMIT
    assert short.events == [
        (2, 1), "make room", (2, 1), "make room", (1, 1), "make room", (1, 2), "make room", (1, 4),
    ]  # fmt: skip
    assert vae.take_fallback() == ("in smaller pieces" if binds else "")
    assert vae.take_fallback() == "", "asked once"


def test_the_last_resort_is_the_cpu_in_float32(tiny: AutoencoderKLWan, short: ShortOfMemory, on_a_gpu: None) -> None:
    half = AutoencoderKLWan.from_config(tiny.config).eval().requires_grad_(False)
    half.load_state_dict(tiny.state_dict())
    vae, z = Vae(half.bfloat16()), latents(3, rows=9)
    before, heard = [parameter.clone() for parameter in half.parameters()], list[Any]()
    vae.make_room, vae.on_cpu = short.make_room, lambda *told: heard.append(told)
    short.enough = math.inf
    made = vae.decode(z, keep=2)
    assert short.events[-3:] == [(1, 8), "make room", (1, 1, "torch.float32")]
    assert heard == [(Task.DECODE, 1, 3), (Task.DECODE, 2, 3), (Task.DECODE, 3, 3)]
    assert vae.take_fallback() == "on the CPU"
    assert next(half.parameters()).dtype is torch.float32
    assert far_off(made, decode(half, z * 2 + 0.1, 2)) < LIMIT, "float32 with the weights that the GPU has"
    short.enough = 0
    vae.to("cpu").decode(z, keep=2)
    assert short.events[-1] == (2, 1)
    assert all(torch.equal(one, other) for one, other in zip(before, half.parameters(), strict=True))


def test_latents_are_encoded_by_the_cpu_as_well(
    tiny: AutoencoderKLWan, monkeypatch: pytest.MonkeyPatch, on_a_gpu: None
) -> None:
    def short_of_memory(
        network: AutoencoderKLWan, x: Tensor, step: int, bands: int, *, check: Check, on_piece: OnPiece
    ) -> Tensor:
        if on_piece is native_vae._hear_nothing:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(network, x, step, bands, check, on_piece)

    pixels = torch.rand(3, 9, 32, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    vae = Vae(tiny)
    expected = vae.encode(pixels)
    monkeypatch.setattr(native_vae, "encode", short_of_memory)
    assert far_off(vae.encode(pixels), expected) < LIMIT
    assert vae.take_fallback() == "on the CPU"


def test_the_cpu_cuts_what_the_host_does_not_hold(
    tiny: AutoencoderKLWan, short: ShortOfMemory, on_a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae, z = Vae(tiny), latents(3, rows=64)
    sizes = Sizes(height=512, width=24, latents=3, bytes_each=4)
    short.enough = math.inf
    for bands in (1, 2, 4):
        needed = decode_bytes_on_a_cpu(sizes, bands)
        monkeypatch.setattr(native_vae, "available_memory", lambda needed=needed: needed)
        vae.decode(z, keep=2)
        assert short.events[-1][:2] == (1, bands)
    monkeypatch.setattr(native_vae, "available_memory", lambda: 10_000)
    with pytest.raises(EngineError, match="neither the GPU's memory nor the host's holds what the VAE takes"):
        vae.decode(z, keep=2)
    assert len(short.events[-1]) == 2, "the CPU did not even try"


@pytest.mark.parametrize("is_gpu", [True, False])
def test_a_host_without_memory_is_an_error_that_keeps_what_was_sampled(
    tiny: AutoencoderKLWan, monkeypatch: pytest.MonkeyPatch, is_gpu: bool
) -> None:
    def full(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Vae, "_is_on_a_gpu", is_gpu)
    monkeypatch.setattr(native_vae, "decode", full)
    with pytest.raises(EngineError, match="what was sampled is kept; free some of either, and go on"):
        Vae(tiny).decode(latents(3))


def test_another_error_is_none_of_memory(tiny: AutoencoderKLWan, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(native_vae, "decode", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        Vae(tiny).decode(latents(3))


def test_the_float_type_is_half_on_gpus_but_not_for_high() -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert vae_dtype(VaePrecision.AUTO, gpu) is torch.bfloat16
    assert vae_dtype(VaePrecision.AUTO, cpu) is torch.float32
    assert vae_dtype(VaePrecision.BF16, cpu) is torch.bfloat16
    assert vae_dtype(preset("high")["vae_precision"], gpu) is torch.float32


@pytest.mark.parametrize("step", [1, 3])
def test_pictures_come_without_pixels(tiny: AutoencoderKLWan, step: int) -> None:
    z, both, alone = latents(5), *(torch.zeros(9, 32, 24, 3, dtype=torch.uint8) for _ in range(2))
    pixels = decode(tiny, z, 9, step, pictures=both)
    assert torch.equal(vae_model.quantize(pixels).movedim(0, -1), both)
    assert decode(tiny, z, 9, step, pictures=alone, only_pictures=True).shape == (3, 0, 32, 24)
    assert torch.equal(both, alone)


@dataclass
class Helping:
    """Decodes as others would."""

    network: AutoencoderKLWan

    def decode(self, moments: Tensor, keep: int | None, step: int, bands: int, **wanted: Any) -> Tensor:
        return decode(self.network, moments, keep, step, bands, **wanted)

    def encode(self, pixels: Tensor, step: int, bands: int) -> Tensor:
        return encode(self.network, pixels, step, bands)


def test_helpers_make_what_one_makes(tiny: AutoencoderKLWan) -> None:
    alone, helped = Vae(tiny), Vae(tiny)
    helped.helpers = Helping(tiny)
    expected, pictures = (torch.zeros(9, 32, 24, 3, dtype=torch.uint8) for _ in range(2))
    pixels = alone.decode(latents(5), 9, expected)
    assert torch.equal(helped.decode(latents(5), 9), pixels)
    assert helped.decode(latents(5), 9, pictures, only_pictures=True).shape == (3, 0, 32, 24)
    assert torch.equal(pictures, expected)
    assert torch.equal(helped.encode(pixels), alone.encode(pixels))


class Arriving:
    """Frames as who takes them sees them, each time that some are said to be there."""

    def __init__(self, pictures: Tensor) -> None:
        self.pictures = pictures
        self.seen: list[Tensor] = []

    def __call__(self, count: int) -> None:
        self.seen.append(self.pictures[:count].clone())

    @property
    def counts(self) -> list[int]:
        return [len(frames) for frames in self.seen]


class ThereAtOnce:
    """An event of a GPU that is quick."""

    def synchronize(self) -> None: ...


def sent_as_from_a_gpu(rows: DecodedRows, values: Tensor, place: Tensor) -> None:
    """What was computed is somewhere else, and in its place when it is waited for."""
    rows._under_way.append(vae_model._Arrival(values.clone(), place, ThereAtOnce()))


@pytest.mark.parametrize("beside", [False, True], ids=["at once", "as from a GPU"])
@pytest.mark.parametrize(("keep", "counts"), [(None, [1, 9, 17, 21]), (10, [6, 10]), (4, [4])])
def test_frames_that_are_said_to_be_there_are(
    tiny: AutoencoderKLWan, monkeypatch: pytest.MonkeyPatch, keep: int | None, counts: list[int], beside: bool
) -> None:
    if beside:
        monkeypatch.setattr(DecodedRows, "_send", sent_as_from_a_gpu)
    z, pictures = latents(6), torch.zeros(counts[-1], 32, 24, 3, dtype=torch.uint8)
    there = Arriving(pictures)
    decode(tiny, z, keep, 2, pictures=pictures, only_pictures=True, on_frames=there)
    assert there.counts == counts
    assert all(torch.equal(frames, pictures[: len(frames)]) for frames in there.seen)
    decode(tiny, z, keep, 2, 2, pictures=pictures, only_pictures=True, on_frames=there)
    assert there.counts == counts, "a band of rows is no frame"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU is here")
def test_pieces_come_from_a_gpu_as_they_are(tiny: AutoencoderKLWan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each while the next one is computed, and as if it was waited for."""
    network, z = deepcopy(tiny).cuda(), latents(9).cuda()
    pictures = [torch.zeros(20, 32, 24, 3, dtype=torch.uint8) for _ in range(2)]
    beside = decode(network, z, 20, 1, pictures=pictures[0])
    monkeypatch.setattr(vae_model.DecodedRows, "_send", lambda _, values, place: place.copy_(values.cpu()))
    assert torch.equal(decode(network, z, 20, 1, pictures=pictures[1]), beside)
    assert torch.equal(*pictures)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU is here")
def test_what_was_compiled_ahead_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    triton = pytest.importorskip("triton", reason="Triton is not here")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compiled: list[str] = []
    compiles = triton.runtime.jit.JITFunction._do_compile

    def compile_kernel(kernel: Any, *given: Any) -> Any:
        compiled.append(kernel.fn.__name__)
        return compiles(kernel, *given)

    monkeypatch.setattr(triton.runtime.jit.JITFunction, "_do_compile", compile_kernel)
    pixels = torch.rand(3, 5, 80, 112)
    one, other = (Vae(deepcopy(WanVae(base_dim=32).eval())).to("cuda") for _ in range(2))
    works = rank_works(10, 14, ranks=1, rank=0, bands=1)
    get_ready(one.network, works[Part.ENCODE], works[Part.MEANS])
    ahead = [name for name in compiled if "_convolve" in name]
    made = one.encode(pixels)
    assert 0 < len(ahead) == len([name for name in compiled if "_convolve" in name])
    other.network.load_state_dict(one.network.state_dict())
    assert torch.equal(other.encode(pixels), made)
