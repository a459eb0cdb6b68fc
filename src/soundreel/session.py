"""Many renders, one after the other, with the networks loaded once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from soundreel import pipeline
from soundreel.engines.opened import Engines
from soundreel.errors import SessionError
from soundreel.render.kept_processes import KeptProcesses
from soundreel.render.prepared import PreparedRender
from soundreel.render.shot_jobs import Job
from soundreel.render.shot_process import take_part
from soundreel.render.unfinished import load_redo
from soundreel.request import BESIDE_THE_OUTPUT, Compute, Request, WorkOptions
from soundreel.types import CancelFlag, Clip, Report, Result
from soundreel.units import StrPath


class Session:
    """Renders requests one after the other, and keeps what it has loaded between them.

        with Session(compute=Compute(memory="16gb")) as session:
            for song in songs:
                session.generate(Request(audio=song, ref_image="singer.jpg"))

    The first render loads the networks. A later one loads only those that it needs otherwise: of another file, on
    another device, rounded otherwise, with other LoRAs. Where there is room, the encoders of text and sound stay, too.
    Processes for several GPUs stay with what they have loaded, for renders that are divided among the same ones.
    All memory is given back when the session is left; it can be opened again. A session may be used in any thread, for
    one render at a time.

    Args:
        compute: of every request that does not say how it is computed (`Request.compute` as it is by default).
    """

    def __init__(self, compute: Compute | None = None) -> None:
        self._compute = compute
        self._engines: Engines | None = None
        self._kept = KeptProcesses(stay=True)
        self._in_use = threading.Lock()

    def generate(
        self,
        request: Request,
        on_progress: Report | None = None,
        *,
        on_start: Callable[[PreparedRender], None] | None = None,
        work: WorkOptions = BESIDE_THE_OUTPUT,
        cancel: CancelFlag | None = None,
    ) -> Result:
        """Render a request as `soundreel.generate` does.

        Raises:
            SessionError: another render is under way in this session, or it is not open.
        """
        with self._opened() as engines:
            return pipeline.generate(
                self._completed(request),
                on_progress,
                on_start=on_start,
                work=work,
                cancel=cancel,
                engines=engines,
                kept=self._kept,
            )

    def redo(
        self,
        source: StrPath,
        what: int | str,
        on_progress: Report | None = None,
        *,
        on_start: Callable[[PreparedRender], None] | None = None,
        **which: Any,
    ) -> Result:
        """Draw a clip or a shot of a kept render anew, as `soundreel.redo` does; `which` is its other arguments."""
        request, work = load_redo(source, what, **which)
        return self.generate(request, on_progress, on_start=on_start, work=work)

    def take_part(self, job: Job, on_progress: Report, on_stored: Callable[[Clip], object], cancel: CancelFlag) -> None:
        """Render shots of a render that another process has begun, with what is loaded here, until none is left.

        Args:
            job: as `soundreel.render.sharing.share_of` makes it there.
        """
        with self._opened() as engines:
            self._kept.close()
            take_part(job, engines, on_progress, cancel, on_stored)

    def close(self) -> None:
        """Give all memory back; raises `SessionError` while a render is under way."""
        with self._alone():
            engines, self._engines = self._engines, None
            self._kept.close()
            if engines is not None:
                engines.__exit__(None, None, None)

    def __enter__(self) -> Self:
        with self._alone():
            if self._engines is not None:
                raise SessionError("this session is open already")
            self._engines = Engines(keep=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _completed(self, request: Request) -> Request:
        """With the session's ways to compute, where the request names none."""
        if self._compute is None or request.compute != Compute():
            return request
        return request.replace(compute=self._compute)

    @contextmanager
    def _opened(self) -> Iterator[Engines]:
        with self._alone():
            if self._engines is None:
                raise SessionError("this session is not open: with Session() as session: …")
            yield self._engines

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._in_use.acquire(blocking=False):
            raise SessionError("this session is rendering: one render at a time; a second session loads its own models")
        try:
            yield
        finally:
            self._in_use.release()
