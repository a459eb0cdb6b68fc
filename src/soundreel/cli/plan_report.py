"""What `soundreel plan` shows: what a render would make, and what it takes on this machine."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from soundreel import pipeline
from soundreel.cli.reports import Findings, Rows, counted, in_brackets, some_of, what_is_shown
from soundreel.engines.base import Estimate, Prepared
from soundreel.planning import count_tokens
from soundreel.render.division import Schedule, schedule_of
from soundreel.render.prepared import PreparedRender
from soundreel.render.room import DiskNeed, disk_need
from soundreel.request import Drive, Request
from soundreel.types import Clip, Plan, Shot
from soundreel.units import GIB, MODEL_FPS
from soundreel.wording import readable_size
from soundreel.wording.durations import clock, duration, exactly, rough

CLIP_COLUMNS = ("clip", "frames", "sampled", "from s", "to s", "seed")
SHOT_COLUMNS = ("shot", "section", "from", "length s", "cut", "clips", "seed", "time", "prompt")

LONGEST_PROMPT = 32
"""Characters of a shot's prompt that are shown."""


def describe_plan(request: Request, *, every_clip: bool = False) -> Findings:
    """The plan of a request, and what it takes on this machine. Raises the errors of preparing its render."""
    render = pipeline.prepare(request)
    plan, estimate, disk = render.plan, render.engine.estimate(render.prepared), disk_need(render)
    divided = schedule_of(render.plan, render.division, estimate)
    seconds = None if estimate.seconds is None else rough(estimate.seconds - divided.saved_seconds)
    pixels = request.width * request.height * plan.frames
    table = _table_of_shots(render, estimate) if request.shots else _table_of_clips(render)
    shown = table.rows if every_clip else some_of(table.rows)
    return Findings(
        data={
            "engine": render.engine.name,
            "width": request.width,
            "height": request.height,
            "frames": plan.frames,
            "fps": MODEL_FPS,
            "seconds": plan.seconds,
            "frames_written": render.frames_written,
            "fps_written": render.fps,
            "audio_start": request.window.start,
            "audio_seconds": plan.audio_seconds,
            "silence_seconds": plan.silence_seconds,
            "sound_seconds": render.asked.sound.seconds,
            "drive": os.fspath(request.drive),
            "seed": request.seed,
            "pixels": pixels,
            "memory_bytes": estimate.memory_bytes,
            "memory_mode": render.prepared.memory_mode,
            "devices": render.prepared.devices,
            "processes": [
                {"devices": list(devices), "shots": shots}
                for devices, shots in zip(render.division.processes, divided.shots, strict=True)
            ],
            "speedup": divided.speedup,
            "speedup_of_each": estimate.speedup,
            "host_memory_bytes": render.prepared.host_bytes,
            "host_locked_bytes": render.prepared.host_locked_bytes,
            "disk_bytes": disk.total,
            "disk_kept_bytes": disk.kept,
            "estimated_seconds": seconds,
            "estimate_basis": estimate.seconds_basis,
            "shots": [_shot_data(render, shot, estimate.clip_seconds) for shot in plan.shots],
            "clips": [_clip_data(render, clip) for clip in plan.clips],
            "notes": list(render.notes),
        },
        rows=[
            ("engine", f"{render.engine.name} ({render.choice.why})"),
            ("picture", f"{request.width}×{request.height}, {render.frames_written} frames at {render.fps} fps"),
            ("length", f"{exactly(plan.seconds)} in {counted(len(plan.clips), 'clip')}{_in_shots(plan)}"),
            ("sound", _sound_row(render)),
            *([] if request.drive == Drive.MIX else [("drive", os.fspath(request.drive))]),
            ("pixels", f"{pixels / 1e6:,.1f} million"),
            (
                "memory",
                _about(estimate.memory_bytes, lambda count: f"{count / GIB:.2f} GiB")
                + in_brackets(render.prepared.memory_mode),
            ),
            *_host_rows(render.prepared),
            *_devices_rows(render, divided, estimate.speedup),
            ("disk", _disk_row(disk)),
            (
                "time",
                _about(seconds, lambda value: f"{duration(value)} on this machine")
                + in_brackets(estimate.seconds_basis),
            ),
            *(("note", note) for note in render.notes),
        ],
        columns=table.columns,
        cells=[cells() for cells in shown],
        closing=what_is_shown(len(shown), len(table.rows), table.what),
    )


@dataclass(frozen=True, kw_only=True)
class _Table:
    """What is told row by row: of shots, or of clips where they are all that there is."""

    what: str
    columns: tuple[str, ...]
    rows: Sequence[Callable[[], tuple[str, ...]]]  # each gives the cells of one


def _table_of_clips(render: PreparedRender) -> _Table:
    tokens = ("tokens",) if _has_tokens(render) else ()
    rows = [partial(_clip_cells, render, clip) for clip in render.plan.clips]
    return _Table(what="clips", columns=(*CLIP_COLUMNS, *tokens), rows=rows)


def _table_of_shots(render: PreparedRender, estimate: Estimate) -> _Table:
    rows = [partial(_shot_cells, render, shot, estimate) for shot in render.plan.shots]
    return _Table(what="shots", columns=SHOT_COLUMNS, rows=rows)


def _shot_data(render: PreparedRender, shot: Shot, clip_seconds: Sequence[float]) -> dict[str, Any]:
    asked = render.plan.request_of(shot)
    return {
        "name": shot.name,
        "section": shot.section,
        "start": shot.start,
        "frames": shot.frames,
        "continues": shot.continues,
        "clips": [clip.index for clip in shot.clips],
        "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt,
        "ref_image": asked.ref_image,
        "pose_video": asked.guide.pose_video,
        "estimated_seconds": sum(clip_seconds[clip.index] for clip in shot.clips) if clip_seconds else None,
    }


def _shot_cells(render: PreparedRender, shot: Shot, estimate: Estimate) -> tuple[str, ...]:
    """The time of a shot: its clips', or where these are not known its share of the frames."""
    plan, known = render.plan, estimate.clip_seconds
    if known:
        takes = duration(rough(sum(known[clip.index] for clip in shot.clips)))
    elif estimate.seconds is not None:
        takes = duration(rough(estimate.seconds * shot.frames / plan.frames))
    else:
        takes = "–"
    first, last = shot.clips[0].index + 1, shot.clips[-1].index + 1
    return (
        shot.name,
        shot.section,
        _time(render.request.window.start + shot.start / MODEL_FPS),
        f"{shot.frames / MODEL_FPS:.2f}",
        "continues" if shot.continues else "hard",
        f"{first}" if first == last else f"{first}–{last}",
        f"{shot.clips[0].seed}",
        takes,
        _shortened(plan.request_of(shot).prompt or ""),
    )


def _time(seconds: float) -> str:
    """`1:02.56`."""
    minutes, rest = divmod(round(seconds * 100), 6000)
    return f"{minutes}:{rest / 100:05.2f}"


def _shortened(text: str) -> str:
    """The end of a prompt, in which those of a storyboard differ."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_PROMPT else f"…{line[1 - LONGEST_PROMPT :]}"


def _has_tokens(render: PreparedRender) -> bool:
    """Whether the tokens of a clip say what it costs: elsewhere nothing here computes on them."""
    return render.engine.name == "native"


def _clip_data(render: PreparedRender, clip: Clip) -> dict[str, Any]:
    tokens = {"tokens": count_tokens(render.plan, clip).total} if _has_tokens(render) else {}
    return vars(clip) | tokens


def _clip_cells(render: PreparedRender, clip: Clip) -> tuple[str, ...]:
    return (
        f"{clip.index + 1}",
        f"{clip.frames}",
        f"{clip.size}",
        f"{clip.start / MODEL_FPS:.3f}",
        f"{clip.stop / MODEL_FPS:.3f}",
        f"{clip.seed}",
        *([f"{count_tokens(render.plan, clip).total:,}"] if _has_tokens(render) else []),
    )


def _sound_row(render: PreparedRender) -> str:
    """Which part of the sound is used."""
    start, used, whole = render.request.window.start, render.plan.audio_seconds, render.asked.sound.seconds
    if exactly(used) == exactly(whole):
        return f"{exactly(used)}, all of it"
    begin = clock(start) if start >= 60 and start == round(start) else f"{start:g} s"
    return f"{exactly(used)} from {begin} on, of {exactly(whole)}"


def _host_rows(prepared: Prepared) -> Rows:
    """What is taken of the host's memory, where that is another than the engine's own."""
    if prepared.host_bytes is None:
        return []
    locked = prepared.host_locked_bytes
    says = f"{locked / GIB:.2f} GiB of it locked, for streamed blocks" if locked else ""
    return [("host memory", _about(prepared.host_bytes, lambda count: f"{count / GIB:.2f} GiB") + in_brackets(says))]


def _devices_rows(render: PreparedRender, divided: Schedule, speedup: float | None) -> Rows:
    """What computes, where it is more than one device, and what is gained by it."""
    each, division = render.prepared.devices, render.division
    if speedup is not None:
        each = f"{each}, {speedup:.2f}× as quick as one of them"
    if not division.is_divided:
        return [("devices", each)] if each else []
    shots = " + ".join(map(str, divided.shots))
    gain = (
        "all compute on the same cores"
        if divided.speedup is None
        else f"{divided.speedup:.2f}× as quick as one of them"
    )
    inside = f"; in each, {each}" if each else ""
    return [("devices", f"{division.says()}, for nothing passes a cut: {shots} shots, {gain}{inside}")]


def _disk_row(need: DiskNeed) -> str:
    parts = {"latents": need.latents, "motion frames": need.carries, "clips": need.segments, "video": need.video}
    says = (f"{what} {readable_size(size)}" for what, size in parts.items() if size)
    return f"about {readable_size(need.total)} ({', '.join(says)})"


def _about(value: float | None, say: Callable[[float], str]) -> str:
    return "not known: the server has it" if value is None else f"about {say(value)}"


def _in_shots(plan: Plan) -> str:
    return f", {counted(len(plan.shots), 'shot')}" if len(plan.shots) > 1 else ""
