"""What goes wrong with a server, and with whatever lies between it and its clients."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PAGE = b"<!doctype html><html><body>One moment, please</body></html>"
"""What a gateway shows to people."""


@dataclass
class Odd:
    """An answer in place of the server's, so many times."""

    body: bytes = PAGE
    status: int = 200
    content_type: str = "text/html"
    times: int = 1


@dataclass
class Faults:
    """What goes wrong; set before or while a prompt runs. Counts go down as they are used.

    Routes are named as in "GET /view".
    """

    answers: dict[str, Odd] = field(default_factory=dict)  # route → what something in between answers
    loses_answers: dict[str, int] = field(default_factory=dict)  # route → so many times it is done, and not answered
    shortens_downloads: int = 0  # so many bodies are cut short, as if that were all
    without_length: bool = False  # these bodies come in chunks, whose end is the end
    forgets_results: bool = False  # the history of a finished prompt is empty
    tells_states_only: bool = False  # progress comes as progress_state alone

    raises: dict[str, tuple[str, str]] = field(default_factory=dict)  # kind of node → exception type and message
    hangs_at: str | None = None  # kind of node that never ends
    interrupted_by_another: bool = False
    silent_socket: bool = False  # connects, says nothing
    refuses_socket: bool = False
    drops_sockets_at_step: int | None = None
    dies_at_step: int | None = None  # as by SIGKILL; `restart` brings it back
    is_silent: bool = False  # takes requests, and answers none
    error_answers: int = 0  # so many requests are answered 502
    drops_an_output: bool = False  # 200 with node_errors
    late_history: int = 0  # so many times a finished prompt is not in the history yet
    loses_files: int = 0  # so many finished prompts leave a history entry and no file
    downloads_cut_at: int | None = None  # bytes of a body after which the connection breaks
    ignores_range: bool = False
    output: bytes | None = None  # instead of the video
    frames_short: int = 0  # pictures missing at the end

    def answer_instead(self, called: str) -> Odd | None:
        """What something in between answers to a request, such as "GET /history/7"; None: the server does."""
        odd = self.answers.get(_named(self.answers, called) or "")
        if odd is None or odd.times == 0:
            return None
        odd.times -= 1
        return odd

    def loses_answer(self, called: str) -> bool:
        """Whether a request is done, and not answered."""
        lost = _named(self.loses_answers, called)
        if lost is None or self.loses_answers[lost] == 0:
            return False
        self.loses_answers[lost] -= 1
        return True


def _named(by_route: Mapping[str, Any], called: str) -> str | None:
    """The key that names the route of a request, "GET /history" for "GET /history/7"."""
    return next((route for route in by_route if called == route or called.startswith(route + "/")), None)
