"""Rendering clips that are missing, one after the other."""

from collections.abc import Callable

from soundreel.engines.base import Start
from soundreel.render.clip_writer import ClipWriter
from soundreel.render.stored_clips import StoredClips
from soundreel.types import CancelFlag, Check, Clip, Report

OnStored = Callable[[Clip, Check], object]
"""Called with each clip that is on the disk, and with what is to be called in loops."""


def render_clips(
    clips: StoredClips, start: Start, end: int, report: Report, stop: CancelFlag, on_stored: OnStored
) -> None:
    """Render from `start` to where the next clip is there already, at most to the clip before index `end`."""
    render = clips.render
    with ClipWriter(clips, clips.handed_on_before(start), report, stop, after=on_stored) as writer:
        for rendered in render.engine.render(render.prepared, start, writer.hear, stop.check):
            stop.check()
            following = rendered.clip.index + 1
            writer.add(rendered)
            del rendered  # or two clips would be in memory while the next is rendered
            if following == end:
                return
            if clips.is_stored(following):
                writer.wait()  # whether it counts depends on what this clip hands on
                if clips.has(following):
                    return
