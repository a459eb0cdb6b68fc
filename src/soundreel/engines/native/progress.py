"""Progress of the native engine: bytes that are loaded, steps that are taken, and the time that is left."""

import time
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from soundreel.engines.native.clips import ClipSampler
from soundreel.engines.native.cost import Forecast
from soundreel.engines.native.preview import STEPS_BETWEEN, Previewer
from soundreel.engines.native.vae import Task
from soundreel.types import Clip, Plan, Progress, Report, Stage
from soundreel.weights.load import LoadProgress, OnLoad

CPU_STANDS_IN = "on the CPU, the GPU has no memory left:"
"""What is done, as a display says it between stage and clip."""

REPORTED_SHARE = 0.02
"""Of a network's bytes, how many more are read between two reports."""


class RemainingTime:
    """What is left of a render, by the forecast and how long steps really take."""

    def __init__(self, forecast: Forecast) -> None:
        self._forecast = forecast
        self._last: float | None = None
        self._spent = self._foreseen = 0.0

    def __call__(self, clip: int, step: int) -> float:
        """Seconds left after step `step`, from 1, of the clip with index `clip`."""
        now = time.monotonic()
        if self._last is not None and step > 1:  # before the first step of a clip there is more than a step
            self._spent += now - self._last
            self._foreseen += self._forecast.clips[clip].steps[step - 1]
        self._last = now
        pace = self._spent / self._foreseen if self._foreseen > 0 else 1.0
        return self._forecast.remaining(clip, step, pace)


def report_loading(report: Report) -> OnLoad:
    """Progress of loading: at the beginning of each network, every 2 % of its bytes, and at its end."""
    told: dict[str, float] = {}

    def on_load(progress: LoadProgress) -> None:
        share = progress.done_bytes / progress.total_bytes
        if share < 1 and share - told.get(progress.component, -1) < REPORTED_SHARE:
            return
        told[progress.component] = share
        report(
            Progress(stage=Stage.LOAD, what=progress.component, done=progress.done_bytes, total=progress.total_bytes)
        )

    return on_load


class CpuProgress:
    """Reports what the CPU does of a clip in the GPU's place, which takes minutes."""

    def __init__(self, plan: Plan, report: Report) -> None:
        self.clip: Clip | None = None
        """The one in hand; None: what is done is for all of them."""
        self._clips, self._report = len(plan.clips), report

    def __call__(self, task: Task, done: int, total: int) -> None:
        """So many pieces of the clip in hand are done."""
        index = 0 if self.clip is None else self.clip.index
        self._report(
            Progress(
                stage=Stage.ENCODE if task is Task.ENCODE else Stage.PRINT,
                what=CPU_STANDS_IN,
                clip=index + 1,
                clips=self._clips,
                step=done,
                steps=total,
                done=index,
                total=self._clips,
            )
        )


def report_printing(plan: Plan, clip: Clip, report: Report) -> None:
    """Say that a clip is printed from its stored negative."""
    total = len(plan.clips)
    report(Progress(stage=Stage.PRINT, clip=clip.index + 1, clips=total, done=clip.index, total=total))


def show_picture(previewer: Previewer, sampler: ClipSampler) -> Path:
    """Write a preview of what the last step took for the finished latents; returns its path."""
    assert sampler.picture is not None, "a step has been taken"
    return previewer.show(sampler.picture)


def report_steps(
    plan: Plan, clip: Clip, steps: int, report: Report, left: RemainingTime, show: Callable[[], Path] | None
) -> Callable[[int, Tensor], None]:
    """What is called after each of the `steps` of `clip`: it reports progress, now and then with a new preview."""
    shown: list[Path] = []

    def on_step(step: int, _: Tensor) -> None:
        if show is not None and (step % STEPS_BETWEEN == 0 or step == steps):
            shown[:] = [show()]
        report(
            Progress(
                stage=Stage.RENDER,
                clip=clip.index + 1,
                clips=len(plan.clips),
                step=step,
                steps=steps,
                done=clip.index * steps + step,
                total=len(plan.clips) * steps,
                eta_seconds=left(clip.index, step),
                preview=shown[0] if shown else None,
            )
        )

    return on_step
