"""Runs the `soundreel` command as a user does, in this process or in its own."""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from soundreel.cli.app import app
from soundreel.cli.guard import guard

REPO = Path(__file__).parents[1]
HANGS_SECONDS = 300
"""A process that takes so long does not come to an end by itself, however busy the machine is."""
SMALL = ("--width", "64", "--height", "64")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def path(self) -> Path:
        """The video that the command named on standard output."""
        return Path(self.out.strip())

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it told with `--progress json`, beside lines in words."""
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]


def run_here(capsys: pytest.CaptureFixture[str], *arguments: str | os.PathLike[str]) -> Outcome:
    """Run `soundreel ARGUMENTS` in this process: quick, no start-up."""
    return _here(capsys, lambda: guard(app), ["soundreel", *map(os.fspath, arguments)])


def run_script_here(capsys: pytest.CaptureFixture[str], script: Path, *arguments: str | os.PathLike[str]) -> Outcome:
    """Run `python SCRIPT ARGUMENTS` in this process."""
    words = [str(script), *map(os.fspath, arguments)]
    return _here(capsys, lambda: runpy.run_path(str(script), run_name="__main__"), words)


def _here(capsys: pytest.CaptureFixture[str], program: Callable[[], object], words: list[str]) -> Outcome:
    capsys.readouterr()
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        try:
            program()
        except SystemExit as stop:
            code = int(stop.code or 0)
    streams = capsys.readouterr()
    return Outcome(code=code, out=streams.out, err=streams.err)


def start(
    *arguments: str | os.PathLike[str], program: tuple[str, ...] = ("-m", "soundreel"), **settings: object
) -> "subprocess.Popen[str]":
    """Start `python -m soundreel ARGUMENTS` (or another program) as its own process; it ends with the test."""
    process = subprocess.Popen(
        [sys.executable, *program, *map(os.fspath, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,  # type: ignore[call-overload]
    )
    _started.append(process)
    return process


_started: "list[subprocess.Popen[str]]" = []


def end_all() -> None:
    """Kill what was started and has not ended."""
    while _started:
        with _started.pop() as process:
            process.kill()


def events_of(process: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    """What a process tells with `--progress json`, as it tells it."""
    assert process.stderr is not None
    return map(json.loads, process.stderr)


def finish(process: "subprocess.Popen[str]", *, hangs_seconds: float = HANGS_SECONDS) -> Outcome:
    """Wait for a process and collect what it said."""
    out, err = process.communicate(timeout=hangs_seconds)
    return Outcome(code=process.returncode, out=out, err=err)


def files_below(folder: Path) -> list[str]:
    """Every file and folder that exists below `folder`, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
