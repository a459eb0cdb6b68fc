"""A render on a server is as one here: the same pictures, the same progress, the same errors, and it goes on."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from command import SMALL, events_of, finish, run_here, start
from draft_renders import frames_of
from serving import LONG_JOB, Server, wait_for
from soundreel import Client, InputError, MediaError, Request, generate
from soundreel.errors import Cancelled, EngineError, SoundreelError
from soundreel.server import client as remote
from soundreel.server import patience
from soundreel.types import CancelFlag, Progress, Stage
from thin_line import Clock, ThinLine

TOKEN = "a-token-of-many-letters"  # noqa: S105 - of these tests

LONG = {"width": 128, "height": 128, "infer_frames": 8, "frames": LONG_JOB["window.frames"], "engine": "draft"}


@pytest.fixture(autouse=True)
def nothing_goes_on() -> None:
    """In place of the fixture that ends all processes after each test: the server is for all of them."""


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("token") / "token"
    place.write_text(TOKEN)
    return place


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, token_file: Path) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("client") / "data", "--token-file", str(token_file), token=TOKEN) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address, TOKEN) as asking:
        yield asking


def uploads(server: Server) -> set[str]:
    return {path.name for path in (server.data / "uploads").iterdir()}


def test_a_request_gives_the_same_result_there_as_here(client: Client, tune: Path, cover: Path, tmp_path: Path) -> None:
    request = Request(audio=tune, ref_image=cover, frames=35, infer_frames=8, width=64, height=64, engine="draft")
    here, there = (request.replace(output=tmp_path / name) for name in ("here.mp4", "there.mp4"))
    told: list[Progress] = []
    made, expected = client.generate(there, told.append), generate(here)
    assert frames_of(made.path) == frames_of(expected.path)
    assert made.path == tmp_path / "there.mp4"
    assert (made.engine, made.frames, made.fps, made.notes) == (
        expected.engine, expected.frames, expected.fps, expected.notes,
    )  # fmt: skip
    assert made.plan.shots == expected.plan.shots
    assert made.recipe["fingerprint"] == expected.recipe["fingerprint"]
    assert {progress.stage for progress in told} <= set(Stage)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.mp4", "there.mp4"]


def test_shots_go_there_with_their_pictures(client: Client, tune: Path, cover: Path, tmp_path: Path) -> None:
    shots = [{"start": 0, "ref_image": cover}, {"start": 1, "prompt": "red"}, {"start": 2, "ref_image": cover}]
    request = Request(audio=tune, frames=40, width=64, height=64, engine="draft", shots=shots)
    here, there = (request.replace(output=tmp_path / name) for name in ("here.mp4", "there.mp4"))
    made, expected = client.generate(there), generate(here)
    assert frames_of(made.path) == frames_of(expected.path)
    assert made.plan.shots == expected.plan.shots
    assert made.recipe["fingerprint"] == expected.recipe["fingerprint"]


def test_a_storyboard_is_rendered_there(
    server: Server, tune: Path, cover: Path, token_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "song.toml").write_text(
        f'song = "{tune}"\n[defaults]\nwidth = 64\nheight = 64\nframes = 32\n'
        f'[[shot]]\nprompt = "blue"\n[[shot]]\nstart = 1\nref_image = "{cover}"\n'
    )
    there = ("--remote", server.address, "--token-file", token_file)
    done = run_here(capsys, tmp_path / "song.toml", "-o", tmp_path / "a.mp4", *there)
    assert done.code == 0, done.err
    run_here(capsys, tmp_path / "song.toml", "-o", tmp_path / "b.mp4", "--engine", "draft")
    assert frames_of(tmp_path / "a.mp4") == frames_of(tmp_path / "b.mp4")


def test_the_same_request_again_is_the_same_job(client: Client, server: Server, tune: Path, tmp_path: Path) -> None:
    request = Request(audio=tune, frames=9, width=64, height=64, output=tmp_path / "a.mp4")
    client.generate(request)
    before = uploads(server)
    again = client.generate(request.replace(output=None, output_dir=tmp_path / "videos"))
    assert uploads(server) == before
    assert again.path.parent == tmp_path / "videos"
    assert again.path.name.startswith("tune_64x64_9f_0.6s_no_ref_draft_")
    assert frames_of(again.path) == frames_of(tmp_path / "a.mp4")


def test_a_cancelled_render_stops_there_and_the_next_one_goes_on(
    client: Client, server: Server, tune: Path, tmp_path: Path
) -> None:
    long = LONG | {"width": 240, "height": 240, "frames": 200}  # what is left is seen before it is done
    request = Request(audio=tune, seed=7, output=tmp_path / "a.mp4", **long)
    flag = CancelFlag()

    def listen(progress: Progress) -> None:
        if progress.stage is Stage.RENDER and progress.clip > 2:
            flag.set()

    with pytest.raises(Cancelled) as stopped:
        client.generate(request, listen, cancel=flag)
    assert "the same command goes on with it" in stopped.value.__notes__[0]
    (job,) = server.client.get("/v1/videos?limit=1").json()["data"]
    assert server.ended(job["id"])["state"] == "cancelled"
    begun: list[str] = []
    client.generate(request, on_start=lambda job: begun.append((job["live"] or {}).get("resumed", "")))
    assert server.get(job["id"])["attempts"] == 2
    assert "clips" in begun[0]


def test_the_command_renders_there_with_progress(
    server: Server, tune: Path, token_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ("--remote", server.address, "--token-file", token_file, "--progress", "json")
    done = run_here(capsys, tune, *SMALL, "--frames", "40", "--seed", "3", "-o", tmp_path / "a.mp4", *there)
    assert done.code == 0, done.err
    first, *_, last = (event for event in done.events if event["event"] != "progress")
    assert (first["event"], first["engine"], first["frames"]) == ("start", "draft", 40)
    assert (last["event"], last["path"], last["frames"]) == ("result", str(tmp_path / "a.mp4"), 40)
    assert done.path == tmp_path / "a.mp4"
    run_here(capsys, tune, *SMALL, "--frames", "40", "--seed", "3", "-o", tmp_path / "b.mp4", "--engine", "draft")
    assert frames_of(tmp_path / "a.mp4") == frames_of(tmp_path / "b.mp4")


def test_ctrl_c_here_stops_there(server: Server, tune: Path, token_file: Path, tmp_path: Path) -> None:
    words = ["--size", "256x256", "--infer-frames", "8", "--frames", "100", "--seed", "9"]
    command = start(
        "generate", tune, *words, "-o", tmp_path / "a.mp4", "--remote", server.address, "--token-file", token_file,
        "--progress", "json",
    )  # fmt: skip
    for event in events_of(command):
        if event.get("clip", 0) > 1:
            break
    command.send_signal(signal.SIGINT)
    done = finish(command)
    assert done.code == 130
    assert "the same command goes on with it" in done.err
    (job,) = server.client.get("/v1/videos?limit=1").json()["data"]
    assert server.ended(job["id"])["state"] == "cancelled"


@pytest.mark.timeout(60)
def test_a_stop_does_not_wait_for_a_server_that_is_silent(
    client: Client, server: Server, tune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PARTING_SECONDS", 0.2)

    def listen(progress: Progress) -> None:
        if progress.clip:
            server.process.send_signal(signal.SIGSTOP)  # connections are accepted, and nothing is answered
            raise Cancelled("stop")

    try:
        with pytest.raises(Cancelled):
            client.generate(Request(audio=tune, seed=11, output=tmp_path / "a.mp4", **LONG), listen)
    finally:
        server.process.send_signal(signal.SIGCONT)
    (job,) = server.client.get("/v1/videos?limit=1").json()["data"]
    server.client.post(f"/v1/videos/{job['id']}/cancel")
    server.ended(job["id"])


def test_a_download_may_take_longer_than_patience_as_long_as_it_moves(
    server: Server, tune: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "time", clock := Clock())
    request = Request(audio=tune, frames=9, width=64, height=64, output=tmp_path / "a.mp4")
    a_break = 0.9 * remote.PATIENCE_SECONDS
    with ThinLine(server.address, clock, piece=8000, seconds=a_break) as line, Client(line.address, TOKEN) as client:
        made = client.generate(request)
    assert line.breaks > 1
    assert frames_of(made.path) == frames_of(generate(request.replace(output=tmp_path / "b.mp4", engine="draft")).path)


def test_a_download_that_stands_still_ends_in_one_line(
    server: Server,
    tune: Path,
    token_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(patience, "time", clock := Clock())
    with ThinLine(server.address, clock, piece=8000, whole=8000, seconds=100) as line:
        there = ("--remote", line.address, "--token-file", token_file)
        done = run_here(capsys, tune, *SMALL, "--frames", "9", "-o", tmp_path / "a.mp4", *there)
    assert done.code == 5
    assert done.err.splitlines()[-1].startswith(f"soundreel: no soundreel server answers at {line.address}")
    assert clock.now >= remote.PATIENCE_SECONDS
    assert not list(tmp_path.iterdir())


def test_what_is_sent_anew_moves_only_beyond_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "time", clock := Clock())
    waiting = patience.Patience(300)
    for position in (1000, 2000, 500, 2000):
        clock.now += 200
        waiting.move(position)
    assert waiting.is_over


def test_several_sounds_go_there_one_after_the_other(
    server: Server, tune: Path, token_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ("--remote", server.address, "--token-file", token_file)
    done = run_here(
        capsys, "generate", tune, "--seeds", "1,2", *SMALL, "--frames", "5", "--output-dir", tmp_path, *there
    )
    assert done.code == 0, done.err
    assert len(list(tmp_path.glob("*.mp4"))) == 2


# what goes wrong


@pytest.mark.parametrize(
    ("fields", "kind", "field", "says"),
    [
        ({"engine": "native"}, InputError, "engine", "has no engine native: there are draft"),
        ({"models": "wan"}, InputError, "model", "there is no model 'wan' here"),
        ({"loras": ["anime:0.8"]}, InputError, "loras", "there is no LoRA 'anime' here"),
        ({"device": "cuda"}, InputError, "compute.device", "--device is the server's to say"),
        ({"gpus": "2"}, InputError, "compute.gpus", "--gpus is the server's to say"),
        ({"cuts": (50,)}, InputError, "cuts", "inside the video"),
        ({"write_recipe": False}, InputError, "output.write_recipe", "--no-recipe is the server's to say"),
        ({"output": "a.txt"}, InputError, "output.path", "ends in .mp4"),
    ],
)
def test_what_cannot_be_is_said_and_leaves_nothing(
    client: Client,
    server: Server,
    tune: Path,
    tmp_path: Path,
    fields: dict[str, object],
    kind: type[SoundreelError],
    field: str,
    says: str,
) -> None:
    before = uploads(server)
    with pytest.raises(kind, match=says) as wrong:
        client.generate(Request(**{"audio": tune, "output": tmp_path / "a.mp4", **fields}))
    assert wrong.value.field == field
    assert uploads(server) == before
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_sound_is_said_with_its_field(client: Client, tmp_path: Path) -> None:
    (tmp_path / "words.mp3").write_text("no sound")
    with pytest.raises(MediaError, match="no sound, picture or video") as wrong:
        client.generate(Request(audio=tmp_path / "words.mp3", output=tmp_path / "a.mp4"))
    assert wrong.value.field == "audio"
    with pytest.raises(InputError, match="no such file"):
        client.generate(Request(audio=tmp_path / "none.mp3"))


def test_no_server_or_no_token_is_said(
    server: Server, tune: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = run_here(capsys, tune, "--remote", "http://127.0.0.1:1", "-o", tmp_path / "a.mp4")
    assert there.code == 5
    assert "no soundreel server answers at http://127.0.0.1:1" in there.err
    no_token = run_here(capsys, tune, "--remote", server.address, "-o", tmp_path / "a.mp4")
    assert no_token.code == 2
    assert "give the file that it is in with --token-file" in no_token.err
    alone = run_here(capsys, tune, "--token-file", tmp_path / "t", "-o", tmp_path / "a.mp4")
    assert alone.code == 2
    assert "name it with --remote" in alone.err
    here = run_here(capsys, tune, "--remote", server.address, "--work-dir", tmp_path / "w")
    assert "--work-dir is for renders on this machine" in here.err
    with Client("http://127.0.0.1:1") as nobody, pytest.raises(EngineError, match="no soundreel server"):
        nobody.plan(Request(audio=tune))


def test_a_plan_is_that_of_the_server(client: Client, server: Server, tune: Path) -> None:
    before = uploads(server)
    assert client.plan(Request(audio=tune, frames=40, width=64, height=64))["frames"] == 40
    assert uploads(server) == before


def test_a_server_that_is_killed_and_started_again_is_waited_for(tune: Path, tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "--port", "0")
    server.start()
    port = server.address.rpartition(":")[2]
    made: list[Path] = []

    def render() -> None:
        with Client(server.address) as client:
            made.append(client.generate(Request(audio=tune, output=tmp_path / "a.mp4", **LONG)).path)

    thread = threading.Thread(target=render)
    thread.start()
    job = wait_for(lambda: (found := server.client.get("/v1/videos").json()["data"]) and found[0]["id"])
    server.stored(job, clips=2)
    server.kill()
    time.sleep(0.5)
    again = Server(tmp_path / "data", "--port", port)
    with again:
        thread.join(120)
        assert made == [tmp_path / "a.mp4"]
        assert again.get(job)["attempts"] == 2
        assert json.loads(json.dumps(again.get(job)))["state"] == "succeeded"
