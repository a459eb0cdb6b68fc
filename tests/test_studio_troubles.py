"""The page of the studio when something is wrong: bad input, a server that goes away, other tabs, little room."""

import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from browsing import Person, in_a_browser
from media_files import tone, write_sound
from serving import LONG_JOB, Server, good, wait_for

pytest_plugins = ("studio_fixtures",)


@pytest.fixture(autouse=True)
def nothing_goes_on() -> None:
    """In place of the fixture that ends all processes after each test: server and browser are for all of them."""


@contextmanager
def server_at_one_port(data: Path, *options: str) -> Iterator[Server]:
    """A server that is at the same address when it is started again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with Server(data, "--port", port, *options) as server:
        yield server


@in_a_browser
def test_a_server_that_dies_is_waited_for_and_the_render_goes_on(browser: Any, tune: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with Server(tmp_path / "data", "--port", port) as server:
        job = server.create(server.upload(tune), **LONG_JOB)
        someone = Person(browser, server.address)
        someone.goes_to("queue")
        someone.page.locator(".job").wait_for()
        server.stored(job["id"])
        server.kill()
        away = someone.page.get_by_text("The server does not answer.")
        away.wait_for()
        server.start()
        away.wait_for(state="detached")
        someone.page.get_by_role("link", name="Download tune").wait_for()
        assert server.ended(job["id"])["attempts"] == 2
        someone.context.close()


@in_a_browser
def test_a_render_that_fails_says_why_and_is_tried_again(browser: Any, tune: Path, tmp_path: Path) -> None:
    with Server(tmp_path / "data", "--max-crashes", "1") as server:
        someone = Person(browser, server.address)
        someone.goes_to("queue")
        job = server.create(server.upload(tune), **LONG_JOB)
        server.stored(job["id"])
        server.kill_worker()
        failed = server.ended(job["id"])
        assert failed["state"] == "failed"
        reason, _, cure = failed["error"]["message"].partition(": ")
        someone.page.get_by_text(f"{reason[0].upper()}{reason[1:]}").wait_for()
        assert cure == "retry tries again"
        assert someone.violations() == []
        someone.clicks("button", "Try again: tune")
        someone.page.get_by_role("link", name="Download tune").wait_for()
        someone.context.close()
        assert someone.complaints == []


def laid_out(person: Person, tune: Path) -> dict[str, Any]:
    """The page with a song whose plan is there."""
    person.drops(tune)
    person.page.locator(".facts dd").nth(1).get_by_text("MB").wait_for()
    return person.draft()


NO_LOOK = dict.fromkeys(("prompt", "negative", "picture", "seed", "drive", "pose"))


def shot(start: float, **own: Any) -> dict[str, Any]:
    return {"name": "", "section": "", "cut": "hard", **NO_LOOK, "start": start, **own}


SIZE = {"width": 480, "height": 832, "steps": 30, "inferFrames": 80}


@in_a_browser
def test_what_is_wrong_stands_under_its_field(person: Person, server: Server, tune: Path, cover: Path) -> None:
    sound = laid_out(person, tune)["sound"]
    picture = good(server.client.get(f"/v1/files/{server.upload(cover)}"))
    board = {"mode": "storyboard", "start": 0, "stop": 5}
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"start": 20.0, "stop": 25.0}, "part", "The start is 20 s, but the sound is 9.200 s long"),
        ({"sound": {**sound, "id": picture["id"]}}, "sound", "'cover.png' is a picture"),
        ({"picture": {**picture, "id": sound["id"]}}, "picture", "'tune.flac' is a sound: expected a picture"),
        ({"picture": {**picture, "id": "file_gone"}}, "picture", "There is no file"),
        ({"drive": picture}, "drive", "'cover.png' is a picture: expected a sound"),
        ({"pose": sound}, "pose", "'tune.flac' is a sound: expected a video"),
        ({"seed": -4}, "seed", "Seed is -4: expected at least 0"),
        ({"size": {**SIZE, "width": 100}}, "quality", "Width is 100: expected a multiple of 16"),
        ({"model": "wan"}, "engine", "There is no model 'wan' here"),
        ({"rest": {"output.crf": 99}}, "render", "crf is 99"),
        ({**board, "shots": [shot(0, name="a"), shot(2), shot(1)]}, "shots", "expected them in order"),
        ({**board, "shots": [shot(0, name="a"), shot(2, name="a")]}, "shots", "Two shots are called 'a'"),
        (
            {**board, "shots": [shot(0), shot(2, picture={**picture, "id": sound["id"]})]},
            "shot-picture",
            "expected a pi",
        ),
        ({**board, "shots": [shot(0), shot(2, drive=picture)]}, "shot-drive", "expected a sound"),
        ({**board, "shots": [shot(0), shot(2, pose=sound)]}, "shot-pose", "expected a video"),
    ]
    kept = person.draft()
    for changes, place, says in cases:
        person.has_draft(**{**kept, **changes})
        told = person.page.locator(f"#{place}-error")
        told.filter(has_text=says).wait_for()
        assert told.is_visible(), place  # also where it was folded away
        assert person.page.locator(".error:not(:empty)").count() == 1, place
        described = person.page.locator(f"[aria-describedby='{place}-error']")
        assert described.count() >= 1, place
    person.page.get_by_text("Shot 2 of 2").wait_for()  # the shot that is wrong has been chosen
    person.complaints.clear()  # that the server has refused plans


@in_a_browser
def test_what_cannot_be_meant_is_told_before_it_is_asked_for(
    person: Person, tune: Path, cover: Path, tmp_path: Path
) -> None:
    words = tmp_path / "song.mp3"
    words.write_text("no music, only words")
    person.drops(words)
    person.page.locator("#sound-error").get_by_text("no sound, picture or video").wait_for()
    person.drops(cover)
    person.page.locator("#sound-error").get_by_text("is a picture without sound").wait_for()
    laid_out(person, tune)
    person.drops(words)
    person.page.locator("#sound-error").get_by_text("no sound, picture or video").wait_for()
    assert person.draft()["sound"]["filename"] == "tune.flac"
    person.page.get_by_label("Choose a picture").set_input_files(words)
    person.page.locator("#picture-error").get_by_text("no sound, picture or video").wait_for()
    person.page.get_by_label("Choose a picture").set_input_files(tune)
    person.page.locator("#picture-error").get_by_text("tune.flac is a sound: expected a picture").wait_for()
    person.page.get_by_label("From").fill("soon")
    person.page.get_by_label("From").press("Enter")
    person.page.locator("#part-error").get_by_text("“soon” is no time").wait_for()
    person.page.get_by_label("From").fill("1")
    person.page.get_by_label("From").press("Enter")
    person.page.locator("#part-error:empty").wait_for(state="attached")
    person.page.get_by_text("More", exact=True).click()
    for nonsense in ("-1", "1.5", "lucky", "9" * 40):
        person.page.get_by_label("Seed").fill(nonsense)
        person.page.get_by_label("Seed").press("Enter")
        person.page.locator("#seed-error").get_by_text("is no seed").wait_for()
    person.page.get_by_label("What to see", exact=True).fill("neon rain")
    person.clicks("button", "Make the video")  # not with another seed than the one that was meant
    assert person.page.get_by_label("Seed").evaluate("(one) => one === document.activeElement && one.value") == "9" * 40
    person.page.get_by_label("Seed").fill("7")
    person.page.get_by_label("Seed").press("Enter")
    person.page.locator("#seed-error:empty").wait_for(state="attached")
    assert person.draft()["seed"] == "7"
    person.page.get_by_label("Choose a video of movements").set_input_files(tune)
    person.page.locator("#pose-error").get_by_text("is a sound: expected a video").wait_for()
    person.complaints.clear()  # that the server has refused the words


@in_a_browser
def test_a_sound_that_is_too_long_is_told_where_its_part_is_chosen(browser: Any, tune: Path, tmp_path: Path) -> None:
    with Server(tmp_path / "data", "--max-seconds", "3", "--max-upload", "1mb") as server:
        someone = Person(browser, server.address)
        someone.goes_to()
        someone.drops(tune)
        told = someone.page.locator("#part-error")
        told.get_by_text("expected at most 3").wait_for()
        someone.page.get_by_label("to", exact=True).fill("4")
        someone.page.get_by_label("From").fill("2")
        someone.page.get_by_label("to", exact=True).fill("4")
        someone.page.get_by_label("to", exact=True).press("Enter")
        someone.page.locator("#part-error:empty").wait_for(state="attached")
        held = someone.holds("**/v1/files")
        someone.drops(write_sound(tmp_path / "large.wav", tone(40.0, 44100), 44100))
        someone.page.get_by_role("heading", name="large.wav").wait_for()
        someone.page.get_by_label("What to see", exact=True).fill("neon rain")  # while it is on its way
        someone.clicks("button", "Whole song")
        someone.waits(lambda: held)
        held.pop().continue_()
        someone.page.locator("#sound-error").get_by_text("File is larger than 1.0 MB").wait_for()
        someone.page.get_by_role("heading", name="tune.flac").wait_for()
        assert (someone.draft()["start"], someone.draft()["stop"]) == (2, 4)
        someone.context.close()


# files


@in_a_browser
def test_a_storyboard_is_dropped_with_what_it_names(person: Person, tune: Path, cover: Path, tmp_path: Path) -> None:
    ballad = Path(shutil.copy(tune, tmp_path / "ballad.flac"))
    board = tmp_path / "board.toml"
    text = 'song = "ballad.flac"\n[[shot]]\nname = "dawn"\n[[shot]]\nstart = 4.5\nref_image = "cover.png"\n'
    board.write_text(text, encoding="utf-8")
    person.drops(board)
    told = person.page.locator("#sound-error")
    told.get_by_text("Song is 'ballad.flac', which is not here: drop it together with the storyboard").wait_for()
    person.drops(board, cover, ballad)
    person.page.locator(".shot").nth(1).wait_for()
    assert [shot["name"] for shot in person.draft()["shots"]] == ["dawn", ""]
    assert person.draft()["shots"][1]["picture"]["filename"] == "cover.png"
    board.write_text(text.replace("4.5", "0"), encoding="utf-8")
    person.drops(board)
    told.get_by_text("shots overlap").wait_for()
    assert person.draft()["shots"][1]["start"] == 4.5
    person.complaints.clear()  # that the server has refused them


@in_a_browser
def test_a_reload_while_a_song_is_sent_is_asked_about_and_brings_back_what_was_there(
    person: Person, tune: Path, tmp_path: Path
) -> None:
    laid_out(person, tune)
    held = person.holds("**/v1/files")
    person.page.set_input_files("input[type=file]", write_sound(tmp_path / "other.wav", tone(3.0, 8000), 8000))
    person.page.get_by_role("heading", name="other.wav").wait_for()
    person.waits(lambda: held)
    asked: list[str] = []
    person.page.once("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    person.page.reload()
    person.page.get_by_role("heading", name="tune.flac").wait_for()
    assert asked == ["beforeunload"]
    person.page.unroute("**/v1/files")
    person.page.set_input_files("input[type=file]", tmp_path / "other.wav")
    person.waits(lambda: person.draft()["sound"]["filename"] == "other.wav")


# a server that goes away


@in_a_browser
def test_what_is_sent_while_the_server_dies_is_sent_again(browser: Any, tune: Path, tmp_path: Path) -> None:
    with server_at_one_port(tmp_path / "data") as server:
        someone = Person(browser, server.address)
        someone.goes_to()
        held = someone.holds("**/v1/files")
        someone.drops(tune)
        someone.waits(lambda: held)
        server.kill()
        someone.page.get_by_text("The server does not answer.").wait_for()
        held.pop().continue_()  # into nothing
        someone.page.unroute("**/v1/files")
        server.start()
        someone.page.locator(".section").first.wait_for()
        someone.page.get_by_label("Quality").fill("0")
        someone.clicks("button", "Make the video")
        someone.page.get_by_role("link", name="Download tune").wait_for()
        someone.context.close()


# tabs and room


@in_a_browser
def test_two_tabs_make_two_videos(person: Person, tune: Path) -> None:
    laid_out(person, tune)
    words = person.page.get_by_label("What to see", exact=True)
    words.fill("neon rain")
    other = person.tab()
    person.goes_to("new", other)
    theirs = other.get_by_label("What to see", exact=True)
    assert theirs.input_value() == "neon rain"  # a new tab begins with what was there
    theirs.fill("golden hour")
    person.page.get_by_label("Quality").fill("0")
    other.reload()
    person.page.reload()
    assert (words.input_value(), theirs.input_value()) == ("neon rain", "golden hour")


@in_a_browser
def test_a_video_that_another_tab_has_removed_says_so(person: Person, server: Server, tune: Path) -> None:
    job = server.ended(server.create(server.upload(tune), **{"window.frames": 16})["id"])
    person.goes_to(f"gallery/{job['id']}")
    person.page.get_by_role("button", name="Again with these settings").wait_for()
    good(server.client.delete(f"/v1/videos/{job['id']}"))
    person.page.get_by_text("This video is not here any more").wait_for()
    person.page.reload()
    person.page.get_by_text("This video is not here any more").wait_for()
    person.clicks("link", "To the others")
    person.complaints.clear()  # that it is not found


@in_a_browser
def test_a_browser_that_keeps_nothing_makes_a_video_all_the_same(person: Person, server: Server, tune: Path) -> None:
    person.context.add_init_script(
        "Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError') };"
    )
    person.page.reload()
    person.drops(tune)
    person.page.get_by_label("What to see", exact=True).fill("neon rain")
    person.page.get_by_label("Quality").fill("0")
    person.page.get_by_role("button", name=re.compile("colours")).click()
    with person.page.expect_response("**/v1/videos") as answered:
        person.clicks("button", "Make the video")
    job = answered.value.json()
    assert job["prompt"] == "neon rain"
    server.client.post(f"/v1/videos/{job['id']}/cancel")


@in_a_browser
def test_every_step_is_taken_back(person: Person, tune: Path) -> None:
    laid_out(person, tune)
    person.page.locator(".section").first.wait_for()
    person.clicks("button", "Storyboard")
    person.page.locator(".shot").nth(1).wait_for()
    before = person.draft()["shots"]
    person.clicks("button", "Split in two")
    assert len(person.draft()["shots"]) == len(before) + 1
    person.page.keyboard.press("Control+z")
    assert person.draft()["shots"] == before
    person.clicks("button", "Redo")
    assert len(person.draft()["shots"]) == len(before) + 1
    person.clicks("button", "Undo")
    assert person.draft()["shots"] == before
    person.page.get_by_label("Quality").fill("0")
    with person.page.expect_response("**/v1/videos") as answered:
        person.page.keyboard.press("Control+Shift+Enter")
    assert answered.value.json()["priority"] == 100  # before all that wait


# other ways to see and to move


@in_a_browser
def test_a_dialog_is_left_by_keyboard_and_the_focus_goes_back(person: Person, server: Server, tune: Path) -> None:
    job = server.ended(server.create(server.upload(tune), **{"window.frames": 16})["id"])
    person.goes_to(f"gallery/{job['id']}")
    remove = person.page.get_by_role("button", name="Remove", exact=True).first
    remove.focus()
    person.page.keyboard.press("Enter")
    person.page.get_by_role("dialog").wait_for()
    person.page.keyboard.press("Escape")
    person.page.get_by_role("dialog").wait_for(state="detached")
    assert remove.evaluate("(one) => one === document.activeElement")
    assert server.get(job["id"])["state"] == "succeeded"
    person.page.keyboard.press("Enter")
    assert person.page.get_by_role("button", name="Keep it").evaluate("(one) => one === document.activeElement")
    assert person.violations() == []
    person.page.keyboard.press("Tab")
    person.page.keyboard.press("Enter")
    wait_for(lambda: server.client.get(f"/v1/videos/{job['id']}").status_code == 404)
    person.page.get_by_role("heading", name="Gallery").wait_for()
    assert person.page.evaluate("document.activeElement?.tagName") == "H1"


@in_a_browser
def test_a_question_that_follows_at_once_is_answered_by_itself(person: Person) -> None:
    """A browser tells of a dialog's closing a moment later: the next question may be there by then."""
    answers = person.page.evaluate(
        """async () => {
          const asking = document.querySelector("ask-dialog"), dialog = () => asking.querySelector("dialog");
          const is_open = async () => { while (!dialog().open) await Promise.resolve(); };
          const first = asking.ask("One?", "", "Yes");
          await is_open();
          dialog().close("");
          const second = asking.ask("Two?", "", "Yes");
          await is_open();
          await new Promise((go_on) => setTimeout(go_on)); // the closing of the first is told of
          dialog().close("yes");
          return [await first, await second];
        }"""
    )
    assert answers == [False, True]


@in_a_browser
@pytest.mark.parametrize("width", [pytest.param(320, marks=pytest.mark.long), 160])
def test_nothing_is_cut_off_where_there_is_little_room(browser: Any, server: Server, tune: Path, width: int) -> None:
    """320 pixels, and those at 200 %."""
    job = server.ended(server.create(server.upload(tune), **{"window.frames": 16})["id"])
    server.client.post(f"/v1/videos/{server.create(server.upload(tune), **LONG_JOB)['id']}/cancel")
    someone = Person(browser, server.address, viewport={"width": width, "height": 500}, device_scale_factor=2)
    for place in ("new", "queue", "gallery", f"gallery/{job['id']}", "new/demo"):
        someone.goes_to(place)
        if place == "new/demo":
            someone.page.locator(".section").first.wait_for()
        assert someone.too_wide() == [], place
        assert someone.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place
    someone.context.close()


@in_a_browser
def test_who_needs_contrast_gets_it(browser: Any, server: Server) -> None:
    someone = Person(browser, server.address, contrast="more")
    someone.goes_to()
    read = "getComputedStyle(document.documentElement).getPropertyValue('--muted')"
    strong = someone.page.evaluate(read)
    someone.page.emulate_media(contrast="no-preference")
    assert someone.page.evaluate(read) != strong
    someone.page.emulate_media(contrast="more")
    assert someone.violations() == []
    someone.context.close()
