"""Kernels are proven, and on a machine's first render compiled, in threads: while a plan is made and weights are read.

What is decided by them waits for their proof, and so does what computes with them; two threads that ask for the same
compile it once.
"""

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import suppress
from functools import partial
from typing import Any

from soundreel.disk.durable import uninterrupted
from soundreel.engines.native.device import compute_dtype, vae_dtype
from soundreel.errors import SoundreelError
from soundreel.models.attention import Kernel, why_not
from soundreel.models.devices import pick_device
from soundreel.models.kernels.dispatch import is_convolved, is_fused
from soundreel.request import Attention, Request

HEAD_WIDTH = 128
"""Of the 14B model; for another the kernels are proven where they are chosen."""


class WarmUp:
    """Asks for what a render will need to know of its kernels, before it does."""

    def __init__(self) -> None:
        self._pool: futures.ThreadPoolExecutor | None = None

    def begin(self, request: Request) -> None:
        """Begin with the kernels of a request, once; where it asks for what is not here others say so."""
        if self._pool is None:
            proofs = list(_proofs(request))
            if proofs:
                self._pool = futures.ThreadPoolExecutor(len(proofs), thread_name_prefix="warm-up")
                with uninterrupted():
                    for proof in proofs:
                        self._pool.submit(proof)

    def end(self) -> None:
        """Wait for the kernel in hand; what has not begun is let go of."""
        pool, self._pool = self._pool, None
        if pool is not None:
            with uninterrupted():
                pool.shutdown(wait=True, cancel_futures=True)


def _proofs(request: Request) -> Iterator[Callable[[], Any]]:
    """One for each thread."""
    with suppress(SoundreelError):
        device = pick_device(request.compute.device)
        if device.type == "cuda":
            yield partial(is_fused, device)
            yield partial(is_convolved, device, vae_dtype(request.compute.vae_precision, device))
            if request.compute.attention is Attention.FP8:  # others are switched for the whole process while they run
                yield partial(why_not, Kernel.FP8, device, compute_dtype(device), HEAD_WIDTH)
