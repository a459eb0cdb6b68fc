"""Kernels are proven, and on a machine's first render compiled, in threads: while a plan is made and weights are read.

What is decided by them waits for their proof, and so does what computes with them; two threads that ask for the same
compile it once. On several devices each process does so for its own: the window of the pictures that it will make.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

import torch

from soundreel.disk.durable import uninterrupted
from soundreel.engines.native.device import compute_dtype, vae_dtype
from soundreel.engines.native.prepared import Placement
from soundreel.engines.shot_poses import pose_videos
from soundreel.errors import SoundreelError
from soundreel.models.attention import Kernel, why_not
from soundreel.models.devices import pick_device
from soundreel.models.kernels.compile_cache import tell_children
from soundreel.models.kernels.dispatch import is_convolved, is_fused, is_travelling
from soundreel.models.parallel.pictures import rank_works
from soundreel.models.vae_areas import SCALE
from soundreel.models.vae_kernels import Outline, Part, Work, compile_ahead
from soundreel.models.vae_network import WanVae
from soundreel.request import Attention, Request
from soundreel.types import CancelFlag, Check, Plan, heard
from soundreel.weights.catalog import Component
from soundreel.weights.components import outline_part

HEAD_WIDTH: Final = 128
"""Of the 14B model; for another the kernels are proven where they are chosen."""

AT_ONCE: Final = 5
"""Threads: one for each kind of kernels. What several of them need they wait for."""


class Pictures(NamedTuple):
    """What a render asks of the VAE."""

    height: int
    width: int
    has_reference: bool  # is encoded by the first process alone
    are_encoded: bool  # others: what a clip continues, or a pose

    @staticmethod
    def of(plan: Plan) -> "Pictures":
        """A plan's."""
        request = plan.request
        has_reference = request.ref_image is not None or any(shot.asked.ref_image for shot in plan.shots)
        continue_another = any(map(plan.continues, plan.clips))
        are_encoded = continue_another or request.guide.start_from_ref or bool(pose_videos(plan))
        return Pictures(request.height, request.width, has_reference, are_encoded)


class WarmUp:
    """Asks for what a render will need to know of its kernels, before it does."""

    def __init__(self) -> None:
        self._pool: futures.ThreadPoolExecutor | None = None
        self._stop = CancelFlag()

    def begin(self, request: Request) -> None:
        """Begin with the kernels of a request, once; where it asks for what is not here others say so."""
        if self._pool is None:
            self._submit(list(_proofs_of_request(request)))

    def go_on(self, placement: Placement, pictures: Pictures, rank: int = 0) -> None:
        """Begin with those of a rank of what was decided: what is there already takes no time."""
        if placement.device.type == "cuda":
            compile_pictures = partial(_compile, placement, pictures, rank, self._stop.check)
            self._submit([*_proofs_of_placement(placement), compile_pictures])

    def end(self) -> None:
        """Wait for the kernels in hand; what has not begun is let go of."""
        pool, self._pool = self._pool, None
        if pool is not None:
            with uninterrupted():
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                self._stop = CancelFlag()

    def _submit(self, tasks: Sequence[Callable[[], Any]]) -> None:
        if not tasks:
            return
        tell_children()  # of this process, before it compiles
        pool = self._pool = self._pool or futures.ThreadPoolExecutor(AT_ONCE, thread_name_prefix="warm-up")
        with uninterrupted():
            for task in tasks:
                pool.submit(task)


def works_of(pictures: Pictures, placement: Placement, rank: int) -> list[Work]:
    """What a rank of a render has the VAE do, in the order in which it will."""
    height, width = pictures.height // SCALE, pictures.width // SCALE
    bands = placement.memory.vae_bands
    works = list[Work]()
    if rank == 0 and pictures.has_reference:
        whole = rank_works(height, width, ranks=1, rank=0, bands=bands)
        works += [whole[Part.ENCODE], whole[Part.MEANS]]
    own = rank_works(height, width, placement.team.size, rank, bands)
    parts = (Part.DECODE, Part.ENCODE, Part.MEANS) if pictures.are_encoded else (Part.DECODE,)
    return works + [own[part] for part in parts if part in own]


def _proofs_of_request(request: Request) -> Iterator[Callable[[], Any]]:
    with suppress(SoundreelError):
        device = pick_device(request.compute.device)
        if device.type == "cuda":
            is_float8 = request.compute.attention is Attention.FP8  # others are switched for the whole process
            yield from _proofs(device, vae_dtype(request.compute.vae_precision, device), is_float8=is_float8)


def _proofs_of_placement(placement: Placement) -> Iterator[Callable[[], Any]]:
    device, is_float8 = placement.device, placement.arithmetic.attention is Kernel.FP8
    yield from _proofs(device, placement.vae_dtype, is_float8=is_float8)
    if is_float8 and placement.team.tokens > 1:
        yield partial(is_travelling, device, compute_dtype(device), HEAD_WIDTH)


def _proofs(device: torch.device, vae: torch.dtype, *, is_float8: bool) -> Iterator[Callable[[], Any]]:
    yield partial(is_fused, device)
    yield partial(is_convolved, device, vae)
    if is_float8:
        yield partial(why_not, Kernel.FP8, device, compute_dtype(device), HEAD_WIDTH)


def _compile(placement: Placement, pictures: Pictures, rank: int, check: Check) -> None:
    network = outline_part(placement.files[Component.VAE]).network
    assert isinstance(network, WanVae)
    for work in heard(works_of(pictures, placement, rank), check):
        compile_ahead(Outline.of(network), placement.device, placement.vae_dtype, work)
