"""Pictures of all screens of the studio, at three widths, dark and light, and one sheet of them: to be looked at.

PYTHONPATH=tests python -m studio_screens FOLDER              all
PYTHONPATH=tests python -m studio_screens FOLDER queue video  these screens
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from PIL import Image

from browsing import Person, chromium
from serving import Server
from soundreel.disk.example_files import PICTURE, SONG, example_folder

WIDTHS: Final = {"phone": (390, 844), "tablet": (820, 1180), "desktop": (1440, 900)}
LOOKS: Final = ("dark", "light")
SETTLED_MS: Final = 500

SHOTS: Final = [
    {"name": "dawn"},
    {"start": 4, "name": "rain", "prompt": "neon rain, magenta"},
    {"start": 6, "name": "out"},
]
LARGE: Final = {"size": "1216x704", "window.full": True, "window.frames": None, "cuts": [3, 6]}
"""Rendered for long enough to be seen on its way."""

TALLEST, SHEET_WIDTH, GAP = 900, 300, 12
"""Of a picture in the sheet, pixels."""

Screen = Callable[[Person], None]


def welcome(person: Person) -> None:
    person.goes_to()


def storyboard(person: Person) -> None:
    person.goes_to("new/demo")
    person.page.locator(".section").first.wait_for()
    person.page.locator(".shot").nth(1).click()
    person.page.locator(".facts:not(.stale) dd").first.wait_for()


def one_take(person: Person) -> None:
    storyboard(person)
    person.clicks("button", "One take")


def unfolded(person: Person) -> None:
    storyboard(person)
    for summary in person.page.locator("summary").all():
        summary.click()


def sending(person: Person) -> None:
    person.goes_to()
    person.holds("**/v1/files")
    person.page.set_input_files("input[type=file]", example_folder() / SONG)
    person.page.locator(".transport").wait_for()


def no_sound(person: Person) -> None:
    person.goes_to()
    notes = {"name": "notes.mp3", "mimeType": "audio/mpeg", "buffer": b"words" * 100}
    person.page.set_input_files("input[type=file]", [notes])
    person.page.locator("#sound-error:not(:empty)").wait_for()


def wrong_fields(person: Person) -> None:
    unfolded(person)
    for label, words in {"#shot-seed": "lucky", "#seed": "lucky", "input.time >> nth=0": "soon"}.items():
        person.page.locator(label).fill(words)
        person.page.locator(label).press("Enter")
    notes = {"name": "notes.png", "mimeType": "image/png", "buffer": b"words" * 100}
    person.page.locator("#look-title ~ look-fields picture-view input").set_input_files([notes])
    person.page.locator("#picture-error:not(:empty)").wait_for()


def queue(person: Person) -> None:
    person.goes_to("queue")
    video = person.page.locator(".job video").first
    video.wait_for()
    video.evaluate("(one) => one.play()")


def offline(person: Person) -> None:
    person.goes_to("queue")
    person.page.route("**/v1/events", lambda route: route.abort())
    person.page.reload()
    person.page.locator(".offline").wait_for()


def gallery(person: Person) -> None:
    person.goes_to("gallery")
    person.page.locator(".tile img").first.wait_for()


def empty(place: str) -> Screen:
    return lambda person: person.goes_to(place)


def video(person: Person) -> None:
    gallery(person)
    person.page.locator(".tile a").last.click()
    person.page.locator(".sheet img").evaluate("(one) => one.decode()")


def removing(person: Person) -> None:
    video(person)
    person.clicks("button", "Remove")
    person.page.get_by_role("dialog").wait_for()


def side_by_side(person: Person) -> None:
    gallery(person)
    for mark in person.page.locator(".mark input").all()[:2]:
        mark.check()
    person.clicks("button", "Compare 2")
    person.page.locator(".takes video").nth(1).wait_for()


EMPTY: Final[dict[str, Screen]] = {
    "welcome": welcome, "no_videos": empty("gallery"), "no_queue": empty("queue"), "no_sound": no_sound,
    "sending": sending, "offline": offline, "one_take": one_take, "storyboard": storyboard, "unfolded": unfolded,
    "wrong_fields": wrong_fields,
}  # fmt: skip
BUSY: Final[dict[str, Screen]] = {
    "queue": queue, "gallery": gallery, "video": video, "side_by_side": side_by_side, "removing": removing,
}  # fmt: skip


@contextmanager
def busy(server: Server) -> Iterator[None]:
    """Three finished videos, one that has failed, one cancelled, one that renders, and two that wait."""
    sound, picture = (server.upload(example_folder() / name) for name in (SONG, PICTURE))
    for number, size in enumerate(("480x832", "832x480", "640x640")):
        fields = {"window.frames": None, "window.start": 2.0, "window.duration": 6.0, "sampling.infer_frames": 80}
        more: dict[str, Any] = {"ref_image": picture, "output.score": True, "shots": SHOTS} if number != 1 else {}
        server.ended(server.create(sound, size=size, prompt="neon rain at night", seed=number, **fields, **more)["id"])
    cancelled = server.create(sound, **{"window.frames": 200}, size="512x512")["id"]
    server.client.post(f"/v1/videos/{cancelled}/cancel")
    server.ended(cancelled)
    failed, *others = [server.create(sound, prompt="golden hour", seed=seed, **LARGE)["id"] for seed in range(4)]
    server.stored(failed)
    server.kill_worker()
    server.ended(failed)
    yield
    for job in others:
        server.client.post(f"/v1/videos/{job}/cancel")


def take(browser: Any, server: Server, screens: dict[str, Screen], folder: Path) -> None:
    for name, prepare in screens.items():
        for look in LOOKS:
            for width, (across, down) in WIDTHS.items():
                viewport = {"width": across, "height": down}
                person = Person(browser, server.address, viewport=viewport, color_scheme=look)
                prepare(person)
                person.page.wait_for_timeout(SETTLED_MS)
                person.page.screenshot(path=str(folder / f"{name}-{look}-{width}.png"), full_page=True)
                person.page.unroute_all(behavior="ignoreErrors")
                person.context.close()


def sheet(folder: Path) -> None:
    """All pictures in one, a row for each screen."""
    rows: dict[str, list[Image.Image]] = {}
    for path in sorted(folder.glob("*-*-*.png")):
        small = Image.open(path).convert("RGB")
        small = small.resize((SHEET_WIDTH, round(small.height * SHEET_WIDTH / small.width)))
        rows.setdefault(path.name.split("-")[0], []).append(small.crop((0, 0, SHEET_WIDTH, min(small.height, TALLEST))))
    heights = [max(one.height for one in row) + GAP for row in rows.values()]
    whole = Image.new("RGB", ((SHEET_WIDTH + GAP) * max(map(len, rows.values())), sum(heights)), "#77706a")
    for number, row in enumerate(rows.values()):
        for column, one in enumerate(row):
            whole.paste(one, (column * (SHEET_WIDTH + GAP), sum(heights[:number])))
    whole.save(folder / "sheet.jpg", quality=85)


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:] or [*EMPTY, *BUSY]
    folder.mkdir(parents=True, exist_ok=True)
    with Server(folder / "data", "--max-crashes", "1") as server, chromium() as browser:
        take(browser, server, {name: EMPTY[name] for name in names if name in EMPTY}, folder)
        wanted = {name: BUSY[name] for name in names if name in BUSY}
        if wanted:
            with busy(server):
                take(browser, server, wanted, folder)
    sheet(folder)


if __name__ == "__main__":
    main()
