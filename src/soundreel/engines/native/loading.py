"""The transformer on its way, in a thread of its own, while picture, words and sound are encoded beside it."""

from collections import deque
from concurrent import futures
from contextlib import nullcontext
from types import TracebackType
from typing import Final, Self

import torch

from soundreel.disk.durable import uninterrupted
from soundreel.engines.native.block_placement import LoadedTransformer
from soundreel.engines.native.networks import Networks
from soundreel.engines.native.prepared import Placement, PrintPlacement
from soundreel.types import CancelFlag
from soundreel.weights.catalog import Component
from soundreel.weights.load import LoadProgress, OnLoad

TURN_SECONDS: Final = 0.1
"""Between two reports while the transformer is waited for."""


class TransformerLoading:
    """Loads the transformer of a placement when it is asked for, or from `begin` on where the memory plan says so.

    A context manager: when it is left the thread has ended, at the next tensor if nobody has waited for it. What goes
    wrong in the thread is raised where its result is asked for, or something else reports; reports are made in the
    thread that renders alone.
    """

    def __init__(self, networks: Networks, placement: PrintPlacement) -> None:
        self._networks, self._placement = networks, placement
        self._report_to: OnLoad = _say_nothing
        self._stop = CancelFlag()
        self._come: deque[LoadProgress] = deque()
        self._pool = futures.ThreadPoolExecutor(1, thread_name_prefix="load-transformer")
        self._loading: futures.Future[LoadedTransformer] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with uninterrupted():
            self._stop.set()
            self._pool.shutdown(wait=True, cancel_futures=True)

    def is_for(self, placement: PrintPlacement) -> bool:
        """Whether it loads what this very placement wants."""
        return self._placement is placement

    def report_to(self, on_load: OnLoad) -> Self:
        """From now on `on_load` hears the bytes that have come, and may raise to stop; returns itself."""
        self._report_to = on_load
        return self

    def begin(self) -> None:
        """Begin to load it, where there is room beside the encoders, and it is not there already."""
        placement = self._placement
        if not (isinstance(placement, Placement) and placement.memory.loads_beside) or self._loading is not None:
            return
        if not self._networks.has_transformer_of(placement):
            self._networks.let_go(Component.TRANSFORMER)
            with uninterrupted():
                self._loading = self._pool.submit(self._load, placement)

    def on_load(self, progress: LoadProgress) -> None:
        """For the networks that are loaded meanwhile: report their bytes, and the transformer's."""
        if self._loading is not None and self._loading.done():
            self._loading.result()
        self._report()
        self._report_to(progress)

    def result(self) -> LoadedTransformer:
        """The transformer; waits for it, or loads it now."""
        while self._loading is not None:
            with uninterrupted():
                is_done = bool(futures.wait([self._loading], TURN_SECONDS).done)
            self._report()
            if is_done:
                loading, self._loading = self._loading, None  # which would hold the transformer
                return loading.result()
        assert isinstance(self._placement, Placement), "where clips are only printed nothing is sampled"
        return self._networks.transformer(self._placement, self._report_to)

    @torch.inference_mode()
    def _load(self, placement: Placement) -> LoadedTransformer:
        device = placement.device
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            return self._networks.transformer(placement, self._hear)

    def _hear(self, progress: LoadProgress) -> None:
        self._stop.check()
        self._come.append(progress)

    def _report(self) -> None:
        while self._come:
            self._report_to(self._come.popleft())


def _say_nothing(_: LoadProgress) -> None:
    """Nobody listens yet."""
