"""What the VAE is said to take is what it holds: its own code on tensors without contents, every storage counted."""

import weakref
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from soundreel.engines.native.vae_memory import Sizes, decode_bytes, encode_bytes
from soundreel.models import vae, vae_stages
from soundreel.models.parallel.pictures import longer, rank_windows
from soundreel.models.vae import decode, encode
from soundreel.models.vae_network import WanVae

GIB = 2**30
WAYS = ((2, 1), (1, 1), (1, 2), (1, 4), (1, 8))


class Shapes(ModuleType):
    """As the kernels, which allocate their results and nothing else."""

    def convolve(
        self, x: Tensor, weight: Tensor, _: Tensor, *, residual: Tensor | None = None, time_stride: int = 1
    ) -> Tensor:
        return x.new_empty(1, weight.shape[0], (x.shape[2] - weight.shape[2]) // time_stride + 1, *x.shape[3:])

    def double(self, x: Tensor, weight: Tensor, _: Tensor) -> Tensor:
        return x.new_empty(1, weight.shape[0] // 2, 2 * (x.shape[2] - weight.shape[2] + 1), *x.shape[3:])

    def halve(self, x: Tensor, weight: Tensor, _: Tensor) -> Tensor:
        return x.new_empty(1, weight.shape[0], x.shape[2], x.shape[3] // 2, x.shape[4] // 2)

    def enlarge(self, x: Tensor, weight: Tensor, _: Tensor) -> Tensor:
        return x.new_empty(1, weight.shape[0], x.shape[2], 2 * x.shape[3], 2 * x.shape[4])

    def norm_silu(self, *_: Tensor) -> None:
        pass


class Live(TorchDispatchMode):
    """Counts the bytes of all storages that were made within, while they are there."""

    def __init__(self, *given: Tensor) -> None:
        super().__init__()
        self.now = self.most = 0
        self._given = {x.untyped_storage()._cdata for x in given}
        self._there: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        for x in tree_leaves(made):
            if isinstance(x, Tensor) and x.is_meta:
                self._count(x.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._there or key in self._given:
            return

        def leave(_: Any) -> None:
            self.now -= size
            del self._there[key]

        self._there[key] = weakref.ref(storage, leave)
        self.now += size
        self.most = max(self.most, self.now)


@pytest.fixture(scope="module")
def network() -> AutoencoderKLWan:
    with torch.device("meta"):
        return AutoencoderKLWan().eval().requires_grad_(False).to(torch.bfloat16)


@pytest.fixture(autouse=True)
def shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Shapes("shapes")
    monkeypatch.setattr(vae_stages, "convolutions", lambda _: made)
    monkeypatch.setattr(vae_stages, "operations", lambda _: made)
    monkeypatch.setattr(vae.DecodedRows, "put", lambda *_: None)  # what has no contents cannot leave for host memory


@torch.inference_mode()
@pytest.mark.parametrize(("step", "bands"), WAYS)
@pytest.mark.parametrize(("width", "height"), [(832, 480), (832, 1216)])
def test_a_decode_holds_what_is_said(network: AutoencoderKLWan, width: int, height: int, step: int, bands: int) -> None:
    latents = torch.empty(16, 39, height // 8, width // 8, device="meta", dtype=torch.bfloat16)
    with Live(latents) as live:
        decode(network, latents, 80, step, bands)
    sizes = Sizes(height=height, width=width, latents=39, bytes_each=2)
    assert decode_bytes(sizes, step, bands) == pytest.approx(live.most, rel=0.03 if bands < 8 else 0.08)


@torch.inference_mode()
@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.long), 4])
@pytest.mark.parametrize(("width", "height"), [(832, 480), pytest.param(832, 1216, marks=pytest.mark.long)])
def test_a_window_of_several_ranks_holds_no_more(width: int, height: int, ranks: int) -> None:
    """Though it has more latent frames at once."""
    with torch.device("meta"):
        network = WanVae().eval().requires_grad_(requires_grad=False).to(torch.bfloat16)
    latents = torch.empty(16, 39, height // 8, width // 8, device="meta", dtype=torch.bfloat16)
    window = rank_windows(height // 8, width // 8, ranks)[ranks // 2]
    with Live(latents) as live:
        decode(network, latents, 80, longer(2, ranks), window=window)
    assert live.most < decode_bytes(Sizes(height=height, width=width, latents=39, bytes_each=2), 2)


@torch.inference_mode()
@pytest.mark.parametrize(("step", "bands"), WAYS)
@pytest.mark.parametrize(("width", "height"), [(832, 480), (832, 1216)])
def test_an_encode_holds_what_is_said(
    network: AutoencoderKLWan, width: int, height: int, step: int, bands: int
) -> None:
    pixels = torch.empty(3, 73, height, width, device="meta", dtype=torch.bfloat16)
    with Live(pixels) as live:
        encode(network, pixels, step, bands)
    sizes = Sizes(height=height, width=width, latents=19, bytes_each=2)
    assert encode_bytes(sizes, step, bands) == pytest.approx(live.most, rel=0.03 if bands < 8 else 0.08)


def test_what_the_plan_says_in_round_figures() -> None:
    """At 480×832 and at 832×1216 in bf16, a later clip of 80 frames and the 73 before it."""
    small = Sizes(height=832, width=480, latents=39, bytes_each=2)
    large = Sizes(height=1216, width=832, latents=39, bytes_each=2)
    assert decode_bytes(small, 2) / GIB == pytest.approx(3.6, abs=0.05)
    assert decode_bytes(large, 2) / GIB == pytest.approx(9.2, abs=0.05)
    assert decode_bytes(large, 1, 4) / GIB == pytest.approx(2.4, abs=0.05)
