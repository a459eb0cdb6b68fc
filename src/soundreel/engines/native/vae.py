"""Wan 2.1 VAE: pixels ↔ latents.

Legend: T frames, H × W pixels, F = 1 + ⌊(T − 1)/4⌋ latent frames, h × w = H/8 × W/8, c latent channels (16).
Pixels are float32 [3, T, H, W] from −1 to 1; latents are float32 [c, F, h, w], normalized to about unit variance.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from typing import Protocol, Self, TypeAlias

import torch
from torch import Tensor, nn

from soundreel.engines.base import IN_SMALLER_PIECES, ON_THE_CPU
from soundreel.engines.host_memory import available_memory
from soundreel.engines.native.network import LoadedNetwork
from soundreel.engines.native.vae_memory import CPU_BANDS, Sizes, decode_bytes_on_a_cpu, encode_bytes_on_a_cpu
from soundreel.errors import EngineError
from soundreel.models.devices import is_out_of_memory
from soundreel.models.parallel.pictures import rank_works
from soundreel.models.vae import LATENT_STEP, OnFrames, OnPiece, decode, encode
from soundreel.models.vae_areas import SCALE
from soundreel.models.vae_kernels import Part, get_ready
from soundreel.models.vae_network import WanVae
from soundreel.types import Check, go_on
from soundreel.weights.catalog import Component

CPU = torch.device("cpu")

NO_ROOM = (
    "neither the GPU's memory nor the host's holds what the VAE takes for this video: what was sampled is kept; free "
    "some of either, and go on"
)


class Task(StrEnum):
    """What a VAE does."""

    ENCODE = "encode"
    DECODE = "decode"


Work: TypeAlias = Callable[[int, int, OnPiece], Tensor]
"""Does a task with so many latent frames at once and so many bands, wherever the network is."""

OnCpu: TypeAlias = Callable[[Task, int, int], object]
"""Called after each piece that the CPU makes in a GPU's place: how many are done, of how many; may raise to stop."""


class Helpers(Protocol):
    """Other devices that make their share of the pictures."""

    def decode(
        self,
        moments: Tensor,
        keep: int | None,
        step: int,
        bands: int,
        *,
        pictures: Tensor | None,
        only_pictures: bool,
    ) -> Tensor | None:
        """`models.vae.decode` of what is on the VAE's device; None where somebody's memory ran out."""
        ...

    def encode(self, pixels: Tensor, step: int, bands: int) -> Tensor | None:
        """`models.vae.encode`, likewise."""
        ...


class Vae(LoadedNetwork[WanVae]):
    """Encodes and decodes videos, at most `most_at_once` latent frames at a time, in so many `bands` of rows.

    Where there are `helpers`, it does so with them.

    Where a GPU's memory runs out all the same, whatever `make_room` can let go of leaves it; then one latent frame goes
    at a time, then in 2, 4, 8, … bands. At last the CPU does it, in float32, and says so to `on_cpu`.

    `check` is called before each piece, and may raise to stop.
    """

    component = Component.VAE
    kind = WanVae

    def __init__(self, network: WanVae) -> None:
        super().__init__(network)
        self._mean = torch.tensor(network.config["latents_mean"]).view(-1, 1, 1, 1)
        self._std = torch.tensor(network.config["latents_std"]).view(-1, 1, 1, 1)
        self._home = super().device
        self._fallback = ""
        self.most_at_once = LATENT_STEP
        self.bands = 1
        self.pieces_bind = True
        """Other pieces than these change the last bits."""
        self.make_room: Callable[[], bool] = _no_room
        self.check: Check = go_on
        self.on_cpu: OnCpu = _say_nothing
        self.helpers: Helpers | None = None

    @property
    def channels(self) -> int:
        return int(self.network.config["z_dim"])

    @property
    def device(self) -> torch.device:
        """Where the network belongs; the CPU may be at work in its place."""
        return self._home

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns (h, w) of the latents of a picture."""
        stride = self.network.config["scale_factor_spatial"]
        return height // stride, width // stride

    def to(self, device: torch.device | str) -> Self:
        """Move the network; on a GPU its convolution weights become channels-last. Returns itself."""
        self._home = torch.device(device)
        self._move(self._home, self.dtype)
        if self._home.type == "cuda":
            for module in self.network.modules():
                if isinstance(module, nn.Conv2d | nn.Conv3d):
                    layout = torch.channels_last if isinstance(module, nn.Conv2d) else torch.channels_last_3d
                    module.weight.data = module.weight.data.contiguous(memory_format=layout)
        return self

    @torch.no_grad()
    def encode(self, pixels: Tensor, *, alone: bool = False) -> Tensor:
        """Pixels [3, T, H, W] → latents [c, F, h, w], the posterior's mean; frames after 1 + 4(F − 1) are ignored.

        Pixels may lie in host memory: they come to the device in pieces. Latents are where they were made. What is
        made `alone` is made without helpers.
        """

        def work(step: int, bands: int, on_piece: OnPiece) -> Tensor:
            self._get_ready((Part.ENCODE, Part.MEANS), height // SCALE, width // SCALE, bands)
            return encode(self.network, pixels, step, bands, check=self.check, on_piece=on_piece)

        def helped(helpers: Helpers) -> Tensor | None:
            return helpers.encode(pixels, self.most_at_once, self.bands)

        _, frames, height, width = pixels.shape
        means = None if alone else self._with_help(helped)
        if means is None:
            means = self._in_pieces(Task.ENCODE, work, _sizes(height, width, 1 + (frames - 1) // 4))
        return (means.float() - self._mean.to(means.device)) / self._std.to(means.device)

    @torch.no_grad()
    def decode(
        self,
        latents: Tensor,
        keep: int | None = None,
        pictures: Tensor | None = None,
        *,
        only_pictures: bool = False,
        on_frames: OnFrames | None = None,
    ) -> Tensor:
        """Latents [c, F, h, w] → pixels [3, T, H, W], clamped: the last `keep` of 1 + 4(F − 1) frames, or all.

        They are in host memory, and so are `pictures`, which get the same frames as uint8 [T, H, W, 3]. With
        `only_pictures` no pixels are kept: T is 0. `on_frames` hears how many are there meanwhile, where one device
        makes whole pictures; those may be made anew, in smaller pieces.
        """
        moments = latents.float() * self._std.to(latents.device) + self._mean.to(latents.device)

        def there() -> Tensor:
            like = next(self.network.parameters())
            return moments.to(like.device, like.dtype)

        def work(step: int, bands: int, on_piece: OnPiece) -> Tensor:
            self._get_ready((Part.DECODE,), rows, columns, bands)
            return decode(
                self.network,
                there(),
                keep,
                step,
                bands,
                check=self.check,
                on_piece=on_piece,
                on_frames=on_frames,
                pictures=pictures,
                only_pictures=only_pictures,
            )

        def helped(helpers: Helpers) -> Tensor | None:
            return helpers.decode(
                there(), keep, self.most_at_once, self.bands, pictures=pictures, only_pictures=only_pictures
            )

        _, frames, rows, columns = latents.shape
        made = self._with_help(helped)
        if made is None:
            made = self._in_pieces(Task.DECODE, work, _sizes(SCALE * rows, SCALE * columns, frames))
        return made

    def take_fallback(self) -> str:
        """How something was done since this was last asked whose last bits may differ for it; "": as planned."""
        said, self._fallback = self._fallback, ""
        return said

    def _get_ready(self, parts: Iterable[Part], height: int, width: int, bands: int) -> None:
        """Have the kernels for whole latents of h × w."""
        works = rank_works(height, width, ranks=1, rank=0, bands=bands)
        get_ready(self.network, *(works[part] for part in parts))

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        self.network.to(device, dtype)

    def _with_help(self, helped: Callable[[Helpers], Tensor | None]) -> Tensor | None:
        """What is made together with others; None where there are none, or the memory does not hold it."""
        if self.helpers is None or not self._comes_home():
            return None
        with chosen_by_shape():
            made = helped(self.helpers)
        if made is not None and self.pieces_bind:
            self._fallback = self._fallback or IN_SMALLER_PIECES
        return made

    def _in_pieces(self, task: Task, work: Work, sizes: Sizes) -> Tensor:
        made = self._at_home(work, rows=sizes.height // SCALE)
        if made is not None:
            return made
        if not self._is_on_a_gpu:
            raise EngineError(NO_ROOM)
        return self._on_the_cpu(task, work, sizes)

    def _at_home(self, work: Work, rows: int) -> Tensor | None:
        """As planned, or in ever smaller pieces; None: the memory does not hold the smallest."""
        step, bands = self.most_at_once, self.bands
        while self._comes_home():
            try:
                with chosen_by_shape():
                    made = work(step, bands, _hear_nothing)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            else:
                if self.pieces_bind and (step, bands) != (self.most_at_once, self.bands):
                    self._fallback = self._fallback or IN_SMALLER_PIECES
                return made
            torch.cuda.empty_cache()  # out of the handler, whose traceback would keep the tensors
            if self.make_room():
                continue
            if step > 1:
                step = 1
            elif 2 * bands <= rows:
                bands *= 2
            else:
                break
        return None

    def _comes_home(self) -> bool:
        """Whether the network is where it belongs, back from the CPU if need be."""
        while next(self.network.parameters()).device.type != self._home.type:
            try:
                self.to(self._home)
            except torch.OutOfMemoryError:
                pass
            else:
                break
            torch.cuda.empty_cache()
            if not self.make_room():
                return False
        return True

    @property
    def _is_on_a_gpu(self) -> bool:
        """Whether there is a CPU beside the device."""
        return self._home.type != CPU.type

    def _on_the_cpu(self, task: Task, work: Work, sizes: Sizes) -> Tensor:
        """In float32, in no more bands than the host's memory asks for. The network stays until it is needed again."""
        bands = _bands_on_a_cpu(task, sizes)
        if bands is None:
            raise EngineError(NO_ROOM)
        self._move(CPU, torch.float32)
        try:
            made = work(1, bands, partial(self.on_cpu, task))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise EngineError(NO_ROOM) from error
        self._fallback = ON_THE_CPU
        return made


def _sizes(height: int, width: int, latents: int) -> Sizes:
    return Sizes(height=height, width=width, latents=latents, bytes_each=torch.float32.itemsize)


def _bands_on_a_cpu(task: Task, sizes: Sizes) -> int | None:
    """As few as the host's memory holds; None: it does not hold the smallest."""
    takes = encode_bytes_on_a_cpu if task is Task.ENCODE else decode_bytes_on_a_cpu
    available = available_memory()
    if available is None:
        return CPU_BANDS[-1]
    return next((bands for bands in CPU_BANDS if takes(sizes, bands) <= available), None)


def _no_room() -> bool:
    """There is nothing else that could leave."""
    return False


def _say_nothing(_task: Task, _done: int, _total: int) -> None:
    """Nobody listens."""


def _hear_nothing(_done: int, _total: int) -> None:
    """A GPU makes a piece in no time."""


@contextmanager
def chosen_by_shape() -> Iterator[None]:
    """What is left to cuDNN goes by its rules and not by trials, which end differently each time."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
