"""Memory modes: what is kept where, that caps hold by the plan's own arithmetic, and that pictures stay the same."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import torch
from safetensors.torch import save_file
from torch import Tensor

from full_size import GB, MB, float8_weights, full_demand, full_plan, full_weights
from host import pretend_host
from native_renders import native_plan, native_request, prepared, rendered
from soundreel.engines.native import prepared as decisions
from soundreel.engines.native.block_placement import load_transformer
from soundreel.engines.native.demand import weigh
from soundreel.engines.native.ledger import activation_bytes, device_peak, moments, resident_bytes, vae_decode_bytes
from soundreel.engines.native.memory import choose_memory
from soundreel.engines.native.memory_modes import CONTEXT_BYTES, choose, fit, fit_print, with_encoders
from soundreel.engines.native.memory_plan import Bits, Encoders, MemoryPlan
from soundreel.engines.native.prepared import Placement, find_files
from soundreel.engines.native.text import TextEncoder
from soundreel.errors import EngineError
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.request import Memory, Precision, VaePrecision, memory_bytes
from soundreel.types import Progress
from soundreel.weights.catalog import Component
from soundreel.weights.components import load_part, outline_model
from soundreel.weights.lora import apply_loras, open_lora
from soundreel.weights.lora_files import LoraSource
from soundreel.weights.precision import block_layers, clip_layers, round_layers
from soundreel.weights.quantized import Fp8Linear
from weight_files import COMFY, OFFICIAL, bytes_loaded, needs_golden

CPU = torch.device("cpu")
EVERYTHING = MemoryPlan()
"""All on the device, as it is stored."""

SMALL = (Memory.GB24, Memory.GB16, Memory.GB12)

QUICK: dict[str, Any] = {"width": 32, "height": 32, "frames": 5, "steps": 2}


@pytest.fixture(autouse=True)
def roomy_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's memory is another test's matter."""
    pretend_host(monkeypatch, tmp_path, total=128 * GB)


def fitted(mode: Memory, **fields: Any) -> MemoryPlan | None:
    planned = full_plan(memory=mode, **fields)
    return fit(full_weights(), full_demand(planned), planned.request, mode)


# the arithmetic


@pytest.mark.parametrize("mode", SMALL)
@pytest.mark.parametrize("precision", [Precision.AUTO, Precision.BF16])
def test_a_480p_clip_fits_every_cap(mode: Memory, precision: Precision) -> None:
    found = fitted(mode, precision=precision)
    assert found is not None
    assert found.peak_bytes < (memory_bytes(mode) or 0) - CONTEXT_BYTES
    assert found.cap_bytes == (memory_bytes(mode) or 0) - CONTEXT_BYTES
    assert found.rounds == (precision is Precision.AUTO)


def test_less_memory_streams_more_and_only_the_smallest_streams_the_text_encoder() -> None:
    plans = [found for mode in SMALL if (found := fitted(mode))]
    assert [found.streamed for found in plans] == sorted(found.streamed for found in plans)
    assert plans[0].streamed == 0, "in 24 GB all fp8 blocks stay"
    assert plans[2].streamed > plans[1].streamed > 0
    assert [found.text_streamed for found in plans] == [False, False, True]
    assert plans[1].says() == f"16gb, fp8 weights, {plans[1].streamed} of 40 blocks streamed"


def test_no_more_blocks_are_streamed_than_must_be() -> None:
    planned = full_plan()
    weights, asked = full_weights(), full_demand(planned)
    found = fit(weights, asked, planned.request, Memory.GB16)
    assert found is not None
    one_less = replace(found, streamed=found.streamed - 1)
    assert device_peak(weights, asked, one_less) > ((memory_bytes(Memory.GB16) or 0) - CONTEXT_BYTES) * 0.95
    assert found.peak_bytes > 0.9 * ((memory_bytes(Memory.GB16) or 0) - CONTEXT_BYTES)


def test_bf16_streams_more_than_fp8() -> None:
    rounded, exact = fitted(Memory.GB16), fitted(Memory.GB16, precision=Precision.BF16)
    assert rounded is not None
    assert exact is not None
    assert exact.streamed > rounded.streamed
    assert exact.streamed_bytes > 2 * rounded.streamed_bytes


def test_high_is_never_another_quality() -> None:
    found = fitted(Memory.HIGH)
    assert found is not None
    assert (found.rounds, found.streamed, found.offloads, found.tokens_at_once) == (False, 0, False, None)
    assert list(found.notes()) == []
    assert found.peak_bytes == pytest.approx(38.4 * GB, rel=0.1)  # measured on an H200


@pytest.mark.parametrize(
    ("free", "expected"),
    [(80, Memory.HIGH), (39, Memory.AUTO), (17, Memory.AUTO), (13, Memory.AUTO), (9, Memory.AUTO), (4, None)],
)
def test_auto_keeps_everything_or_is_a_size_as_large_as_what_is_free(free: int, expected: Memory | None) -> None:
    planned = full_plan()
    weights, asked = full_weights(), full_demand(planned)
    found = choose(weights, asked, planned.request, free * GB)
    assert (found and found.mode) == expected
    if found is None or expected is Memory.HIGH:
        return
    assert found.peak_bytes < free * GB
    assert found.cap_bytes is None
    size = fit(weights, asked, planned.request, f"{free + CONTEXT_BYTES / GB:g}gb")
    assert size is not None
    assert found == replace(size, mode=Memory.AUTO, cap_bytes=None)


@pytest.mark.parametrize("mode", Memory)
@pytest.mark.parametrize(("rounds", "tokens_at_once", "vae_step"), list(product((False, True), (None, 8192), (2, 1))))
def test_a_render_that_goes_on_keeps_what_changes_its_pixels(
    mode: Memory, rounds: bool, tokens_at_once: int | None, vae_step: int
) -> None:
    kept = Bits(rounds=rounds, tokens_at_once=tokens_at_once, vae_step=vae_step)
    planned = full_plan(memory=mode)
    for free in (13 * GB, 80 * GB):
        found = choose(full_weights(), full_demand(planned), planned.request, free, kept)
        assert (found is None) == (mode is Memory.HIGH and free < 20 * GB)
        assert found is None or (found.bits == kept and found.peak_bytes < free)


def test_pieces_of_the_vae_bind_only_where_they_change_bits() -> None:
    """What is begun with all of a card goes on under a cap where the VAE's kernels are our own."""
    planned = full_plan(width=832, height=1216, memory="40gb")
    weights, bound = float8_weights(), full_demand(planned)
    free = replace(bound, vae_binds=False)
    begun, begun_free = (choose(weights, asked, planned.request, 80 * GB) for asked in (bound, free))
    assert begun is not None
    assert begun_free == replace(begun, vae_binds=False)
    assert (begun.bits.vae_step, begun.bits.vae_bands) == (2, 1)
    assert (begun_free.bits.vae_step, begun_free.bits.vae_bands) == (None, None)
    smaller = full_plan(width=832, height=1216, memory="11.5gb").request
    assert choose(weights, bound, smaller, 80 * GB, begun.bits) is None
    found = choose(weights, free, smaller, 80 * GB, begun_free.bits)
    assert found is not None
    assert (found.vae_step, found.vae_bands) != (2, 1)
    assert found.bits == begun_free.bits, "the same render"


def test_a_print_takes_as_much_of_the_vae_as_fits() -> None:
    asked = replace(full_demand(full_plan(width=832, height=1216)), vae_binds=False)
    plans = {free: fit_print(254 * MB, asked, Memory.AUTO, free * GB) for free in (40, 9, 6, 1)}
    assert [(plan.vae_step, plan.vae_bands) for plan in plans.values()] == [(2, 1), (1, 1), (1, 2), (1, 8)]
    assert all(plan.peak_bytes < free * GB for free, plan in plans.items() if free > 1), "else it falls back"
    assert fit_print(254 * MB, asked, "12gb", 40 * GB).cap_bytes == 12 * GB - CONTEXT_BYTES
    bound = Bits(rounds=False, tokens_at_once=None, vae_step=2, vae_bands=1)
    assert fit_print(254 * MB, asked, Memory.AUTO, 5 * GB, bound).vae_step == 2


def test_what_was_begun_where_there_was_room_may_not_fit_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soundreel.engines.native.device.free_memory", lambda *_: 13 * GB)
    planned = full_plan(width=832, height=1216)
    weights, asked = full_weights(), full_demand(planned)
    anew = choose_memory(weights, asked, planned.request, CPU)
    roomy = Bits(rounds=False, tokens_at_once=None, vae_step=2)
    assert anew.bits != roomy
    with pytest.raises(EngineError, match=r"832×1216 .* 13\.0 GB free: --no-resume begins anew, with what fits; or"):
        choose_memory(weights, asked, planned.request, CPU, roomy)


def test_of_two_processes_on_one_gpu_the_second_plans_with_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the driver counts: what another process has is not free, what this one has in reserve is."""
    card, gpu = 80 * GB, torch.device("cuda")
    of_others = of_this = 0
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (card - of_others - of_this, card))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: of_this)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 0)
    planned = full_plan(width=832, height=1216)
    weights, asked = full_weights(), full_demand(planned)
    first = choose_memory(weights, asked, planned.request, gpu)
    of_this = 20 * GB
    assert choose_memory(weights, asked, planned.request, gpu) == first
    of_this, of_others = 0, first.peak_bytes
    second = choose_memory(weights, asked, planned.request, gpu)
    assert second.peak_bytes <= card - first.peak_bytes < first.peak_bytes
    of_others = 79 * GB
    with pytest.raises(EngineError, match=r"1\.0 GB free"):
        choose_memory(weights, asked, planned.request, gpu)


@pytest.mark.parametrize("mode", SMALL)
def test_memory_grows_with_the_picture_and_the_clip(mode: Memory) -> None:
    asked = [full_demand(full_plan(width=w, height=h, infer_frames=n, frames=221)) for w, h, n in
             ((480, 832, 48), (480, 832, 80), (704, 1024, 80), (832, 1216, 80), (832, 1216, 112))]  # fmt: skip
    memory_plan = MemoryPlan(mode=mode, blocks=40, tokens_at_once=8192, vae_step=1, vae_bands=4)
    needed = [device_peak(full_weights(), one, memory_plan) for one in asked]
    assert needed == sorted(needed)
    assert len(set(needed)) == len(needed)


def test_every_saving_saves() -> None:
    weights, asked = full_weights(), full_demand(full_plan())
    base = MemoryPlan(blocks=40)
    assert resident_bytes(weights, replace(base, streamed=20)) < resident_bytes(weights, base) - 10 * GB
    assert resident_bytes(weights, replace(base, offloads=True)) == resident_bytes(weights, base) - weights.clip
    assert resident_bytes(weights, replace(base, rounds=True)) < resident_bytes(weights, base) - 12 * GB
    assert activation_bytes(asked, replace(base, tokens_at_once=8192)) < activation_bytes(asked, base)
    one, two = replace(base, vae_step=1), replace(base, vae_step=2)
    assert vae_decode_bytes(asked, one) < vae_decode_bytes(asked, two) * 0.8
    assert vae_decode_bytes(asked, replace(one, vae_bands=2)) < vae_decode_bytes(asked, one) * 0.7
    assert activation_bytes(asked, replace(base, together=True)) > activation_bytes(asked, base)


def test_the_transformer_s_bytes_are_those_of_its_file() -> None:
    assert resident_bytes(full_weights(), EVERYTHING) == pytest.approx(32.6 * GB, rel=0.002)


# what the files say


@needs_golden
@pytest.mark.parametrize("folder", [OFFICIAL, COMFY])
def test_weighing_is_loading(folder: Path) -> None:
    placement: Placement = prepared(native_plan(**QUICK, models=folder)).placement
    files = placement.files
    weights, loaded = weigh(outline_model(files), CPU, VaePrecision.AUTO), load_transformer(placement).network
    assert sum(weights.step) + weights.clip + weights.others == bytes_loaded(
        files[Component.TRANSFORMER], torch.float32
    )
    assert weights.step == tuple(
        sum(getattr(holder, leaf).weight.nbytes for holder, leaf in block_layers(block)) for block in loaded.blocks
    )
    clip = sum(layer.weight.nbytes for block in loaded.blocks for layer in clip_layers(block))
    assert weights.clip == clip
    round_layers(loaded)
    assert weights.rounded == tuple(
        sum(layer.weight.nbytes + layer.scale.nbytes for holder, leaf in block_layers(block)
            if isinstance(layer := getattr(holder, leaf), Fp8Linear))
        for block in loaded.blocks
    )  # fmt: skip
    assert 0 < weights.text_streamed < weights.text


# what is loaded


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def loaded(memory_plan: MemoryPlan, **fields: Any) -> WanS2VTransformer3DModel:
    decided = prepared(native_plan(**QUICK, **fields))
    placement = replace(decided.placement, memory=memory_plan)
    return load_transformer(placement).network


def velocity(model: WanS2VTransformer3DModel) -> Tensor:
    generator, config = torch.Generator().manual_seed(0), model.config

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    conditioning = model.condition(
        text=draw(5, config["text_dim"]),
        audio=draw(config["num_audio_states"], config["audio_dim"], 8),
        frames=2,
        height=8,
        width=8,
        reference=draw(16, 1, 8, 8),
        motion=draw(16, 19, 8, 8),
    )
    return model(draw(1, 16, 2, 8, 8), torch.tensor(500.0), conditioning)


@needs_golden
@pytest.mark.parametrize("streamed", [1, 2])
def test_a_streamed_load_computes_the_same(streamed: int) -> None:
    expected = velocity(loaded(EVERYTHING))
    count = len(loaded(EVERYTHING).blocks)
    cut = MemoryPlan(mode=Memory.GB12, blocks=count, streamed=streamed, offloads=True, tokens_at_once=7)
    assert torch.allclose(velocity(loaded(cut)), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(velocity(loaded(replace(cut, tokens_at_once=None))), expected)


@needs_golden
def test_weights_are_rounded_as_they_arrive() -> None:
    model = loaded(EVERYTHING)
    round_layers(model)
    cut = MemoryPlan(mode=Memory.GB24, blocks=len(model.blocks), rounds=True, offloads=True, streamed=1)
    assert torch.equal(velocity(loaded(cut)), velocity(model))


LORA_LAYERS = {
    "blocks.0.self_attn.q": "blocks.0.attn1.to_q",
    "blocks.1.ffn.2": "blocks.1.ffn.net.2",
    "blocks.1.cross_attn.k": "blocks.1.attn2.to_k",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
}
"""Official name → ours: layers that are rounded, used once per clip, and outside the blocks."""


@needs_golden
def test_loras_are_added_before_weights_are_rounded(tmp_path: Path) -> None:
    path, down, up = tmp_path / "lora.safetensors", "lora_A.weight", "lora_B.weight"
    generator, model = torch.Generator().manual_seed(5), loaded(EVERYTHING)
    tensors: dict[str, Tensor] = {}
    for name, ours in LORA_LAYERS.items():
        layer = model.get_submodule(ours)
        tensors[f"diffusion_model.{name}.{down}"] = torch.randn(2, layer.in_features, generator=generator) / 8
        tensors[f"diffusion_model.{name}.{up}"] = torch.randn(layer.out_features, 2, generator=generator) / 8
    save_file(tensors, path)
    expected = loaded(EVERYTHING, loras=(str(path),))
    assert not torch.equal(velocity(expected), velocity(model))
    apply_loras(model, [open_lora(LoraSource.parse(str(path)), model)])
    assert torch.equal(velocity(expected), velocity(model)), "block by block as all at once"
    round_layers(model)
    cut = MemoryPlan(mode=Memory.GB24, blocks=len(model.blocks), rounds=True, offloads=True, streamed=1)
    assert torch.equal(velocity(loaded(cut, loras=(str(path),))), velocity(model))


@needs_golden
@pytest.mark.parametrize("folder", [OFFICIAL, COMFY])
def test_blocks_arrive_whole_and_one_after_the_other(folder: Path) -> None:
    """Though files keep the layers for the sound apart from the blocks that they belong to."""
    part, arrived = find_files(native_request(models=folder))[Component.TRANSFORMER], list[str]()

    def on_part(name: str, module: torch.nn.Module) -> None:
        assert not any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers()))
        arrived.append(name)

    model = load_part(part, WanS2VTransformer3DModel, device=CPU, dtype=torch.float32, on_part=on_part)
    blocks = [name for name in arrived if name.startswith("blocks.")]
    assert blocks == [f"blocks.{k}" for k in range(len(model.blocks))]


@needs_golden
def test_a_streamed_text_encoder_says_the_same() -> None:
    files = find_files(native_request())
    expected = TextEncoder.load(files).encode("a red boat")
    assert torch.equal(TextEncoder.load(files).stream_to(CPU).encode("a red boat"), expected)


# whole renders


@needs_golden
def test_a_render_in_little_memory_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = native_plan(**QUICK, precision=Precision.BF16)
    expected, count = rendered(planned), prepared(planned).placement.sizes["num_layers"]
    little = MemoryPlan(
        mode=Memory.GB12, blocks=count, streamed=count, offloads=True, text_streamed=True, together=True, vae_step=1
    )
    monkeypatch.setattr(decisions, "choose_memory", lambda *_: little)
    (clip,) = rendered(planned)
    assert (clip.frames == expected[0].frames).all()


@needs_golden
def test_a_small_mode_rounds_and_says_so() -> None:
    decided = prepared(native_plan(**QUICK, memory=Memory.GB24))
    (note,) = decided.notes
    assert note.startswith("memory 24gb: the transformer's large matrices are rounded to fp8; --precision bf16 keeps")
    assert decided.memory_mode == "24gb, fp8 weights"
    assert prepared(native_plan(**QUICK, memory=Memory.GB24, precision=Precision.BF16)).notes == ()
    assert prepared(native_plan(**QUICK)).notes == ()


@needs_golden
def test_without_a_gpu_the_vae_takes_one_latent_frame_at_once() -> None:
    for mode in (Memory.AUTO, Memory.GB24):
        decided = prepared(native_plan(**QUICK, memory=mode))
        assert decided.placement.memory.vae_step == decided.identity["bits"]["vae_step"] == 1


@needs_golden
def test_files_in_fp8_are_not_rounded_again(tmp_path: Path) -> None:
    for kind, name in (
        ("diffusion_models", "wan2.2_s2v_14B_fp8_scaled"),
        ("text_encoders", "umt5_xxl_fp8_e4m3fn_scaled"),
        ("vae", "wan_2.1_vae"),
        ("audio_encoders", "wav2vec2_large_english_fp16"),
    ):
        (tmp_path / kind).mkdir()
        shutil.copyfile(COMFY / kind / f"{name}.safetensors", tmp_path / kind / f"{name}.safetensors")
    found = prepared(native_plan(**QUICK, models=tmp_path, memory=Memory.GB24)).placement.memory
    assert not found.rounds
    assert found.says() == "24gb"


@needs_golden
def test_the_time_left_is_in_the_progress_of_every_step() -> None:
    heard: list[Progress] = []
    rendered(native_plan(**QUICK), report=heard.append)
    left = [progress.eta_seconds for progress in heard if progress.step]
    assert len(left) == 2
    assert all(seconds is not None and seconds >= 0 for seconds in left)
    assert left[1] < left[0]


@needs_golden
def test_what_does_not_fit_says_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soundreel.engines.native.device.free_memory", lambda *_: 24 * GB)
    planned = full_plan(width=832, height=1216, memory="9gb")
    with pytest.raises(
        EngineError, match=r"832×1216 in clips of 80 needs at least \d+\.\d GB of the GPU, --memory is 9gb: take "
    ):
        choose_memory(full_weights(), full_demand(planned), planned.request, CPU)


def test_a_session_has_its_encoders_as_near_as_there_is_room() -> None:
    planned = full_plan(memory="auto")
    weights, asked, request = float8_weights(), full_demand(planned), planned.request
    found = {}
    for budget in range(8, 60):
        memory = fit(weights, asked, request, "auto", budget * GB)
        if memory is not None:
            with_them = with_encoders(weights, asked, memory, budget * GB, None)
            found[budget] = with_them.encoders
            assert with_them.peak_bytes <= budget * GB
            moments_of = {moment.name: moment.device for moment in moments(weights, asked, with_them)}
            beside = 0 if with_them.encoders is Encoders.ALONE else weights.others
            assert moments_of["text"] >= weights.text_streamed + beside
    assert list(dict.fromkeys(found.values()))[-1] is Encoders.STAY
    near = [list(Encoders).index(encoders) for _, encoders in sorted(found.items())]
    assert near == sorted(near, reverse=True), "more room never sends them farther away"
    assert {Encoders.STAY, Encoders.COME} <= set(found.values())


def test_encoders_that_stay_are_in_the_plan_all_the_time() -> None:
    planned = full_plan(memory="high")
    weights, asked = float8_weights(), full_demand(planned)
    alone = fit(weights, asked, planned.request, "high")
    assert alone is not None
    stay = with_encoders(weights, asked, alone, None, None)
    assert stay.encoders is Encoders.STAY
    assert stay.peak_bytes == alone.peak_bytes + weights.text + weights.sound
    host = stay.host_bytes - 1
    assert with_encoders(weights, asked, alone, stay.peak_bytes, host).encoders is not Encoders.STAY
