"""Runs the command in a terminal of so many columns."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass

from command import HANGS_SECONDS

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""A sequence that moves the cursor or sets a colour."""

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, kw_only=True)
class Screen:
    """What a command wrote to its terminal."""

    code: int
    raw: str

    @property
    def text(self) -> str:
        """Without control sequences; what was drawn anew in one place stands there once for each time."""
        return CONTROL.sub("", self.raw)

    @property
    def lines(self) -> list[str]:
        return [part for line in self.text.splitlines() for part in line.split("\r")]


def shown(raw: str, columns: int) -> list[str]:
    """The lines that stand on a terminal in the end, of what was written to it; it knows what a live table moves."""
    lines, row, column = [""], 0, 0
    for found in re.finditer(r"\x1b\[([0-9;?]*)([A-Za-z])|(.)", raw, re.DOTALL):
        number, move, letter = found.groups()
        if move == "A":
            row = max(0, row - int(number or 1))
        elif move == "K":
            lines[row] = ""
        elif letter == "\r":
            column = 0
        elif letter == "\n":
            row, column = row + 1, 0
        elif letter is not None:
            row, column = (row + 1, 0) if column == columns else (row, column)
            lines += [""] * (row + 1 - len(lines))
            lines[row] = lines[row].ljust(column)[:column] + letter + lines[row][column + 1 :]
            column += 1
        lines += [""] * (row + 1 - len(lines))
    return [line.rstrip() for line in lines if line.strip()]


def in_terminal(*words: str | os.PathLike[str], columns: int, **environment: str) -> Screen:
    """Run `soundreel WORDS`; standard output and standard error are the terminal."""
    mine, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    command = [sys.executable, "-m", "soundreel", *map(os.fspath, words)]
    with subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env={**inherited, "TERM": "xterm-256color", **environment}
    ) as process:
        os.close(its)
        raw = b"".join(iter(lambda: _read(mine), b""))
        code = process.wait(HANGS_SECONDS)
    os.close(mine)
    return Screen(code=code, raw=raw.decode("utf-8", "backslashreplace"))


def _read(handle: int) -> bytes:
    """What there is; nothing once the other end is closed."""
    try:
        return os.read(handle, 1 << 16)
    except OSError:  # as Linux says that it is closed
        return b""
