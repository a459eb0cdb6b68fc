"""Waiting for a server that does not answer: a request is made again until it is answered or patience ends."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from soundreel.engines.comfyui.failures import NoServerError, UnreachableError
from soundreel.types import Check, Progress, Report, Stage, go_on

OUTAGE_SECONDS: Final = 120.0
"""Longest time for which a server may be unreachable: a restart takes up to 30 s, a machine's reboot longer."""

BRIEF_SECONDS: Final = 3.0
"""The same before a render has begun, when somebody waits for the first word."""

FIRST_PAUSE_SECONDS: Final = 0.25
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Between two attempts; each pause is twice the one before."""

TICK_SECONDS: Final = 0.25
"""Longest time between two checks during a pause."""

T = TypeVar("T")


def _quiet(_: Progress) -> None:
    """No display."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a server is waited for, and who is told."""

    seconds: float
    waits_for_start: bool  # also where nothing listens at the address
    report: Report = _quiet
    check: Check = go_on

    @classmethod
    def brief(cls) -> Self:
        """For a server that is asked for the first time."""
        return cls(seconds=BRIEF_SECONDS, waits_for_start=False)

    @classmethod
    def of_render(cls, report: Report, check: Check = go_on) -> Self:
        """For a server that is known to be one: it may be restarted meanwhile."""
        return cls(seconds=OUTAGE_SECONDS, waits_for_start=True, report=report, check=check)

    def for_running_servers(self) -> Self:
        """The same, except that a server that has ended is not waited for."""
        return dataclasses.replace(self, waits_for_start=False)

    def bear(self, ask: Callable[[], T], renewed_by: Callable[[], object] = lambda: None) -> T:
        """The result of `ask`, which is called again while it raises `UnreachableError`.

        Args:
            ask: makes a request.
            renewed_by: a value with each change of which patience begins anew, such as the number of bytes received.

        Raises:
            UnreachableError: the last one, when patience is at its end.
            Cancelled: raised by report or check.
        """
        ends_at, pause, before = time.monotonic() + self.seconds, FIRST_PAUSE_SECONDS, renewed_by()
        while True:
            try:
                return ask()
            except UnreachableError as error:
                if (now := renewed_by()) != before:
                    ends_at, pause, before = time.monotonic() + self.seconds, FIRST_PAUSE_SECONDS, now
                is_hopeless = isinstance(error, NoServerError) and not self.waits_for_start
                if is_hopeless or time.monotonic() + pause > ends_at:
                    raise
                self.report(Progress(stage=Stage.QUEUE, what=f"{error}; trying again"))
            self.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def sleep(self, seconds: float) -> None:
        """Wait, and hear a stop meanwhile."""
        ends_at = time.monotonic() + seconds
        while (left := ends_at - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, TICK_SECONDS))
        self.check()
