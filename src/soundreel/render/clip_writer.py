"""Clips on their way to the disk, in a thread of its own: encoding runs beside what the engine computes next."""

from collections.abc import Callable
from concurrent import futures
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from soundreel.disk.durable import uninterrupted
from soundreel.errors import Cancelled
from soundreel.media.video import SegmentWriter
from soundreel.render.post_processing import ProcessedClip, post_process
from soundreel.render.stored_clips import Beside, StoredClips, Tensors
from soundreel.request import Interpolation
from soundreel.types import CancelFlag, Check, Clip, Progress, RenderedClip, Report, Stage, heard

TOLD_SECONDS: Final = 0.25
"""Between two reports while the engine waits for a clip to be written."""


class ClipWriter:
    """Post-processes, encodes and stores clips one after the other, in the order in which they come.

    One clip is written at a time and one more may come: then its bringer waits. A context manager: leaving it waits
    for the clip in hand, after an error too. Who wants to stop does not wait: after `Cancelled` or a signal the clip
    in hand is let go of at its next frame. What fails in the thread is raised where the engine reports or brings the
    next clip, or at the end.

    Args:
        after: called in the thread with each clip that is stored, and with what is to be called in its loops.
    """

    def __init__(
        self,
        clips: StoredClips,
        report: Report,
        stop: CancelFlag,
        after: Callable[[Clip, Check], object],
    ) -> None:
        self._clips, self._report, self._after = clips, report, after
        self._outer, self._stop = stop, CancelFlag()
        self._has_negatives = clips.render.engine.reach is not None
        self._handed_on: dict[int, Tensors] = {}  # by the index of the clip that gets it
        self._pool = futures.ThreadPoolExecutor(1, thread_name_prefix="clip-writer")
        self._writing: futures.Future[None] | None = None
        self._at = Progress(stage=Stage.WRITE)  # of the clip in hand

    def hand_on(self, index: int, handed_on: Tensors) -> None:
        """What the clip at `index` gets of the one before, where this writer has not written that one."""
        self._handed_on[index] = handed_on

    def add(self, rendered: RenderedClip) -> None:
        """Take a clip, once the one before is on the disk. One that has no negative there is waited for itself."""
        self.wait()
        self._at = self._progress(rendered.clip, 0)
        with uninterrupted():
            self._writing = self._pool.submit(self._write, rendered)
        if not self._has_negatives:
            self.wait()

    def wait(self) -> None:
        """Until the clip in hand is on the disk; raises what went wrong with it."""
        while self._writing is not None:
            with uninterrupted():
                is_done = bool(futures.wait([self._writing], TOLD_SECONDS).done)
            if is_done:
                self._take_result()
            else:
                self._report(self._at)

    def hear(self, progress: Progress) -> None:
        """Report what the engine does; raises what went wrong with the clip in hand: nothing is gained by going on."""
        with uninterrupted():
            is_done = self._writing is not None and self._writing.done()
        if is_done:
            self._take_result()
        self._report(progress)

    def _take_result(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            with uninterrupted():
                writing.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
            elif issubclass(kind, Exception) and not issubclass(kind, Cancelled):
                with suppress(Exception):  # the first error is the one that counts
                    self.wait()
        finally:
            with uninterrupted():
                self._stop.set()
                self._pool.shutdown(wait=True, cancel_futures=True)

    def _write(self, rendered: RenderedClip) -> None:
        clips, clip = self._clips, rendered.clip
        plan = clips.render.plan
        before = self._handed_on.pop(clip.index, {})
        processed = post_process(clips.render, rendered, before, self._check)
        is_continued = not plan.is_last_of_chain(clip)

        def encode(path: Path, needed_bytes: int) -> None:
            self._encode(processed, rendered, path, needed_bytes)

        def beside() -> Beside:
            made = processed.result()
            facts = {**made.facts, **clips.render.noted, **rendered.facts}
            carry = {} if self._has_negatives else rendered.carry.tensors
            return Beside(handed_on={**carry, **made.handed_on} if is_continued else {}, facts=facts)

        kept = clips.keep(clip, encode, beside)
        if is_continued:
            if self._has_negatives and not clips.negatives.has(clip.index + 1):
                clips.negatives.keep_carry(clip.index, rendered.carry.tensors)
            self._handed_on[clip.index + 1] = kept.handed_on
        else:
            clips.negatives.end_chain(clip.index)
        self._after(clip, self._check)

    def _encode(self, processed: ProcessedClip, rendered: RenderedClip, path: Path, needed_bytes: int) -> None:
        render = self._clips.render
        request, clip = render.request, rendered.clip
        with SegmentWriter(
            path,
            width=request.width,
            height=request.height,
            fps=render.fps,
            crf=request.output.crf,
            needed_bytes=needed_bytes,
        ) as writer:
            for done, picture in enumerate(heard(processed.pictures, self._check), start=1):
                writer.write(picture[np.newaxis])
                self._at = self._progress(clip, done)

    def _progress(self, clip: Clip, done: int) -> Progress:
        """So many frames of a clip are encoded."""
        render = self._clips.render
        return Progress(
            stage=Stage.WRITE if render.interpolation is Interpolation.NONE else Stage.INTERPOLATE,
            clip=clip.index + 1,
            clips=len(render.plan.clips),
            step=done,
            steps=render.frames_between(clip),
            done=render.first_written(clip) + done,
            total=render.frames_written,
        )

    def _check(self) -> None:
        self._stop.check()
        self._outer.check()
