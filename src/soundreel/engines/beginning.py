"""What a render does before its engine is there: it says what takes so long, and has the weights brought into memory.

To import PyTorch takes seconds; the system can read files from the disk meanwhile.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from soundreel.disk.durable import uninterrupted
from soundreel.engines.base import Choice, imports_torch
from soundreel.engines.host_memory import available_memory
from soundreel.errors import SoundreelError
from soundreel.request import Request
from soundreel.types import Progress, Report, Stage

CHUNK_BYTES: Final = 64 * 2**20
"""Of a file, that the system is asked for at once: in between a stop is heard."""

SHARE: Final = 0.5
"""Of the memory that is available, how much is read ahead at most: the system takes it back when it wants to."""


class Beginning:
    """Opens the engine of a request; a context manager, which is left when the engine takes over.

    Args:
        choose: opens an engine.
        report: hears what is imported where that takes seconds.
        reads: whether all weights will be needed.
    """

    def __init__(self, choose: Callable[[Request], Choice], report: Report, *, reads: bool) -> None:
        self._choose, self._report, self._reads = choose, report, reads
        self._ahead: ReadAhead | None = None

    def __call__(self, request: Request) -> Choice:
        if "torch" not in sys.modules and imports_torch(request):
            self._report(Progress(stage=Stage.LOAD, what="PyTorch"))
            if self._reads:
                self._ahead = ReadAhead(_weights(request))
        return self._choose(request)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._ahead is not None:
            self._ahead.stop()


class ReadAhead:
    """Asks the system, in a thread, to read files from the disk into its cache, as far as memory has the room."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = list(paths)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read-ahead")
        with uninterrupted():
            self._thread.start()

    def stop(self) -> None:
        """Ask for no more; the thread has ended when this returns."""
        with uninterrupted():
            self._stopped.set()
            self._thread.join()

    def _run(self) -> None:
        if not hasattr(os, "posix_fadvise"):
            return
        left = int(SHARE * (available_memory() or 0))
        for path in self._paths:
            with suppress(OSError), path.open("rb") as file:  # who reads it for good says what is wrong with it
                size = min(os.fstat(file.fileno()).st_size, left)
                left -= size
                for begin in range(0, size, CHUNK_BYTES):
                    if self._stopped.is_set():
                        return
                    os.posix_fadvise(file.fileno(), begin, CHUNK_BYTES, os.POSIX_FADV_WILLNEED)


def _weights(request: Request) -> list[Path]:
    """All files of the native engine's model; none where it is not whole: that is said elsewhere."""
    from soundreel.weights.find import find_model  # noqa: PLC0415 - for this engine alone

    places = [] if request.compute.models is None else [request.compute.models]
    with suppress(SoundreelError):
        return [path for part in find_model(*places).parts.values() for path in part.files]
    return []
