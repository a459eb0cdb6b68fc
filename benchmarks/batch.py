"""A batch on a cluster of three Ray nodes on this machine: workers killed at random, a node removed and another added.

`python -m benchmarks.batch [DRAFTS] [NATIVE MODELS SOUND]`: 100 draft rows, and as many native ones of the model in a
folder, on the CPU. Every video must be there once, with the frames of a serial run, and nothing beside it, or it fails.
`python -m benchmarks.batch memory [ROWS]`: what reading and keeping so many rows takes of the driver's memory.
`python -m benchmarks.batch workers [ROWS]`: drafts by one worker and by two, a core each, and what is beside a render.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.kill import frames_digest
from soundreel.batch.manifest import Row, read_manifest
from soundreel.batch.rows import Rows

TUNE = Path(__file__).parents[1] / "examples" / "tune.flac"
SERIAL = """
import json, sys
from soundreel import Session, Request
with Session() as session:
    for line in open(sys.argv[1]):
        row = json.loads(line)
        name = row.pop("id")
        session.generate(Request(**row, output=f"{sys.argv[2]}/{name}.mp4"))
"""


@dataclass
class Figures:
    """What was measured of a batch."""

    rows: int
    serial_seconds: float = 0.0
    seconds: float = 0.0
    rendering_seconds: float = 0.0  # of all tries that made a video
    kills: int = 0
    tries: Counter[int] = field(default_factory=Counter)
    driver_mib: list[float] = field(default_factory=list)  # each second

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.rows} rows, {self.kills} workers killed, a node removed and one added:"
        yield "each video is there once, with the frames of a serial run, and nothing beside it"
        yield f"serial run {self.serial_seconds:.1f} s, batch {self.seconds:.1f} s"
        yield f"in the renders themselves {self.rendering_seconds:.1f} s, those that were killed left out"
        yield f"tries: {dict(sorted(self.tries.items()))}"
        half = len(self.driver_mib) // 2
        early, late = max(self.driver_mib[:half] or [0]), max(self.driver_mib[half:] or [0])
        yield f"driver: at most {early:.0f} MiB in the first half, {late:.0f} MiB in the second"


def write_rows(path: Path, drafts: int, native: int, models: str, sound: str) -> list[str]:
    """A manifest; returns the ids."""
    small = {"width": 64, "height": 64}
    rows: list[dict[str, Any]] = [
        {"id": f"draft {k}", "audio": str(TUNE), "engine": "draft", "frames": 17 + 4 * (k % 5), "infer_frames": 8}
        | {"seed": k}
        for k in range(drafts)
    ]
    rows += [
        {"id": f"native {k}", "audio": sound, "engine": "native", "device": "cpu", "models": models, "frames": 9}
        | {"infer_frames": 8, "steps": 1, "seed": k}
        for k in range(native)
    ]
    path.write_text("".join(json.dumps(small | row) + "\n" for row in rows))
    return [row["id"] for row in rows]


def rendering() -> list[int]:
    """Processes of actors that have a row in hand."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::Worker.render" in place.read_bytes() and place.stat().st_uid == os.getuid():
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


def descends_from(pid: int, above: int) -> bool:
    """Whether a process was begun by another, or by one that it has begun."""
    while pid > 1:
        if pid == above:
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


def done(output: Path) -> list[dict[str, Any]]:
    """The results so far."""
    path = output / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def disturb(cluster: Any, node: Any, output: Path, figures: Figures, process: "subprocess.Popen[bytes]") -> None:
    """Kill workers at random while the batch runs, no more than one for ten rows; take a node and give another."""
    chance, most = random.Random(0), max(1, figures.rows // 10)
    while process.poll() is None:
        time.sleep(0.2)
        ended = len(done(output))
        with_rows = [pid for pid in rendering() if descends_from(pid, os.getpid())]
        if with_rows and figures.kills < most and chance.random() < 0.3:
            os.kill(chance.choice(with_rows), signal.SIGKILL)
            figures.kills += 1
        if node is not None and ended >= figures.rows // 3:
            cluster.remove_node(node, allow_graceful=False)
            cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
            node = None


def resident_mib(pid: int) -> float:
    """Of a process, what it has of the host's memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def watch(process: "subprocess.Popen[bytes]", figures: Figures) -> None:
    """Note the memory of the driver each second."""
    while process.poll() is None:
        try:
            figures.driver_mib.append(resident_mib(process.pid))
        except OSError:
            return
        time.sleep(1)


def run(drafts: int = 100, native: int = 0, models: str = "", sound: str = "") -> Figures:
    """Render the rows serially and as a batch; `SystemExit` where the batch has not made the same, once each."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    store = {"object_store_memory": 80 * 2**20}
    with tempfile.TemporaryDirectory() as place:
        manifest, output, serial = Path(place) / "rows.jsonl", Path(place) / "out", Path(place) / "serial"
        ids = write_rows(manifest, drafts, native, models, sound)
        figures = Figures(rows=len(ids))
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", SERIAL, str(manifest), str(serial)], env=environment, check=True)
        figures.serial_seconds = time.perf_counter() - begun
        cluster = import_module("ray.cluster_utils").Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **store}
        )
        try:
            node = cluster.add_node(num_cpus=1, **store)
            cluster.add_node(num_cpus=1, **store)
            words = ["batch", str(manifest), "--output-dir", str(output), "--address", cluster.address]
            options = ["--cpus-each", "1", "--no-keep-work", "--tries", "10", "--quiet"]
            begun = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "soundreel", *words, *options], env=environment, stdout=subprocess.DEVNULL
            )
            threading.Thread(target=watch, args=(process, figures), daemon=True).start()
            disturb(cluster, node, output, figures, process)
            figures.seconds = time.perf_counter() - begun
        finally:
            cluster.shutdown()
        results = done(output)
        if process.returncode:
            raise SystemExit(f"the batch ended with {process.returncode}: {[r for r in results if 'reason' in r]}")
        check(ids, results, output, serial)
        figures.rendering_seconds = sum(result["seconds"] for result in results)
        figures.tries = Counter(result["tries"] for result in results)
        return figures


def check(ids: Sequence[str], results: Sequence[dict[str, Any]], output: Path, serial: Path) -> None:
    """`SystemExit` unless every video is there once, as a serial run makes it, and nothing beside it."""
    if Counter(result["id"] for result in results) != Counter(ids):
        raise SystemExit("a row has no result, or two")
    left = {path.name for path in output.iterdir()} - {f"{name}.mp4" for name in ids} - {"results.jsonl"}
    if left:
        raise SystemExit(f"beside the videos there is {left}")
    for name in ids:
        if frames_digest(output / f"{name}.mp4") != frames_digest(serial / f"{name}.mp4"):
            raise SystemExit(f"{name} has other frames than a serial run")


def seconds_of(rows: int, workers: int) -> tuple[float, float]:
    """What a batch of drafts took by so many workers, a core each, and what its renders took."""
    with tempfile.TemporaryDirectory() as place:
        manifest, output = Path(place) / "rows.jsonl", Path(place) / "out"
        write_rows(manifest, rows, 0, "", "")
        words = ["batch", str(manifest), "--output-dir", str(output), "--cpus", str(workers), "--cpus-each", "1"]
        command = [sys.executable, "-m", "soundreel", *words, "--json", "--quiet"]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return json.loads(told)["seconds"], sum(result["seconds"] for result in done(output))


def workers(rows: int = 60, few: int = 10) -> None:
    """Print what rows take that one worker renders, and two; what `few` of them take is left out, for the start."""
    took = {}
    for count in (1, 2):
        (all_seconds, all_rendering), (few_seconds, few_rendering) = (seconds_of(size, count) for size in (rows, few))
        took[count] = all_seconds - few_seconds
        if count == 1:
            beside = (took[1] - (all_rendering - few_rendering)) / (rows - few)
    print(f"{rows - few} drafts: one worker {took[1]:.1f} s, two {took[2]:.1f} s: {took[1] / took[2]:.2f} times")
    print(f"beside its render a row took {1000 * beside:.1f} ms; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


def memory(rows: int = 10_000) -> None:
    """Print what reading and keeping rows takes."""
    with tempfile.TemporaryDirectory() as place, Rows() as kept:
        path = Path(place) / "rows.jsonl"
        write_rows(path, rows, 0, "", "")
        tracemalloc.start()
        begun = time.perf_counter()
        for row in read_manifest(path):
            assert isinstance(row, Row)
            kept.add(row)
        held, most = (size / 2**20 for size in tracemalloc.get_traced_memory())
        seconds = time.perf_counter() - begun
        print(f"{rows:,} rows: {seconds:.1f} s to check (traced), {held:.2f} MiB held, {most:.2f} at most")


def main(words: Sequence[str]) -> None:
    """Print what was measured."""
    match list(words):
        case ["memory", *rows]:
            memory(*map(int, rows))
        case ["workers", *rows]:
            workers(*map(int, rows))
        case [drafts, native, models, sound]:
            places = (str(Path(place).resolve()) for place in (models, sound))
            print("\n".join(run(int(drafts), int(native), *places).lines()))
        case [drafts]:
            print("\n".join(run(int(drafts)).lines()))
        case _:
            print("\n".join(run().lines()))


if __name__ == "__main__":
    main(sys.argv[1:])
