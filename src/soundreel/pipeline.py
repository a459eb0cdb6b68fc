"""The main flow: plan, render, interpolate, write, verify, publish."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from soundreel import planning
from soundreel.disk.durable import uninterrupted
from soundreel.media.audio import probe_sound
from soundreel.media.video import SegmentWriter
from soundreel.render import prepared
from soundreel.render.post_processing import OWN, FinishedClip, finish
from soundreel.render.prepared import Job
from soundreel.render.publish import EarlyLook, publish, write_video
from soundreel.render.recipe import RECIPE_KEY, differences, write_recipe
from soundreel.render.work_folder import Start, Work, open_work
from soundreel.request import BESIDE_THE_OUTPUT, Keeping, Request
from soundreel.types import Carry, Plan, Progress, RenderedClip, Report, Result, Stage
from soundreel.version import __version__


def plan(request: Request, audio_seconds: float | None = None) -> Plan:
    """Plan a render without starting it; the sound's length is read from the file unless given."""
    return planning.plan(request, probe_sound(request.audio).seconds if audio_seconds is None else audio_seconds)


def prepare(request: Request) -> Job:
    """Open and check all that a render needs; nothing is written."""
    job = prepared.prepare(request)
    return dataclasses.replace(job, notes=(*job.notes, *differences(job)))


def generate(
    request: Request,
    on_progress: Report | None = None,
    *,
    on_start: Callable[[Job], None] | None = None,
    keeping: Keeping = BESIDE_THE_OUTPUT,
) -> Result:
    """Render `request` into a video file and return it, verified.

    `on_progress` hears every step and may raise `Cancelled`; `on_start` hears once what will be rendered.
    The file appears under its name only when it is whole. What was rendered when a render breaks off is kept: the same
    request goes on with it, and an error's note says how. Raises the errors of `soundreel.errors`.
    """
    clock = _Clock(on_progress)
    with open_work(prepare(request), keeping) as work:
        if on_start is not None:
            on_start(work.job)
        early = EarlyLook(work)
        early.update()
        while (start := work.next_start()) is not None:
            _render(work, start, early, clock)
        clock(Progress(stage=Stage.WRITE))
        recipe = write_recipe(work.job, work.facts())
        finished = _write(work, recipe)
        with uninterrupted():
            path = publish(finished, work.job)
            early.remove()
    return _result(work.job, path, recipe, clock.elapsed)


def _render(work: Work, start: Start, early: EarlyLook, clock: "_Clock") -> None:
    """Render from `start` to where the next clip is there already, or to the end."""
    before = start.carry
    carry = Carry(tensors={name: array for name, array in before.items() if not name.startswith(OWN)})
    for rendered in work.job.engine.render(work.job.plan, start.index, carry, clock, work.scratch):
        before = _keep(work, rendered, before)
        following = rendered.clip.index + 1
        del rendered  # or two clips would be in memory while the next is rendered
        if following == len(work.job.plan.clips):
            return
        early.update()
        if work.has(following):
            return


def _keep(work: Work, rendered: RenderedClip, before: Mapping[str, Any]) -> Mapping[str, Any]:
    """Finish, encode and store a clip; returns what it hands on."""
    finished = finish(work.job, rendered, before)
    handed_on = {**rendered.carry.tensors, **finished.handed_on}
    facts: dict[str, Any] = {"look": finished.look.data, **rendered.facts}
    if finished.correction is not None:
        facts["correction"] = finished.correction.values.tolist()

    def encode(path: Path, needed_bytes: int) -> None:
        _encode(work.job, finished, path, needed_bytes)

    work.keep(rendered.clip, encode, handed_on, facts)
    return handed_on


def _encode(job: Job, finished: FinishedClip, path: Path, needed_bytes: int) -> None:
    request = job.request
    with SegmentWriter(
        path, width=request.width, height=request.height, fps=job.fps, crf=request.crf, needed_bytes=needed_bytes
    ) as writer:
        for picture in finished.pictures:
            writer.write(picture[np.newaxis])


def _write(work: Work, recipe: Mapping[str, Any]) -> Path:
    title = Path(work.job.request.audio).stem
    if work.job.engine.name == "draft":
        title += " (draft)"
    metadata = {
        "title": title,
        "comment": f"soundreel {__version__}, engine {work.job.engine.name}",
        RECIPE_KEY: json.dumps(recipe, ensure_ascii=False),
    }
    return write_video(work, metadata)


def _result(job: Job, path: Path, recipe: Mapping[str, Any], seconds: float) -> Result:
    return Result(
        path=path,
        engine=job.engine.name,
        plan=job.plan,
        frames=job.frames_written,
        fps=job.fps,
        seconds=seconds,
        notes=job.notes,
        recipe=recipe,
    )


class _Clock:
    """Adds elapsed time and a forecast to progress."""

    def __init__(self, on_progress: Report | None) -> None:
        self._on_progress = on_progress
        self._begun = time.monotonic()
        self._stage_begun: dict[Stage, tuple[float, int]] = {}

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._begun

    def __call__(self, progress: Progress) -> None:
        if self._on_progress is None:
            return
        begun, done_before = self._stage_begun.setdefault(progress.stage, (self.elapsed, progress.done))
        done = progress.done - done_before  # a render that was resumed does not begin at 0
        eta = (self.elapsed - begun) / done * (progress.total - progress.done) if done > 0 else None
        eta = eta if progress.eta_seconds is None else progress.eta_seconds  # the engine knows better
        self._on_progress(dataclasses.replace(progress, seconds=self.elapsed, eta_seconds=eta))
