"""Where on a sheet each moment lies: lines of equal length, as many as the shots need to be seen."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from soundreel.sheet.contents import SheetShot, SongSheet

WIDTH: Final = 1600
"""Pixels of a sheet."""

MARGIN: Final = 40
"""Pixels around it."""

SHOT_WIDTH: Final = 150
"""Pixels that the middle one of all shots, by length, is to have."""

NARROW_SHOT_WIDTH: Final = 76
"""Pixels that it has where there are very many."""

SHORTEST_LINE, LONGEST_LINE = 12.0, 300.0
"""Seconds of a line; a song that is shorter has one line."""

MANY_LINES: Final = 30
"""With more lines than these, shots are narrower and lines lower."""

MOST_LINES: Final = 110
"""However many shots there are: they are narrower still then."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a sheet."""

    start: float  # seconds of the window
    stop: float  # where it would end, were it full

    def x(self, second: float) -> int:
        """The column of a moment, held inside the line."""
        part = (min(max(second, self.start), self.stop) - self.start) / (self.stop - self.start)
        return round(MARGIN + part * (WIDTH - 2 * MARGIN))

    def holds(self, start: float, stop: float) -> bool:
        """Whether any of a stretch of time lies in it."""
        return start < self.stop and stop > self.start


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The lines of a sheet."""

    line_seconds: float
    lines: tuple[Line, ...]
    is_dense: bool  # lines are low, and shots have no words

    @classmethod
    def of(cls, sheet: SongSheet) -> "Layout":
        """As few lines as show shots in a fair width."""
        usual = _usual_length(sheet.shots)
        seconds = _line_seconds(sheet.seconds, usual, SHOT_WIDTH)
        is_dense = sheet.seconds / seconds > MANY_LINES
        if is_dense:
            seconds = max(_line_seconds(sheet.seconds, usual, NARROW_SHOT_WIDTH), sheet.seconds / MOST_LINES)
        count = max(1, math.ceil(sheet.seconds / seconds - 1e-6))
        seconds = sheet.seconds / count  # all lines full
        lines = tuple(Line(start=k * seconds, stop=(k + 1) * seconds) for k in range(count))
        return cls(line_seconds=seconds, lines=lines, is_dense=is_dense)

    def marks(self, line: Line) -> Iterator[float]:
        """Round times in a line, far enough apart to be written."""
        step = next(step for step in STEPS if step / self.line_seconds * (WIDTH - 2 * MARGIN) > 90)
        first = math.ceil(line.start / step - 1e-6)
        return (k * step for k in range(first, math.floor(line.stop / step + 1e-6) + 1))


STEPS: Final = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600)
"""Seconds between the times that are written below a line."""


def _usual_length(shots: Sequence[SheetShot]) -> float:
    lengths = sorted(shot.seconds for shot in shots)
    return lengths[len(lengths) // 2] if lengths else LONGEST_LINE / 10


def _line_seconds(seconds: float, shot_seconds: float, shot_width: int) -> float:
    """Seconds of a line in which a shot of a length has a width."""
    wanted = shot_seconds / shot_width * (WIDTH - 2 * MARGIN)
    return min(seconds, max(wanted, SHORTEST_LINE), LONGEST_LINE)
