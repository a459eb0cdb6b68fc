"""What the VAE does between two clips, on one GPU and divided, and where the time of the divided one goes.

Each line of where it goes rules something out. Of a decode, on every rank:

- alone, nothing kept: its window's arithmetic, halos included, while nobody else computes. What is more than the share
  of one GPU's is small pictures: programs that do not fill the GPU, kernels that wait for Python.
- all at once, nothing kept: what is more is what ranks take from each other: cores for Python, the power of the host.
- kept in memory of its own, in the room that all share, and in a new room: what is more is copies to the host, memory
  that all share, and memory that is written for the first time, as each clip's is.
- the whole call: what is more is waiting for latents and for each other, and the first process's copy at the end.

Then the same call once more in parts, each waited for, so that all of them together take longer than the call: what is
told of is each part's share, and whom the others wait for.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial, wraps
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu import FRAMES, KEPT
from benchmarks.rank_bench import Bench, Work
from benchmarks.vae_convolutions import build as build_vae
from soundreel.engines.native.device import vae_dtype, wait
from soundreel.engines.native.shared_work import share_of_cores
from soundreel.engines.native.vae import chosen_by_shape
from soundreel.models import vae_stages
from soundreel.models.frame_packing import MOTION_FRAMES, MOTION_LATENTS
from soundreel.models.parallel import pictures as pictures_module
from soundreel.models.parallel.pictures import PictureParallel, RoomSize, rank_windows
from soundreel.models.parallel.ranks import Ranks
from soundreel.models.vae import LATENT_STEP, DecodedRows, decode, encode, encoded_window, latent_frames
from soundreel.models.vae_areas import SCALE, Window
from soundreel.models.vae_network import WanVae
from soundreel.request import VaePrecision
from soundreel.units import FRAMES_PER_LATENT

REPEAT = 3

PARTS: Final[Mapping[str, tuple[tuple[Any, str], ...]]] = {
    "latents or pieces come": ((Ranks, "from_first"), (pictures_module._Arriving, "_next")),
    "whole pictures at latent size": ((vae_stages.DecoderBase, "__call__"), (vae_stages.EncoderTop, "__call__")),
    "the window's stages": ((vae_stages.DecoderStages, "__call__"), (vae_stages.EncoderStages, "__call__")),
    "pixels leave the GPU": ((DecodedRows, "_send"),),
    "into host memory": ((DecodedRows, "finish"),),
    "features to the first": ((PictureParallel, "_send"), (PictureParallel, "_receive")),
    "waiting for the others": ((Ranks, "all_gather"),),
}
"""Methods, by what is told of them. One that is called within another counts for itself alone."""


def measure_pictures(bench: Bench, size: str) -> None:
    """A later clip's decode and the encode of the frames before it, on one GPU and divided."""
    tiny = bench.options.tiny
    height, width = map(int, size.split("x"))
    network = build_vae(bench.device, vae_dtype(VaePrecision.AUTO, bench.device), tiny=tiny)
    frames = 2 if tiny else MOTION_LATENTS + FRAMES // FRAMES_PER_LATENT
    kept = 4 * (frames - 1) if tiny else KEPT
    weight = network.quant_conv.weight
    latents = torch.randn(16, frames, height // SCALE, width // SCALE, device=bench.device, dtype=weight.dtype)
    bench.guidance.everyone.from_first(latents)
    pixels = torch.rand(3, 5 if tiny else MOTION_FRAMES, height, width) * 2 - 1
    pictures = torch.empty(kept, height, width, 3, dtype=torch.uint8)
    room = bench.room(RoomSize(kept, kept, height, width))
    shared = PictureParallel(network, bench.guidance.everyone)
    is_first = bench.rank == 0

    def apart(made: Tensor | None) -> list[Tensor]:
        return [] if made is None else [made]

    works: dict[str, tuple[Work, Work]] = {
        "decode": (
            lambda: [decode(network, latents, kept, pictures=pictures)],
            lambda: apart(shared.decode(latents, kept, LATENT_STEP, 1, room, pictures=pictures if is_first else None)),
        ),
        "encode": (
            lambda: [encode(network, pixels)],
            lambda: apart(shared.encode(pixels if is_first else None, (3, *pixels.shape[1:]), LATENT_STEP, 1)),
        ),
    }
    sums = [0.0, 0.0]
    with chosen_by_shape():
        for name, (alone, together) in works.items():
            alone()  # kernels are compiled, on each GPU by itself
            one, expected = bench.alone(f"{name} {size}", alone, 2)
            with _cores(bench):
                two, made = bench.together(together, 3)
            sums = [sums[0] + one, sums[1] + two]
            same = bool(expected) and all(map(torch.equal, expected, made))
            bench.say(
                f"pictures {size}: {name} {one:.3f} s on one GPU, {two:.3f} s on all, {one / max(two, 1e-9):.3f} ×; "
                f"{'equal' if same else 'different'}"
            )
        bench.say(f"pictures {size}: decode and encode {sums[0] / max(sums[1], 1e-9):.3f} ×")
        where_a_decode_goes(bench, network, latents, kept, works["decode"][1])
        where_an_encode_goes(bench, network, pixels, works["encode"][1])


def where_a_decode_goes(bench: Bench, network: WanVae, latents: Tensor, kept: int, whole: Work) -> None:
    """On every rank, in seconds."""
    height, width = (SCALE * side for side in latents.shape[2:])
    own = rank_windows(latents.shape[2], latents.shape[3], bench.guidance.everyone.size)[bench.rank]
    (lines, columns), sides = own.scaled(SCALE).slices(), own.scaled(SCALE).shape
    size = RoomSize(kept, kept, height, width)
    shared, new = bench.room(size, "used"), iter([bench.room(size, f"new {number}") for number in range(REPEAT)])
    part = _nothing if own.is_empty else partial(decode, network, latents, kept, window=own)
    pixels, pictures = torch.empty(3, kept, *sides), torch.empty(kept, *sides, 3, dtype=torch.uint8)

    def into_a_room(room: Any) -> list[Tensor]:
        return [part(pixels=room.pixels[:, :, lines, columns], pictures=room.pictures[:, lines, columns])]

    name = f"decode {height}x{width}"
    told = _Told(bench, name)
    told.alone("alone, nothing kept", lambda: [part(only_pictures=True)])
    told.all("all at once, nothing kept", lambda: [part(only_pictures=True)])
    told.all("kept in memory of its own", lambda: [part(pixels=pixels, pictures=pictures)])
    told.all("in the room that all share", lambda: into_a_room(shared))
    told.all("in a new room", lambda: into_a_room(next(new)))
    told.all("the whole call", whole)
    told.launches("all at once, nothing kept", lambda: [part(only_pictures=True)])
    told.parts(whole)


def where_an_encode_goes(bench: Bench, network: WanVae, pixels: Tensor, whole: Work) -> None:
    """Likewise; `pixels` [3, T, H, W] are on the host."""
    _, frames, height, width = pixels.shape
    own = rank_windows(height // SCALE, width // SCALE, bench.guidance.everyone.size)[bench.rank]
    weight = network.quant_conv.weight
    there = pixels[None].to(weight.device, weight.dtype)

    def part() -> list[Tensor]:
        return [] if own.is_empty else list(encoded_window(network, take, (frames, height, width), own))

    def take(times: slice, window: Window) -> Tensor:
        rows, columns = window.slices()
        return there[:, :, times, rows, columns]

    told = _Told(bench, f"encode {height}x{width}, {latent_frames(frames)} latent frames")
    told.alone("alone, pixels there", part)
    told.all("all at once, pixels there", part)
    told.all("the whole call", whole)
    told.parts(whole)


class _Told:
    """Says what every rank took."""

    def __init__(self, bench: Bench, name: str) -> None:
        self._bench, self._name = bench, name

    def alone(self, what: str, work: Work) -> None:
        work()
        self._tell(what, self._bench.in_turn(f"{self._name} {what}", work, REPEAT))

    def all(self, what: str, work: Work) -> None:
        with _cores(self._bench):
            self._tell(what, self._bench.together(work, REPEAT)[0])

    def launches(self, what: str, work: Work) -> None:
        """What Python takes to tell the GPU."""
        wait(self._bench.device)
        begun = time.perf_counter()
        work()
        self._tell(f"{what}: given to the GPU", time.perf_counter() - begun)
        wait(self._bench.device)

    def parts(self, work: Work) -> None:
        """Each part waited for: the shares of the whole call."""
        with _cores(self._bench), timed(self._bench) as seconds:
            whole, _ = self._bench.together(work, 1)
        seconds["all else"] = whole - sum(seconds.values())
        for part in (*PARTS, "all else"):
            if any(self._bench.gathered(f"{self._name} has {part}", part in seconds)):
                self._tell(f"waited for, {part}", seconds[part])
        self._tell("waited for, together", whole)

    def _tell(self, what: str, seconds: float) -> None:
        found = self._bench.gathered(f"{self._name} {what}", seconds)
        self._bench.say(f"pictures {self._name}: {what}: {', '.join(f'{one:.3f}' for one in found)} s")


@contextmanager
def timed(bench: Bench) -> Iterator[dict[str, float]]:
    """Seconds of each of `PARTS` within, the GPU waited for before and after each, without those of parts within it."""
    seconds = defaultdict[str, float](float)
    running = list[float]()  # of the parts that are under way, those of the parts within

    def measured(part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*given: Any, **named: Any) -> Any:
            wait(bench.device)
            begun = time.perf_counter()
            running.append(0.0)
            try:
                return method(*given, **named)
            finally:
                wait(bench.device)
                taken, within = time.perf_counter() - begun, running.pop()
                seconds[part] += taken - within
                if running:
                    running[-1] += taken

        return call

    with ExitStack() as patched:
        for part, methods in PARTS.items():
            for kind, name in methods:
                patched.enter_context(mock.patch.object(kind, name, measured(part, getattr(kind, name))))
        yield seconds


def _cores(bench: Bench) -> AbstractContextManager[None]:
    """As in a render: the workers have their share of them already."""
    return share_of_cores(bench.options.gpus) if bench.rank == 0 else nullcontext()


def _nothing(**_: Any) -> Tensor:
    """Of a rank without a window."""
    return torch.empty(0)
