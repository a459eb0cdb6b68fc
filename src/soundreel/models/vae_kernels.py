"""Which kernels the VAE launches for pictures of a size, known without a GPU, and compiled before they are launched.

By itself Triton compiles a kernel when it is first launched, one after the other. How a convolution is cut into
programs goes by the rows and columns of its pictures, so that each band or window may need kernels of its own. Here the
network is run on the meta device, where nothing is computed, and what it would launch is compiled, several kernels at
once. Nothing but the pictures' sizes decides: neither how many frames there are, nor how many come at once.

Legend: h × w size of the latents, H = 8·h lines of the pictures, C channels.
"""

from collections.abc import Hashable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from soundreel.models.kernels import dispatch
from soundreel.models.kernels.convolution_layers import Convolutions, Geometry, Specialization, Tiling, choose_tiling
from soundreel.models.kernels.once import once
from soundreel.models.vae import LATENT_STEP, decode, encoded_window, means
from soundreel.models.vae_areas import SCALE, Window, whole
from soundreel.models.vae_network import WanVae
from soundreel.models.vae_stages import channels_last, encoded_channels
from soundreel.units import FRAMES_PER_LATENT


class Part(StrEnum):
    """Of what the VAE does, each computed by itself where pictures are divided."""

    DECODE = "decode"
    ENCODE = "encode"  # pictures, down to features as large as the latents
    MEANS = "means"  # latents, from features of whole pictures


class Work(NamedTuple):
    """What decides which kernels are launched."""

    part: Part
    height: int  # h, of whole pictures
    width: int  # w
    window: Window | None = None  # of the latents, what is made of them; None: all
    bands: int = 1  # one after the other


Norm = tuple[int, torch.dtype]
"""What a norm is compiled for: channels and their type."""


@dataclass(frozen=True)
class Launches:
    """What is launched, once for each compiled kernel."""

    convolutions: dict[Specialization, tuple[Geometry, Tiling]]
    norms: dict[Norm, tuple[Tensor, Tensor, Tensor]]  # the arguments of `norm_silu`


@dataclass(frozen=True)
class Outline:
    """A network of certain sizes; equal to another one that has them, too."""

    sizes: Hashable
    network: WanVae = field(compare=False)

    @staticmethod
    def of(network: WanVae) -> "Outline":
        """Wherever its weights are."""
        return Outline(network.sizes, network)


def get_ready(network: WanVae, *works: Work) -> None:
    """Compile what a network is about to launch; others who do so already are waited for."""
    weight = network.quant_conv.weight
    if weight.is_cuda:
        compile_ahead(Outline.of(network), weight.device, weight.dtype, *works)


def compile_ahead(outline: Outline, device: torch.device, dtype: torch.dtype, *works: Work) -> None:
    """Compile what such a network would launch on a device, of each work once in a process."""
    if device.type == "cuda" and dispatch.is_convolved(device, dtype):
        for work in works:
            _compiled(outline, device, dtype, work)


@once
def _compiled(outline: Outline, device: torch.device, dtype: torch.dtype, work: Work) -> None:
    kernels, ahead = import_module(dispatch.CONVOLUTION), import_module("soundreel.models.kernels.ahead")
    found = launches(outline.network, dtype, work, kernels.kind_of(device, dtype))
    with suppress(*dispatch.kernel_errors()), torch.cuda.device(device), ahead.compiled_ahead():
        for geometry, tiling in found.convolutions.values():
            kernels.launch(geometry, tiling)
        if dispatch.is_fused(device):
            for arguments in found.norms.values():
                import_module(dispatch.FUSED).norm_silu(*arguments)


def launches(network: WanVae, dtype: torch.dtype, work: Work, kind: tuple[int, int]) -> Launches:
    """What a network's work launches in `dtype` on a kind of GPU (its compute capability)."""
    recorder = _Recorder(kind)
    with torch.no_grad(), dispatch.on_meta(recorder), _Joining():
        _run(_on_meta(network, dtype), work)
    return recorder.launches


class _Joining(TorchFunctionMode):
    """Within, what is joined on the meta device is room of that size.

    By itself PyTorch imports torch._dynamo for that, and a thousand modules more, which takes seconds.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called for every function of PyTorch."""
        del types
        given = kwargs or {}
        if func not in {torch.cat, torch.stack}:
            return func(*args, **given)
        parts, dim = args[0], args[1] if len(args) > 1 else given.get("dim", 0)
        shape = list(parts[0].shape)
        if func is torch.stack:
            shape.insert(dim, len(parts))
        else:
            shape[dim] = sum(part.shape[dim] for part in parts)
        return parts[0].new_empty(shape)


class _Recorder:
    """Takes the place of the modules of kernels; makes tensors of the right shapes."""

    def __init__(self, kind: tuple[int, int]) -> None:
        self.launches = Launches({}, {})
        self._kind = kind
        described = Convolutions(self._record)
        self.convolve, self.double = described.convolve, described.double
        self.halve, self.enlarge = described.halve, described.enlarge

    def norm_silu(self, x: Tensor, gamma: Tensor, out: Tensor) -> None:
        """See `reference.norm_silu`."""
        self.launches.norms.setdefault((x.shape[1], x.dtype), (x, gamma, out))

    def _record(self, given: Geometry) -> None:
        tiling = given.fitting(choose_tiling(given.layer, self._kind))
        self.launches.convolutions.setdefault(given.specialization(tiling), (given, tiling))


def _run(network: WanVae, work: Work) -> None:
    """On the meta device: the first latent frame, which is a piece of its own, and another piece."""
    frames, like = 1 + LATENT_STEP, network.quant_conv.weight
    if work.part is Part.DECODE:
        latents = like.new_empty(network.config["z_dim"], frames, work.height, work.width)
        decode(network, latents, bands=work.bands, only_pictures=True, window=work.window)
    elif work.part is Part.ENCODE:

        def take(times: slice, window: Window) -> Tensor:
            return like.new_empty(1, 3, times.stop - times.start, *window.shape)

        pictures = 1 + FRAMES_PER_LATENT * (frames - 1), SCALE * work.height, SCALE * work.width
        window = work.window or whole(work.height, work.width)
        for _ in encoded_window(network, take, pictures, window, bands=work.bands):
            pass
    else:
        channels = encoded_channels(network)
        shapes = [(1, channels, count, work.height, work.width) for count in (1, LATENT_STEP)]
        means(network, (channels_last(like.new_empty(shape)) for shape in shapes))


def _on_meta(network: WanVae, dtype: torch.dtype) -> WanVae:
    """A network of the same sizes, without memory, and without attention: that is a library's, and as large as x."""
    memo: dict[int, Any] = {
        id(weight): nn.Parameter(torch.empty(weight.shape, device="meta", dtype=dtype), requires_grad=False)
        for weight in network.parameters()
    }
    made = deepcopy(network, memo)
    for half in (made.encoder, made.decoder):
        half.mid_block.attentions = nn.ModuleList([NoAttention()])
    return made


class NoAttention(nn.Module):
    """In place of attention, whose kernels are a library's."""

    def forward(self, x: Tensor, window: Window | None = None) -> Tensor:
        """Of the shape that attention would make."""
        if window is None:
            return x
        rows, columns = window.slices()
        return x[:, :, :, rows, columns]
