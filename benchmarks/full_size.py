"""What a user waits for around the passes: whole commands at the full size of Wan 2.2 S2V 14B, on random weights.

    python -m benchmarks.full_size --manifest MANIFEST --tokenizer google/umt5-xxl --folder /tmp/s2v
    python -m benchmarks.full_size … --precision fp8 --attention fp8 --repeat 2

MANIFEST is a JSON file with the shape of every tensor, or a checkpoint folder whose shapes are taken. Random weights in
the official layout cost what trained ones cost and give noise as video. They are kept in the folder for the next time.

First the command runs with an empty folder for Triton's compiled kernels, as on a new machine; then, `--repeat` times,
with what the first one compiled; then two renders run in one process, with a `Session`, whose GPU memory is read
before it is left and after. Files are in the page cache as far as memory has the room: `--warm-up` reads them all once
before. `--imports` adds what Python imports, by package.
"""

import argparse
import json
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.checkpoints import DEVICE, GIB, read_manifest, write_checkpoint
from benchmarks.commands import Event, Peak, count_frames, run_command, timings, used_bytes, write_inputs

FPS = 16
WRITTEN = "written.json"
"""In the checkpoint's folder once all of it is there."""

CACHE_VARIABLE = "TRITON_CACHE_DIR"
NO_SESSIONS = 3
"""Exit status of `benchmarks.second_render` where there are none."""

IMPORTED = "soundreel.engines.native"
IMPORTS_SHOWN = 12

GOALS: Mapping[str, str] = {
    "command → first event": "",
    "command → plan is there, all is imported": "5.0",
    "command → first step done, kernels compiled before": "12.0",
    "the same, first run on the machine (Triton compiles)": "25.0",
    "second render in one process → first step done": "one step + 1.5",
    "between the last step of a clip and the first of the next, less that step": "1.8",
    "last step → file": "2.5",
}
"""Rows of the table, and seconds that an H100 with all files in the page cache shall take."""


# the runs


class Bench:
    """One checkpoint, one kind of render."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.folder = options, options.folder
        self.work = options.folder.with_name(f"{options.folder.name}_renders")
        self.kernels = options.folder.with_name(f"{options.folder.name}_kernels")
        self.begun = time.perf_counter()
        for folder in (self.work, self.kernels):
            shutil.rmtree(folder, ignore_errors=True)
        self.work.mkdir(parents=True)
        options.results.mkdir(parents=True, exist_ok=True)

    def checkpoint(self) -> Mapping[str, Any]:
        """Write it, unless it is there; returns seconds and bytes."""
        note = self.folder / WRITTEN
        if note.is_file():
            found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
            return {**found, "seconds": 0.0}
        written = write_checkpoint(self.folder, read_manifest(self.options.manifest), self.options.tokenizer)
        note.write_text(json.dumps(written))
        print(f"{written['bytes'] / 1e9:.1f} GB written in {written['seconds']:.1f} s", flush=True)
        return written

    def warm_up(self) -> None:
        """Read all files once."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                with path.open("rb", buffering=0) as file:
                    while file.read(2**26):
                        pass

    def fields(self, video: Path) -> dict[str, Any]:
        """Of the request, by the names that Python and the command line share."""
        options = self.options
        sound, picture = write_inputs(self.work, options.frames / FPS + 1)
        asked = {
            "audio": sound, "ref_image": picture, "engine": "native", "models": self.folder, "device": DEVICE,
            "size": options.size, "frames": options.frames, "infer_frames": options.infer_frames,
            "steps": options.steps, "precision": options.precision, "attention": options.attention,
            "memory": options.memory, "output": video,
        }  # fmt: skip
        return {name: str(value) for name, value in asked.items() if value is not None}

    def command(self, video: Path) -> list[str]:
        """What a user would type."""
        fields = self.fields(video)
        words = [sys.executable, "-m", "soundreel", "generate", fields.pop("audio")]
        for name, value in fields.items():
            words += ["-o" if name == "output" else f"--{name.replace('_', '-')}", value]
        return [*words, "--no-keep-work", "--progress", "json"]

    def run(self, name: str) -> dict[str, Any]:
        """One command: what it took, and whether its video is whole."""
        print(f"\n{name}", flush=True)
        video = self.work / f"{name.replace(' ', '_')}.mp4"
        arguments = self.command(video)
        with Peak() as peak:
            status, events, seconds = run_command(
                arguments, self._log(name), self._left(), environment={CACHE_VARIABLE: str(self.kernels)}
            )
        return {
            "command": " ".join(arguments[1:]),
            "status": status,
            "frames": count_frames(video),
            "seconds": timings(events, seconds),
            "peak_device_bytes": peak.bytes,
            "peak_resident_bytes": 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
        }

    def session(self) -> dict[str, Any]:
        """Two renders in one process: what each took; empty where there are no sessions."""
        print("\ntwo renders in one process", flush=True)
        request = self.work / "request.json"
        request.write_text(json.dumps(self._typed_fields(self.work / "session.mp4")))
        program = [sys.executable, "-m", "benchmarks.second_render", str(request)]
        before = used_bytes()
        status, events, seconds = run_command(
            program, self._log("session"), self._left(), environment={CACHE_VARIABLE: str(self.kernels)}
        )
        if status == NO_SESSIONS:
            return {}
        renders = [_own_times([event for event in events if event["render"] == number]) for number in (1, 2)]
        return {
            "status": status,
            "seconds": [timings(render, seconds) for render in renders],
            "memory": {event["event"]: session_memory(event, before) for event in events if event["render"] == 0},
            "used_after_the_process": used_bytes() - before,
        }

    def _typed_fields(self, video: Path) -> dict[str, Any]:
        numbers = {"frames", "infer_frames", "steps"}
        fields: dict[str, Any] = self.fields(video)
        height, _, width = fields.pop("size").partition("x")
        return {
            **{name: int(value) if name in numbers else value for name, value in fields.items()},
            "height": int(height),
            "width": int(width),
        }

    def _log(self, name: str) -> Path:
        log: Path = self.options.results / f"full_size_{name.replace(' ', '_')}.log"
        return log

    def _left(self) -> float:
        return float(self.options.limit - (time.perf_counter() - self.begun))


def session_memory(event: Event, before: int) -> dict[str, int]:
    """Of the GPU in bytes, from a line of `benchmarks.second_render`; empty without one.

    Where `before` bytes were in use before the process, `process` is what it takes, its CUDA context included.
    """
    if "used" not in event:
        return {}
    return {"allocated": event["allocated"], "reserved": event["reserved"], "process": event["used"] - before}


def _own_times(events: Iterable[Event]) -> list[Event]:
    """Of a render among several in a process: since it was asked for."""
    return [{**event, "at": event["own"]} for event in events]


# the figures


def waits(first: Mapping[str, Any], again: Sequence[Mapping[str, Any]], session: Mapping[str, Any]) -> dict[str, str]:
    """The rows of the issue's table, in seconds."""

    def usual(name: str) -> str:
        return _median(run["seconds"][name] for run in again)

    second = session["seconds"][1] if session else None
    between = [value for run in again for value in run["seconds"]["between_clips"]]
    values = (
        usual("first_event"),
        usual("until_start"),
        usual("first_step"),
        _median([first["seconds"]["first_step"]]),
        "–" if second is None else f"{_median([second['first_step']])} (one step: {_median(second['step'].values())})",
        _median(between),
        usual("after_last_step"),
    )
    return dict(zip(GOALS, values, strict=True))


def _median(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    spread = f" ({min(known):.2f}–{max(known):.2f})" if len(known) > 1 else ""
    return f"{statistics.median(known):.2f}{spread}"


def details(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What else the last of the usual commands says."""
    run, written = figures["again"][-1], figures["checkpoint"]
    seconds = run["seconds"]
    yield "command ended with", str(run["status"])
    yield "frames in the video / asked for", f"{run['frames']} / {figures['frames_asked']}"
    yield "checkpoint", f"{written['bytes'] / 1e9:.1f} GB"
    for network, (begun, ended) in seconds["load"].items():
        yield f"{network} arrives", f"{begun:.2f} – {ended:.2f} s"
    for clip, value in seconds["step"].items():
        yield f"step, clip {clip} (median)", f"{_median([value])} s"
    yield "whole command", f"{seconds['total']:.2f} s"
    yield "the same, first run on the machine", f"{figures['first']['seconds']['total']:.2f} s"
    yield "peak device memory", f"{run['peak_device_bytes'] / GIB:.1f} GiB"
    yield "peak resident memory, mapped files included", f"{run['peak_resident_bytes'] / GIB:.1f} GiB"
    session = figures["session"]
    for when, found in session.get("memory", {}).items():
        told = ", ".join(f"{name} {value / GIB:.2f}" for name, value in found.items())
        yield f"GPU memory, session {when}", f"{told} GiB" if told else "–"
    if session:
        yield "GPU memory after its process", f"{session['used_after_the_process'] / GIB:.2f} GiB"


def tables(figures: Mapping[str, Any]) -> str:
    """Both, in Markdown."""
    rows = [f"| {name} | {GOALS[name]} | {value} |" for name, value in figures["waits"].items()]
    more = [f"| {name} | {value} |" for name, value in details(figures)]
    head = f"{figures['device']}, torch {figures['torch']}; `{figures['again'][-1]['command']}`"
    lines = [head, "", "| seconds | goal | measured |", "|---|---|---|", *rows, "", "| | |", "|---|---|", *more, ""]
    if figures["imports"]:
        imported = [f"| {name} | {value:.2f} |" for name, value in figures["imports"].items()]
        lines += ["| imports, by package | seconds |", "|---|---|", *imported, ""]
    return "\n".join(lines)


def imports() -> dict[str, float]:
    """Seconds that the slowest packages take to import, what they import of others not counted, and all together."""
    program = [sys.executable, "-X", "importtime", "-c", f"import {IMPORTED}"]
    begun = time.perf_counter()
    told = subprocess.run(program, capture_output=True, text=True, check=True).stderr
    seconds: Counter[str] = Counter()
    for own, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", told):
        seconds[name.partition(".")[0]] += int(own)
    slowest = {name: value / 1e6 for name, value in seconds.most_common(IMPORTS_SHOWN)}
    return {**slowest, f"python -c 'import {IMPORTED}'": time.perf_counter() - begun}


# the whole


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Write the checkpoint, run everything, put the figures together."""
    bench = Bench(options)
    written = bench.checkpoint()
    if options.warm_up:
        bench.warm_up()
    first = bench.run("first run")
    again = [bench.run(f"run {number}") for number in range(1, options.repeat + 1)]
    session = bench.session()
    return {
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else platform.processor() or "CPU",
        "torch": torch.__version__,
        "frames_asked": options.frames,
        "checkpoint": written,
        "first": first,
        "again": again,
        "session": session,
        "waits": waits(first, again, session),
        "imports": imports() if options.imports else {},
    }


def is_whole(figures: Mapping[str, Any]) -> bool:
    """Whether every command ended well with all frames."""
    runs = [figures["first"], *figures["again"]]
    videos = all(run["status"] == 0 and run["frames"] == figures["frames_asked"] for run in runs)
    return videos and figures["session"].get("status", 0) == 0


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Sizes and places."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="JSON file, or a checkpoint to imitate")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--folder", type=Path, required=True, help="where the checkpoint is, or is written (46 GB)")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--name", default="full_size", help="of the files with the results")
    parser.add_argument("--size", default="480x832")
    parser.add_argument("--frames", type=int, default=157)
    parser.add_argument("--infer-frames", type=int, default=80)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--precision")
    parser.add_argument("--attention")
    parser.add_argument("--memory")
    parser.add_argument("--repeat", type=int, default=1, help="commands with compiled kernels")
    parser.add_argument("--warm-up", action="store_true", help="read all files once before")
    parser.add_argument("--imports", action="store_true", help="add what Python imports, by package")
    parser.add_argument("--limit", type=float, default=540, help="seconds for everything; then the command is killed")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write results, print the tables; exit 1 unless every video is whole."""
    options = parse_options(arguments)
    figures = measure(options)
    (options.results / f"{options.name}.json").write_text(json.dumps(figures, indent=1))
    text = tables(figures)
    (options.results / f"{options.name}.md").write_text(text)
    print(f"\n{text}")
    if not is_whole(figures):
        for log in sorted(options.results.glob("full_size_*.log")):
            print(f"{log.name}:\n{log.read_text()[-2000:]}")
        sys.exit(1)


if __name__ == "__main__":
    main()
