"""The page of `soundreel studio` in a headless Chromium of this machine, and a person who uses it."""

import base64
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from mimetypes import guess_type
from pathlib import Path
from typing import Any

import pytest

from command import REPO
from soundreel.server.page import has_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
AXE = REPO / "web" / "node_modules" / "axe-core" / "axe.min.js"
WAITS_MS = 60_000
"""Against hanging: everything here happens within a second or two on an idle machine."""


def what_is_missing() -> str | None:
    """Why the page cannot be tried here."""
    if find_spec("playwright") is None:
        return "the package playwright is not installed"
    if CHROMIUM is None:
        return "there is no Chromium (apt install chromium)"
    if not has_page() or not AXE.is_file():
        return "the page is not built (make web)"
    return None


IS_NEEDED = os.environ.get("SOUNDREEL_BROWSER") == "needed"
"""As in CI: what is missing is a failure."""

MISSING = what_is_missing()
in_a_browser = pytest.mark.skipif(MISSING is not None and not IS_NEEDED, reason=str(MISSING))

DROP = """
([selector, files]) => {
  const transfer = new DataTransfer();
  for (const [name, type, data] of files) {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type }));
  }
  const target = document.querySelector(selector);
  for (const type of ["dragenter", "dragover", "drop"])
    target.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: transfer }));
}
"""


TOO_WIDE = """
() => [...document.querySelectorAll("main *, header *")]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".unseen, .lanes, .wave"))
  .map((one) => one.outerHTML.slice(0, 90))
"""


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - not everywhere

    reason = what_is_missing()
    assert reason is None, reason
    with sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium has none for root
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        try:
            yield browser
        finally:
            browser.close()


class Person:
    """Somebody before the page; every click, drop and press is counted.

    Args:
        setting: how their browser is: `color_scheme`, `viewport`, `reduced_motion`.
    """

    def __init__(self, browser: Any, address: str, **setting: Any) -> None:
        self.address = address
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **setting})
        self.context.set_default_timeout(WAITS_MS)
        self.complaints: list[str] = []
        self.page = self.tab()
        self.interactions = 0

    def tab(self) -> Any:
        """One more tab; what its console complains about is kept."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console",
            lambda said: said.type == "error" and self.complaints.append(f"{said.text} {said.location.get('url', '')}"),
        )
        return page

    def goes_to(self, place: str = "new", page: Any = None) -> None:
        page = page or self.page
        page.goto(f"{self.address}/#{place}")
        page.wait_for_selector("main h1", state="attached")

    def drops(self, *files: Path, on: str = ".new") -> None:
        self.interactions += 1
        sent = [(file.name, guess_type(file)[0] or "", base64.b64encode(file.read_bytes()).decode()) for file in files]
        self.page.evaluate(DROP, [on, sent])

    def clicks(self, role: str, name: str, **more: Any) -> None:
        self.interactions += 1
        self.page.get_by_role(role, name=name, **more).click()

    def has_draft(self, **changes: Any) -> None:
        """The draft that the page keeps, changed, and the page opened anew."""
        self.page.evaluate(
            "(changes) => {"
            " const kept = JSON.parse(sessionStorage.getItem('soundreel.draft') ?? '{}');"
            " sessionStorage.setItem('soundreel.draft', JSON.stringify({...kept, ...changes}));"
            " Storage.prototype.setItem = () => {};"  # what is heard in the song meanwhile would be written over it
            "}",
            changes,
        )
        self.page.reload()

    def draft(self) -> dict[str, Any]:
        kept: dict[str, Any] = self.page.evaluate("JSON.parse(sessionStorage.getItem('soundreel.draft'))")
        return kept

    def holds(self, address: str) -> list[Any]:
        """Requests for addresses like this one wait from now on, until they are told to go on."""
        held: list[Any] = []

        def hold(route: Any) -> None:
            held.append(route)

        self.page.route(address, hold)
        return held

    def waits(self, found: Callable[[], Any]) -> Any:
        """What `found` returns once it is anything; the browser goes on meanwhile."""
        end = time.monotonic() + WAITS_MS / 1000
        while not (result := found()):
            assert time.monotonic() < end, "nothing came"
            self.page.wait_for_timeout(20)
        return result

    def tabs_to(self, selector: str) -> None:
        """Press Tab until what has the focus matches."""
        for _ in range(120):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("(selector) => document.activeElement?.matches(selector)", selector):
                return
        raise AssertionError(f"Tab leads to no {selector}")

    def too_wide(self, page: Any = None) -> list[str]:
        """What sticks out of the window on the right."""
        found: list[str] = (page or self.page).evaluate(TOO_WIDE)
        return found

    def violations(self) -> list[str]:
        """What axe-core finds on the page as it is."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))  # not as a script element: the page's policy allows none
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found["violations"]]
