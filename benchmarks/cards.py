"""Whole commands on cards of every size: what `--memory` promises, proven as a card is met.

    python -m benchmarks.cards --manifest MANIFEST --tokenizer google/umt5-xxl --folder /tmp/s2v \
        --cells comfy_fp8:832x1216:161:24gb comfy_fp8:832x1216:161:16gb:guide=1

A cell is FORM:SIZE:FRAMES:CAP[:OPTION=VALUE…]. A second process holds the rest of the GPU's memory, so that the cap is
all there is: PyTorch's own fraction counts neither context nor libraries. Each command renders with one step a clip,
loading included, and the table says what the plan had foreseen beside what was taken of the GPU and of the host (`host`
is resident at the peak, pages of mapped files included, `locked` page-locked of it). With `steps=N` the column `step`
has the time of a step alone. `kill=inside` and `kill=between` kill the command after the first step of its second clip,
or after the last of its first, and give the same command again; `take=inside` and `take=between` let another process
take what is free of the GPU's memory then, all but 256 MiB. `--draw 8 --seed 1` adds cells at random.
"""

import argparse
import functools
import hashlib
import json
import math
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from benchmarks.card_files import write_form
from benchmarks.commands import Event, count_frames, run_command, timings, write_inputs
from soundreel.cli.app import app
from soundreel.cli.guard import guard
from soundreel.engines.native import clips, engine, networks
from soundreel.engines.native.clips import ClipDecoder, ClipSampler
from soundreel.engines.native.vae import Vae
from soundreel.media.video import read_frames
from soundreel.request import memory_bytes
from soundreel.weights.streaming import LockedMemory

GIB = 2**30
HOLD_STEP = 64 * 2**20
LEFT_WHEN_TAKEN = 256 * 2**20
TAKEN = "taken"
"""What the holding process says when it has taken more."""

PEAKS_VARIABLE = "SOUNDREEL_BENCHMARK_PEAKS"
"""Names the file that a measured command writes its own peaks to."""

FLAGS = {"guide": "--guide-scale", "precision": "--precision", "attention": "--attention", "infer": "--infer-frames"}
"""Options of the command by their names in a cell."""

DRAWN_SIZES = ("480x832", "640x960", "704x1024", "832x480", "1024x704", "832x1216")
DRAWN_FRAMES = (45, 77, 109, 161)
DRAWN_CAPS = ("12gb", "14gb", "16gb", "20gb", "24gb", "32gb")
DRAWN_OPTIONS: Sequence[Mapping[str, str]] = (
    {},
    {},
    {"guide": "1"},
    {"pose": "1"},
    {"infer": "48"},
    {"attention": "fp8"},
)


@dataclass(frozen=True)
class Cell:
    """One command."""

    form: str
    size: str
    frames: int
    cap: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Cell":
        form, size, frames, cap, *options = text.split(":")
        pairs = dict(option.split("=", 1) for option in options)
        return cls(form, size, int(frames), cap, pairs)

    @property
    def steps(self) -> int:
        """Of a clip."""
        return int(self.options.get("steps", 1))

    @property
    def says(self) -> str:
        more = "".join(f", {name} {value}" for name, value in self.options.items())
        return f"{self.form} {self.size} × {self.frames} under {self.cap}{more}"

    def command(self, folder: Path, video: Path) -> list[str]:
        sound, picture = write_inputs(video.parent, self.frames / 16 + 1)
        words = ["generate", str(sound), "--ref-image", str(picture), "--engine", "native", "--models", str(folder)]
        words += ["--size", self.size, "--frames", str(self.frames), "--steps", str(self.steps), "-o", str(video)]
        words += ["--memory", "auto" if self.options.get("memory") == "auto" else self.cap]
        for name, flag in FLAGS.items():
            words += [flag, self.options[name]] if name in self.options else []
        if "pose" in self.options:
            words += ["--pose-video", str(write_pose_video(video.parent, self.size, self.frames))]
        return [*words, "--no-keep-work", "--progress", "json"]

    def is_moment(self, option: str, event: Event) -> bool:
        """Whether now is what the option `kill` or `take` names."""
        where = {"inside": (2, 1), "between": (1, self.steps)}.get(self.options.get(option, ""))
        return event.get("stage") == "render" and (event.get("clip"), event.get("step")) == where


def draw_cells(count: int, seed: int) -> list[Cell]:
    """Cells that nobody chose."""
    draw = random.Random(seed)
    return [
        Cell("comfy_fp8", *(draw.choice(part) for part in (DRAWN_SIZES, DRAWN_FRAMES, DRAWN_CAPS, DRAWN_OPTIONS)))  # type: ignore[arg-type]
        for _ in range(count)
    ]


def write_pose_video(folder: Path, size: str, frames: int) -> Path:
    """A bar that swings, at 16 frames per second."""
    width, height = (int(side) for side in size.split("x"))
    path = folder / "pose.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for j in range(frames):
            picture = np.zeros((height, width, 3), dtype=np.uint8)
            middle = round(width * (0.5 + 0.3 * math.sin(j / 5)))
            picture[height // 4 : -height // 4, middle - 20 : middle + 20] = (255, 120, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@contextmanager
def held(free: int | None) -> Iterator["Watch"]:
    """Hold all of the GPU's memory but `free` bytes in a process of its own, and watch what is taken of them."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.cards", "--hold", str(free or 0)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    watch = Watch(process)
    assert process.stdin is not None
    try:
        yield watch
    finally:
        process.stdin.close()
        process.wait()


class Watch:
    """The least that was free while a command ran, as the holding process saw it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        self._lines, self._orders = process.stdout, process.stdin
        self.begin = int(self._lines.readline())
        self.least = self.begin
        self.is_taken = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def take(self) -> None:
        """Let the holding process take what is free now; it goes on as soon as that is taken."""
        self._orders.write("take\n")
        self._orders.flush()
        self.is_taken.wait(60)

    def _listen(self) -> None:
        for line in self._lines:
            if line.strip() == TAKEN:
                self.is_taken.set()
            else:
                self.least = min(self.least, int(line))


def hold(free: int) -> None:
    """Take memory until no more than `free` bytes are left (0: take none), then tell what is free until stdin ends."""
    blocks: list[Tensor] = []
    if free:
        take_memory(blocks, free)
    print(torch.cuda.mem_get_info()[0], flush=True)
    gone = threading.Event()

    def obey() -> None:
        for _ in sys.stdin:
            take_memory(blocks, LEFT_WHEN_TAKEN)
            print(TAKEN, flush=True)
        gone.set()

    threading.Thread(target=obey, daemon=True).start()
    least = torch.cuda.mem_get_info()[0]
    held = len(blocks)
    while not gone.wait(0.02):
        now = torch.cuda.mem_get_info()[0]
        if now < least and len(blocks) == held:  # what was taken since is no command's
            least = now
            print(least, flush=True)


def take_memory(blocks: list[Tensor], free: int) -> None:
    """Allocate until no more than `free` bytes of the GPU's memory are left."""
    while torch.cuda.mem_get_info()[0] > free + HOLD_STEP:
        blocks.append(torch.empty(min(torch.cuda.mem_get_info()[0] - free, GIB), dtype=torch.uint8, device="cuda"))


class PhasePeaks:
    """The most that PyTorch has allocated in each phase of a render, by wrapping what the engine calls."""

    def __init__(self) -> None:
        self.allocated: dict[str, int] = {}
        self.reserved = 0

    def watch(self, owner: Any, name: str, phase: str) -> None:
        """Measure every call of a function or method."""
        work = getattr(owner, name)

        @functools.wraps(work)
        def measured(*arguments: Any, **options: Any) -> Any:
            self.note("between")
            try:
                return work(*arguments, **options)
            finally:
                self.note(phase)

        setattr(owner, name, measured)

    def note(self, phase: str) -> None:
        """What was allocated at most since the note before belongs to a phase."""
        if torch.cuda.is_available():
            self.allocated[phase] = max(self.allocated.get(phase, 0), torch.cuda.max_memory_allocated())
            self.reserved = max(self.reserved, torch.cuda.max_memory_reserved())
            torch.cuda.reset_peak_memory_stats()


def count_locked(counts: list[int]) -> None:
    """Add to `counts` what is page-locked from now on for blocks that are streamed."""
    lock = LockedMemory.__init__

    def counted(self: LockedMemory, buffers: Iterable[Tensor]) -> None:
        lock(self, buffers)
        counts.append(self.nbytes)

    LockedMemory.__init__ = counted  # type: ignore[method-assign]


def child(arguments: Sequence[str]) -> None:
    """The command itself, in this process, so that PyTorch's own peaks can be read after it."""
    peaks, locked = PhasePeaks(), list[int]()
    count_locked(locked)
    peaks.watch(engine, "prepare_scene", "scene")
    peaks.watch(networks, "load_transformer", "load")
    peaks.watch(ClipSampler, "_conditions", "condition")
    peaks.watch(clips, "sample", "steps")
    peaks.watch(ClipDecoder, "decode", "decode")
    peaks.watch(Vae, "encode", "encode")
    sys.argv = ["soundreel", *arguments]
    try:
        guard(app)
    finally:
        peaks.note("between")
        staging = torch.cuda.host_memory_stats().get("allocated_bytes.peak", 0) if torch.cuda.is_available() else 0
        told = {
            "allocated": max(peaks.allocated.values(), default=0),
            "phases": peaks.allocated,
            "reserved": peaks.reserved,
            "resident": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "locked": sum(locked) + staging,
        }
        Path(os.environ[PEAKS_VARIABLE]).write_text(json.dumps(told))


def frames_digest(video: Path) -> str:
    """The same for the same pictures; "" where there are none."""
    if not video.is_file():
        return ""
    digest = hashlib.sha256()
    for frame in read_frames(video):
        digest.update(frame.tobytes())
    return digest.hexdigest()[:12]


def run_cell(cell: Cell, options: argparse.Namespace, limit: float) -> dict[str, Any]:
    """Plan and render a cell; everything that the table says of it."""
    video = options.folder.with_name("cell.mp4")
    video.unlink(missing_ok=True)
    peaks_file = options.folder.with_name("peaks.json")
    peaks_file.unlink(missing_ok=True)
    words = cell.command(options.folder, video)
    os.environ[PEAKS_VARIABLE] = str(peaks_file)
    log = options.results / "cards.log"
    with held(memory_bytes(cell.cap)) as watch:
        arguments = [sys.executable, "-m", "benchmarks.cards", "--child", *words]
        if "kill" in cell.options:
            run_command(arguments, log, limit, partial(cell.is_moment, "kill"))

        def take(event: Event) -> bool:
            if cell.is_moment("take", event):
                watch.take()
            return False

        status, events, seconds = run_command(arguments, log, limit, take)
    peaks = json.loads(peaks_file.read_text()) if peaks_file.exists() else {}
    started = next((event for event in events if event["event"] == "start"), {})
    return {
        "cell": cell.says,
        "status": status,
        "mode": started.get("memory", ""),
        "plan": started.get("memory_bytes"),
        "host_plan": started.get("host_memory_bytes"),
        "device_peak": watch.begin - watch.least,
        **peaks,
        "frames": count_frames(video),
        "digest": frames_digest(video),
        "frames_asked": cell.frames,
        "seconds": timings(events, seconds),
        "said": "" if status == 0 and "take" not in cell.options else log.read_text()[-600:],
    }


COLUMNS = (
    *("cell", "exit", "mode", "plan GB", "allocated", "reserved", "device", "host plan", "host", "locked"),
    *("first steps", "step", "last step to file", "frames", "digest"),
)


def row(figures: Mapping[str, Any]) -> str:
    """A line of the table."""
    seconds = figures["seconds"]
    steps = [value for value in seconds["before_first_step"].values() if value is not None]
    cells = [
        figures["cell"],
        str(figures["status"]),
        figures["mode"],
        *(
            f"{figures[name] / 1e9:.2f}" if figures.get(name) else "–"
            for name in ("plan", "allocated", "reserved", "device_peak", "host_plan", "resident", "locked")
        ),
        " ".join(f"{value:.1f}" for value in steps),
        " ".join(f"{value:.2f}" for value in seconds["step"].values() if value is not None) or "–",
        "–" if seconds["after_last_step"] is None else f"{seconds['after_last_step']:.1f}",
        f"{figures['frames']}/{figures['frames_asked']}",
        figures["digest"],
    ]
    return f"| {' | '.join(cells)} |"


def parse_options() -> argparse.Namespace:
    """Cells and places."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="folder with spiece.model and tokenizer.json")
    parser.add_argument("--folder", type=Path, help="where checkpoints are written, one form at a time")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--cells", nargs="*", type=Cell.parse, default=[])
    parser.add_argument("--draw", type=int, default=0, metavar="N", help="more cells, at random")
    parser.add_argument("--seed", type=int, default=1, help="of the cells that are drawn")
    parser.add_argument("--limit", type=float, default=560, help="seconds for everything")
    parser.add_argument("--hold", type=int)
    parser.add_argument("--child", nargs=argparse.REMAINDER)
    return parser.parse_args()


def main() -> None:
    """Run the cells, print a line for each as soon as it is known."""
    options = parse_options()
    if options.hold is not None:
        return hold(options.hold)
    if options.child is not None:
        return child(options.child)
    begun = time.perf_counter()
    options.results.mkdir(parents=True, exist_ok=True)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    written = ""
    found = []
    for cell in [*options.cells, *draw_cells(options.draw, options.seed)]:
        left = options.limit - (time.perf_counter() - begun)
        if left < 60:
            print(f"| {cell.says} | not run |", flush=True)
            continue
        if cell.form != written and not (options.folder / f".{cell.form}").exists():
            shutil.rmtree(options.folder, ignore_errors=True)
            write_form(cell.form, options.folder, options.manifest, options.tokenizer)
            (options.folder / f".{cell.form}").touch()
        written = cell.form
        figures = run_cell(cell, options, left - 20)
        found.append(figures)
        print(row(figures), flush=True)
        phases = figures.get("phases", {})
        print("    " + ", ".join(f"{name} {size / 1e9:.2f}" for name, size in phases.items()), flush=True)
        if figures["said"]:
            print(f"    {figures['said']}", flush=True)
        (options.results / "cards.json").write_text(json.dumps(found, indent=1))
    return None


if __name__ == "__main__":
    main()
