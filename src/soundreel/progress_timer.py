"""What progress says of the whole: how much of it is done, how long it has taken and will take."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from soundreel.types import CancelFlag, Progress, Report, Stage

SAMPLED, WRITTEN = "sampled", "written"

KINDS: Final[Mapping[Stage, str]] = {
    Stage.RENDER: SAMPLED,
    Stage.ENCODE: SAMPLED,
    Stage.PRINT: SAMPLED,
    Stage.INTERPOLATE: WRITTEN,
    Stage.WRITE: WRITTEN,
}
"""Stages that take turns all through a render, and which of two kinds of work they are; the others come before them."""


@dataclass
class Work:
    """How far one kind of work is."""

    before: float  # the share of it that was done when this process began with it
    share: float
    spent: float = 0.0  # seconds
    promised: float | None = None  # seconds that were left at `promised_at`, as the engine said
    promised_at: float = 0.0

    def remaining(self, now: float) -> float | None:
        """Seconds: as the engine says, else as it went until now; None: nothing is done yet."""
        if self.promised is not None:
            return max(0.0, self.promised - (now - self.promised_at))
        done = self.share - self.before
        return self.spent * (1 - self.share) / done if done > 0 else None

    def whole(self, now: float) -> float:
        """Seconds that all of it takes, what was done before included; 0 where that is not known."""
        remaining = self.remaining(now)
        if remaining is not None and self.share < 1:
            return remaining / (1 - self.share)
        return self.spent / (self.share - self.before) if self.share > self.before else 0.0


class ProgressTimer:
    """Hands progress on, with what it says of the whole; hears a flag meanwhile.

    The time between two reports belongs to the work of the later one: what goes on beside it and is not told of takes
    no time of its own. Where work begins that was not told of before, more is left than was thought.
    """

    def __init__(
        self,
        on_progress: Report | None,
        stop: CancelFlag | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_progress, self._stop, self._clock = on_progress, stop or CancelFlag(), clock
        self._begun, self._last = clock(), 0.0
        self._works: dict[str, Work] = {}

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return self._clock() - self._begun

    def __call__(self, progress: Progress) -> None:
        """Report. Raises `Cancelled` once the flag is set."""
        self._stop.check()
        if self._on_progress is None:
            return
        now = self.elapsed
        self._account(progress, now)
        self._last = now
        self._on_progress(
            dataclasses.replace(progress, seconds=now, eta_seconds=self._left(now), share=self._share(now))
        )

    def _account(self, progress: Progress, now: float) -> None:
        kind = KINDS.get(progress.stage)
        if kind is None or not progress.total:
            return
        share = progress.done / progress.total
        if (work := self._works.get(kind)) is None:
            work = self._works[kind] = Work(before=share, share=share)
        else:
            work.spent += now - self._last
            work.share = max(work.share, share)
        if progress.eta_seconds is not None:
            work.promised, work.promised_at = progress.eta_seconds, now

    def _left(self, now: float) -> float | None:
        known = [left for work in self._works.values() if (left := work.remaining(now)) is not None]
        return sum(known) if known else None

    def _share(self, now: float) -> float | None:
        """By the time that it takes, so that a minute of any work counts the same; None: that is not known yet."""
        wholes = [(work.whole(now), work.share) for work in self._works.values()]
        total = sum(whole for whole, _ in wholes)
        return sum(whole * share for whole, share in wholes) / total if total else None
