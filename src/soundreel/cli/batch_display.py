"""How a batch is shown: a table that changes, plain lines, events for programs, or nothing."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from soundreel.batch.actors import About
from soundreel.batch.driver import Standing
from soundreel.batch.results import FAILED, RowResult
from soundreel.cli.display import DisplayOptions, Style, can_redraw
from soundreel.cli.events import write_event
from soundreel.cli.streams import answer, say
from soundreel.wording import visible
from soundreel.wording.durations import duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

BETWEEN_LINES_SECONDS: Final = 10.0
"""Of a log: so far apart are the lines that say how far all is."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """The rows of a manifest."""

    total: int  # that are right
    done: int  # of them, before
    bad: int


class BatchDisplay:
    """Says nothing but the names of videos, and counts. A context manager."""

    def __init__(self, *, names_paths: bool) -> None:
        self._names_paths = names_paths
        self._out = sys.stdout  # as it is here: while Ray runs it leads nowhere (`batch.cluster.opened`)
        self._counts: dict[str, int] = {}
        self._totals = Totals(total=0, done=0, bad=0)
        self._standing: Standing | None = None

    def begin(self, totals: Totals, nodes: Sequence[About]) -> None:
        """Called once, when all that is asked of the rows and of the nodes is there."""
        self._totals = totals
        self._say_begin(totals, nodes)

    def row(self, result: RowResult) -> None:
        """What became of a row."""
        self._counts[result.state] = self._counts.get(result.state, 0) + 1
        self._say_row(result)
        if result.path is not None and self._names_paths:
            self._name(result.path)

    def standing(self, standing: Standing) -> None:
        """How far all is."""
        self._standing = standing

    def remark(self, says: str) -> None:
        """What the user should know of a device."""

    def summary(self) -> dict[str, Any]:
        """What came of all."""
        here, standing = self._counts, self._standing
        return {
            "rows": self._totals.total + self._totals.bad,
            "bad": self._totals.bad,
            "done_before": self._totals.done,
            "made": here.get("made", 0),
            "found": here.get("found", 0),
            "failed": here.get(FAILED, 0),
            "frames": 0 if standing is None else standing.frames,
            "seconds": 0.0 if standing is None else round(standing.seconds, 3),
        }

    def _name(self, path: str) -> None:
        answer(path, self._out)

    def _say_begin(self, totals: Totals, nodes: Sequence[About]) -> None:
        pass

    def _say_row(self, result: RowResult) -> None:
        pass

    def _end(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._end()


class BatchLines(BatchDisplay):
    """Prints a line for each row, and how far all is now and then."""

    def __init__(self, *, names_paths: bool) -> None:
        super().__init__(names_paths=names_paths)
        self._told = 0.0

    def standing(self, standing: Standing) -> None:
        super().standing(standing)
        if standing.seconds - self._told >= BETWEEN_LINES_SECONDS:
            self._told = standing.seconds
            self._print(standing_line(standing))

    def remark(self, says: str) -> None:
        self._print(f"note: {says}")

    def _say_begin(self, totals: Totals, nodes: Sequence[About]) -> None:
        machines = f" on {len(nodes)} machine{'' if len(nodes) == 1 else 's'}" if nodes else ""
        before = f", {totals.done} of them there already" if totals.done else ""
        rows = f"{totals.total} row{'' if totals.total == 1 else 's'}"
        self._print(f"batch: {rows}{before}{machines}")

    def _say_row(self, result: RowResult) -> None:
        self._print(row_line(result))

    def _end(self) -> None:
        said = self.summary()
        there = said["made"] + said["found"] + said["done_before"]
        failed = f", {said['failed']} failed" if said["failed"] else ""
        self._print(f"batch: {there} of {self._totals.total} videos are there{failed}")

    def _print(self, line: str) -> None:
        say(line)


class BatchTable(BatchLines):
    """Shows on a terminal a table of what renders, which changes, below a line for each row."""

    def __init__(self, *, names_paths: bool) -> None:
        super().__init__(names_paths=names_paths)
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._live = self._new_live()

    def standing(self, standing: Standing) -> None:
        self._standing = standing
        self._live.refresh()

    def _print(self, line: str) -> None:
        self._console.print(visible(line), soft_wrap=True)

    def _name(self, path: str) -> None:
        """Where standard output is the same terminal, the table makes way for the path."""
        if not self._out.isatty():
            super()._name(path)
            return
        self._live.stop()
        super()._name(path)
        self._live = self._new_live()  # one that has been stopped would remove the lines above it
        self._live.start()

    def _new_live(self) -> "Live":
        from rich.live import Live

        return Live(console=self._console, get_renderable=self._table, transient=True, refresh_per_second=4)

    def _table(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        if self._standing is None:
            return Text("getting the machines ready …", style="dim")
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style="dim")
        table.add_column()  # alone gives way where the terminal is narrow
        table.add_column(no_wrap=True, justify="right", min_width=len("100 %"))
        for device, (row, share) in sorted(self._standing.under_way.items()):
            name = Text(visible(row), no_wrap=True, overflow="ellipsis")
            table.add_row(visible(device), name, "–" if share is None else f"{100 * share:.0f} %")
        return Group(table, Text(standing_line(self._standing), style="bold"))

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()
        super().__exit__(kind, error, traceback)


class BatchEvents(BatchDisplay):
    """Prints events for programs, on standard error: `batch`, `row`, `standing`, `remark` and `end`."""

    def standing(self, standing: Standing) -> None:
        super().standing(standing)
        write_event("standing", **dataclasses.asdict(standing))

    def remark(self, says: str) -> None:
        write_event("remark", says=says)

    def _say_begin(self, totals: Totals, nodes: Sequence[About]) -> None:
        there = [{"host": node.host, "version": node.version} for node in nodes]
        write_event("batch", **dataclasses.asdict(totals), nodes=there)

    def _say_row(self, result: RowResult) -> None:
        write_event("row", **dataclasses.asdict(result))

    def _end(self) -> None:
        write_event("end", **self.summary())


def open_batch_display(options: DisplayOptions, *, names_paths: bool) -> BatchDisplay:
    """The display for these options, on this terminal or none."""
    if options.is_silent:
        return BatchDisplay(names_paths=names_paths)
    if options.style is Style.JSON:
        return BatchEvents(names_paths=names_paths)
    if options.style in {Style.AUTO, Style.BAR} and can_redraw():
        return BatchTable(names_paths=names_paths)
    return BatchLines(names_paths=names_paths)


def row_line(result: RowResult) -> str:
    """`song_07: made in 41 s on host cuda:0`, or why it was not."""
    tries = f", try {result.tries}" if result.tries > 1 else ""
    if result.state == FAILED:
        return f"soundreel: line {result.line}, {result.id}{tries}: {result.reason}"
    took = f" in {duration(result.seconds)}" if result.seconds is not None else ""
    became = "printed again" if result.printed_again else result.state
    return f"{result.id}: {became}{took} on {result.host} {result.device}{tries}"


def standing_line(standing: Standing) -> str:
    """`12 of 100 rows, 1 failed, 2 under way, 31.0 frames/s, 12 min left`."""
    parts = [f"{standing.done} of {standing.total} rows"]
    if standing.failed:
        parts.append(f"{standing.failed} failed")
    parts.append(f"{len(standing.under_way)} under way")
    if standing.frames:
        parts.append(f"{standing.frames / standing.seconds:.1f} frames/s")
    if standing.left_seconds is not None:
        parts.append(f"{duration(standing.left_seconds)} left")
    return ", ".join(parts)
