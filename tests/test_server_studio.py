"""What the page asks of the server beside its other doors."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from media_files import click_train, write_sound
from serving import Server, good, refused
from soundreel.errors import MediaError
from soundreel.render.recipe import read_recipe
from soundreel.server.growing import Growing
from soundreel.server.inspection import analyse

LONG_SEED = 2**53 + 1
"""The first that a number in a browser rounds: it is sent as text."""


@pytest.fixture(autouse=True)
def nothing_goes_on() -> None:
    """In place of the fixture that ends all processes after each test: the server is for all of them."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("doors") / "data") as running:
        yield running


def test_engines_that_are_not_here_say_what_is_missing(server: Server) -> None:
    engines = {one["engine"]: one for one in good(server.client.get("/v1/engines"))["data"]}
    assert engines.keys() == {"native", "comfyui", "draft"}
    assert engines["draft"]["is_here"]
    assert engines["draft"]["missing"] is None
    assert "--url" in engines["comfyui"]["missing"]
    assert engines["native"]["missing"]
    assert "/home" not in json.dumps(engines)


def test_the_example_is_kept_once(server: Server) -> None:
    first, again = (good(server.client.post("/v1/demo")) for _ in range(2))
    assert first == again
    assert (first["audio"]["kind"], first["ref_image"]["kind"]) == ("sound", "picture")
    assert good(server.client.get(f"/v1/files/{first['audio']['id']}")) == first["audio"]


def test_an_outline_comes_in_parts_that_make_the_whole(server: Server, tmp_path: Path) -> None:
    sound = server.upload(write_sound(tmp_path / "long.wav", click_train(80.0, 8000), 8000))
    parts: list[list[float]] = []
    for _ in range(100):
        part = good(server.client.get(f"/v1/files/{sound}/peaks?first={len(parts)}"))
        assert part["first"] == len(parts)
        parts += part["peaks"]
        if part["is_whole"]:
            break
    whole = good(server.client.get(f"/v1/files/{sound}/peaks"))
    assert whole["peaks"] == parts
    assert (whole["first"], whole["is_whole"], len(parts)) == (0, True, 80 * whole["per_second"])
    assert good(server.client.get(f"/v1/files/{sound}/peaks?first=10"))["peaks"] == parts[10:]
    refused(server.client.get(f"/v1/files/{sound}/peaks?first=-1"), 400)


def test_it_is_told_how_much_of_a_song_has_been_listened_to(server: Server, cover: Path, tmp_path: Path) -> None:
    song, told = write_sound(tmp_path / "beats.wav", click_train(80.0, 8000), 8000), []
    analyse(str(song), tell=told.append)
    assert told == [{"heard": second} for second in range(1, 81)]
    sound = server.upload(song)
    asking = f"/v1/files/{sound}/analysis/progress"
    heard = [good(server.client.get(asking))["heard"]]
    while heard[-1] < 80:
        told = good(server.client.get(f"{asking}?after={heard[-1]:.0f}"))
        assert (told["file"], told["seconds"]) == (sound, 80)
        heard.append(told["heard"])
    assert heard == sorted(set(heard))
    assert good(server.client.get(f"/v1/files/{sound}/analysis"))["seconds"] == 80
    assert good(server.client.get(f"{asking}?after=80"))["heard"] == 80
    refused(server.client.get(f"{asking}?after=-1"), 400)
    refused(server.client.get(f"/v1/files/{server.upload(cover)}/analysis/progress"), 400)


@pytest.mark.parametrize("error", [MediaError("it is cut off"), ValueError("no idea")])
def test_nobody_waits_for_what_cannot_be_made(error: Exception) -> None:
    def make(grow: Callable[[int], None]) -> int:
        grow(1)
        raise error

    growing = Growing(0, make)
    with pytest.raises(MediaError, match="it is cut off|ValueError"):
        growing.once(lambda found: found > 1)
    assert growing.once(lambda found: found > 0) == (1, False)


def test_a_finished_video_gives_its_recipe_its_pictures_and_the_name_of_its_sound(
    server: Server, tune: Path, tmp_path: Path
) -> None:
    job = server.create(server.upload(tune), seed=f"{LONG_SEED}")["id"]
    server.ended(job)
    recipe = good(server.client.get(f"/v1/videos/{job}/recipe"))
    assert recipe["request"]["seed"] == LONG_SEED
    assert str(server.data) not in json.dumps(recipe)
    sheet = Image.open(io.BytesIO(server.client.get(f"/v1/videos/{job}/sheet").content))
    assert sheet.height == 160
    assert sheet.width > 8 * 100
    content = server.client.get(f"/v1/videos/{job}/content")
    assert content.headers["content-disposition"] == "inline; filename*=UTF-8''tune.mp4"
    video = tmp_path / "tune.mp4"
    video.write_bytes(content.content)
    assert read_recipe(video) == recipe


def test_one_that_is_not_finished_has_none_of_them(server: Server, tune: Path) -> None:
    job = server.create(server.upload(tune), seed=6)["id"]
    server.client.post(f"/v1/videos/{job}/cancel")
    if server.ended(job)["state"] == "cancelled":
        for what in ("recipe", "sheet"):
            assert refused(server.client.get(f"/v1/videos/{job}/{what}"), 409)["code"] == "not_ready"
    refused(server.client.get("/v1/videos/none/recipe"), 404)
