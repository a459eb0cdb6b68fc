"""What the VAE launches is known before: every kernel that a rank's share of the pictures needs is compiled ahead."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")

import torch
from torch import Tensor

from command import REPO
from native_renders import CHAIN, native_plan, prepared, rendered
from soundreel.engines.native import vae as engine_vae
from soundreel.engines.native import warm_up
from soundreel.engines.native.warm_up import Pictures, WarmUp, works_of
from soundreel.models import vae_kernels
from soundreel.models.frame_packing import MOTION_FRAMES, MOTION_LATENTS
from soundreel.models.kernels import dispatch
from soundreel.models.kernels.convolution_layers import ANY_KIND, HOPPER_KIND, Specialization
from soundreel.models.parallel import pictures as parallel_pictures
from soundreel.models.parallel.pictures import PictureParallel, Room, rank_windows, rank_works
from soundreel.models.parallel.ranks import Place, Ranks
from soundreel.models.vae import LATENT_STEP, decode, encode
from soundreel.models.vae_areas import SCALE, Window
from soundreel.models.vae_kernels import Norm, Outline, Part, Work, launches
from soundreel.models.vae_network import WanVae
from soundreel.weights.load import WithoutInitialValues
from weight_files import needs_golden

DTYPE = torch.bfloat16
CLIP = 5
"""Latent frames of a clip: the decoder of a later one leaves out many of the frames before it."""


@pytest.fixture(scope="module")
def network() -> WanVae:
    """Of the full size, without memory."""
    with torch.device("meta"), WithoutInitialValues():
        made = WanVae().to(DTYPE).requires_grad_(requires_grad=False)
    for half in (made.encoder, made.decoder):
        half.mid_block.attentions = torch.nn.ModuleList([vae_kernels.NoAttention()])
    return made


@dataclass(frozen=True)
class Alone(Ranks):
    """One of several ranks that hears nothing of the others."""

    def all_to_all(self, send: Tensor, counts: list[int], received: list[int]) -> Callable[[], Tensor]:
        return lambda: send.new_empty(sum(received))

    def all_gather(self, x: Tensor) -> list[Tensor]:
        return [torch.ones(1)] * self.size

    def from_first(self, x: Tensor) -> None:
        """It is as it is."""


def launched(kind: tuple[int, int], work: Callable[[], object]) -> set[Specialization | Norm]:
    """What is launched while `work` computes on the meta device."""
    recorder = vae_kernels._Recorder(kind)
    with torch.no_grad(), dispatch.on_meta(recorder), vae_kernels._Joining():
        work()
    return {*recorder.launches.convolutions, *recorder.launches.norms}


def compiled(network: WanVae, kind: tuple[int, int], works: list[Work]) -> set[Specialization | Norm]:
    found = [launches(network, DTYPE, work, kind) for work in works]
    return {key for one in found for key in (*one.convolutions, *one.norms)}


def pictures_of_a_rank(network: WanVae, ranks: Ranks, height: int, width: int, bands: int) -> None:
    """A first clip, a later one and what it continues, as `SharedVae` and a worker do them."""
    parallel, like = PictureParallel(network, ranks), network.quant_conv.weight
    for frames, keep in ((1 + CLIP, 4 * CLIP - 3), (MOTION_LATENTS + CLIP, 4 * CLIP)):
        room = Room(
            like.new_empty(3, keep, height, width, dtype=torch.float32),
            like.new_empty(keep, height, width, 3, dtype=torch.uint8),
        )
        latents = like.new_empty(16, frames, height // SCALE, width // SCALE)
        parallel.decode(latents, keep, LATENT_STEP, bands, room)
    pixels = like.new_empty(3, MOTION_FRAMES, height, width) if ranks.rank == 0 else None
    parallel.encode(pixels, (3, MOTION_FRAMES, height, width), LATENT_STEP, bands)


@pytest.mark.parametrize(
    ("height", "width", "bands", "kind"),
    [
        (480, 832, 1, HOPPER_KIND),
        (480, 832, 1, ANY_KIND),
        (832, 480, 4, HOPPER_KIND),
        (272, 400, 3, HOPPER_KIND),
        (64, 64, 1, HOPPER_KIND),
        pytest.param(832, 1216, 1, HOPPER_KIND, marks=pytest.mark.long),
        pytest.param(1024, 704, 2, ANY_KIND, marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_rank_launches_nothing_that_was_not_compiled_ahead(
    network: WanVae, count: int, height: int, width: int, bands: int, kind: tuple[int, int]
) -> None:
    for rank in range(count):
        ranks = Alone(rank, count, Place(rank))
        asked = launched(kind, lambda ranks=ranks: pictures_of_a_rank(network, ranks, height, width, bands))
        works = rank_works(height // SCALE, width // SCALE, count, rank, bands)
        ahead = compiled(network, kind, list(works.values()))
        assert asked
        assert asked <= ahead
        assert ahead <= asked, "and nothing is compiled in vain"


@pytest.mark.parametrize(("bands", "kind"), [(1, HOPPER_KIND), (1, ANY_KIND), (8, HOPPER_KIND)])
def test_so_does_one_device(network: WanVae, bands: int, kind: tuple[int, int]) -> None:
    like = network.quant_conv.weight

    def work() -> None:
        for frames, keep in ((1 + CLIP, None), (MOTION_LATENTS + CLIP, 4 * CLIP)):
            decode(network, like.new_empty(16, frames, 60, 104), keep, LATENT_STEP, bands, only_pictures=True)
        for frames in (1, MOTION_FRAMES):
            encode(network, like.new_empty(3, frames, 480, 832), LATENT_STEP, bands)

    works = list(rank_works(60, 104, ranks=1, rank=0, bands=bands).values())
    assert launched(kind, work) == compiled(network, kind, works)


def test_a_window_needs_kernels_that_whole_pictures_do_not(network: WanVae) -> None:
    """As benchmarks/notes.md says."""
    whole = compiled(network, HOPPER_KIND, list(rank_works(60, 104, 1, 0, 1).values()))
    assert len(whole) == 31
    for count, kernels, new in ((2, (32, 30), (4, 4)), (4, (34, 30, 34, 32), (5, 11, 14, 12))):
        of_ranks = [
            compiled(network, HOPPER_KIND, list(rank_works(60, 104, count, k, 1).values())) for k in range(count)
        ]
        assert [len(found) for found in of_ranks] == list(kernels)
        assert [len(found - whole) for found in of_ranks] == list(new)


def test_nothing_is_imported_that_takes_seconds() -> None:
    """PyTorch imports its compiler for many an operation on the meta device."""
    program = (
        "import sys, torch; from soundreel.models.vae_kernels import *\n"
        "from soundreel.models.vae_network import WanVae; from soundreel.weights.load import WithoutInitialValues\n"
        "with torch.device('meta'), WithoutInitialValues(): network = WanVae()\n"
        "for part in Part:\n"
        "    launches(network, torch.bfloat16, Work(part, 60, 104, Window((15, 30), (0, 52)), 2), (9, 0))\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


class TestWarmUp:
    """It asks for what the render asks for later."""

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[Work]:
        found: list[Work] = []
        for module in (parallel_pictures, engine_vae):
            monkeypatch.setattr(module, "get_ready", lambda _, *works: found.extend(works))
        return found

    @needs_golden
    @pytest.mark.parametrize(
        ("fields", "parts"),
        [
            ({}, {Part.DECODE, Part.ENCODE, Part.MEANS}),
            ({"gpus": "2", "height": 80}, {Part.DECODE, Part.ENCODE, Part.MEANS}),
            ({"frames": 5}, {Part.DECODE}),
        ],
    )
    def test_of_all_that_a_render_does(self, asked: list[Work], fields: dict[str, Any], parts: set[Part]) -> None:
        decided = prepared(native_plan(**CHAIN | fields))
        rendered(decided)
        assert {work.part for work in asked} == parts
        assert set(asked) == set(works_of(Pictures.of(decided.plan), decided.placement, 0))

    def test_a_reference_is_encoded_whole_and_first(self) -> None:
        placement: Any = SimpleNamespace(memory=SimpleNamespace(vae_bands=1), team=SimpleNamespace(size=2))
        works = works_of(Pictures(480, 832, has_reference=True, are_encoded=True), placement, 0)
        assert [(work.part, work.window) for work in works] == [
            (Part.ENCODE, None),
            (Part.MEANS, None),
            (Part.DECODE, Window((0, 60), (0, 52))),
            (Part.ENCODE, Window((0, 60), (0, 52))),
            (Part.MEANS, None),
        ]
        works = works_of(Pictures(480, 832, has_reference=True, are_encoded=False), placement, 1)
        assert [(work.part, work.window) for work in works] == [(Part.DECODE, Window((0, 60), (52, 104)))]

    @needs_golden
    def test_each_process_compiles_for_its_own_window(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As if there were two GPUs."""
        compiled_for: list[tuple[Any, ...]] = []
        monkeypatch.setattr(warm_up, "_proofs", lambda *_, **__: iter(()))
        monkeypatch.setattr(warm_up, "tell_children", lambda: None)
        monkeypatch.setattr(warm_up, "compile_ahead", lambda *given: compiled_for.append(given))
        planned = native_plan(**CHAIN, gpus="2", parallel="tokens")
        placement = prepared(planned).placement
        for rank in range(2):
            warm = WarmUp()
            device = torch.device("cuda", rank)
            warm.go_on(replace(placement, device=device), Pictures.of(planned), rank)
            assert warm._pool is not None
            warm._pool.shutdown(wait=True)
            outlines, where, dtypes, works = zip(*compiled_for, strict=True)
            compiled_for.clear()
            assert set(where) == {device}
            assert set(dtypes) == {placement.vae_dtype}
            assert {work.window for work in works if work.part is Part.DECODE} == {rank_windows(8, 8, 2)[rank]}
            assert len(set(outlines)) == 1


def test_a_kind_of_work_is_compiled_once(network: WanVae, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks, and by whichever network of these sizes."""
    found: list[int] = []
    kernels = SimpleNamespace(kind_of=lambda *_: ANY_KIND, launch=lambda *_: found.append(1))
    fused = SimpleNamespace(norm_silu=lambda *_: found.append(2))

    @contextmanager
    def nothing(*_: object) -> Iterator[None]:
        yield

    ahead = SimpleNamespace(compiled_ahead=nothing)
    modules = {dispatch.CONVOLUTION: kernels, dispatch.FUSED: fused, "soundreel.models.kernels.ahead": ahead}
    monkeypatch.setattr(vae_kernels, "import_module", modules.__getitem__)
    for name in ("is_convolved", "is_fused"):
        monkeypatch.setattr(dispatch, name, lambda *_: True)
    monkeypatch.setattr(dispatch, "kernel_errors", lambda: (RuntimeError,))
    monkeypatch.setattr(torch.cuda, "device", nothing)
    work = Work(Part.DECODE, 30, 20, Window((0, 15), (0, 20)))
    for _ in range(2):
        vae_kernels.compile_ahead(Outline.of(network), torch.device("cuda", 0), DTYPE, work)
    assert found.count(1) > 10
    assert found.count(2) == 3
    first = len(found)
    vae_kernels.compile_ahead(Outline.of(network), torch.device("cuda", 1), DTYPE, work)
    assert len(found) == 2 * first
    vae_kernels._compiled.cache_clear()  # type: ignore[attr-defined]


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not here")
def test_triton_itself_compiles_for_nothing_else() -> None:
    """Triton without a GPU, in a process of its own: its own keys are what is held here to be all that decides."""
    program = [sys.executable, str(Path(__file__).with_name("triton_keys.py"))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPO / "src"), *sys.path])}
    done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "0 not proven" in done.stdout
