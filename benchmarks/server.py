"""`soundreel serve` under kill -9 and under load, on this machine's loopback.

`python -m benchmarks.server kills [COUNT]`: the server and its workers are killed at random moments, 200 times unless
said otherwise, while jobs come and go. Every job ends once, in the frames of an undisturbed render, or it fails.

`python -m benchmarks.server load`: 200 clients that ask for a job's state once a second and 50 that listen to its
events, during a render: how long the answers take, and how much slower the render is. And a page of 10,000 waiting
jobs, which `listing` measures alone.
"""

import asyncio
import hashlib
import os
import random
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from soundreel.media.video import read_frames
from soundreel.server.database import Database
from soundreel.server.jobs import NewJob
from soundreel.server.queue import Queue
from soundreel.server.settings import Limits

T = TypeVar("T")

TUNE = Path(__file__).parents[1] / "examples" / "tune.flac"

JOB = {"size": "256x256", "sampling.infer_frames": 8, "window.frames": 77}
"""10 clips, a second or two."""

LONG_JOB = {"size": "480x832", "window.full": True}
"""The whole tune, about ten seconds."""

POLLING, LISTENING = 200, 50


class Served:
    """A server of drafts on a data folder; it may be killed and started again."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data, self._options = data, options
        self.sound = ""

    def start(self) -> None:
        """Start it, and wait until it listens."""
        words = ["serve", "--engine", "draft", "--port", "0", "--data", str(self.data), *self._options]
        self.process = subprocess.Popen([sys.executable, "-m", "soundreel", *words], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        said = ""
        for line in self.process.stderr:
            said += line
            if (found := re.search(r" at (http://[^,]+),", line)) is not None:
                break
        else:
            raise SystemExit(said)
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.address = found[1]
        self.client = httpx.Client(base_url=self.address, timeout=60)
        if not self.sound:
            self.sound = self.client.post("/v1/files", files={"file": TUNE.open("rb")}).json()["id"]

    def kill(self) -> None:
        """Kill -9."""
        self.client.close()
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """As Ctrl-C does."""
        self.client.close()
        self.process.send_signal(signal.SIGINT)
        self.process.wait()

    def create(self, **fields: Any) -> str:
        """A new job."""
        answer = self.client.post("/v1/videos", json={"audio": self.sound, **fields})
        return str(answer.raise_for_status().json()["id"])

    def job(self, job: str) -> dict[str, Any]:
        """How it is now."""
        found: dict[str, Any] = self.client.get(f"/v1/videos/{job}").raise_for_status().json()
        return found

    def ended(self, job: str) -> dict[str, Any]:
        """How it has ended."""
        return wait_for(lambda: found if (found := self.job(job))["ended_at"] else None)

    def worker_pids(self) -> list[int]:
        """Of the workers that are there."""
        workers = self.client.get("/v1/status").json()["workers"]
        return [worker["pid"] for worker in workers if worker["pid"] is not None]

    def digest(self, job: str) -> str:
        """Of all decoded frames of its video."""
        digest = hashlib.sha256()
        for frame in read_frames(self.data / "jobs" / job / "video.mp4"):
            digest.update(frame.data)
        return digest.hexdigest()


def wait_for(found: Callable[[], T | None]) -> T:
    """What it returns once it is anything."""
    end = time.monotonic() + 600
    while not (result := found()):
        if time.monotonic() > end:
            raise SystemExit("nothing came for ten minutes")
        time.sleep(0.05)
    return result


def kills(count: int = 200) -> None:
    """Kill again and again, and print what came of it."""
    chance = random.Random(count)
    with tempfile.TemporaryDirectory() as place:
        server = Served(Path(place) / "data", "--max-crashes", "1000", "--drafts", "2")
        server.start()
        first = server.create(**JOB)
        server.ended(first)
        expected, jobs = server.digest(first), [first]
        of_server = of_workers = 0
        while of_server + of_workers < count:
            while server.client.get("/v1/status").json()["jobs"]["queued"] < 2:
                jobs.append(server.create(**JOB))
            time.sleep(chance.uniform(0, 1.5))
            if chance.random() < 0.5:
                server.kill()
                server.start()
                of_server += 1
            elif pids := server.worker_pids():
                os.kill(chance.choice(pids), signal.SIGKILL)
                of_workers += 1
        for job in jobs:
            if (state := server.ended(job)["state"]) != "succeeded" or server.digest(job) != expected:
                raise SystemExit(f"{job} has {state}, or other frames")
        ends = _ends(server.data)
        if ends != dict.fromkeys(jobs, 1):
            raise SystemExit(f"not every job ended once: {ends}")
        left = [path for path in server.data.rglob("*") if path.name.startswith(("claim_", "arriving_"))]
        server.stop()
    print(f"{of_server} kills of the server, {of_workers} of workers")
    print(f"{len(jobs)} jobs: each ended once, in the same frames")
    print(f"left behind: {left or 'nothing'}")


def _ends(data: Path) -> dict[str, int]:
    """How often each job has ended."""
    with sqlite3.connect(data / "queue.db") as queue:
        rows = queue.execute(
            "SELECT jobs.id, count(*) FROM events JOIN jobs ON jobs.seq = events.job "
            "WHERE kind IN ('succeeded', 'failed', 'cancelled') GROUP BY jobs.id"
        )
        return dict(rows.fetchall())


def load() -> None:
    """Print what 200 polling and 50 listening clients wait for, and what they cost."""
    with tempfile.TemporaryDirectory() as place:
        server = Served(Path(place) / "data")
        server.start()
        alone = [server.ended(server.create(**LONG_JOB))["result"]["seconds"] for _ in range(3)]
        watched, waits, events = [], list[float](), 0
        for _ in range(3):
            job = server.create(**LONG_JOB)
            seconds, heard = asyncio.run(_watch(server.address, job))
            waits += seconds
            events += heard
            watched.append(server.ended(job)["result"]["seconds"])
        server.stop()
    waits.sort()
    print(f"{os.cpu_count()} cores; {POLLING} clients poll once a second, {LISTENING} listen")
    print(f"GET of a state: median {1e3 * statistics.median(waits):.1f} ms, ", end="")
    print(f"p99 {1e3 * waits[int(0.99 * len(waits))]:.1f} ms, worst {1e3 * waits[-1]:.1f} ms of {len(waits):,}")
    print(f"events heard: {events:,}")
    before, after = statistics.median(alone), statistics.median(watched)
    print(f"render: {before:.2f} s alone, {after:.2f} s watched, {after / before:.3f} times")
    listing()


async def _watch(address: str, job: str) -> tuple[list[float], int]:
    """Seconds of each answer while a job renders, and how many events were heard."""
    waits: list[float] = []
    heard = 0
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)

    async def poll(client: httpx.AsyncClient) -> None:
        await asyncio.sleep(random.random())
        while True:
            begun = time.perf_counter()
            answer = await client.get(f"/v1/videos/{job}")
            waits.append(time.perf_counter() - begun)
            if answer.json()["ended_at"]:
                return
            await asyncio.sleep(max(0.0, 1.0 - waits[-1]))

    async def listen(client: httpx.AsyncClient) -> None:
        nonlocal heard
        async with client.stream("GET", f"/v1/videos/{job}/events") as answer:
            async for line in answer.aiter_lines():
                heard += line.startswith("data: ")

    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        await asyncio.gather(*(poll(client) for _ in range(POLLING)), *(listen(client) for _ in range(LISTENING)))
    return waits, heard


def listing(jobs: int = 10_000) -> None:
    """Print what a page of so many waiting jobs takes over HTTP."""
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "data"
        server = Served(data, "--max-jobs", str(jobs + 10), "--drafts", "1")
        server.start()
        database = Database(data / "queue.db")
        queue = Queue(database)
        new = NewJob(
            engine="native", model="m", weights="w", fields={}, files={"audio": server.sound}, seconds=4.8,
            plan={"frames": 77, "fps": 16, "seconds": 4.8125, "clips": 1, "shots": []},
        )  # fmt: skip
        database.writer.execute("PRAGMA synchronous = OFF")
        for _ in range(jobs):
            queue.add(new, Limits(jobs=jobs + 1, waiting_seconds=float("inf")))
        database.close()
        seconds = []
        for _ in range(50):
            begun = time.perf_counter()
            server.client.get("/v1/videos?limit=100").raise_for_status()
            seconds.append(time.perf_counter() - begun)
        seconds.sort()
        server.stop()
    middle, worst = 1e3 * statistics.median(seconds), 1e3 * seconds[-1]
    print(f"{jobs:,} jobs wait: a page of 100 takes {middle:.1f} ms, {worst:.1f} ms at most of {len(seconds)} times")


if __name__ == "__main__":
    command, *numbers = sys.argv[1:] or ["load"]
    {"kills": kills, "load": load, "listing": listing}[command](*map(int, numbers))
