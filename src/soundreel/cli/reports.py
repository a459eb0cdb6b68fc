"""The output of `soundreel plan`, `info`, `unfinished` and `doctor`: data for `--json`, tables for people."""

import dataclasses
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from soundreel import __version__, pipeline
from soundreel.cli.display import harmless
from soundreel.disk.durable import readable_size
from soundreel.engines.base import Prepared, why_native, why_not_comfyui, why_not_native
from soundreel.errors import INSTALL_NATIVE, EngineError
from soundreel.media.codecs import missing_encoders
from soundreel.media.video import probe_video
from soundreel.planning import count_tokens
from soundreel.render.cleaning import Cleaned
from soundreel.render.colour import ColourStats
from soundreel.render.join_record import parse_record
from soundreel.render.recipe import parse_recipe
from soundreel.render.room import DiskNeed, disk_need
from soundreel.render.stored_renders import StoredRender
from soundreel.request import Request
from soundreel.types import Plan
from soundreel.units import GIB, MODEL_FPS, StrPath

UNWRAPPED_COLUMNS = 4096
"""Width of a table that is not for a terminal, so that no line is wrapped."""

Rows = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The same facts as data for programs and as tables for people."""

    data: dict[str, Any]
    rows: Rows  # the first table: name and value
    columns: tuple[str, ...] = ()  # headings of a second table; (): there is none
    cells: list[tuple[str, ...]] = field(default_factory=list)  # its rows


def show(report: Findings, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(report.data, indent=2, ensure_ascii=False, default=os.fspath) + "\n")
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else UNWRAPPED_COLUMNS)
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in report.rows:  # as Text, so that [brackets] are not taken for markup
        facts.add_row(Text(harmless(name)), Text(harmless(value)))
    console.print(facts)
    if report.columns:
        details = Table(box=None, padding=(0, 2, 0, 0))
        for column in report.columns:
            details.add_column(column, justify="right")
        for row in report.cells:
            details.add_row(*(Text(harmless(cell)) for cell in row))
        console.print()
        console.print(details)


def describe_plan(request: Request) -> Findings:
    """The plan of a request, and what it takes on this machine. Raises the errors of preparing its render."""
    render = pipeline.prepare(request)
    estimate = render.engine.estimate(render.prepared)
    tokens = [count_tokens(render.plan, clip) for clip in render.plan.clips]
    clips = list(zip(render.plan.clips, tokens, strict=True))
    disk = disk_need(render)
    return Findings(
        data={
            "engine": render.engine.name,
            "width": request.width,
            "height": request.height,
            "frames": render.plan.frames,
            "fps": MODEL_FPS,
            "seconds": render.plan.seconds,
            "frames_written": render.frames_written,
            "fps_written": render.fps,
            "audio_start": request.window.start,
            "audio_seconds": render.plan.audio_seconds,
            "silence_seconds": render.plan.silence_seconds,
            "seed": request.seed,
            "pixels": request.width * request.height * render.plan.frames,
            "memory_bytes": estimate.memory_bytes,
            "memory_mode": render.prepared.memory_mode,
            "host_memory_bytes": render.prepared.host_bytes,
            "host_locked_bytes": render.prepared.host_locked_bytes,
            "disk_bytes": disk.total,
            "disk_kept_bytes": disk.kept,
            "estimated_seconds": estimate.seconds,
            "estimate_basis": estimate.seconds_basis,
            "clips": [dataclasses.asdict(clip) | {"tokens": count.total} for clip, count in clips],
            "notes": list(render.notes),
        },
        rows=[
            ("engine", f"{render.engine.name} ({render.choice.why})"),
            ("picture", f"{request.width}×{request.height}, {render.frames_written} frames at {render.fps} fps"),
            ("length", f"{render.plan.seconds:.3f} s in {_counted(len(clips), 'clip')}{_in_shots(render.plan)}"),
            ("sound", f"from {request.window.start:g} s, {render.plan.audio_seconds:.3f} s"),
            ("pixels", f"{request.width * request.height * render.plan.frames / 1e6:,.1f} million"),
            (
                "memory",
                _about(estimate.memory_bytes, lambda count: f"{count / GIB:.2f} GiB")
                + _in_brackets(render.prepared.memory_mode),
            ),
            *_host_rows(render.prepared),
            ("disk", _disk_row(disk)),
            (
                "time",
                _about(estimate.seconds, lambda seconds: f"{seconds:.0f} s on this machine")
                + _in_brackets(estimate.seconds_basis),
            ),
            *(("note", note) for note in render.notes),
        ],
        columns=("clip", "frames", "sampled", "from s", "to s", "seed", "tokens"),
        cells=[
            (
                f"{clip.index + 1}",
                f"{clip.frames}",
                f"{clip.size}",
                f"{clip.start / MODEL_FPS:.3f}",
                f"{clip.stop / MODEL_FPS:.3f}",
                f"{clip.seed}",
                f"{count.total:,}",
            )
            for clip, count in clips
        ],
    )


def _host_rows(prepared: Prepared) -> Rows:
    """What is taken of the host's memory, where that is another than the engine's own."""
    if prepared.host_bytes is None:
        return []
    locked = prepared.host_locked_bytes
    says = f"{locked / GIB:.2f} GiB of it locked, for streamed blocks" if locked else ""
    return [("host memory", _about(prepared.host_bytes, lambda count: f"{count / GIB:.2f} GiB") + _in_brackets(says))]


def _disk_row(need: DiskNeed) -> str:
    parts = {"latents": need.latents, "motion frames": need.carries, "clips": need.segments, "video": need.video}
    says = (f"{what} {readable_size(size)}" for what, size in parts.items() if size)
    return f"about {readable_size(need.total)} ({', '.join(says)})"


def _about(value: float | None, say: Callable[[float], str]) -> str:
    return "not known: the server has it" if value is None else f"about {say(value)}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _in_shots(plan: Plan) -> str:
    return f", {_counted(len(plan.shots), 'shot')}" if len(plan.shots) > 1 else ""


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


NO_RECIPE = "none: not made by soundreel, or with --no-recipe"


def describe_video(path: StrPath) -> Findings:
    """Properties of a video, and its recipe if soundreel made it."""
    video = probe_video(path)
    recipe = parse_recipe(video.metadata, os.fspath(path))
    picture = f"{video.width}×{video.height} {video.codec}, {video.frames} frames at {float(video.fps):g} fps"
    rows = [("picture", picture), ("length", f"{video.seconds:.3f} s"), ("sound", _sound_row(video))]
    joined = parse_record(video.metadata)
    if recipe is not None:
        rows += _recipe_rows(recipe)
    elif joined is not None:
        rows += _joined_rows(joined)
    else:
        rows.append(("recipe", NO_RECIPE))
    data = dataclasses.asdict(video) | {"fps": float(video.fps), "recipe": recipe, "joined": joined}
    del data["metadata"]
    cells = list(_drift(recipe)) if recipe is not None else []
    return Findings(data=data, rows=rows, columns=DRIFT_COLUMNS if cells else (), cells=cells)


DRIFT_COLUMNS = ("clip", "seed", "red", "green", "blue", "brightness", "contrast", "against clip 1", "reference")
"""Means in linear light, 0–1; the last two are brightness and contrast in multiples of the first clip's."""


def _drift(recipe: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Colour statistics of each clip, as rendered, relative to the first clip and the reference image."""
    clips = [clip for clip in recipe["plan"]["clips"] if clip.get("look") is not None]
    looks = [ColourStats.from_data(clip["look"]) for clip in clips]
    reference = recipe.get("reference_look")
    for clip, look in zip(clips, looks, strict=True):
        yield (
            str(clip["index"] + 1),
            str(clip["seed"]),
            *(f"{value:.3f}" for value in (*look.mean, look.brightness, look.contrast)),
            _against(look, looks[0]),
            "" if reference is None else _against(look, ColourStats.from_data(reference)),
        )


def _against(look: ColourStats, other: ColourStats) -> str:
    pairs = ((look.brightness, other.brightness), (look.contrast, other.contrast))
    return " ".join(f"{mine / theirs:.2f}" if theirs > 0 else "–" for mine, theirs in pairs)


def describe_renders(found: Sequence[StoredRender]) -> Findings:
    """Renders that are not finished, and how to go on with each."""
    return Findings(
        data={"renders": [dataclasses.asdict(render) | {"state": render.state} for render in found]},
        rows=[] if found else [("unfinished", "none here")],
        columns=("clips", "state", "engine", "sound", "MB", "go on with") if found else (),
        cells=[
            (
                f"{render.done}/{render.clips}",
                render.state,
                render.engine,
                os.path.basename(render.audio),  # noqa: PTH119 - a text for people
                f"{render.bytes / 1e6:.1f}",
                render.problem or f"soundreel {_verb(render)} {shlex.quote(str(render.place))}",
            )
            for render in found
        ],
    )


def _verb(render: StoredRender) -> str:
    """What there is still to do with a render."""
    return "reprint" if render.finished and render.pid is None else "resume"


def describe_cleaning(cleaned: Sequence[Cleaned], *, dry_run: bool) -> Findings:
    """Which work folders were removed, what that freed, and which were left and why."""
    freed = sum(entry.freed for entry in cleaned)
    removed = sum(not entry.left for entry in cleaned)
    what = "would be freed" if dry_run else "freed"
    action = "to be removed" if dry_run else "removed"
    return Findings(
        data={
            "dry_run": dry_run,
            "freed_bytes": freed,
            "folders": [
                {
                    "folder": entry.render.folder,
                    "state": entry.render.state,
                    "bytes": entry.render.bytes,
                    "freed_bytes": entry.freed,
                    "removed": not entry.left and not dry_run,
                    "left": entry.left,
                }
                for entry in cleaned
            ],
        },
        rows=[(what, f"{freed / 1e6:,.1f} MB, {_counted(removed, 'work folder')} of {len(cleaned)}")],
        columns=("folder", "state", "sound", "MB", "") if cleaned else (),
        cells=[
            (
                str(entry.render.folder),
                entry.render.state,
                os.path.basename(entry.render.audio),  # noqa: PTH119 - a text for people
                f"{entry.render.bytes / 1e6:,.1f}",
                f"left: {entry.left}" if entry.left else action,
            )
            for entry in cleaned
        ],
    )


def _sound_row(video: Any) -> str:
    if video.sound_codec is None:
        return "none"
    channels = {1: "mono", 2: "stereo"}.get(video.sound_channels, f"{video.sound_channels} channels")
    return f"{video.sound_codec}, {video.sound_rate} Hz {channels}, {video.sound_seconds:.3f} s"


def _joined_rows(record: dict[str, Any]) -> Rows:
    """Of a joined video: its pieces, in whose recipes all else is said."""
    rows = [("made by", f"soundreel {record['soundreel']}, {record['created']}")]
    rows += [("note", note) for note in record["notes"]]
    for piece in record["pieces"]:
        recipe = piece["recipe"]
        engine = "" if recipe is None else f", engine {_engine(recipe)}"
        rows.append(("joined from", f"{piece['name']}, {piece['frames']} frames{engine}"))
    for stretch in record["sound"]:
        window = stretch["window"]
        of = "of the piece" if window is None else f"{window['name']} from {window['start']:g} s on"
        rows.append(("heard", f"{of}, {stretch['frames']} frames"))
    return rows


def _engine(recipe: dict[str, Any]) -> str:
    return str(recipe["engine"]) + (" (a draft, not a model render)" if recipe["engine"] == "draft" else "")


def _recipe_rows(recipe: dict[str, Any]) -> Rows:
    request = {name: value for name, value in recipe["request"].items() if value not in (None, [])}
    return [
        ("engine", _engine(recipe)),
        ("made by", f"soundreel {recipe['soundreel']}, {recipe['created']}"),
        *(("note", note) for note in recipe["notes"]),
        *((name, str(value)) for name, value in request.items()),
    ]


def describe_machine() -> Findings:
    """What this machine can run, and what mends whatever is missing."""
    checks = [_check_python(), _check_encoders(), _check_processor(), _check_disk(), *_check_engines()]
    return Findings(
        data={"checks": [dataclasses.asdict(check) for check in checks]},
        rows=[(f"{'✓' if check.ok else '✗'} {check.name}", check.says()) for check in checks],
    )


def calibrate_machine(device: str, tell: Callable[[str], object]) -> Findings:
    """Measure the native engine's parts on a device, and keep the result.

    Raises:
        EngineError: the engine's packages are not installed.
    """
    try:
        calibration = import_module("soundreel.engines.native.calibration")
        devices = import_module("soundreel.models.devices")
    except ModuleNotFoundError as error:
        raise EngineError(f"--calibrate needs the package {error.name}: {INSTALL_NATIVE}") from error
    found = calibration.measure(devices.pick_device(device), tell)
    path = calibration.keep_calibration(found)
    return Findings(
        data=dataclasses.asdict(found) | {"file": path},
        rows=[
            ("device", f"{found.device}, torch {found.torch}"),
            *((f"products {name}", _tera(speed)) for name, speed in found.products.items()),
            *(
                (f"attention {kernel}", ", ".join(f"{_tera(speed)} at {int(n):,} tokens" for n, speed in at.items()))
                for kernel, at in found.attention.items()
            ),
            ("row operations", f"{found.rows / 1e9:,.0f} GB/s"),
            *((f"VAE {name}", _tera(speed)) for name, speed in found.vae.items()),
            ("copies to the device", f"{found.to_device / 1e9:.1f} GB/s"),
            ("reading weights", "no weights here" if found.read is None else f"{found.read / 1e9:.1f} GB/s"),
            ("start", f"{found.start:.1f} s"),
            ("kept in", str(path)),
        ],
    )


def _tera(speed: float) -> str:
    return f"{speed / 1e12:.3g} TFLOP/s"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of `soundreel doctor`."""

    name: str
    ok: bool
    found: str
    mend: str = ""

    def says(self) -> str:
        """What was found and, where something is missing, what to do."""
        return f"{self.found} → {self.mend}" if self.mend and not self.ok else self.found


def _check_python() -> Check:
    packages = ", ".join(f"{name} {_version(name)}" for name in ("av", "numpy", "opencv-python-headless"))
    return Check(
        name="python",
        ok=True,
        found=f"{sys.version.split()[0]}, soundreel {__version__}, {packages}",
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _check_encoders() -> Check:
    missing = missing_encoders()
    return Check(
        name="encoders",
        ok=not missing,
        found="libx264, aac" if not missing else f"PyAV lacks {', '.join(missing)}",
        mend="pip install --force-reinstall --only-binary=av av",
    )


def _check_processor() -> Check:
    found = f"{os.cpu_count()} cores"
    if hasattr(os, "sysconf"):  # not on Windows
        found += f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.1f} GiB memory"
    return Check(name="machine", ok=True, found=found)


def _check_disk() -> Check:
    free = shutil.disk_usage(".").free / GIB
    return Check(name="disk", ok=free > 1, found=f"{free:.1f} GiB free here", mend="free some, or use --output-dir")


def _check_engines() -> list[Check]:
    anything = Request(audio="")
    missing, no_server = why_not_native(anything), why_not_comfyui(anything)
    native = Check(name="engine native", ok=missing is None, found=missing or f"ready: {why_native(anything)}")
    comfyui = Check(name="engine comfyui", ok=no_server is None, found=no_server or "ready: a server and its models")
    draft = Check(name="engine draft", ok=True, found="ready: CPU only, no weights")
    return [native, comfyui, draft]
