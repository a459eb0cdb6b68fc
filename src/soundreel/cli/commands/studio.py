"""`soundreel studio`: a server, and its page in a browser."""

import threading
import webbrowser
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from soundreel.cli.commands.serve import takes_server
from soundreel.cli.display_options import takes_verbosity
from soundreel.cli.streams import say
from soundreel.errors import EngineError

if TYPE_CHECKING:
    from soundreel.server.settings import Settings


@takes_verbosity
@takes_server
def studio(
    settings: "Settings",
    demo: Annotated[bool, typer.Option("--demo", help="With the example song laid out.", show_default=False)] = False,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only say where the page is.", show_default=False)
    ] = False,
) -> None:
    """Make videos on a page in the browser: drop a song, see it, render it (docs/studio.md)."""
    from soundreel.server.app import serve as run
    from soundreel.server.page import has_page

    if not has_page():
        raise EngineError(
            "this soundreel has no page: type make web in a clone of soundreel, or pip install a released soundreel, "
            "which has it; soundreel serve needs none"
        )

    def open_page(address: str) -> None:
        say(f"the studio is at {reachable(address)}, data in {settings.data}; Ctrl-C ends it")
        if not no_browser:
            page = page_address(address, settings.token, is_demo=demo)
            threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()  # some wait until it is closed

    run(settings, open_page)


def page_address(address: str, token: str | None, *, is_demo: bool) -> str:
    """What a browser on this machine is to open; the token is in the part that no browser sends."""
    place = "new/demo" if is_demo else "new"
    return f"{reachable(address)}/#{place if token is None else urlencode({'token': token, 'to': place})}"


def reachable(address: str) -> str:
    """The address by which this machine reaches a server that listens at all of its own."""
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
