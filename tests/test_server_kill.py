"""Kill -9 of the server and of its workers at any moment: no job is lost, none done twice, all pictures the same."""

import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from media_files import quick_sound
from serving import LONG_JOB, Server, good, refused, wait_for
from soundreel.disk.processes import start_of
from soundreel.media.video import read_frames
from soundreel.pipeline import generate
from soundreel.request import Request


@pytest.fixture(scope="module")
def whole(tune: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The pictures of the long job, which nothing has stopped."""
    output = tmp_path_factory.mktemp("whole") / "a.mp4"
    fields = {"width": 128, "height": 128, "infer_frames": 8, "frames": LONG_JOB["window.frames"], "engine": "draft"}
    generate(Request(audio=tune, output=output, **fields))
    return [frame.tobytes() for frame in read_frames(output)]


IMPATIENT = """
import sys
from soundreel.__main__ import main
from soundreel.server.database import Database

sys.argv[0] = "soundreel"
Database.__init__.__kwdefaults__["busy_seconds"] = 0.2
main()
"""
"""A server that does not wait for who has locked its queue: here that is for longer than it would."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all: it is killed and started again."""
    data = tmp_path_factory.mktemp("kill") / "data"
    with Server(data, "--max-crashes", "2", program=("-c", IMPATIENT)) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_goes_on() -> None:
    """In place of the fixture that ends all processes after each test."""


def ends(server: Server, job: str) -> list[str]:
    """All ends that the queue has noted of a job."""
    with sqlite3.connect(server.data / "queue.db") as queue:
        rows = queue.execute(
            "SELECT kind FROM events WHERE job = (SELECT seq FROM jobs WHERE id = ?) "
            "AND kind IN ('succeeded', 'failed', 'cancelled')", (job,)
        )  # fmt: skip
        return [kind for (kind,) in rows]


def test_a_killed_worker_is_started_again_and_its_job_goes_on_at_its_last_clip(
    server: Server, tune: Path, whole: list[bytes]
) -> None:
    job = server.create(server.upload(tune), **LONG_JOB)["id"]
    server.stored(job, clips=3)
    server.kill_worker()
    running = wait_for(lambda: one if (one := server.get(job))["live"] and one["live"]["resumed"] else None)
    assert running["attempts"] == 2
    assert "clips" in running["live"]["resumed"]
    assert server.ended(job)["state"] == "succeeded"
    assert ends(server, job) == ["succeeded"]
    assert server.frames(job) == whole


def test_a_killed_server_goes_on_where_it_was_and_its_worker_ends(
    server: Server, tune: Path, whole: list[bytes]
) -> None:
    sound = server.upload(tune)
    first, second = (server.create(sound, **LONG_JOB)["id"] for _ in range(2))
    server.stored(first, clips=2)
    (worker,) = server.worker_pids()
    server.kill()
    server.start()
    wait_for(lambda: start_of(worker) is None)
    done = [server.ended(job) for job in (first, second)]
    assert [(job["state"], job["attempts"]) for job in done] == [("succeeded", 2), ("succeeded", 1)]
    for job in (first, second):
        assert ends(server, job) == ["succeeded"]
        assert server.frames(job) == whole


def test_a_job_whose_workers_die_fails_with_the_reason_and_the_next_one_is_done(server: Server, tune: Path) -> None:
    sound = server.upload(tune)
    job = server.create(sound, **{"size": "768x768", "window.frames": 77, "sampling.infer_frames": 80})["id"]
    for attempt in (1, 2):
        wait_for(lambda a=attempt: (one := server.get(job))["attempts"] == a and one["live"] and one["live"]["step"])
        server.kill_worker()
    failed = server.ended(job)
    assert (failed["state"], failed["error"]["code"]) == ("failed", "worker_crashed")
    assert failed["error"]["message"].startswith("the worker draft-1 was ended by SIGKILL")
    assert server.ended(server.create(sound)["id"])["state"] == "succeeded"
    assert ends(server, job) == ["failed"]


def test_a_stopped_server_gives_its_work_back_and_the_next_one_goes_on(
    server: Server, tune: Path, whole: list[bytes]
) -> None:
    job = server.create(server.upload(tune), **LONG_JOB)["id"]
    server.stored(job, clips=2)
    pids = server.worker_pids()
    assert server.stop() == 0
    assert not any(start_of(pid) for pid in pids)
    assert "Traceback" not in "".join(server.said)
    clips = server.stored_clips(job)
    assert 2 <= len(clips) < 10
    server.start()
    assert server.ended(job)["attempts"] == 2
    assert server.frames(job) == whole


def test_a_job_that_was_done_when_the_server_died_is_not_done_again(
    server: Server, tune: Path, whole: list[bytes]
) -> None:
    """The video has its name, and the queue does not know: killed between the two."""
    job = server.create(server.upload(tune), **LONG_JOB)["id"]
    server.ended(job)
    server.kill()
    with sqlite3.connect(server.data / "queue.db") as queue:
        queue.execute("UPDATE jobs SET state = 'running', result = NULL, ended_at = NULL WHERE id = ?", (job,))
        queue.execute(
            "DELETE FROM events WHERE kind = 'succeeded' AND job = (SELECT seq FROM jobs WHERE id = ?)", (job,)
        )
    queue.close()
    video = server.data / "jobs" / job / "video.mp4"
    before = video.stat()
    server.start()
    done = server.ended(job)
    assert (done["state"], done["result"]["frames"], done["attempts"]) == ("succeeded", len(whole), 2)
    assert ends(server, job) == ["succeeded"]
    assert (video.stat().st_ino, video.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert server.frames(job) == whole


def test_kills_at_random_moments_leave_each_job_done_once(tmp_path: Path, tune: Path, whole: list[bytes]) -> None:
    """Two of the server and two of its worker."""
    chance = random.Random(20)
    server = Server(tmp_path / "data", "--max-crashes", "100")
    server.start()
    sound = server.upload(tune)
    jobs = [server.create(sound, **LONG_JOB)["id"] for _ in range(2)]
    for kill in (server.kill, server.kill_worker) * 2:
        wait_for(server.worker_pids)
        time.sleep(chance.uniform(0, 1.2))  # whenever it comes
        if kill == server.kill:
            server.kill()
            server.start()
        else:
            for pid in server.worker_pids():
                os.kill(pid, signal.SIGKILL)
    for job in jobs:
        assert server.ended(job)["state"] == "succeeded"
        assert ends(server, job) == ["succeeded"]
        assert server.frames(job) == whole
    server.stop()
    assert not list((server.data / "uploads").glob("arriving_*"))


def test_a_worker_that_does_not_hear_is_ended(server: Server, tune: Path) -> None:
    job = server.create(server.upload(tune), **LONG_JOB)["id"]
    server.stored(job)
    (pid,) = server.worker_pids()
    os.kill(pid, signal.SIGSTOP)
    good(server.client.post(f"/v1/videos/{job}/cancel"))
    assert server.get(job)["is_stopping"]
    os.kill(pid, signal.SIGKILL)  # as the server does after a minute
    assert server.ended(job)["state"] == "cancelled"


def test_two_servers_never_have_the_same_data(server: Server) -> None:
    second = Server(server.data)
    with pytest.raises(AssertionError, match=f"process {server.process.pid}"):
        second.start()
    assert second.process.wait() == 2


def test_while_the_queue_is_locked_status_is_told_and_what_has_ended_is_noted_later(server: Server, tune: Path) -> None:
    sound = server.upload(tune)
    job = server.create(sound, **LONG_JOB)["id"]
    server.stored(job)
    lock = sqlite3.connect(server.data / "queue.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    wait_for((server.data / "jobs" / job / "video.mp4").exists)
    assert server.get(job)["state"] == "running"
    answer = server.client.post("/v1/videos", json={"audio": sound, "window.frames": 5})
    assert refused(answer, 503)["code"] == "busy"
    assert int(answer.headers["retry-after"]) > 0
    lock.execute("ROLLBACK")
    lock.close()
    assert server.ended(job)["state"] == "succeeded"
    assert ends(server, job) == ["succeeded"]


def test_a_job_that_cannot_be_written_fails_with_the_reason_and_others_go_on(tmp_path: Path, tune: Path) -> None:
    limit = 300_000  # bytes of a file: enough for the queue and small videos
    program = (
        "-c",
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "import sys; sys.argv[0] = 'soundreel'\n"
        "from soundreel.__main__ import main; main()",
    )
    server = Server(tmp_path / "data", program=program)
    with server:
        sound = server.upload(quick_sound(tune, tmp_path))
        job = server.create(sound, **{"size": "1024x1024", "window.frames": 32, "output.crf": 0})["id"]
        failed = server.ended(job)
        assert (failed["state"], failed["error"]["code"]) == ("failed", "media_error")
        assert "cannot write" in failed["error"]["message"]
        assert str(server.data) not in json.dumps(failed)
        assert server.ended(server.create(sound, **{"window.frames": 5})["id"])["state"] == "succeeded"
        large = tmp_path / "large.wav"
        large.write_bytes(b"RIFF" + bytes(2 * limit))
        with large.open("rb") as file:
            assert refused(server.client.post("/v1/files", files={"file": file}), 507)["code"] == "disk_full"
