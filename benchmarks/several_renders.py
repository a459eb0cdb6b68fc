"""Whole commands on several GPUs of one host, beside the same on one of them: what a user types, at full size.

    python -m benchmarks.several_renders --manifest MANIFEST --tokenizer google/umt5-xxl --folder /tmp/s2v/models \
        [--gpus 2] [--parts one clips shots tokens kill] [--limit 300]

Parts, in this order, each with a time limit of its own (SECONDS):

- `one`: two clips that continue each other on the first GPU, and at the same time four shots of one clip on the
  second: what the others are compared with
- `clips`: the two clips on all GPUs, guidance apart, and tokens where there are more than two
- `shots`: the four shots, one on each GPU at a time
- `tokens`: one clip without guidance, its tokens apart
- `kill`: the two clips on all GPUs; the workers are killed by SIGKILL in the second clip, and the same command goes on
  with one GPU

Seconds are those from the beginning of the first step to the finished file, loads left out; where shots are rendered
by several processes, that of the one that loads slowest is in them. Frames are compared by their digest: guidance and
shots apart change none.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.card_files import write_form
from benchmarks.commands import Event, count_frames, run_command, timings, write_inputs
from soundreel.media.video import read_frames

SECONDS: Mapping[str, float] = {"one": 190, "clips": 110, "shots": 90, "tokens": 60, "kill": 60}
PARTS = tuple(SECONDS)

SHOT_FRAMES = 77
SHOTS = 4
CLIPS = ("--frames", "157", "--infer-frames", "80", "--steps", "8")
CUTS = (
    *("--frames", str(SHOTS * SHOT_FRAMES), "--infer-frames", "80"),
    *(word for k in range(1, SHOTS) for word in ("--cut", str(k * SHOT_FRAMES / 16))),
)


@dataclass(frozen=True)
class Bench:
    """The files, the commands and what they took."""

    options: argparse.Namespace
    begun: float = field(default_factory=time.monotonic)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds."""
        return float(self.options.limit - (time.monotonic() - self.begun))

    def command(self, name: str, *more: str) -> list[str]:
        """What a user would type."""
        folder: Path = self.options.work
        sound, picture = write_inputs(folder, SHOTS * SHOT_FRAMES / 16 + 1)
        given = ["generate", str(sound), "--ref-image", str(picture), "--engine", "native", "--models"]
        given += [str(self.options.folder), "--size", self.options.size, "--steps", str(self.options.steps)]
        given += [
            "--attention",
            self.options.attention,
            "-o",
            str(folder / f"{name}.mp4"),
            "--progress",
            "json",
            "--no-keep-work",
        ]
        return [sys.executable, "-m", "soundreel", *given, *more]

    def on(self, number: int) -> tuple[str, str]:
        """The option for one GPU."""
        return "--device", "cpu" if self.options.cpu else f"cuda:{number}"

    @property
    def on_all(self) -> tuple[str, ...]:
        """The options for all that are measured."""
        return ("--gpus", str(self.options.gpus), *(("--device", "cpu") if self.options.cpu else ()))

    def run(
        self, name: str, *more: str, limit: float, video: str = "", hear: Callable[[Event], bool] | None = None
    ) -> dict[str, Any]:
        """One command, what it took and what its frames are; it is noted and printed under its name."""
        video = video or name
        command = self.command(video, *more)
        log = self.options.results / f"several_{name.replace(' ', '_')}.log"
        status, events, total = run_command(command, log, min(limit, self.left), hear)
        path = self.options.work / f"{video}.mp4"
        seconds = timings(events, total)
        first = min((event["at"] for event in events if _is_step(event)), default=None)
        step = next(iter(seconds["step"].values()), None)
        ended = next((event["at"] for event in events if event["event"] == "result"), None)
        rendered = None if first is None or step is None or ended is None else ended - first + step
        figures = {
            "command": " ".join(command[1:]),
            "status": status,
            "frames": count_frames(path),
            "digest": digest(path),
            "rendered": rendered,
            "seconds": seconds,
            "rendered_clips": sorted({event["clip"] for event in events if _is_step(event)}),
        }
        self.figures[name] = figures
        steps = ", ".join(f"{value:.3f}" for value in seconds["step"].values() if value is not None)
        between = ", ".join(f"{value:.2f}" for value in seconds["between_clips"] if value is not None)
        print(
            f"{name}: status {status}, {figures['frames']} frames {figures['digest']}; from the first step on "
            f"{rendered and round(rendered, 2)} s; steps {steps} s; between clips {between} s; first step after "
            f"{first and round(first, 2)} s; whole command {total:.2f} s",
            flush=True,
        )
        if status not in (0, 5):
            print(log.read_text()[-1500:], flush=True)
        return figures

    def name(self, what: str) -> str:
        """What a command on all of them is called."""
        return f"{what} on {self.options.gpus}"

    def ratio(self, what: str) -> None:
        """Print how many times as fast all of them are."""
        one, several = f"{what} on one", self.name(what)
        first, second = (self.figures.get(name, {}) for name in (one, several))
        if first.get("rendered") and second.get("rendered"):
            equal = "equal" if first["digest"] == second["digest"] else "different"
            print(f"{several} / {one}: {first['rendered'] / second['rendered']:.3f} ×; frames {equal}", flush=True)


def _is_step(event: Event) -> bool:
    return event.get("stage") == "render" and bool(event.get("step"))


def digest(video: Path) -> str:
    """Of all frames; "" where there is none."""
    if not video.is_file():
        return ""
    found = hashlib.sha256()
    for frame in read_frames(video):
        found.update(frame.tobytes())
    return found.hexdigest()[:12]


def one(bench: Bench, limit: float) -> None:
    """Clips and shots, on a GPU each, at the same time."""
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(partial(bench.run, "clips on one", *CLIPS, *bench.on(0), limit=limit)),
            pool.submit(partial(bench.run, "shots on one", *CUTS, *bench.on(1), limit=limit)),
        ]
        for job in jobs:
            job.result()


def clips(bench: Bench, limit: float) -> None:
    """Guidance apart."""
    bench.run(bench.name("clips"), *CLIPS, *bench.on_all, limit=limit)
    bench.ratio("clips")


def shots(bench: Bench, limit: float) -> None:
    """Shots apart."""
    bench.run(bench.name("shots"), *CUTS, *bench.on_all, "--parallel", "shots", limit=limit)
    bench.ratio("shots")


def tokens(bench: Bench, limit: float) -> None:
    """Tokens apart, without guidance."""
    bench.run(bench.name("tokens"), "--frames", str(SHOT_FRAMES), "--guide-scale", "1", *bench.on_all, limit=limit)


def kill(bench: Bench, limit: float) -> None:
    """Workers are killed; another number of GPUs goes on."""
    killed: list[float] = []

    def hear(event: Event) -> bool:
        if (event.get("stage"), event.get("clip"), event.get("step")) == ("render", 2, 1) and not killed:
            killed.append(event["at"])
            for pid in workers():
                os.kill(pid, signal.SIGKILL)
        return False

    figures = bench.run("killed", *CLIPS, *bench.on_all, limit=limit, video="gone on with", hear=hear)
    if not killed:
        print("no worker was killed", flush=True)
        return
    gone = figures["seconds"]["total"] - killed[0]
    print(f"status {figures['status']} {gone:.2f} s after the worker was killed; left: {workers()}", flush=True)
    print((bench.options.results / "several_killed.log").read_text()[-400:], flush=True)
    figures = bench.run("gone on with", *CLIPS, *bench.on(0), limit=limit)
    print(f"clips rendered by it: {figures['rendered_clips']}", flush=True)


def workers() -> list[int]:
    """Ranks whose first process this one has started."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    ranks = [pid for pid in pids if "spawn_main" in _of(Path(f"/proc/{pid}/cmdline"))]
    return [pid for pid in ranks if _parent(_parent(pid)) == os.getpid()]


def _parent(pid: int) -> int:
    words = _of(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return int(words[1]) if words else 0


def _of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Places and sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with spiece.model and tokenizer.json")
    parser.add_argument("--folder", type=Path, required=True, help="where the files are, or are written")
    parser.add_argument("--form", default="comfy_fp8", help="of the files")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--size", default="480x832")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--attention", default="fp8")
    parser.add_argument("--limit", type=float, default=480, help="seconds for everything")
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--cpu", action="store_true", help="processes on a CPU instead, to try it out")
    options = parser.parse_args(arguments)
    options.work = options.folder.with_name(f"{options.folder.name}_several")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files if they are not there, and run the parts there is time for."""
    options = parse_options(arguments)
    bench = Bench(options)
    options.results.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    if not options.folder.is_dir():
        write_form(options.form, options.folder, options.manifest, options.tokenizer)
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    written = options.limit - bench.left
    print(f"{torch.cuda.device_count()} × {name}, torch {torch.__version__}; files in {written:.0f} s", flush=True)
    parts: Mapping[str, Callable[[Bench, float], None]] = {
        "one": one, "clips": clips, "shots": shots, "tokens": tokens, "kill": kill,
    }  # fmt: skip
    for part in options.parts:
        if bench.left < SECONDS[part] / 2:
            print(f"{part}: left out, {bench.left:.0f} s are left", flush=True)
            continue
        parts[part](bench, SECONDS[part])
        (options.results / "several_renders.json").write_text(json.dumps(bench.figures, indent=1))
        print(f"{bench.left:.0f} s are left", flush=True)


if __name__ == "__main__":
    main()
