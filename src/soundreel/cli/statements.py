"""What is said of a video at the start and at the end: the same as lines for people and as facts for programs."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from soundreel.types import Result
from soundreel.wording import readable_size, shell_word
from soundreel.wording.durations import duration, exactly

if TYPE_CHECKING:
    from soundreel.interpolation.video import InterpolatedVideo, PreparedInterpolation
    from soundreel.render.joining import JoinedVideo, PreparedJoining
    from soundreel.render.prepared import PreparedRender


@dataclass(frozen=True, kw_only=True)
class Statement:
    """The same for people and for programs: what will be made, or what has been."""

    lines: list[str]
    facts: Mapping[str, Any]

    def without(self, told: Container[str]) -> list[str]:
        """Its lines, but for those that were told before."""
        return [line for line in self.lines if line not in told]


def render_begins(render: "PreparedRender") -> Statement:
    """What will be rendered, by which engine and why."""
    facts = {
        "engine": render.engine.name,
        "why": render.choice.why,
        "frames": render.frames_written,
        "fps": render.fps,
        "clips": len(render.plan.clips),
        "memory": render.prepared.memory_mode,
        "memory_bytes": render.prepared.memory_bytes,
        "host_memory_bytes": render.prepared.host_bytes,
        "host_locked_bytes": render.prepared.host_locked_bytes,
        "devices": render.division.says() or render.prepared.devices,
        "resumed": render.resumed,
        "printed_again": render.is_printed_again,
        "notes": list(render.notes),
    }
    return Statement(lines=start_lines(render), facts=facts)


def remote_begins(job: Mapping[str, Any]) -> Statement:
    """What a server renders, as its job tells."""
    plan, size = job["plan"], str(job["size"]).replace("x", "×")
    clips = f"{plan['clips']} clip{'s' if plan['clips'] > 1 else ''}"
    resumed = (job["live"] or {}).get("resumed", "")
    lines = [
        f"engine: {job['engine']} (model {job['model']} of the server)",
        f"{size}, {plan['frames']} frames at {plan['fps']} fps = {exactly(plan['seconds'], 2)} in {clips}",
        *([resumed] if resumed else []),
        *(f"note: {note}" for note in job["notes"]),
    ]
    facts = {
        "engine": job["engine"],
        "why": f"model {job['model']} of the server",
        "frames": plan["frames"],
        "fps": plan["fps"],
        "clips": plan["clips"],
        "memory": "",
        "memory_bytes": None,
        "host_memory_bytes": None,
        "host_locked_bytes": 0,
        "devices": "",
        "resumed": resumed,
        "printed_again": False,
        "notes": job["notes"],
    }
    return Statement(lines=lines, facts=facts)


def render_ends(result: Result) -> Statement:
    """On a finished video, and on what is kept of its render."""
    facts = {
        "engine": result.engine,
        "frames": result.frames,
        "fps": result.fps,
        "seconds": result.seconds,
        "notes": list(result.notes),
        "work_folder": result.work_folder,
        "work_bytes": result.work_bytes,
        "scores": result.recipe.get("scores"),
    }
    return Statement(lines=finish_lines(result), facts=facts)


def start_lines(render: "PreparedRender") -> list[str]:
    """What will be rendered, by which engine and why, as lines for people."""
    plan = render.plan
    clips = f"{len(plan.clips)} clip{'s' if len(plan.clips) > 1 else ''}"
    return [
        f"engine: {render.engine.name} ({render.choice.why})",
        f"{render.request.width}×{render.request.height}, {render.frames_written} frames at {render.fps} fps = "
        f"{exactly(plan.seconds, 2)} in {clips}, seed {render.request.seed}",
        *([render.division.says()] if render.division.is_divided else []),
        *([render.resumed] if render.resumed else []),
        *(f"note: {note}" for note in render.notes),
    ]


def interpolation_begins(prepared: "PreparedInterpolation") -> Statement:
    """What `soundreel interpolate` will make."""
    facts = {
        "method": prepared.request.method,
        "frames": prepared.frames,
        "fps": float(prepared.fps),
        "notes": list(prepared.notes),
    }
    width, height = prepared.size
    lines = [
        f"{width}×{height}, {prepared.info.frames} frames at {float(prepared.info.fps):g} fps → {prepared.frames} at "
        f"{float(prepared.fps):g} fps by {prepared.request.method}, sound copied",
        *(f"note: {note}" for note in prepared.notes),
    ]
    return Statement(lines=lines, facts=facts)


def interpolation_ends(made: "InterpolatedVideo") -> Statement:
    """What it has made."""
    return _ends(made)


def joining_begins(prepared: "PreparedJoining") -> Statement:
    """What `soundreel join` will make."""
    (width, height), count = prepared.size, len(prepared.pieces)
    pictures = "pictures encoded anew" if prepared.request.reencode else "pictures as they are"
    facts = {
        "videos": count,
        "frames": prepared.frames,
        "fps": float(prepared.fps),
        "sound": prepared.sound.says,
        "notes": list(prepared.notes),
    }
    lines = [
        f"{count} videos → {width}×{height}, {prepared.frames} frames at {float(prepared.fps):g} fps = "
        f"{exactly(float(prepared.frames / prepared.fps), 2)}, {pictures}, {prepared.sound.says}",
        *(f"note: {note}" for note in prepared.notes),
    ]
    return Statement(lines=lines, facts=facts)


def joining_ends(made: "JoinedVideo") -> Statement:
    """What it has made."""
    return _ends(made)


def _ends(made: "InterpolatedVideo | JoinedVideo") -> Statement:
    facts = {"frames": made.frames, "fps": float(made.fps), "seconds": made.seconds, "notes": list(made.notes)}
    return Statement(lines=[_done(made.seconds, made.frames, float(made.frames / made.fps))], facts=facts)


def finish_lines(result: Result) -> list[str]:
    """On a finished video, on what there is to know of it, and on what is kept of its render."""
    done = [
        _done(result.seconds, result.frames, result.frames / result.fps),
        *(f"note: {note}" for note in result.notes),
    ]
    if result.excerpt:
        done.append(result.excerpt)
    if result.recipe.get("scores") is not None:
        done += _score_lines(result.recipe["scores"])
    if result.work_folder is None:
        return done
    folder = shell_word(result.work_folder)
    kept = f"kept for redo and reprint: {folder}, {readable_size(result.work_bytes)} (soundreel clean {folder})"
    return [*done, kept]


def _score_lines(data: Any) -> list[str]:
    from soundreel.cli.score_report import score_rows
    from soundreel.scoring import read_scores

    scores = read_scores(data)
    return [] if scores is None else [f"{name}: {says}" for name, says in score_rows(scores)]


def _done(took: float, frames: int, seconds: float) -> str:
    return f"done in {duration(took)}: {frames} frames, {exactly(seconds, 2)}, sound and picture verified"
