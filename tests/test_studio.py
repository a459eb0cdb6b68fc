"""The page of `soundreel studio`, used as people do: in a browser, on the draft engine."""

import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browsing import IS_NEEDED, Person, in_a_browser
from command import HANGS_SECONDS, run_here, start
from media_files import click_train, write_video
from serving import Server, good, wait_for
from soundreel import Request
from soundreel.cli.commands.studio import page_address, reachable
from soundreel.disk.example_files import example_folder
from soundreel.media.video import read_frames
from soundreel.server import page as page_module
from soundreel.server.openapi import document
from soundreel.storyboard import read_storyboard

pytest_plugins = ("studio_fixtures",)

SMALL = {"quality": 0, "isScored": False}

NO_LOOK = dict.fromkeys(("prompt", "negative", "picture", "seed", "drive", "pose"))

LARGE = {"quality": 4, "smooth": True, "isScored": False}
"""Of the example song a draft takes many seconds: whoever wants to stop it can."""


@pytest.fixture(autouse=True)
def nothing_goes_on() -> None:
    """In place of the fixture that ends all processes after each test: server and browser are for all of them."""


def tone(path: Path, seconds: float, rate: int = 8000) -> Path:
    """A sound with a click every second."""
    samples = np.zeros(round(seconds * rate), "<i2")
    for at in range(0, len(samples), rate):
        samples[at : at + 400] = (8000 * np.sin(np.arange(400) / 3)[: len(samples) - at]).astype("<i2")
    size = samples.nbytes
    head = b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    form = (1).to_bytes(2, "little") * 2 + rate.to_bytes(4, "little") + (2 * rate).to_bytes(4, "little")
    path.write_bytes(head + form + b"\x02\x00\x10\x00data" + size.to_bytes(4, "little") + samples.tobytes())
    return path


def newest(server: Server) -> dict[str, Any]:
    job: dict[str, Any] = good(server.client.get("/v1/videos?limit=1"))["data"][0]
    return job


@in_a_browser
def test_from_a_dropped_song_to_the_download_in_three_steps(person: Person, tune: Path, tmp_path: Path) -> None:
    person.drops(tune)
    person.clicks("button", "Make the video")
    person.page.get_by_role("link", name="Download tune").wait_for()
    with person.page.expect_download() as download:
        person.clicks("link", "Download tune")
    assert person.interactions == 3
    assert download.value.suggested_filename == "tune.mp4"
    video = tmp_path / "tune.mp4"
    download.value.save_as(video)
    assert next(read_frames(video)).shape == (832, 480, 3)


@in_a_browser
def test_the_demo_is_the_example_song_with_its_storyboard(person: Person) -> None:
    person.goes_to("new/demo")
    person.page.locator(".section").first.wait_for()
    asked = Request(**read_storyboard(example_folder() / "song.toml"))
    draft = person.draft()
    assert draft["sound"]["filename"] == asked.audio.name
    assert (draft["mode"], draft["prompt"], draft["stop"]) == ("storyboard", asked.prompt, asked.window.duration)
    assert [(shot["name"], round(shot["start"], 3), shot["prompt"]) for shot in draft["shots"]] == [
        (shot.name, round(float(shot.start), 3), shot.prompt) for shot in asked.shots
    ]
    assert [shot["picture"] and shot["picture"]["filename"] for shot in draft["shots"]] == [None, None, "cover.png"]
    assert person.page.locator(".shot").count() == 3


@in_a_browser
def test_the_slider_shows_what_it_will_take(person: Person, tune: Path) -> None:
    person.drops(tune)
    memory = person.page.locator(".facts dd").nth(1)
    memory.get_by_text("MB").wait_for()
    before = memory.inner_text()
    person.page.get_by_label("Quality").fill("4")
    person.page.get_by_text("720 × 1248").wait_for()
    person.page.wait_for_function(
        "(before) => document.querySelectorAll('.facts dd')[1].innerText !== before", arg=before
    )
    assert person.page.get_by_label("Quality").get_attribute("aria-valuetext").startswith("Best")


@in_a_browser
def test_a_reload_in_the_middle_loses_nothing(person: Person, server: Server, tune: Path) -> None:
    person.drops(tune)
    person.page.locator(".section").first.wait_for()
    person.page.get_by_label("What to see", exact=True).fill("neon rain")
    person.clicks("button", "Storyboard")
    person.page.locator(".shot").nth(1).wait_for()
    shots = person.draft()["shots"]
    person.page.reload()
    person.page.locator(".shot").nth(len(shots) - 1).wait_for()
    assert person.page.get_by_label("What to see", exact=True).input_value() == "neon rain"
    assert person.draft()["shots"] == shots
    person.has_draft(**SMALL)
    person.clicks("button", "Make the video")
    person.page.locator(".job").first.wait_for()
    person.page.reload()
    job = server.ended(newest(server)["id"])
    assert (job["state"], len(job["plan"]["shots"]), job["prompt"]) == ("succeeded", len(shots), "neon rain")


@in_a_browser
def test_what_one_tab_does_the_other_shows(person: Person, server: Server, tune: Path) -> None:
    sound = server.upload(tune)
    person.goes_to("queue")
    other = person.tab()
    person.goes_to("queue", other)
    job = server.create(sound, size="1216x1216", **{"window.frames": 900, "output.interpolate": "motion"})
    title = other.get_by_role("button", name="Cancel tune")
    title.wait_for()
    person.clicks("button", "Cancel tune")
    other.get_by_text("Cancelled.").first.wait_for()
    assert server.ended(job["id"])["state"] == "cancelled"
    other.get_by_role("button", name="Remove tune").first.click()
    other.get_by_role("button", name="Remove", exact=True).click()
    person.page.get_by_role("button", name="Remove tune").first.wait_for(state="detached")


@in_a_browser
def test_the_keyboard_is_enough(person: Person, server: Server) -> None:
    keys = person.page.keyboard
    person.tabs_to("button.link")
    keys.press("Enter")  # the example song
    person.page.locator(".section").first.wait_for()
    person.has_draft(**LARGE)
    person.page.locator(".section").first.wait_for()
    for _ in range(2):  # to one take, and back
        person.tabs_to(".segments button[aria-pressed=false]")
        keys.press("Enter")
    person.page.locator(".handle").first.wait_for()
    before = person.draft()["shots"]
    person.page.locator("h2").first.evaluate("(one) => (one.tabIndex = -1, one.focus())")
    person.tabs_to(".handle")
    keys.press("ArrowRight")
    after = person.draft()["shots"]
    assert after[1]["start"] > before[1]["start"]
    keys.press("Delete")
    assert len(person.draft()["shots"]) == len(before) - 1
    person.tabs_to("#quality")
    keys.press("ArrowLeft")
    assert person.draft()["quality"] == 3
    keys.press("ArrowRight")
    person.tabs_to("#render")
    keys.press("Enter")
    person.page.get_by_role("heading", name="Queue").wait_for()
    job = newest(server)
    assert len(job["plan"]["shots"]) == len(before) - 1
    person.tabs_to("[aria-label='Cancel song']")
    keys.press("Enter")
    assert server.ended(job["id"])["state"] == "cancelled"


@in_a_browser
def test_forty_shots_are_moved_by_dragging(person: Person, server: Server, tmp_path: Path) -> None:
    sound = good(server.client.get(f"/v1/files/{server.upload(tone(tmp_path / 'long.wav', 80))}"))
    plain = {"name": "", "section": "", "cut": "hard", **NO_LOOK}
    starts = [2.0 * number for number in range(40)]
    shots = [{"start": start, **plain} for start in starts]
    person.has_draft(sound=sound, mode="storyboard", start=0, stop=80, shots=shots, **SMALL)
    person.page.locator(".handle").nth(38).wait_for()
    person.page.locator(".section").first.wait_for()
    person.page.locator(".lanes").scroll_into_view_if_needed()
    mouse = person.page.mouse
    for number in range(39):
        box = person.page.locator(".handle").nth(number).bounding_box()
        x, y = box["x"] + 10, box["y"] + box["height"] / 2
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + 5, y)
        mouse.up()
    moved = [shot["start"] for shot in person.draft()["shots"]]
    assert moved == sorted(moved)
    assert all(new > old for new, old in zip(moved[1:], starts[1:], strict=True))
    with person.page.expect_response("**/v1/videos") as answered:
        person.clicks("button", "Make the video")
    assert answered.value.request.post_data_json["cuts"] == [round(start, 3) for start in moved[1:]]
    job = answered.value.json()
    assert len(job["plan"]["shots"]) == 40
    server.client.post(f"/v1/videos/{job['id']}/cancel")


@in_a_browser
def test_a_video_again_with_its_settings_and_takes_side_by_side(
    person: Person, server: Server, tune: Path, cover: Path
) -> None:
    sound, picture = server.upload(tune), server.upload(cover)
    shots = [{"name": "dawn"}, {"name": "noon", "start": 1.0}, {"name": "dusk", "start": 1.5}]
    jobs = [
        server.create(sound, ref_image=picture, prompt=f"take {seed}", seed=seed, size="320x176", shots=shots)
        for seed in (3, 4)
    ]
    for job in jobs:
        assert server.ended(job["id"])["state"] == "succeeded"
    person.goes_to("gallery")
    for job in jobs:
        person.page.locator(f".tile:has([href='#gallery/{job['id']}']) .mark input").check()
    person.clicks("button", "Compare 2")
    person.page.locator(".takes video").nth(1).wait_for()
    assert person.page.locator(".takes video").count() == 2
    person.clicks("button", "Play together")
    person.page.wait_for_function(
        "() => [...document.querySelectorAll('.takes video')].every((one) => !one.paused && one.currentTime > 0)"
    )
    person.goes_to(f"gallery/{jobs[0]['id']}")
    person.page.get_by_text("take 3").wait_for()
    with person.page.expect_download() as download:
        person.clicks("link", "Recipe")
    assert json.loads(Path(download.value.path()).read_text())["request"]["prompt"] == "take 3"
    with person.page.expect_download() as download:
        person.clicks("button", "Storyboard")
    told = good(server.client.get(f"/v1/videos/{jobs[0]['id']}/storyboard"))["toml"]
    assert Path(download.value.path()).read_text(encoding="utf-8") == told
    assert person.page.locator(".sheet img").evaluate("(one) => one.decode().then(() => one.naturalWidth)") > 300
    person.clicks("button", "Again with these settings")
    person.page.locator(".shot").nth(1).wait_for()
    draft = person.draft()
    assert (draft["prompt"], draft["seed"], draft["shape"], draft["picture"]["id"]) == ("take 3", "3", "16:9", picture)
    assert [(shot["name"], shot["start"]) for shot in draft["shots"]] == [("dawn", 0), ("noon", 1.0), ("dusk", 1.5)]


@in_a_browser
def test_a_seed_keeps_its_digits_from_the_page_to_the_recipe_and_back(
    person: Person, server: Server, tune: Path
) -> None:
    """More than a number in a browser has: 2⁵³ + 1 is the first that it rounds."""
    whole, own = "18446744073709551557", str(2**53 + 1)
    person.drops(tune)
    person.page.locator(".section").first.wait_for()
    plain = {**NO_LOOK, "section": "", "cut": "hard"}
    shots = [{**plain, "start": 0, "name": "dawn"}, {**plain, "start": 1, "name": "noon"}]
    person.has_draft(mode="storyboard", start=0, stop=2, shots=shots, **SMALL)
    person.page.locator("details:has(#seed) > summary").click()
    person.page.locator("#seed").fill(whole)
    person.page.locator("#seed").press("Tab")
    person.clicks("button", "Next shot")
    card = person.page.locator(".shot-card")
    card.get_by_text("More", exact=True).click()
    card.get_by_label("Seed").fill(own)
    card.get_by_label("Seed").press("Tab")

    def makes() -> dict[str, Any]:
        with person.page.expect_response("**/v1/videos") as answer:
            person.clicks("button", "Make the video")
        return server.ended(answer.value.json()["id"])

    def asked(job: str) -> tuple[str, str]:
        recipe = good(server.client.get(f"/v1/videos/{job}/recipe"))["request"]
        return str(recipe["seed"]), str(recipe["shots"][1]["seed"])

    job = makes()
    assert asked(job["id"]) == (whole, own)
    person.goes_to(f"gallery/{job['id']}")
    person.page.get_by_text(f"seed {whole}").wait_for()
    person.clicks("button", "Again with these settings")
    person.page.locator(".shot").nth(1).wait_for()
    draft = person.draft()
    assert (draft["seed"], draft["shots"][1]["seed"]) == (whole, own)
    person.page.get_by_label("What to see", exact=True).fill("neon rain")
    again = makes()
    assert asked(again["id"]) == (whole, own)
    person.goes_to(f"gallery/{again['id']}")
    person.clicks("button", "Redo dawn")
    person.page.get_by_role("heading", name="Queue").wait_for()
    redone = server.ended(newest(server)["id"])
    person.page.locator(f".button[href='#gallery/{redone['id']}']").wait_for()
    assert asked(redone["id"]) == (whole, own)
    clips = good(server.client.get(f"/v1/videos/{redone['id']}/recipe"))["plan"]["clips"]
    assert str(clips[1]["seed"]) == own


@in_a_browser
def test_a_shot_is_drawn_again_by_its_button_and_the_others_stay(person: Person, server: Server, tune: Path) -> None:
    shots = [{"name": "dawn"}, {"start": 1.0}, {"name": "dusk", "start": 1.5}]
    job = server.ended(server.create(server.upload(tune), shots=shots, **{"window.frames": 32})["id"])
    person.goes_to(f"gallery/{job['id']}")
    person.clicks("button", "Redo shot-2")
    person.page.get_by_role("heading", name="Queue").wait_for()
    again = server.ended(newest(server)["id"])
    assert (again["remixed_from_video_id"], again["state"]) == (job["id"], "succeeded")
    before, after = server.frames(job["id"]), server.frames(again["id"])
    assert (before[:16], before[24:]) == (after[:16], after[24:])
    assert before[16:24] != after[16:24]
    person.page.locator(f".button[href='#gallery/{again['id']}']").click()
    person.page.get_by_text("shot-2 was drawn again").wait_for()


@in_a_browser
@pytest.mark.parametrize("look", ["dark", "light"])
def test_no_part_of_the_page_shuts_anybody_out(browser: Any, server: Server, look: str) -> None:
    someone = Person(browser, server.address, color_scheme=look, viewport={"width": 390, "height": 844})
    for place in ("new", "queue", "gallery", "new/demo"):
        someone.goes_to(place)
        if place == "new/demo":
            someone.page.locator(".section").first.wait_for()
            someone.page.locator(".shot").first.wait_for()
        assert someone.violations() == [], place
        assert someone.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{place} is too wide"
    someone.context.close()
    assert someone.complaints == []


@in_a_browser
def test_nothing_moves_for_who_wants_it_still(browser: Any, server: Server, tune: Path) -> None:
    someone = Person(browser, server.address, reduced_motion="reduce")
    someone.goes_to()
    someone.drops(tune)
    someone.page.locator(".wave").first.wait_for()
    assert someone.page.evaluate("document.getAnimations().length") == 0
    someone.context.close()


HAND_WRITTEN = """
song = "tune.flac"

[defaults]
prompt = "neon rain"
width = 320
height = 560

[defaults.window]
duration = 9.2

[defaults.sampling]
steps = 12
infer_frames = 48

[[shot]]
name = "dawn"

[[shot]]
start = 4.5
prompt = "golden hour"
"""


@in_a_browser
@pytest.mark.skipif("/v1/storyboards" not in document()["paths"], reason="this server writes no storyboards")
def test_a_storyboard_of_the_page_is_that_of_a_text_editor(person: Person, tune: Path, tmp_path: Path) -> None:
    shutil.copy(tune, tmp_path)
    by_hand, by_page = tmp_path / "by_hand.toml", tmp_path / "by_page.toml"
    by_hand.write_text(HAND_WRITTEN, encoding="utf-8")
    person.drops(tune)
    person.page.locator(".section").first.wait_for()
    person.page.get_by_label("What to see", exact=True).fill("neon rain")
    person.page.get_by_label("Quality").fill("0")
    person.clicks("button", "Storyboard")
    person.page.locator(".shot").first.wait_for()
    first, *_ = person.draft()["shots"]
    person.has_draft(shots=[first, {**first, "start": 4.5}], seed=None, isScored=False)
    person.page.get_by_label("Name").fill("dawn")
    person.clicks("button", "Next shot")
    person.page.get_by_label("What to see in this shot").fill("golden hour")
    with person.page.expect_download() as download:
        person.clicks("button", "Save the storyboard")
    assert download.value.suggested_filename == "tune.toml"
    download.value.save_as(by_page)
    hand, page = (Request(**read_storyboard(path)).replace(storyboard=None) for path in (by_hand, by_page))
    assert page == hand
    edited = by_page.read_text(encoding="utf-8").replace("golden hour", "silver hour")
    by_page.write_text(edited, encoding="utf-8")
    person.page.get_by_label("Open a storyboard").set_input_files(by_page)
    person.page.wait_for_function("() => sessionStorage.getItem('soundreel.draft').includes('silver hour')")
    assert [(shot["name"], shot["prompt"], shot["start"]) for shot in person.draft()["shots"]] == [
        ("dawn", None, 0),
        ("", "silver hour", 4.5),
    ]


def saves(person: Person, target: Path) -> Path:
    with person.page.expect_download() as download:
        person.clicks("button", "Save the storyboard")
    download.value.save_as(target)
    return target


@in_a_browser
def test_page_file_page_file_is_byte_for_byte_the_same(person: Person, tune: Path, cover: Path, tmp_path: Path) -> None:
    dance = write_video(tmp_path / "dance.mp4", click_train(2.0, 8000), 8000)
    person.drops(tune)
    person.page.locator(".section").first.wait_for()
    person.clicks("button", "Storyboard")
    person.page.locator(".shot").nth(1).wait_for()
    person.clicks("button", "Next shot")
    card = person.page.locator(".shot-card")
    card.get_by_text("More", exact=True).click()
    for label, words in {
        "Name": "the “dawn”", "What to see in this shot": "one line\nand\tanother, \\ \"quoted\"",
        "What not to see": "crowds", "Seed": "12345678901234567890",
    }.items():  # fmt: skip
        card.get_by_label(label).fill(words)
        card.get_by_label(label).press("Tab")
    card.get_by_label("Choose a picture").set_input_files(cover)
    card.get_by_label("Choose a video of movements").set_input_files(dance)
    card.get_by_label("Moved by").select_option("vocals")
    card.get_by_label("The movement goes on from the shot before").check()
    person.waits(lambda: (shot := person.draft()["shots"][1])["picture"] and shot["pose"] and shot["drive"])
    person.clicks("button", "Next shot")
    card.get_by_label("Moved by").select_option("Another sound, which is not heard")
    card.get_by_label("Choose the sound that moves it").set_input_files(tone(tmp_path / "clicks.wav", 5.0))
    person.waits(lambda: person.draft()["shots"][2]["drive"])
    person.page.get_by_label("What to see", exact=True).fill("golden hour")
    person.page.get_by_label("Quality").fill("1")

    first, draft = saves(person, tmp_path / "first.toml"), person.draft()
    person.clicks("button", "Cut anew from the song")
    person.page.get_by_label("What to see", exact=True).fill("something else")
    person.page.get_by_label("Quality").fill("4")
    person.page.get_by_label("Open a storyboard").set_input_files(first)
    person.waits(lambda: person.draft()["prompt"] == "golden hour")
    assert saves(person, tmp_path / "second.toml").read_bytes() == first.read_bytes()
    again = person.draft()
    for shot, before in zip(again["shots"], draft["shots"], strict=True):
        assert {**shot, "start": round(shot["start"], 3)} == {**before, "start": round(before["start"], 3)}
    keys = {line.partition(" = ")[0] for line in first.read_text(encoding="utf-8").splitlines() if " = " in line}
    own = {"name", "start", "cut", "prompt", "negative", "ref_image", "pose_video", "seed", "drive"}
    assert own <= keys
    for ending, place in {"tune.flac": tune, "cover.png": cover}.items():
        shutil.copy(place, tmp_path / ending)
    by_hand = Request(**read_storyboard(first))  # the command reads it, too
    assert by_hand.shots[1].seed == 12345678901234567890


OF_A_PERSON = """
song = "tune.flac"

[defaults]
prompt = "silver hour"
width = 512
height = 320

[defaults.sampling]
guide_scale = 5.5

[[shot]]
name = "dawn"
prompt = ""

[[shot]]
start = 4.5
section = "chorus"
"""
"""A size of one's own, something that the page has no field for, and a shot without any words."""


@in_a_browser
def test_what_the_page_has_no_field_for_stays_in_the_file(person: Person, tune: Path, tmp_path: Path) -> None:
    shutil.copy(tune, tmp_path)
    written = tmp_path / "written.toml"
    written.write_text(OF_A_PERSON, encoding="utf-8")
    person.drops(tune, written)
    person.page.get_by_text("512 × 320").wait_for()
    saved = saves(person, tmp_path / "saved.toml")
    hand, page = (Request(**read_storyboard(path)).replace(storyboard=None) for path in (written, saved))
    assert page.replace(window=hand.window) == hand
    assert page.window.duration == 9.2
    person.page.get_by_label("Open a storyboard").set_input_files(saved)
    person.page.get_by_text("sampling.guide_scale 5.5").wait_for(state="attached")
    assert saves(person, tmp_path / "again.toml").read_bytes() == saved.read_bytes()


SILENT_SONG = {
    "seconds": 3600, "tempo_bpm": 0, "meter": None, "beats": [], "downbeats": [], "sections": [], "voice": [],
    "strongest": [],
}  # fmt: skip
"""What is heard in an hour is heard for half a minute: that is not waited for."""

DRAWN = """
(one) => {
  const canvas = one.firstElementChild.shadowRoot.querySelector(".canvases canvas");
  const column = (share) => canvas.getContext("2d").getImageData(canvas.width * share, 0, 12, canvas.height).data;
  const height = (share) => column(share).filter((value, index) => index % 4 === 3 && value > 0).length;
  return [height(0.01), height(0.9)];
}
"""
"""Painted pixels of a waveform near its beginning, and near its end."""


@in_a_browser
def test_an_hour_of_sound_is_laid_out_before_it_has_arrived_and_what_is_heard_comes_in_parts(
    person: Person, tmp_path: Path
) -> None:
    sent, parts = person.holds("**/v1/files"), person.holds("**/peaks?*")
    listening, found = person.holds("**/analysis/progress*"), person.holds("**/analysis")
    person.page.set_input_files("input[type=file]", tone(tmp_path / "hour.wav", 3600, rate=4000))
    person.page.get_by_label("Position").get_by_text("1:00:00.0").wait_for()
    person.page.get_by_label("From").fill("59:58")
    person.page.get_by_label("From").press("Enter")
    person.clicks("button", "Zoom in")
    person.clicks("button", "Whole sound")
    person.waits(lambda: sent)
    sent.pop().continue_()
    person.waits(lambda: parts)  # it has arrived: nothing that was laid out meanwhile is lost
    assert (person.draft()["start"], person.draft()["stop"]) == (3598, 3598.5)
    wave = person.page.locator(".wave")
    first = parts.pop()
    answer = first.fetch()
    outline = answer.json()
    first.fulfill(json={**outline, "is_whole": False, "peaks": outline["peaks"][:240]})
    person.waits(lambda: parts)
    person.waits(lambda: (drawn := wave.evaluate(DRAWN))[0] > 4 * drawn[1])  # what is there is drawn
    rest = parts.pop()
    assert rest.request.url.endswith("first=240")
    person.page.unroute("**/peaks?*")
    rest.continue_()
    person.waits(lambda: (drawn := wave.evaluate(DRAWN))[1] > drawn[0] / 2)
    assert len(outline["peaks"]) <= 12_000
    for heard, after, says in [
        (0, "", "Listening for beats and sections, 0 %"),
        (1551, "?after=36", "Listening for beats and sections, 43 %"),
        (3600, "?after=1587", "Finding beats and sections in what was heard"),
    ]:
        person.waits(lambda: listening)
        asked = listening.pop()
        assert asked.request.url.endswith(f"/analysis/progress{after}")
        asked.fulfill(json={"file": "", "heard": heard, "seconds": 3600})
        person.page.get_by_text(says).wait_for()
    person.waits(lambda: found)
    found.pop().fulfill(json=SILENT_SONG)
    person.page.get_by_text("Finding beats and sections").wait_for(state="detached")


# the command


def test_without_its_page_it_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(page_module, "STATIC", tmp_path)
    done = run_here(capsys, "studio", "--no-browser", "--data", tmp_path / "data")
    assert done.code == 5
    assert "make web" in done.err


def test_the_browser_gets_the_token_where_no_server_reads_it() -> None:
    assert page_address("http://127.0.0.1:8765", None, is_demo=False) == "http://127.0.0.1:8765/#new"
    assert page_address("http://0.0.0.0:80", "a b", is_demo=True) == "http://127.0.0.1:80/#token=a+b&to=new%2Fdemo"
    assert reachable("http://[::]:80") == "http://[::1]:80"


@pytest.mark.skipif(not page_module.has_page() and not IS_NEEDED, reason="the page is not built (make web)")
@pytest.mark.skipif(sys.platform == "win32", reason="BROWSER is heard elsewhere")
def test_the_command_opens_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    writes = tmp_path / "browser.py"
    writes.write_text(f"import sys, pathlib; pathlib.Path({str(opened)!r}).write_text(sys.argv[1])")
    monkeypatch.setenv("BROWSER", f"{sys.executable} {writes} %s")
    command = start("studio", "--demo", "--engine", "draft", "--port", "0", "--data", tmp_path / "data")
    assert command.stderr is not None
    said = command.stderr.readline()
    assert said.startswith("the studio is at http://127.0.0.1:")
    wait_for(opened.exists)
    assert wait_for(opened.read_text) == f"{said.split()[4].rstrip(',')}/#new/demo"
    command.send_signal(signal.SIGINT)
    assert command.wait(HANGS_SECONDS) == 0
    command.stderr.close()


@pytest.mark.skipif(not page_module.has_page() and not IS_NEEDED, reason="the page is not built (make web)")
def test_the_bundle_has_its_licences_and_nothing_from_elsewhere() -> None:
    files = {path.suffix: path.read_text(encoding="utf-8") for path in page_module.STATIC.iterdir()}
    assert {"wavesurfer.js", "lit", "lit-html"} <= {line.split()[0] for line in files[".txt"].splitlines() if line}
    assert "BSD" in files[".txt"]
    assert 'src="http' not in files[".html"]
    assert "<style" not in files[".html"] + files[".js"]
