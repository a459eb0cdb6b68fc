"""The process that renders: a session, whose networks stay loaded from one job to the next.

A job's folder holds all that there is of it:

    work/              the work folder: clips that are done are the truth about how far it is
    begun.json         what will come out, written before the first clip
    video.mp4          the finished video: once it has this name, the job is done, whatever happens to this process
    video.partial.mp4  what there is of it so far
    preview.jpg        the newest picture
"""

import threading
import time
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from PIL import Image

from soundreel.disk.durable import make_folder, write_json
from soundreel.disk.plain_json import read_json
from soundreel.errors import Cancelled, SoundreelError
from soundreel.media.mux import verify
from soundreel.media.video import read_frames
from soundreel.render.child_process import Pipe, end_soon, run
from soundreel.render.prepared import PreparedRender
from soundreel.render.sharing import share_of
from soundreel.request import WorkOptions
from soundreel.server.errors import failure_of
from soundreel.server.inspection import write_jpeg
from soundreel.server.messages import Alive, Begun, Failed, Going, Help, Helped, Made, Stop, Stopped, Work
from soundreel.server.new_jobs import plan_summary
from soundreel.session import Session
from soundreel.types import CancelFlag, Progress, Result, Stage

BEAT_SECONDS: Final = 2.0
"""Between two signs of life."""

TELL_SECONDS: Final = 0.1
"""Between two words about the same work."""

LOOK_SECONDS: Final = 0.5
"""Between two looks at what is on the disk."""

PREVIEW, BEGUN, VIDEO, PARTIAL, WORK = "preview.jpg", "begun.json", "video.mp4", "video.partial.mp4", "work"


def main() -> None:
    """The process."""
    run(lambda pipe, stop: Worker(pipe, stop).serve())


class Worker:
    """Does one job after the other, and can be told meanwhile to stop the one in hand."""

    def __init__(self, pipe: Pipe, end: CancelFlag) -> None:
        self._pipe, self._end = pipe, end
        self._orders: SimpleQueue[tuple[Work | Help, CancelFlag]] = SimpleQueue()

    def serve(self) -> int:
        """Until the server is gone; returns the exit code."""
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        with Session() as session:
            while not self._end.is_set:
                order, stop = self._orders.get()
                if isinstance(order, Work):
                    self._do(order, session, stop)
                else:
                    self._help(order, session, stop)
        return Cancelled.exit_code

    def _listen(self) -> None:
        """Hear orders, and what is to be stopped of them, be it begun or not."""
        job, stop = "", CancelFlag()
        with suppress(EOFError):
            while True:
                order = self._pipe.hear()
                if isinstance(order, Work | Help):
                    job, stop = order.job, CancelFlag()
                    self._orders.put((order, stop))
                elif isinstance(order, Stop) and order.job == job:
                    stop.set()
        stop.set()
        end_soon()

    def _beat(self) -> None:
        while True:
            self._pipe.say(Alive())
            time.sleep(BEAT_SECONDS)

    def _do(self, work: Work, session: Session, stop: CancelFlag) -> None:
        try:
            make_folder(work.folder)
            result = finished_before(work.folder) or self._render(work, session, stop)
        except Cancelled:
            self._pipe.say(Stopped(job=work.job, attempt=work.attempt))
        except Exception as error:  # noqa: BLE001 - the server is told of all of them
            self._pipe.say(Failed(job=work.job, attempt=work.attempt, failure=failure_of(error)))
        else:
            self._pipe.say(Made(job=work.job, attempt=work.attempt, result=result))

    def _help(self, order: Help, session: Session, stop: CancelFlag) -> None:
        failure = None
        try:
            session.take_part(order.share, lambda _: stop.check(), lambda _: None, stop)
        except Cancelled:
            pass
        except Exception as error:  # noqa: BLE001 - the server is told of all of them
            failure = failure_of(error)
        self._pipe.say(Helped(job=order.job, failure=failure))

    def _render(self, work: Work, session: Session, stop: CancelFlag) -> dict[str, Any]:
        teller = Teller(self._pipe, work)
        result = session.generate(
            work.request,
            teller,
            on_start=teller.begin,
            work=work_options(work),
            cancel=stop,
        )
        return result_facts(result)


def work_options(work: Work) -> WorkOptions:
    """How a job is kept: its clips stay, so that a shot of it can be drawn again."""
    place, redo = work.folder / WORK, work.redo
    if redo is None:
        return WorkOptions(work_dir=place, keep_work=True, is_shared=True)
    return WorkOptions(
        work_dir=place,
        keep_work=True,
        is_shared=True,
        redo_shot=redo["shot"],
        redo_seed=redo["seed"],
        redo_output=work.folder / VIDEO,
    )


def finished_before(folder: Path) -> dict[str, Any] | None:
    """What an attempt has made that came to its end and could not say so any more; None: there is no video yet."""
    video = folder / VIDEO
    if not video.exists():
        return None
    try:
        begun = read_json(folder / BEGUN)
        verify(video, frames=begun["frames"], fps=begun["fps"], sound=True)
    except (OSError, ValueError, KeyError, SoundreelError):
        video.unlink()  # a disk that has lost something: it is rendered again
        return None
    return {name: begun[name] for name in ("engine", "frames", "fps", "notes", "excerpt", "plan", "clip_seeds")} | {
        "seconds": None,
        "bytes": video.stat().st_size,
    }


def result_facts(result: Result) -> dict[str, Any]:
    """A finished video, as answers tell of it."""
    return {
        "engine": result.engine,
        "frames": result.frames,
        "fps": result.fps,
        "seconds": result.seconds,
        "notes": list(result.notes),
        "excerpt": result.excerpt,
        "bytes": result.path.stat().st_size,
        "plan": plan_summary(result.plan),
        "clip_seeds": [clip.seed for clip in result.plan.clips],
    }


class Teller:
    """Tells the server how a render goes, not more often than anybody can see."""

    def __init__(self, pipe: Pipe, work: Work) -> None:
        self._pipe, self._work, self._folder = pipe, work, work.folder
        self._told = self._looked = -1.0
        self._last: tuple[Stage, int, str] | None = None
        self._seen: dict[Path, int] = {}
        self._stored = self._preview = self._partial = 0

    def begin(self, render: PreparedRender) -> None:
        """What will be rendered."""
        facts = {
            "engine": render.engine.name,
            "why": render.choice.why,
            "frames": render.frames_written,
            "fps": render.fps,
            "clips": len(render.plan.clips),
            "memory": render.prepared.memory_mode,
            "memory_bytes": render.prepared.memory_bytes,
            "devices": render.division.says() or render.prepared.devices,
            "resumed": render.resumed,
            "notes": list(render.notes),
            "excerpt": render.excerpt,
            "plan": plan_summary(render.plan),
            "clip_seeds": [clip.seed for clip in render.plan.clips],
        }
        write_json(self._folder / BEGUN, facts)
        is_divided = render.division.is_divided or len(render.plan.chains) == 1 or render.is_printed_again
        share = None if is_divided else share_of(render, self._folder / WORK)
        self._pipe.say(Begun(job=self._work.job, attempt=self._work.attempt, facts=facts, share=share))

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        here = (progress.stage, progress.clip, progress.what)
        if here == self._last and now - self._told < TELL_SECONDS:
            return
        self._last, self._told = here, now
        if now - self._looked >= LOOK_SECONDS:
            self._look(progress.preview)
            self._looked = now
        self._pipe.say(
            Going(
                job=self._work.job,
                attempt=self._work.attempt,
                progress=progress,
                stored=self._stored,
                preview=self._preview,
                partial=self._partial,
            )
        )

    def _look(self, preview: Path | None) -> None:
        """Count what is on the disk, and make a picture of what is new."""
        self._partial += self._is_new(self._folder / PARTIAL)
        before, self._stored = self._stored, sum(1 for _ in (self._folder / WORK).glob("clip_*.json"))
        if preview is not None and self._is_new(preview):
            self._show(lambda: Image.open(preview))
        elif preview is None and self._stored != before:
            newest = max((self._folder / WORK).glob("clip_*.mp4"), default=None)
            if newest is not None:
                self._show(lambda: Image.fromarray(next(read_frames(newest))))

    def _is_new(self, path: Path) -> bool:
        try:
            now = path.stat().st_mtime_ns
        except OSError:
            return False
        before, self._seen[path] = self._seen.get(path), now
        return before != now

    def _show(self, picture: Any) -> None:
        with suppress(OSError, SoundreelError, StopIteration):  # no picture is no reason to stop
            write_jpeg(picture(), self._folder / PREVIEW)
            self._preview += 1
