"""One render in several processes that are there already: one owns the folder and its plan, others take shots of it."""

import time
from pathlib import Path
from typing import Final

from soundreel.render.claims import Claims
from soundreel.render.prepared import PreparedRender
from soundreel.render.puller import OnStored, pull_chains
from soundreel.render.shot_jobs import Job
from soundreel.render.shot_processes import SharedProgress
from soundreel.render.work_folder import WorkFolder
from soundreel.types import CancelFlag, Check, Clip, Progress, Report

LOOK_SECONDS: Final = 1.0
"""Between two looks at what the others have stored."""


def share_of(render: PreparedRender, folder: Path) -> Job:
    """What another process needs to take shots of a render in a work folder; its own devices are not said yet."""
    return Job(
        request=render.request.replace(engine=render.engine.name),
        folder=folder,
        identity=render.identity,
        fingerprints=tuple(render.clip_fingerprints),
        only_print=False,
        printed_models=None,
    )


def render_shared(work: WorkFolder, report: Report, stop: CancelFlag, on_stored: OnStored) -> None:
    """Render the shots that nobody else takes, until all are there."""
    clips, plan = work.clips, work.render.plan
    progress = SharedProgress(plan, clips.missing(), report)
    looked = time.monotonic()

    def hear(told: Progress) -> None:
        nonlocal looked
        if time.monotonic() - looked > LOOK_SECONDS:
            looked = time.monotonic()
            for index in clips.missing():
                if clips.path(index, ".json").exists():  # another one's: looked at closely when this process waits
                    progress.is_stored(index)
        progress(told)

    def stored(clip: Clip, check: Check) -> None:
        progress.is_stored(clip.index)
        on_stored(clip, check)

    pull_chains(clips, Claims(work.folder), hear, stop, stored)
