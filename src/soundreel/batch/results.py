"""What became of each row: `results.jsonl` in the output folder, a line for a row, written as soon as it is known."""

import json
import os
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from soundreel.batch.manifest import Row
from soundreel.disk.digests import data_digest
from soundreel.disk.durable import reporting, write_whole
from soundreel.request import files_read

RESULTS: Final = "results.jsonl"

MADE, FOUND, FAILED = "made", "found", "failed"
"""Rendered by this batch; there already, whole and of this request; not made."""


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """What became of a row."""

    id: str
    line: int
    state: str  # MADE, FOUND or FAILED
    printed_again: bool = False  # from kept latents, without a pass of the model
    asked: str  # of what the row says and of its files: a row that asks for something else is not done
    path: str | None = None
    bytes: int | None = None
    seconds: float | None = None  # of the try that made it, or of both where one has sampled it and another written it
    frames: int | None = None
    fps: int | None = None
    engine: str | None = None
    host: str | None = None
    device: str | None = None
    tries: int = 0
    reason: str | None = None
    exit_code: int = 0
    scores: Any = None


def asked_of(row: Row) -> str:
    """A digest of what a row says, and of its files' sizes and times."""
    files = []
    for _, path in files_read(row.request):
        if Path(path).is_file():
            status = Path(path).stat()
            files.append([os.fspath(path), status.st_size, status.st_mtime_ns])
    return data_digest([row.digest, files])


class Results:
    """The results of a batch in its output folder. A context manager; for one process at a time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / RESULTS
        self._file: Any = None

    def done(self) -> dict[str, tuple[str, int | None]]:
        """Of the rows that have a video, by id: what they asked for, and the video's size in bytes."""
        return {
            line["id"]: (line["asked"], line.get("bytes"))
            for line in self._lines()
            if line.get("state") in {MADE, FOUND} and isinstance(line.get("asked"), str)
        }

    def open(self, without: Container[str]) -> None:
        """Begin to add results; what there is of rows with these ids goes, for they are done anew."""
        kept = [json.dumps(line) + "\n" for line in self._lines() if line["id"] not in without]
        write_whole(self.path, lambda temporary: temporary.write_text("".join(kept), encoding="utf-8"))
        with reporting(self.path):
            self._file = self.path.open("a", encoding="utf-8")

    def add(self, result: RowResult) -> None:
        """Note what became of a row; it is on the disk when this returns."""
        known = {name: value for name, value in asdict(result).items() if value is not None}
        with reporting(self.path):
            self._file.write(json.dumps(known) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def _lines(self) -> Iterator[dict[str, Any]]:
        """What was written before; a line that a killed process did not finish is none."""
        if not self.path.exists():
            return
        with reporting(self.path), self.path.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                try:
                    line = json.loads(text)
                except ValueError:
                    continue
                if isinstance(line, dict) and isinstance(line.get("id"), str):
                    yield line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


def is_done(row: Row, output: Path, done: dict[str, tuple[str, int | None]]) -> bool:
    """Whether a row's video is there as it was noted, and made of what the row asks for now."""
    asked, size = done.get(row.id, ("", None))
    try:
        return asked == asked_of(row) and output.stat().st_size == size
    except OSError:
        return False
