"""Storyboards at a server's doors: proposed, written, read from strangers; and shots that are drawn again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving import Server, good, refused
from soundreel.render.recipe import read_recipe

SHOTS = [{"start": 0, "name": "first", "prompt": "blue"}, {"start": 1, "name": "second"}, {"start": 1.5}]


@pytest.fixture(autouse=True)
def nothing_goes_on() -> None:
    """In place of the fixture that ends all processes after each test: the server is for all of them."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("storyboards") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def sound(server: Server, tune: Path) -> str:
    return server.upload(tune)


@pytest.fixture(scope="module")
def picture(server: Server, cover: Path) -> str:
    return server.upload(cover)


def read(server: Server, text: str, **files: str) -> Any:
    body = {"text": text, "files": {name.replace("__", "."): upload for name, upload in files.items()}}
    return server.client.post("/v1/storyboards/read", json=body)


def test_one_is_proposed_for_a_song_and_can_be_asked_for_as_it_stands(server: Server, sound: str) -> None:
    made = good(server.client.post("/v1/storyboards", json={"audio": sound, "size": "64x64", "prompt": "rain"}))
    shots = made["request"]["shots"]
    assert len(shots) > 1
    assert all("rain" in shot["prompt"] for shot in shots)
    assert made["request"]["audio"] == sound
    assert 'song = "tune.flac"' in made["toml"]
    assert str(server.data) not in str(made)
    again = good(read(server, made["toml"], tune__flac=sound))
    assert again["request"]["shots"] == shots
    assert again["request"]["audio"] == sound
    body = {**made["request"], "window": {"frames": 8}, "infer_frames": 8}
    body["shots"] = [shot for shot in shots if shot.get("start", 0) < 0.4]
    assert server.ended(good(server.client.post("/v1/videos", json=body))["id"])["state"] == "succeeded"


def test_a_request_is_written_as_a_storyboard_with_the_names_of_its_files(
    server: Server, sound: str, picture: str
) -> None:
    shots = [*SHOTS[:2], {"start": 2, "ref_image": picture}]
    body = {"audio": sound, "ref_image": picture, "shots": shots, "steps": 7}
    made = good(server.client.post("/v1/storyboards", json=body))
    assert made["json"]["song"] == "tune.flac"
    assert [shot.get("ref_image") for shot in made["json"]["shot"]] == [None, None, "cover.png"]
    again = good(read(server, made["toml"], tune__flac=sound, cover__png=picture))["request"]
    assert (again["ref_image"], again["shots"][2]["ref_image"]) == (picture, picture)
    assert again["sampling"]["steps"] == 7


TEXT = 'song = "tune.flac"\n[[shot]]\nstart = 0\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TEXT.replace("tune.flac", "/etc/passwd"), "song is 'passwd', which did not come with the storyboard"),
        (TEXT.replace("tune.flac", "../../queue.db"), "which did not come with the storyboard"),
        (TEXT.replace("tune.flac", "~/song.mp3"), "which did not come with the storyboard"),
        (TEXT + 'ref_image = "/etc/passwd"\n', "shot ref_image is 'passwd', which did not come"),
        (TEXT + 'pose_video = "http://x/y.mp4"\n', "did not come with the storyboard"),
        ('lyrics = "/etc/passwd"\n' + TEXT, "lyrics is 'passwd'"),
        (
            'song = "tune.flac"\n[defaults.server]\nurls = ["http://evil"]\n[[shot]]\n',
            "server.urls is the server's to say",
        ),
        ('song = "tune.flac"\n[defaults]\nmodels = "/etc"\n[[shot]]\n', "models is the server's to say"),
        ('song = "tune.flac"\n[defaults.output]\ndir = "/tmp"\n[[shot]]\n', "output.dir is the server's to say"),
        ('song = "tune.flac"\n[defaults]\nloras = ["/x:1"]\n[[shot]]\n', "loras is the server's to say"),
        (TEXT + "steps = 4\n", "line 4, shot 1 steps: is not known"),
        (TEXT + "[[shot]]\nstart = 0\n", "shots overlap"),
        ("song = ", "cannot be understood"),
        ("[[shot]]\nstart = 0\n", "expected the file of the song"),
    ],
)
def test_a_strangers_storyboard_names_nothing_that_did_not_come_with_it(
    server: Server, sound: str, text: str, says: str
) -> None:
    error = refused(read(server, text, tune__flac=sound), 400)
    assert says in error["message"]
    assert "soundreel-" not in error["message"]
    assert str(server.data) not in error["message"]


@pytest.mark.parametrize("name", ["../x.flac", "/x.flac", "~root/x.flac", "a\nb", "c:x", "a\\b", ""])
def test_a_file_has_a_name_beside_the_storyboard(server: Server, sound: str, name: str) -> None:
    body = {"text": TEXT, "files": {"tune.flac": sound, name: sound}}
    assert "is no name of a file" in refused(server.client.post("/v1/storyboards/read", json=body), 400)["message"]


def test_a_shot_is_drawn_again_as_a_video_of_its_own(server: Server, sound: str) -> None:
    first = server.ended(server.create(sound, shots=SHOTS, **{"window.frames": 32})["id"])
    made = good(server.client.post(f"/v1/videos/{first['id']}/shots/second/redo", json={"seed": str(2**64 - 59)}))
    assert made["remixed_from_video_id"] == first["id"]
    again = server.ended(made["id"])
    assert again["state"] == "succeeded", again
    before, after = server.frames(first["id"]), server.frames(again["id"])
    assert (before[:16], before[24:]) == (after[:16], after[24:])
    assert before[16:24] != after[16:24]
    good(server.client.delete(f"/v1/videos/{first['id']}"))  # the new one has all that it needs
    third = good(server.client.post(f"/v1/videos/{again['id']}/shots/first/redo", json={}))
    assert server.ended(third["id"])["state"] == "succeeded"
    last = server.frames(third["id"])
    assert last[16:] == after[16:]
    assert last[:16] != after[:16]
    video = server.data / "jobs" / third["id"] / "video.mp4"
    assert next(clip["seed"] for clip in read_recipe(video)["plan"]["clips"] if clip["shot"] == 1) == 2**64 - 59
    toml = good(server.client.get(f"/v1/videos/{third['id']}/storyboard"))["toml"]
    assert 'name = "second"' in toml


def test_what_cannot_be_drawn_again_is_refused(server: Server, sound: str) -> None:
    job = server.ended(server.create(sound, shots=SHOTS, **{"window.frames": 32})["id"])
    path = f"/v1/videos/{job['id']}/shots"
    assert refused(server.client.post(f"{path}/none/redo", json={}), 404)["field"] == "name"
    for seed in (-1, "-1", "x", 0.5, True, [1]):
        assert refused(server.client.post(f"{path}/first/redo", json={"seed": seed}), 400)["field"] == "seed"
    assert refused(server.client.post(f"{path}/first/redo", json={"steps": 1}), 400)["field"] == "steps"
    long = server.create(sound, size="512x512", **{"window.frames": 140})["id"]
    assert refused(server.client.post(f"/v1/videos/{long}/shots/shot-1/redo", json={}), 409)["code"] == "not_finished"
    good(server.client.delete(f"/v1/videos/{long}"))
    refused(server.client.post("/v1/storyboards/read", json={"text": TEXT, "more": 1}), 400)
    refused(server.client.post("/v1/storyboards/read", json={"text": 3}), 400)
    refused(server.client.post("/v1/storyboards/read", json={"text": TEXT, "files": {"tune.flac": "file_none"}}), 404)
