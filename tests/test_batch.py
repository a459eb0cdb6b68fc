"""`soundreel batch` on Ray: what is killed is gone on with, every video appears once, and whole."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from command import HANGS_SECONDS, start
from conftest import EXAMPLES
from draft_renders import frames_of
from event_schema import OF_A_BATCH, kinds_of

pytest.importorskip("ray", reason="the packages of soundreel[batch] are not here")

TUNE = EXAMPLES / "tune.flac"
SMALL = {"audio": str(TUNE), "engine": "draft", "width": 64, "height": 64, "infer_frames": 8}
LONG = {"frames": 77, "infer_frames": 4}
"""A row of many clips, so that it is killed in the middle."""

LOCAL = ("--cpus", "2", "--cpus-each", "1", "--progress", "json")


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(SMALL | row) + "\n" for row in rows))
    return path


def results_of(output: Path) -> list[dict[str, Any]]:
    path = output / "results.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def wait_for(holds: Callable[[], Any], process: "subprocess.Popen[str]") -> Any:
    """What `holds` returns once that is something; fails where the command ends before."""
    end = time.monotonic() + HANGS_SECONDS
    while not (found := holds()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def below(pid: int) -> Iterator[int]:
    """All processes that a process has begun, and those that they have."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            yield int(entry.name)
            yield from below(int(entry.name))


def rendering(pid: int) -> list[int]:
    """The processes of a driver's actors that have a row in hand."""
    found = []
    for child in below(pid):
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"ray::Worker.render" in words:
            found.append(child)
    return found


SERIAL = """
import json, sys
from soundreel import Request, generate
for row in json.loads(sys.argv[1]):
    generate(Request(**row))
"""


def render_serially(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Make the videos of rows without any batch, in a process with as many threads as an actor has."""
    asked = [SMALL | row | {"output": str(folder / f"{row['id']}.mp4")} for row in rows]
    for row in asked:
        del row["id"]
    process = start(json.dumps(asked), program=("-c", SERIAL), env=os.environ | {"OMP_NUM_THREADS": "1"})
    _, told = process.communicate(timeout=HANGS_SECONDS)
    assert process.returncode == 0, told


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
def test_whatever_is_stopped_or_killed_every_video_is_there_once_and_whole(tmp_path: Path) -> None:
    rows = [{"id": "long", **LONG}, *({"id": f"short {k}", "frames": 9, "seed": k} for k in range(2))]
    rows.append({"id": "second long", **LONG, "seed": 9})
    manifest, output = write(tmp_path, *rows), tmp_path / "out"
    words = ("batch", manifest, "--output-dir", output, *LOCAL)

    stopped = start(*words[:-2])
    wait_for(lambda: list(output.glob(".soundreel/*/clip_*.json")), stopped)
    children = list(below(stopped.pid))
    stopped.send_signal(signal.SIGINT)
    _, told = stopped.communicate(timeout=HANGS_SECONDS)
    assert stopped.returncode == 130
    assert told.splitlines()[-1].startswith("soundreel: cancelled, 0 of 4 videos are there, the same command goes on")
    wait_until_gone(children, b"ray")

    first = start(*words)
    wait_for(lambda: list(output.glob(".soundreel/*/clip_*.json")), first)
    os.kill(wait_for(lambda: rendering(first.pid), first)[0], signal.SIGKILL)
    wait_for(lambda: len(results_of(output)) >= 2, first)
    children = list(below(first.pid))
    first.kill()
    out, _ = first.communicate()
    assert all(name.endswith(".mp4") for name in out.splitlines()), "nothing of Ray's, though a worker died"
    made = {line["id"]: Path(line["path"]).stat().st_mtime_ns for line in results_of(output)}
    assert len(made) >= 2

    second = start(*words)
    _, told = second.communicate(timeout=HANGS_SECONDS)
    assert second.returncode == 0, told
    assert kinds_of(map(json.loads, told.splitlines())) == OF_A_BATCH - {"remark"}
    lines = results_of(output)
    assert Counter(line["id"] for line in lines) == Counter(row["id"] for row in rows)
    assert all(line["state"] in {"made", "found"} for line in lines)
    assert {name: (output / f"{name}.mp4").stat().st_mtime_ns for name in made} == made
    assert sorted(path.name for path in output.iterdir()) == sorted(
        ["results.jsonl", *(f"{row['id']}.mp4" for row in rows)]
    )
    render_serially(tmp_path, rows)
    for row in rows:
        assert frames_of(output / f"{row['id']}.mp4") == frames_of(tmp_path / f"{row['id']}.mp4"), row["id"]
    wait_until_gone(children, b"ray::Worker", b"raylet/raylet")  # Ray's agents of a killed driver end later
    for pid in children:
        if b"ray" in _words(pid):
            os.kill(pid, signal.SIGKILL)


def wait_until_gone(pids: list[int], *words: bytes) -> None:
    """None of these processes whose command lines have one of the words outlives its driver by long."""
    end = time.monotonic() + HANGS_SECONDS
    while left := [_words(pid) for pid in pids if any(word in _words(pid) for word in words)]:
        assert time.monotonic() < end, left
        time.sleep(0.1)


def _words(pid: int) -> bytes:
    """The command line of a process; none of one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
