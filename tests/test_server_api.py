"""The doors of a server that renders drafts: videos, their content and events, files, plans, and what is refused."""

import io
import json
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from PIL import Image

from serving import LONG_JOB, SMALL_JOB, Server, good, refused, wait_for
from soundreel.media.video import probe_video, read_frames
from soundreel.pipeline import generate
from soundreel.render.recipe import read_recipe
from soundreel.request import Request


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("api") / "data") as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_goes_on() -> None:
    """In place of the fixture that ends all processes after each test: the server is for all of them."""


@pytest.fixture(scope="module")
def sound(server: Server, tune: Path) -> str:
    return server.upload(tune)


@pytest.fixture(scope="module")
def whole(server: Server, sound: str) -> list[bytes]:
    """The pictures of the long job, which nothing has stopped."""
    return server.frames(server.ended(server.create(sound, **LONG_JOB)["id"])["id"])


def as_form(fields: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in fields.items()}


# a video


def test_a_form_becomes_the_video_that_the_command_makes(
    server: Server, tune: Path, cover: Path, tmp_path: Path
) -> None:
    with tune.open("rb") as audio, cover.open("rb") as picture:
        files = {"audio": ("../../my song.flac", audio), "input_reference": ("cover.png", picture)}
        job = good(server.client.post("/v1/videos", data=as_form(SMALL_JOB), files=files))
    assert (job["object"], job["status"], job["state"], job["size"]) == ("video", "queued", "queued", "64x64")
    assert job["plan"]["frames"] == 35
    done = server.ended(job["id"])
    assert (done["status"], done["progress"], done["error"]) == ("completed", 100, None)
    assert done["result"]["frames"] == 35
    assert done["completed_at"] >= done["created_at"]
    here = Request(
        audio=tune, ref_image=cover, width=64, height=64, frames=35, infer_frames=8, engine="draft",
        output=tmp_path / "here.mp4",
    )  # fmt: skip
    generate(here)
    assert server.frames(job["id"]) == [frame.tobytes() for frame in read_frames(tmp_path / "here.mp4")]
    there = tmp_path / "there.mp4"
    there.write_bytes(server.client.get(done["links"]["content"]).content)
    assert read_recipe(there)["request"]["audio"] == "my song.flac"
    assert probe_video(there).metadata["title"] == "my song (draft)"
    assert str(server.data) not in json.dumps([done, read_recipe(there), dict(probe_video(there).metadata)])


def test_every_event_is_a_whole_job_and_the_last_one_is_its_end(server: Server, sound: str) -> None:
    job = server.create(sound, **LONG_JOB)
    told = [data for name, data in server.events(job["links"]["events"]) if name == "video"]
    assert all(set(data) == set(job) for data in told)
    assert [data["state"] for data in told[:-1]].count("succeeded") == 0
    assert told[-1] == server.get(job["id"])
    shown = [data["progress"] for data in told]
    assert shown == sorted(shown)
    assert len(set(shown)) > 2
    live = [data["live"] for data in told if data["live"] and data["live"]["stage"] == "render"]
    assert live[-1]["clips"] == 10
    assert all(0 <= data["share"] <= 1 for data in live if data["share"] is not None)


def test_while_it_renders_what_is_there_can_be_played_and_seen(
    server: Server, sound: str, whole: list[bytes], tmp_path: Path
) -> None:
    job = server.create(sound, **LONG_JOB)
    first = server.client.get(f"/v1/videos/{job['id']}/content")
    assert refused(first, 409)["code"] == "not_ready"
    running = wait_for(lambda: one if "partial" in (one := server.get(job["id"]))["links"] else None)
    partial = server.client.get(running["links"]["partial"])
    assert partial.status_code == 200
    (tmp_path / "partial.mp4").write_bytes(partial.content)
    frames = [frame.tobytes() for frame in read_frames(tmp_path / "partial.mp4")]
    running = wait_for(lambda: one if "preview" in (one := server.get(job["id"]))["links"] else None)
    preview = Image.open(io.BytesIO(server.client.get(running["links"]["preview"]).content))
    assert (preview.format, preview.size) == ("JPEG", (128, 128))
    server.ended(job["id"])
    assert server.frames(job["id"]) == whole
    assert 0 < len(frames) < len(whole)
    assert frames == whole[: len(frames)]
    links = server.get(job["id"])["links"]
    small = Image.open(io.BytesIO(server.client.get(links["thumbnail"]).content))
    assert (small.format, small.size) == ("JPEG", (128, 128))
    row = Image.open(io.BytesIO(server.client.get(links["spritesheet"]).content))
    assert row.format == "JPEG"
    assert row.width > 7 * row.height


def test_what_there_is_so_far_is_never_gone_when_the_whole_takes_its_place(server: Server, sound: str) -> None:
    """The partial video is removed before the job is said to have succeeded: the page may ask between the two."""
    job = server.create(sound, **LONG_JOB)
    partial = wait_for(lambda: server.get(job["id"])["links"].get("partial"))
    folder = server.data / "jobs" / job["id"]
    (folder / "video.partial.mp4").replace(folder / "video.mp4")
    answered = server.client.get(partial)
    good(server.client.post(f"/v1/videos/{job['id']}/cancel"))
    server.ended(job["id"])
    assert (answered.status_code, answered.headers["cache-control"]) == (200, "private, no-cache")


def test_a_cancelled_job_stops_and_goes_on_when_retried(server: Server, sound: str, whole: list[bytes]) -> None:
    job = server.create(sound, **LONG_JOB)
    server.stored(job["id"], clips=2)
    stopping = good(server.client.post(f"/v1/videos/{job['id']}/cancel"))
    assert stopping["state"] in {"running", "cancelled"}
    stopped = server.ended(job["id"])
    assert (stopped["state"], stopped["status"], stopped["error"]["code"]) == ("cancelled", "failed", "cancelled")
    assert 2 <= len(server.stored_clips(job["id"])) < 10
    assert good(server.client.post(f"/v1/videos/{job['id']}/retry"))["state"] in {"queued", "running"}
    done = server.ended(job["id"])
    assert (done["state"], done["attempts"]) == ("succeeded", 2)
    assert server.frames(job["id"]) == whole


def test_the_stock_openai_client_works(server: Server, tune: Path, cover: Path, tmp_path: Path) -> None:
    client = openai.OpenAI(api_key="any", base_url=f"{server.address}/v1", max_retries=0)
    if not hasattr(client, "videos") or not hasattr(client.videos, "create_and_poll"):
        pytest.skip("this release of the openai package has no videos")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of OpenAI's own service
        uploaded = client.files.create(file=tune, purpose="user_data")
        extra = {"audio": uploaded.id, "num_frames": 8}
        made = client.videos.create_and_poll(
            prompt="neon", size="64x64", input_reference=cover, extra_body=extra, poll_interval_ms=50
        )
        assert (made.status, made.progress, made.error) == ("completed", 100, None)
        client.videos.download_content(made.id).write_to_file(tmp_path / "a.mp4")
        assert len(list(read_frames(tmp_path / "a.mp4"))) == 8
        assert made.id in [video.id for video in client.videos.list(limit=1)]
        with pytest.raises(openai.BadRequestError, match="there is no sound"):
            client.videos.create(prompt="neon")
        assert client.videos.delete(made.id).deleted
        with pytest.raises(openai.NotFoundError):
            client.videos.retrieve(made.id)


def test_shots_have_words_and_pictures_of_their_own(
    server: Server, sound: str, tune: Path, cover: Path, tmp_path: Path
) -> None:
    picture = server.upload(cover)
    shots: list[dict[str, Any]] = [
        {"start": 0, "prompt": "blue", "name": "first"},
        {"start": 1, "ref_image": picture, "section": "verse-1"},
        {"start": "0:01.5", "cut": "continue", "prompt": "red"},
    ]
    job = server.create(sound, shots=shots, **{"window.frames": 40})
    assert [shot["name"] for shot in job["plan"]["shots"]] == ["first", "shot-2", "shot-3"]
    assert [shot["start"] for shot in job["plan"]["shots"]] == [0, 1, 1.5]
    assert job["request"]["files"] == {"audio": sound, "shots.1.ref_image": picture}
    assert server.ended(job["id"])["state"] == "succeeded"
    here = Request(
        audio=tune, width=64, height=64, frames=40, infer_frames=8, engine="draft", output=tmp_path / "here.mp4",
        shots=[shot | ({"ref_image": cover} if "ref_image" in shot else {}) for shot in shots],
    )  # fmt: skip
    generate(here)
    expected = [frame.tobytes() for frame in read_frames(tmp_path / "here.mp4")]
    assert server.frames(job["id"]) == expected
    form = {**as_form(SMALL_JOB), "shots": json.dumps(shots), "window.frames": "40", "audio": sound}
    again = good(server.client.post("/v1/videos", files={name: (None, value) for name, value in form.items()}))
    assert server.frames(server.ended(again["id"])["id"]) == expected


# content in parts


def test_parts_of_a_video_are_sent_as_asked(server: Server, sound: str) -> None:
    path = f"/v1/videos/{server.ended(server.create(sound)['id'])['id']}/content"
    whole = server.client.get(path)
    assert whole.headers["content-type"] == "video/mp4"
    size, tag = len(whole.content), whole.headers["etag"]

    def part(asked: str, **headers: str) -> httpx.Response:
        return server.client.get(path, headers={"Range": asked, **headers})

    assert part("bytes=0-0").content == whole.content[:1]
    middle = part("bytes=10-19")
    assert (middle.status_code, middle.content) == (206, whole.content[10:20])
    assert middle.headers["content-range"] == f"bytes 10-19/{size}"
    assert part("bytes=-7").content == whole.content[-7:]
    assert part(f"bytes={size - 3}-").content == whole.content[-3:]
    assert part(f"bytes=0-{10 * size}").content == whole.content
    assert part("bytes=5-2").status_code == 416
    over = part(f"bytes={size}-")
    assert (over.status_code, over.headers["content-range"]) == (416, f"bytes */{size}")
    for unheard in ("bytes=0-1,4-5", "lines=0-1", "bytes=x-1"):
        assert (part(unheard).status_code, len(part(unheard).content)) == (200, size)
    assert part("bytes=0-9", **{"If-Range": '"other"'}).status_code == 200
    assert part("bytes=0-9", **{"If-Range": tag}).status_code == 206
    assert server.client.get(path, headers={"If-None-Match": tag}).status_code == 304
    head = server.client.head(path)
    assert (head.headers["content-length"], head.content) == (str(size), b"")


# asking wrongly


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"sampling.steps": 0}, "sampling.steps", "steps is 0: expected at least 1"),
        ({"sampling": {"steps": 0}}, "sampling.steps", "steps is 0"),
        ({"steps": "many"}, "sampling.steps", "expected a whole number"),
        ({"size": "big"}, "size", "expected WIDTHxHEIGHT"),
        ({"size": "65x64"}, "width", "a multiple of 16"),
        ({"window.start": 100}, "window.start", "the sound is 9.200 s long"),
        ({"cuts": [50]}, "cuts", "inside the video"),
        ({"model": "sora-2"}, "model", "there is no model 'sora-2' here: there are draft"),
        ({"loras": ["anime"]}, "loras", "there is no LoRA 'anime' here: there are none"),
        ({"loras": ["/etc/passwd:1"]}, "loras", "there is no LoRA"),
        ({"workflow": "../x.json"}, "workflow", "there is no workflow"),
        ({"output": {"path": "/srv/x.mp4"}}, "output.path", "the server's to say"),
        ({"compute": {"models": "/"}}, "compute.models", "the server's to say"),
        ({"compute": {"device": "cuda"}}, "compute.device", "the server's to say"),
        ({"server": {"urls": ["http://x"]}}, "server.urls", "the server's to say"),
        ({"recipe": "a.mp4"}, "recipe", "the server's to say"),
        ({"engine": "native"}, "engine", "the server's to say"),
        ({"nonsense": 1}, "nonsense", "there is no 'nonsense'"),
        ({"priority": 1000}, "priority", "from -100 to 100"),
        ({"seed": 3, "audio": {"path": "/etc/passwd"}}, "audio", "is no file"),
        ({"audio": "file_none"}, "audio", "there is no file 'file_none'"),
        ({"ref_image": "SOUND"}, "ref_image", "is a sound: expected a picture"),
        ({"steps": 3, "num_inference_steps": 4}, "sampling.steps", "given twice"),
        ({"shots": [{"start": 0, "ref_image": "/etc/passwd"}]}, "shots.0.ref_image", "there is no file '/etc/passwd'"),
        ({"shots": [{"start": 0, "ref_image": "SOUND"}]}, "shots.0.ref_image", "expected a picture"),
        ({"shots": [{"start": 0, "drive": "/etc/passwd"}]}, "shots.0.drive", "there is no file '/etc/passwd'"),
        ({"drive": "/etc/passwd"}, "drive", "there is no file '/etc/passwd'"),
        ({"shots": [{"start": 0, "path": "x"}]}, "shots", "'path' is no field of a shot"),
        ({"shots": [{"start": 0, "cut": "soft"}]}, "shots.cut", "expected hard or continue"),
        ({"shots": "all"}, "shots", "is no list"),
        ({"shots.3.ref_image": "file_none"}, "shots", "there is no such shot"),
        ({"preset": "best"}, None, "there is no preset 'best'"),
        ({"mood": "calm", "prompt": "x"}, "mood", "two prompts"),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(
    server: Server, sound: str, fields: dict[str, Any], field: str | None, says: str
) -> None:
    fields = json.loads(json.dumps(fields).replace("SOUND", sound))
    error = refused(server.client.post("/v1/videos", json={"audio": sound, **fields}), 400)
    assert (error["code"], error["field"], error["param"]) == ("invalid_request", field, field)
    assert says in error["message"]


def test_a_video_longer_than_its_sound_says_so_from_the_start(server: Server, sound: str) -> None:
    job = server.create(sound, **{"window.frames": 160})
    assert job["plan"]["silence_seconds"] == pytest.approx(0.8)
    assert job["notes"] == ["the sound ends at 9.20 s, the video at 10.00 s: 0.80 s of silence follow"]
    assert server.ended(job["id"])["notes"] == job["notes"]
    assert server.create(sound, **{"window.frames": 35})["notes"] == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"window.frames": 60_000}, "window.frames"), ({"seconds": "3700"}, "window.duration")],
)
def test_a_video_longer_than_the_server_takes_is_refused(
    server: Server, sound: str, fields: dict[str, Any], field: str
) -> None:
    error = refused(server.client.post("/v1/videos", json={"audio": sound, **fields}), 400)
    assert error["field"] == field
    assert "expected at most 3600" in error["message"]


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
def test_a_body_of_another_kind_is_refused_with_those_that_are_taken(server: Server, kind: str) -> None:
    answer = server.client.post("/v1/videos", content=b"prompt=rain", headers={"Content-Type": kind})
    message = refused(answer, 415)["message"]
    assert kind in message
    assert "application/json" in message
    assert "boundary" in message


def test_a_job_that_fails_is_told_with_its_reason_and_names_no_path(server: Server, tune: Path) -> None:
    sound = server.upload(tune)
    size = {"size": "16384x16384", "sampling.infer_frames": 8000, "window.frames": 140}  # more memory than there is
    job = server.create(sound, **size)
    failed = server.ended(job["id"])
    assert (failed["status"], failed["state"]) == ("failed", "failed")
    assert failed["error"]["code"] == "invalid_request"
    assert "this machine has" in failed["error"]["message"]
    assert str(server.data) not in json.dumps(failed)
    good(server.client.delete(f"/v1/videos/{job['id']}"))
    wait_for(lambda: not (server.data / "jobs" / job["id"]).exists())
    wait_for(lambda: server.client.get(f"/v1/files/{sound}").status_code == 404)
    wait_for(lambda: not (server.data / "uploads" / sound).exists())


def test_a_key_makes_one_job_of_many_tries(server: Server, tune: Path) -> None:
    def ask(frames: int) -> httpx.Response:
        with tune.open("rb") as audio:
            fields = as_form({**SMALL_JOB, "window.frames": frames})
            return server.client.post(
                "/v1/videos", data=fields, files={"audio": audio}, headers={"Idempotency-Key": "one"}
            )

    before = {file["id"] for file in good(server.client.get("/v1/files?limit=100"))["data"]}
    first, again = good(ask(35)), good(ask(35))
    assert first["id"] == again["id"]
    assert refused(ask(36), 409)["code"] == "idempotency_key_reused"
    after = {file["id"] for file in good(server.client.get("/v1/files?limit=100"))["data"]}
    assert len(after - before) == 1


def test_jobs_are_listed_by_pages(server: Server, sound: str) -> None:
    jobs = [server.create(sound, **{"window.frames": 5})["id"] for _ in range(3)]
    for job in jobs:
        server.ended(job)
    first = good(server.client.get("/v1/videos?limit=2"))
    assert [job["id"] for job in first["data"]] == jobs[:0:-1]
    assert first["has_more"]
    second = good(server.client.get(f"/v1/videos?limit=1&after={first['last_id']}"))
    assert [job["id"] for job in second["data"]] == jobs[:1]
    oldest = good(server.client.get("/v1/videos?order=asc&limit=100&state=succeeded"))["data"]
    assert [job["id"] for job in oldest][-3:] == jobs
    for query in ("limit=0", "limit=x", "order=up", "state=tired"):
        refused(server.client.get(f"/v1/videos?{query}"), 400)
    refused(server.client.get("/v1/videos?after=video_none"), 404)


# files


def test_what_is_heard_in_a_song_and_what_a_render_would_take(server: Server, sound: str) -> None:
    file = good(server.client.get(f"/v1/files/{sound}"))
    assert (file["kind"], file["filename"], file["facts"]["sound"]["seconds"]) == ("sound", "tune.flac", 9.2)
    peaks = good(server.client.get(f"/v1/files/{sound}/peaks"))
    assert len(peaks["peaks"]) == pytest.approx(9.2 * peaks["per_second"], abs=1)
    assert all(-1 <= low <= high <= 1 for low, high in peaks["peaks"])
    assert max(high for _, high in peaks["peaks"]) > 0.3
    song = good(server.client.get(f"/v1/files/{sound}/analysis"))
    assert song["beats"]
    assert song["sections"][0]["start"] == 0
    assert song["outline"]["peaks"] == peaks["peaks"]
    assert good(server.client.get(f"/v1/files/{sound}/analysis")) == song
    plan = good(server.client.post("/v1/plan", json={"audio": sound, **SMALL_JOB}))
    assert (plan["frames"], len(plan["clips"]), plan["engine"]) == (35, 5, "draft")
    assert plan["estimated_seconds"] > 0
    assert refused(server.client.post("/v1/plan", json={"audio": sound, "steps": 0}), 400)["field"] == "sampling.steps"


def test_a_picture_is_kept_and_shown_small(server: Server, cover: Path) -> None:
    picture = server.upload(cover)
    file = good(server.client.get(f"/v1/files/{picture}"))
    with Image.open(cover) as original:
        assert (file["facts"]["picture"]["width"], file["facts"]["picture"]["height"]) == original.size
    small = Image.open(io.BytesIO(server.client.get(f"/v1/files/{picture}/picture").content))
    assert small.format == "JPEG"
    assert server.client.get(f"/v1/files/{picture}/content").content == cover.read_bytes()
    refused(server.client.get(f"/v1/files/{picture}/peaks"), 400)
    good(server.client.delete(f"/v1/files/{picture}"))
    refused(server.client.get(f"/v1/files/{picture}"), 404)
    refused(server.client.delete(f"/v1/files/{picture}"), 404)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("song.mp3", b"no sound at all, only words"),
        ("song.mp3", b""),
        ("list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n"),
        ("list.txt", b"ffconcat version 1.0\nfile '/etc/passwd'\n"),
        ("picture.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
        ("x.sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n"),
    ],
)
def test_what_is_no_media_file_is_refused_and_not_kept(server: Server, name: str, content: bytes) -> None:
    before = sorted(path.name for path in (server.data / "uploads").iterdir())
    error = refused(server.client.post("/v1/files", files={"file": (name, content)}), 400)
    assert (error["code"], error["field"]) == ("unreadable_file", "file")
    assert str(server.data) not in error["message"]
    assert sorted(path.name for path in (server.data / "uploads").iterdir()) == before


def test_a_form_that_is_cut_off_or_no_form_leaves_nothing(server: Server, tune: Path) -> None:
    before = sorted(path.name for path in (server.data / "uploads").iterdir())
    host = urlsplit(server.address)
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: {host.netloc}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        'Content-Length: 100000\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n'
    )
    with socket.create_connection((host.hostname, host.port)) as connection:  # the client is gone in the middle
        connection.sendall(head.encode() + tune.read_bytes()[:50_000])
        wait_for(lambda: len(list((server.data / "uploads").iterdir())) > len(before))
    wait_for(lambda: sorted(path.name for path in (server.data / "uploads").iterdir()) == before)
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    half = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\nabc'
    for body in (half, b"nonsense", b"", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"):
        refused(server.client.post("/v1/files", content=body, headers=kind), 400)
    assert sorted(path.name for path in (server.data / "uploads").iterdir()) == before
    for body, status in ((b"{", 400), (b"[1]", 400), (b'{"a":' * 100_000, 400), (b" " * 5_000_000, 413)):
        refused(server.client.post("/v1/videos", content=body, headers={"Content-Type": "application/json"}), status)
    refused(server.client.post("/v1/videos", content=b"x", headers={"Content-Type": "text/csv"}), 415)


# the document and the page


def test_the_document_is_served_and_what_is_not_there_is_said_in_json(server: Server) -> None:
    document = good(server.client.get("/openapi.json"))
    assert {"/v1/videos", "/v1/videos/{id}/events", "/v1/plan"} <= set(document["paths"])
    assert refused(server.client.get("/v1/nothing"), 404)["code"] == "not_found"
    assert refused(server.client.put("/v1/videos"), 405)["code"] == "invalid_request"
    for path in ("/../pyproject.toml", "/%2e%2e/api.py", "/..%2fapi.py", "/.hidden.js", "/a//b.js"):
        refused(server.client.get(path), 404)
    page = server.client.get("/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"


def test_the_state_of_the_server_is_told(server: Server) -> None:
    status = good(server.client.get("/v1/status"))
    assert [worker["name"] for worker in status["workers"]] == ["draft-1"]
    assert set(status["jobs"]) == {"queued", "running", "succeeded", "failed", "cancelled"}
    assert good(server.client.get("/healthz"))["status"] == "ok"
    assert [model["id"] for model in good(server.client.get("/v1/models"))["data"]] == ["draft"]
