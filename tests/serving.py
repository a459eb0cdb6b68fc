"""A server as a process of its own on a free port of this machine, and what asks it."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx

from command import HANGS_SECONDS, start
from soundreel.media.video import read_frames

T = TypeVar("T")

SMALL_JOB = {"size": "64x64", "sampling.infer_frames": 8, "window.frames": 35}
"""5 clips, drawn in well under a second."""

LONG_JOB = {"size": "128x128", "sampling.infer_frames": 8, "window.frames": 77}
"""10 clips, about a second."""


def wait_for(found: Callable[[], T], seconds: float = 120.0) -> T:
    """What `found` returns once it is anything."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.02)
    return result


class Server:
    """A server that may be killed and started again on the same data; a context manager."""

    def __init__(
        self, data: Path, *options: str, token: str | None = None, program: tuple[str, ...] = ("-m", "soundreel")
    ) -> None:
        self.data, self._options, self._token, self._program = data, options, token, program
        self.said: list[str] = []

    def start(self) -> None:
        words = ["serve", "--data", str(self.data), "--engine", "draft", "--port", "0", *self._options]
        self.process = start(*words, program=self._program)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r" at (http://[^,]+),", line):
                self.address = found[1]
                break
        else:
            raise AssertionError("".join(self.said))
        self._drain = threading.Thread(target=self.said.extend, args=(self.process.stderr,), daemon=True)
        self._drain.start()
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        self.client = httpx.Client(base_url=self.address, headers=headers, timeout=HANGS_SECONDS)

    def kill(self) -> None:
        """SIGKILL, and wait for the end of this process; its workers are on their own."""
        self.client.close()
        self.process.kill()
        self.process.wait()
        self._drain.join()

    def stop(self) -> int:
        """As Ctrl-C; returns the exit code."""
        self.client.close()
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(HANGS_SECONDS)
        self._drain.join()
        return code

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    # asking

    def upload(self, path: Path) -> str:
        with path.open("rb") as file:
            return good(self.client.post("/v1/files", files={"file": (path.name, file)}))["id"]

    def create(self, sound: str, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
        body = {**SMALL_JOB, "audio": sound, **fields}
        return good(self.client.post("/v1/videos", json=body, headers=headers))

    def get(self, job: str) -> dict[str, Any]:
        return good(self.client.get(f"/v1/videos/{job}"))

    def ended(self, job: str) -> dict[str, Any]:
        """The job once it has ended."""
        return wait_for(lambda: found if (found := self.get(job))["ended_at"] else None)

    def stored_clips(self, job: str) -> set[str]:
        """Names of its clips that are on the disk, whether the server has been told of them or not."""
        return {path.name for path in (self.data / "jobs" / job / "work").glob("clip_*.json")}

    def stored(self, job: str, clips: int = 1) -> None:
        """Wait until so many of its clips are on the disk, and it is not done."""
        wait_for(lambda: len(self.stored_clips(job)) >= clips)
        found = self.get(job)
        assert found["state"] == "running", found

    def worker_pids(self) -> list[int]:
        """Of the processes that the server has started."""
        workers = good(self.client.get("/v1/status"))["workers"]
        return [worker["pid"] for worker in workers if worker["pid"] is not None]

    def kill_worker(self) -> None:
        """SIGKILL the only one."""
        (pid,) = self.worker_pids()
        os.kill(pid, signal.SIGKILL)

    def frames(self, job: str) -> list[bytes]:
        """The decoded pictures of a finished job, as they are downloaded."""
        answer = self.client.get(f"/v1/videos/{job}/content")
        assert answer.status_code == 200, answer.text
        place = self.data.parent / "downloaded.mp4"
        place.write_bytes(answer.content)
        return [frame.tobytes() for frame in read_frames(place)]

    def events(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events as they come."""
        with self.client.stream("GET", path) as answer:
            assert answer.status_code == 200
            name = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))


def good(answer: httpx.Response) -> Any:
    """The body of an answer that is no error."""
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error of an answer that must be one."""
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["message"]
    assert error["code"]
    return error
