"""How the command line shows a render: a progress bar, plain lines, JSON lines, or nothing.

The path of a finished video goes to standard output, all messages for people to standard error, so that
`mv "$(soundreel song.mp3)" …` works.
"""

import dataclasses
import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

from soundreel.cli.streams import answer
from soundreel.durations import exactly
from soundreel.types import Progress, Result, Stage

if TYPE_CHECKING:
    from rich.progress import TaskID

    from soundreel.interpolation.video import PreparedInterpolation
    from soundreel.render.joining import PreparedJoining
    from soundreel.render.prepared import PreparedRender


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that steer a terminal, but for line breaks and tabs."""


def harmless(text: str) -> str:
    """A text for people in which nothing steers their terminal: some of it may be from a stranger's file."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class Style(StrEnum):
    """Values of `--progress`."""

    AUTO = "auto"  # a bar on a terminal, lines elsewhere
    BAR = "bar"
    LINES = "lines"
    JSON = "json"
    NONE = "none"


class Display(Protocol):
    """Shows a render while it runs; a context manager."""

    def start(self, render: "PreparedRender") -> None:
        """Called once, after all checks and before rendering."""

    def __call__(self, progress: Progress) -> None:
        """Called after every step."""

    def finish(self, result: Result) -> None:
        """Called once the video is written and verified."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def open_display(style: Style, *, quiet: bool) -> Display:
    """The display for a style; with `quiet`, nothing but the video's path and errors are shown, JSON lines excepted."""
    if style is Style.JSON:
        return JsonLines()
    if quiet or style is Style.NONE:
        return Silent()
    if style is Style.BAR or (style is Style.AUTO and sys.stderr.isatty()):
        return Bar()
    return Lines()


class Silent:
    """Prints only the path of the video."""

    def start(self, render: "PreparedRender") -> None:
        pass

    def __call__(self, progress: Progress) -> None:
        pass

    def finish(self, result: Result) -> None:
        answer(str(result.path), result.path)

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
    """Prints a line per event, for logs and pipes."""

    def __init__(self) -> None:
        self._shown: tuple[Stage, str, int] | None = None
        self._preview: Path | None = None
        self._notes: tuple[str, ...] = ()

    def start(self, render: "PreparedRender") -> None:
        self._notes = render.notes
        for line in start_lines(render):
            _write(sys.stderr, line)

    def __call__(self, progress: Progress) -> None:
        """Print a line when a stage, a network or a clip begins."""
        here = (progress.stage, progress.what, progress.clip)
        if here != self._shown:
            self._shown = here
            _write(sys.stderr, _describe(progress))
        if progress.preview not in (None, self._preview):
            self._preview = progress.preview
            _write(sys.stderr, f"preview: {progress.preview}")

    def finish(self, result: Result) -> None:
        """Print what came out; the path alone goes to standard output."""
        for line in finish_lines(result, self._notes):
            _write(sys.stderr, line)
        super().finish(result)


class Bar(Silent):
    """Shows a live progress bar on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._preview: Path | None = None
        self._notes: tuple[str, ...] = ()

    def start(self, render: "PreparedRender") -> None:
        self._notes = render.notes
        for line in map(harmless, start_lines(render)):
            self._console.print(line, markup=False, soft_wrap=True)
        self._task = self._bar.add_task("starting", total=None, left="")

    def __call__(self, progress: Progress) -> None:
        if self._task is None:
            return
        if progress.preview not in (None, self._preview):
            self._preview = progress.preview
            self._console.print(f"preview: {progress.preview}", markup=False, soft_wrap=True)
        left = "" if progress.eta_seconds is None else f"{_duration(progress.eta_seconds)} left"
        self._bar.update(
            self._task,
            description=_describe(progress),
            completed=progress.done,
            total=progress.total or None,
            left=left,
        )

    def finish(self, result: Result) -> None:
        self._bar.stop()
        for line in finish_lines(result, self._notes):
            self._console.print(line, markup=False, soft_wrap=True)
        super().finish(result)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()


class JsonLines(Silent):
    """Prints every event as a JSON object in a line on standard output, for programs.

    The key `event` is start, progress (with the fields of `Progress`) or result.
    """

    def start(self, render: "PreparedRender") -> None:
        line = _event(
            "start",
            engine=render.engine.name,
            why=render.choice.why,
            frames=render.frames_written,
            fps=render.fps,
            clips=len(render.plan.clips),
            memory=render.prepared.memory_mode,
            memory_bytes=render.prepared.memory_bytes,
            host_memory_bytes=render.prepared.host_bytes,
            host_locked_bytes=render.prepared.host_locked_bytes,
            resumed=render.resumed,
            printed_again=render.is_printed_again,
            notes=list(render.notes),
        )
        _write(sys.stdout, line)

    def __call__(self, progress: Progress) -> None:
        _write(sys.stdout, _event("progress", **dataclasses.asdict(progress)))

    def finish(self, result: Result) -> None:
        line = _event(
            "result",
            path=str(result.path),
            engine=result.engine,
            frames=result.frames,
            fps=result.fps,
            seconds=result.seconds,
            notes=list(result.notes),
            work_folder=result.work_folder,
            work_bytes=result.work_bytes,
        )
        answer(line, result.path)


def start_lines(render: "PreparedRender") -> list[str]:
    """What will be rendered, by which engine and why, as lines for people."""
    plan = render.plan
    clips = f"{len(plan.clips)} clip{'s' if len(plan.clips) > 1 else ''}"
    return [
        f"engine: {render.engine.name} ({render.choice.why})",
        f"{render.request.width}×{render.request.height}, {render.frames_written} frames at {render.fps} fps = "
        f"{exactly(plan.seconds, 2)} in {clips}, seed {render.request.seed}",
        *([render.resumed] if render.resumed else []),
        *(f"note: {note}" for note in render.notes),
    ]


def interpolation_lines(prepared: "PreparedInterpolation") -> list[str]:
    """What `soundreel interpolate` will make, as lines for people."""
    width, height = prepared.size
    return [
        f"{width}×{height}, {prepared.info.frames} frames at {float(prepared.info.fps):g} fps → {prepared.frames} at "
        f"{float(prepared.fps):g} fps by {prepared.request.method}, sound copied",
        *(f"note: {note}" for note in prepared.notes),
    ]


def joining_lines(prepared: "PreparedJoining") -> list[str]:
    """What `soundreel join` will make, as lines for people."""
    (width, height), count = prepared.size, len(prepared.pieces)
    pictures = "pictures encoded anew" if prepared.request.reencode else "pictures as they are"
    lines = [
        f"{count} videos → {width}×{height}, {prepared.frames} frames at {float(prepared.fps):g} fps = "
        f"{float(prepared.frames / prepared.fps):.2f} s, {pictures}, {prepared.sound.says}",
        *(f"note: {note}" for note in prepared.notes),
    ]
    return [harmless(line) for line in lines]


def finish_lines(result: Result, told: Sequence[str]) -> list[str]:
    """On a finished video, on what there is to know of it beside what was `told` at the start, and on what is kept."""
    length = f"{result.frames} frames, {exactly(result.frames / result.fps, 2)}"
    done = [f"done in {_duration(result.seconds)}: {length}, sound and picture verified"]
    done += [f"note: {note}" for note in result.notes if note not in told]
    if result.excerpt:
        done.append(result.excerpt)
    if result.work_folder is None:
        return done
    folder = shlex.quote(str(result.work_folder))
    return [*done, f"kept for redo and reprint: {folder}, {result.work_bytes / 1e6:,.1f} MB (soundreel clean {folder})"]


def _describe(progress: Progress) -> str:
    stage = f"{progress.stage.value} {progress.what}".strip()
    return f"{stage} clip {progress.clip}/{progress.clips}" if progress.clips else stage


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _event(event: str, **fields: Any) -> str:
    """An event as a line of JSON, in ASCII: a file's name need not be Unicode."""
    return json.dumps({"event": event, **fields}, default=os.fspath)


def _write(stream: TextIO, line: str) -> None:
    stream.write(f"{harmless(line)}\n")
    stream.flush()
