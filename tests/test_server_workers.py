"""Workers of a server: several for one job, models that stay loaded and go when nobody needs them, other engines."""

import sqlite3
from pathlib import Path

import pytest

from comfyui_server import ContractServer
from comfyui_server.nodes import object_info
from serving import LONG_JOB, Server, good, wait_for
from soundreel.media.video import read_frames
from soundreel.pipeline import generate
from soundreel.request import Request
from weight_files import GOLDEN, OFFICIAL, needs_golden

CUTS = [0.5, 1.0, 1.5, 2.0, 2.5]

SHOTS = {"size": "256x256", "sampling.infer_frames": 8, "window.frames": 48, "cuts": CUTS}
"""6 shots, 12 clips."""


def events(server: Server, job: str) -> list[tuple[str, str]]:
    with sqlite3.connect(server.data / "queue.db") as queue:
        rows = queue.execute(
            "SELECT kind, says FROM events WHERE job = (SELECT seq FROM jobs WHERE id = ?) ORDER BY seq", (job,)
        )
        return list(rows)


def test_a_worker_without_work_takes_shots_of_anothers_job(tune: Path, tmp_path: Path) -> None:
    output = tmp_path / "here.mp4"
    here = {"width": 256, "height": 256, "infer_frames": 8, "frames": 48, "cuts": CUTS, "engine": "draft"}
    generate(Request(audio=tune, output=output, **here))
    with Server(tmp_path / "data", "--drafts", "2") as server:
        sound = server.upload(tune)
        server.ended(server.create(sound)["id"])  # one worker is there
        job = server.create(sound, **SHOTS)["id"]
        wait_for(lambda: ("helped", "draft-2") in events(server, job) or ("helped", "draft-1") in events(server, job))
        told = [data["progress"] for _, data in server.events(f"/v1/videos/{job}/events")]
        assert told == sorted(told)
        assert server.ended(job)["state"] == "succeeded"
        assert server.frames(job) == [frame.tobytes() for frame in read_frames(output)]
        assert [kind for kind, _ in events(server, job)].count("succeeded") == 1
        assert not list((server.data / "jobs" / job).rglob("claim_*"))
        wait_for(lambda: not any(worker["job"] for worker in server.client.get("/v1/status").json()["workers"]))
        assert server.ended(server.create(sound)["id"])["state"] == "succeeded"


def test_after_a_while_without_work_a_worker_ends_and_the_next_job_starts_it(tune: Path, tmp_path: Path) -> None:
    with Server(tmp_path / "data", "--idle", "0.2s") as server:
        sound = server.upload(tune)
        assert server.worker_pids() == []
        for _ in range(2):
            assert server.ended(server.create(sound)["id"])["state"] == "succeeded"
            wait_for(lambda: server.worker_pids() == [])
        assert server.get(server.client.get("/v1/videos").json()["data"][0]["id"])["attempts"] == 1


def test_what_has_ended_is_kept_as_long_as_was_said(tune: Path, tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        assert server.ended(server.create(server.upload(tune))["id"])["expires_at"] is None
    with Server(tmp_path / "data", "--keep", "30d") as server:
        (job,) = good(server.client.get("/v1/videos"))["data"]
        assert job["expires_at"] - job["ended_at"] == 30 * 24 * 3600
        assert server.get(job["id"])["expires_at"] == job["expires_at"]
    with Server(tmp_path / "data", "--keep", "0.1s") as server:
        wait_for(lambda: good(server.client.get("/v1/videos"))["data"] == [])
        wait_for(lambda: not (server.data / "jobs" / job["id"]).exists())
        wait_for(lambda: good(server.client.get("/v1/files"))["data"] == [])


def test_a_job_is_stopped_whose_worker_has_not_begun_it(tune: Path, tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        job = server.create(server.upload(tune), **LONG_JOB)["id"]
        wait_for(server.worker_pids)  # it starts now, which takes it a while
        good(server.client.post(f"/v1/videos/{job}/cancel"))
        assert server.ended(job)["state"] == "cancelled"


@pytest.mark.parametrize(
    "options", [("--engine", "comfyui"), ("--gpus", "0,0"), ("--gpus", "x"), ("--idle", "soon"), ("--keep", "x")]
)
def test_options_that_cannot_be(tmp_path: Path, options: tuple[str, ...]) -> None:
    server = Server(tmp_path / "data", "--engine", "native", *options)
    with pytest.raises(AssertionError, match="^soundreel: --"):
        server.start()
    assert server.process.wait() == 2


# engines


@needs_golden
def test_a_native_worker_renders_what_the_command_does_one_job_after_the_other(tmp_path: Path) -> None:
    sound = GOLDEN / "inputs" / "speech_2s.wav"
    small = {"width": 64, "height": 64, "frames": 9, "infer_frames": 8, "steps": 1}
    request = Request(
        audio=sound, engine="native", device="cpu", models=OFFICIAL, output=tmp_path / "here.mp4", **small
    )
    generate(request)
    options = ("--engine", "native", "--device", "cpu", "--models", f"tiny={OFFICIAL}")
    with Server(tmp_path / "data", *options) as server:
        assert [model["id"] for model in good(server.client.get("/v1/models"))["data"]] == ["tiny", "draft"]
        uploaded = server.upload(sound)
        body = {"audio": uploaded, "size": "64x64", "window": {"frames": 9}, "infer_frames": 8, "steps": 1}
        jobs = [good(server.client.post("/v1/videos", json=body))["id"] for _ in range(2)]
        done = [server.ended(job) for job in jobs]
        assert [job["state"] for job in done] == ["succeeded", "succeeded"], done
        assert len(server.worker_pids()) == 1  # the first one's session had all that the second needs
        expected = [frame.tobytes() for frame in read_frames(tmp_path / "here.mp4")]
        assert [server.frames(job) for job in jobs] == [expected, expected]
        assert str(OFFICIAL) not in str(done)


def test_a_comfyui_server_is_a_worker_and_its_failure_is_the_jobs(tune: Path, tmp_path: Path) -> None:
    info = object_info("0.33.0")
    with ContractServer(info, tmp_path / "comfyui", version="0.33.0") as comfyui:
        options = ("--engine", "comfyui", "--url", comfyui.url)
        with Server(tmp_path / "data", *options) as server:
            assert good(server.client.get("/v1/models"))["data"][0]["id"] == "comfyui"
            sound = server.upload(tune)
            body = {"audio": sound, "size": "64x64", "window.frames": 9, "steps": 2}
            job = good(server.client.post("/v1/videos", json=body))["id"]
            done = server.ended(job)
            assert (done["state"], done["engine"], done["result"]["frames"]) == ("succeeded", "comfyui", 9), done
            assert len(server.frames(job)) == 9
            refused = good(server.client.post("/v1/videos", json=body | {"sampling.sigmas": [1.0, 0.5]}))["id"]
            failed = server.ended(refused)
            assert failed["error"]["code"] == "invalid_request"
            assert "not possible on a ComfyUI server" in failed["error"]["message"]
