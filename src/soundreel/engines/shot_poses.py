"""Which pose video each clip follows: its shot's own, from its beginning on, else the request's."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from soundreel.media.pose import PoseMatch, missing_pose_seconds
from soundreel.types import Clip, Plan, Shot
from soundreel.units import MODEL_FPS, StrPath


@dataclass(frozen=True, kw_only=True)
class PoseRun:
    """Clips in a row that follow one pose video."""

    path: StrPath | None  # None: they follow none
    origin: int  # output frame at which the pose video begins; before the first one where the window begins later
    clips: tuple[Clip, ...]
    shot: str = ""  # name of the shot whose own it is; "": the request's

    def first_sampled(self, plan: Plan, clip: Clip) -> int:
        """As `Plan.first_sampled`, on a count that begins with the pose video."""
        return plan.first_sampled(clip) - self.origin

    def stop(self, plan: Plan) -> int:
        """The first model frame after the run, on that count."""
        return max(self.first_sampled(plan, clip) + clip.size for clip in self.clips)


def pose_runs(plan: Plan, start: int = 0) -> Iterator[PoseRun]:
    """The clips from index `start` on, in order."""

    def video_of(clip: Clip) -> tuple[StrPath | None, int, str]:
        shot = plan.shot_of(clip)
        path = plan.request_of(shot).guide.pose_video
        return (path, 0, "") if shot.asked.pose_video is None else (path, _begin(plan, shot), shot.name)

    for (path, origin, shot), clips in groupby(plan.clips[start:], video_of):
        yield PoseRun(path=path, origin=origin, clips=tuple(clips), shot=shot)


def _begin(plan: Plan, shot: Shot) -> int:
    """Where a shot begins that the window may have cut short."""
    return min(shot.start, round((shot.asked.start - plan.request.window.start) * MODEL_FPS))


def pose_videos(plan: Plan) -> list[StrPath]:
    """The pose videos that clips follow, each once."""
    return [path for path in dict.fromkeys(run.path for run in pose_runs(plan)) if path is not None]


def missing_poses(plan: Plan, match: PoseMatch) -> Iterator[tuple[str, str, float]]:
    """Each pose video that is too short, as messages call it, what it is too short for, and by how many seconds."""
    whole: PoseRun | None = None
    for run in pose_runs(plan):
        if run.path is None:
            continue
        if not run.shot:
            whole = run  # the last one tells
            continue
        if (missing := _missing(plan, run, match)) > 0:
            yield f"the pose video of shot {run.shot!r}", "shot", missing
    if whole is not None and (missing := _missing(plan, whole, match)) > 0:
        yield "the pose video", "render", missing


def _missing(plan: Plan, run: PoseRun, match: PoseMatch) -> float:
    assert run.path is not None
    return missing_pose_seconds(run.path, run.stop(plan), match=match, lead_in=plan.lead_in)
