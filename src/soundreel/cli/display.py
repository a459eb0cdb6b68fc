"""How the command line shows what is made: a progress bar, plain lines, events for programs, or nothing.

The path of a finished video goes to standard output and all else to standard error, whatever is shown, so that
`mv "$(soundreel song.mp3)" …` works.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from soundreel.cli.events import write_event
from soundreel.cli.statements import Statement
from soundreel.cli.streams import answer, say
from soundreel.types import Progress, Stage
from soundreel.wording import visible
from soundreel.wording.durations import duration

if TYPE_CHECKING:
    from rich.console import RenderableType

BETWEEN_LINES_SECONDS: Final = 1.0
"""Of a log: lines about the same work are at least so far apart, and a percent."""

BAR_COLUMNS: Final = 60
"""A terminal of fewer columns shows no bar, only the numbers."""

BAR_STYLES: Final[Mapping[str, Any]] = {
    "style": "dim",
    "complete_style": "bold",
    "finished_style": "bold",
    "pulse_style": "dim",
}
"""Of the bar: in the terminal's own colour, which is seen on dark and on light."""


class Style(StrEnum):
    """Values of `--progress`."""

    AUTO = "auto"  # a bar on a terminal, lines elsewhere
    BAR = "bar"
    LINES = "lines"
    JSON = "json"
    NONE = "none"


class Display(Protocol):
    """Shows what is made while it is made; a context manager."""

    def start(self, says: Statement) -> None:
        """Called once, after all checks and before anything is made."""

    def __call__(self, progress: Progress) -> None:
        """Called after every step."""

    def finish(self, path: Path, says: Statement) -> None:
        """Called once the video is written and verified."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class DisplayOptions:
    """How much is shown, and how."""

    style: Style = Style.AUTO
    quiet: bool = False  # nothing but the video's path and errors
    verbose: bool = False  # every step, unless a style says otherwise

    @property
    def is_silent(self) -> bool:
        """Whether nothing but the video's path and errors is shown."""
        return self.quiet or self.style is Style.NONE

    @property
    def is_for_people(self) -> bool:
        """Whether what is shown beside that is words."""
        return not self.is_silent and self.style is not Style.JSON


AS_USUAL: Final = DisplayOptions()


def open_display(options: DisplayOptions) -> Display:
    """The display for these options, on this terminal or none."""
    if options.is_silent:
        return Silent()
    if options.style is Style.JSON:
        return Events()
    if options.verbose and options.style is Style.AUTO:
        return Lines(seconds_between=0.0)
    return Bar() if options.style in {Style.AUTO, Style.BAR} and can_redraw() else Lines()


def can_redraw() -> bool:
    """Whether standard error is a terminal where a line can be drawn anew in its place."""
    from rich.console import Console

    return sys.stderr.isatty() and not Console(stderr=True).is_dumb_terminal


class Silent:
    """Prints only the path of the video."""

    def start(self, says: Statement) -> None:
        pass

    def __call__(self, progress: Progress) -> None:
        pass

    def finish(self, path: Path, says: Statement) -> None:  # noqa: ARG002 - others print it
        answer(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


class Lines(Silent):
    """Prints lines, for logs and pipes: one when something begins, and then one a second or a percent at most.

    Args:
        seconds_between: 0 prints every step.
    """

    def __init__(self, seconds_between: float = BETWEEN_LINES_SECONDS) -> None:
        self._between = seconds_between
        self._percent: dict[tuple[Stage, str], int | None] = {}  # that was shown last, of all that has begun
        self._shown = 0.0  # when, in seconds since the beginning
        self._preview: Path | None = None
        self._told: list[str] = []

    def start(self, says: Statement) -> None:
        self._told = says.lines
        for line in says.lines:
            say(line)

    def __call__(self, progress: Progress) -> None:
        if self._is_due(progress):
            self._percent[progress.stage, progress.what] = percent(progress)
            self._shown = progress.seconds
            say(progress_line(progress))
        if progress.preview not in (None, self._preview):
            self._preview = progress.preview
            say(f"preview: {progress.preview}")

    def _is_due(self, progress: Progress) -> bool:
        here = (progress.stage, progress.what)
        if here not in self._percent or self._between == 0:
            return True
        return percent(progress) != self._percent[here] and progress.seconds - self._shown >= self._between

    def finish(self, path: Path, says: Statement) -> None:
        """Print what came out, and what the start has not told; the path alone goes to standard output."""
        for line in says.without(self._told):
            say(line)
        super().finish(path, says)


class Bar(Silent):
    """Shows one line that changes, on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._progress: Progress | None = None
        self._preview: Path | None = None
        self._told: list[str] = []
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, get_renderable=self._line, transient=True, refresh_per_second=10)

    def start(self, says: Statement) -> None:
        self._told = says.lines
        self._print(*says.lines)

    def __call__(self, progress: Progress) -> None:
        if progress.preview not in (None, self._preview):
            self._preview = progress.preview
            self._print(f"preview: {progress.preview}")
        self._progress = progress

    def finish(self, path: Path, says: Statement) -> None:
        self._live.stop()
        self._print(*says.without(self._told))
        super().finish(path, says)

    def _print(self, *lines: str) -> None:
        for line in lines:
            self._console.print(visible(line), soft_wrap=True)

    def _line(self) -> "RenderableType":
        return "" if self._progress is None else bar_line(self._progress, self._console.width)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()


class Events(Silent):
    """Prints everything as events for programs, on standard error: `start`, `progress` and `result`."""

    def start(self, says: Statement) -> None:
        write_event("start", **says.facts)

    def __call__(self, progress: Progress) -> None:
        write_event("progress", **dataclasses.asdict(progress))

    def finish(self, path: Path, says: Statement) -> None:
        write_event("result", path=path, **says.facts)
        super().finish(path, says)


def progress_line(progress: Progress) -> str:
    """`render clip 2/9: 12 %, 1:40 left`; less where less is known."""
    known = ", ".join(filter(None, (_share(progress), _left(progress))))
    return f"{_describe(progress)}: {known}" if known else _describe(progress)


def bar_line(progress: Progress, width: int) -> "RenderableType":
    """What is done, how far it is, and how long it will take, in one line of so many columns: numbers before words."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    numbers = " ".join(filter(None, (_share(progress), _left(progress))))
    words = Text(visible(_describe(progress)))
    words.truncate(max(0, width - len(numbers) - 2), overflow="ellipsis")
    line = Table.grid(padding=(0, 1))
    if width < BAR_COLUMNS:
        line.add_row(words, numbers)
    else:
        done = percent(progress)
        total = None if done is None else 100
        bar = ProgressBar(total=total, completed=done or 0, width=width // 3, **BAR_STYLES)
        line.add_row(words, bar, numbers)
    return line


def percent(progress: Progress) -> int | None:
    """Of the whole, and before there is anything of it, of the stage; rounded down, None where that is not known."""
    if progress.share is not None:
        return math.floor(100 * progress.share)
    return 100 * progress.done // progress.total if progress.total else None


def _share(progress: Progress) -> str:
    done = percent(progress)
    return f"{done} %" if done is not None and 0 < done < 100 else ""


def _left(progress: Progress) -> str:
    return f"{duration(progress.eta_seconds)} left" if progress.eta_seconds is not None and _share(progress) else ""


def _describe(progress: Progress) -> str:
    stage = f"{progress.stage.value} {progress.what}".strip()
    return f"{stage} clip {progress.clip}/{progress.clips}" if progress.clips else stage
