"""What holds whatever a command is given: a documented exit code and plain words. Commands run in this process."""

import contextlib
import hashlib
import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from command import Outcome
from soundreel.cli.app import app
from soundreel.cli.guard import guard

DOCUMENTED = {0, 2, 3, 4, 5, 6, 130}
"""Exit codes that README lists."""


def type_in(place: Path, words: Iterable[str]) -> Outcome:
    """Run `soundreel WORDS` in a folder, with streams as strict as real ones."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(place):
        patch.setattr(sys, "argv", ["soundreel", *words])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _code_of_guarded_app()
    return Outcome(code=code, out=_written(out), err=_written(err))


def _code_of_guarded_app() -> int:
    try:
        guard(app)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode(errors="surrogateescape")


def assert_plain(done: Outcome, about: object, *, is_verbose: bool = False) -> None:
    """The exit code is one of those that are documented, and nothing is said that is meant for programmers.

    Args:
        is_verbose: it was asked for how errors come.
    """
    told = f"{about}\n{done}"
    assert done.code in DOCUMENTED, told
    assert is_verbose or "Traceback" not in done.err, told
    assert "a bug" not in done.err, told
    assert done.code in {0, 6} or _says_what_is_wrong(done), told


def _says_what_is_wrong(done: Outcome) -> bool:
    *_, last = ["", *done.err.splitlines()]
    return last.startswith("soundreel: ") or (last.startswith("{") and json.loads(last)["event"] == "error")


def contents(place: Path) -> dict[str, str]:
    """Every file, link and folder below, and what it holds."""
    return {str(path.relative_to(place)): _content(path) for path in place.rglob("*")}


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"a link to {path.readlink()}"
    return "a folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
