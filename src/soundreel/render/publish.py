"""How a video gets its name: whole and verified, or not at all; and a look at what is there before that."""

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from soundreel.disk import durable
from soundreel.errors import MediaError, SoundreelError
from soundreel.media.mux import SoundTrack, assemble, verify
from soundreel.media.video import probe_video
from soundreel.render import naming
from soundreel.render.prepared import PreparedRender
from soundreel.render.work_folder import WorkFolder
from soundreel.types import Check, go_on
from soundreel.units import MODEL_FPS
from soundreel.version import __version__

OURS: Final = "soundreel "
"""How the comment in our videos begins."""

FREE_SECONDS: Final = 5.0
"""So much of a render may go into partial videos whatever its length."""

SHARE: Final = 0.1
"""Of the time that a render has taken, how much may have gone into partial videos: a video of many short clips would
otherwise spend more on them than on the clips."""


def write_video(work: WorkFolder, metadata: Mapping[str, str], check: Check = go_on) -> Path:
    """Join all clips and the sound beside where the video belongs, and verify it; `check` may raise to stop."""
    target = work.staging / "finished.mp4"
    _join(work, target, metadata, check)
    verify(target, frames=work.render.frames_written, fps=work.render.fps, sound=True, check=check)
    return target


def _join(work: WorkFolder, target: Path, metadata: Mapping[str, str], check: Check) -> None:
    request, segments = work.render.request, work.clips.segments()
    seconds = min(work.render.plan.audio_seconds, work.render.plan.clips[len(segments) - 1].stop / MODEL_FPS)
    sound = SoundTrack(path=request.audio, start=request.window.start, seconds=seconds)
    assemble(segments, target, fps=work.render.fps, sound=sound, metadata=metadata, check=check)


class PartialVideo:
    """`OUTPUT.partial.mp4`: the clips so far with their sound, written anew after each one.

    A file of that name that is someone else's is left alone.
    """

    def __init__(self, work: WorkFolder) -> None:
        self._work = work
        self.path = _partial_path(work.render)
        self._is_of_others = _is_of_others(self.path)
        self._begun = time.monotonic()
        self._spent = self._last = 0.0
        self._clips = 0

    def update(self, check: Check = go_on) -> None:
        """Write it anew where there is anything, unless that would take more than its share of the time.

        `check` may raise to stop.
        """
        begun, clips, total = time.monotonic(), len(self._work.clips.segments()), len(self._work.render.plan.clips)
        share = max(FREE_SECONDS, SHARE * (begun - self._begun))
        if self._is_of_others or clips in {0, total, self._clips} or self._spent + self._last > share:
            return
        metadata = {"comment": f"{OURS}{__version__}, unfinished: clips 1 to {clips} of {total}"}
        staged = self._work.staging / "partial.mp4"
        with suppress(MediaError, OSError):  # no room for a look is no reason to stop
            _join(self._work, staged, metadata, check)
            durable.publish(staged, self.path, replace=True)
        self._clips, self._last = clips, time.monotonic() - begun
        self._spent += self._last

    def remove(self) -> None:
        """There is something better now."""
        if not self._is_of_others:
            self.path.unlink(missing_ok=True)


def _is_of_others(path: Path) -> bool:
    """Whether there is a whole video that no render has left; what cannot be read is taken for what is left of ours."""
    with suppress(SoundreelError):
        return not probe_video(path).metadata.get("comment", "").startswith(OURS)
    return False


def _partial_path(render: PreparedRender) -> Path:
    request = render.request
    if request.output.path is not None:
        return naming.partial_path(Path(request.output.path).absolute())
    name = naming.partial_name(render.plan, render.engine.name, render.asked.fingerprint.digest)
    return naming.output_folder(request) / name


def publish(finished: Path, render: PreparedRender) -> Path:
    """Give the video its name: an asked-for name is replaced, a name of ours never replaces anything."""
    naming.check_output(render.request, render.asked.inputs)  # a link may have been made meanwhile
    folder, asked = naming.output_folder(render.request), render.request.output.path
    name = naming.output_name(render.plan, render.engine.name, datetime.now()) if asked is None else Path(asked).name
    return durable.publish(finished, folder / name, replace=asked is not None)
