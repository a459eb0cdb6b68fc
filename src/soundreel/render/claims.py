"""Who renders which chain of shots: a claim for each in the work folder, which one process has at a time.

    claim_00003_000.json    of the third chain: host, process, when it was started, heartbeat
    claim_00003_001.json    of the process that took it over

A claim is had by who makes its file, which only one process can. One that is taken over gets the next number, so that
no file that is in use is ever removed by another process. A claim is over when its process is: on the same host that is
known at once, from elsewhere when the heartbeat has not changed for a while on the looker's own clock; clocks are never
compared. What was rendered meanwhile is looked at after a claim is taken, not before.
"""

import json
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from soundreel.disk.durable import NO_LINKS
from soundreel.disk.json_form import Form, misfit
from soundreel.disk.plain_json import parse_json
from soundreel.disk.processes import is_running, start_of, this_host

CLAIM_PATTERN: Final = r"claim_\d{5}_\d{3,}\.json"

BEAT_SECONDS: Final = 4.0
"""Between two heartbeats."""

PATIENCE_SECONDS: Final = 20.0
"""Without a heartbeat, after which a process of another host is taken for dead."""

MOST_BYTES: Final = 4096
"""Of a claim, more than it ever has."""


class ClaimLostError(Exception):
    """Another process has taken the chain over, because this one had not been heard of for too long."""


@dataclass(frozen=True, kw_only=True)
class Claimant:
    """The process that has a claim."""

    host: str  # of `this_host`
    pid: int
    started: str | None  # of `start_of`
    beats: int = 0

    @classmethod
    def of_this_process(cls) -> Self:
        """Without a heartbeat yet."""
        return cls(host=this_host(), pid=os.getpid(), started=start_of(os.getpid()))

    @property
    def data(self) -> bytes:
        """As its file has it."""
        return json.dumps(asdict(self)).encode()


_FORM: Final[Form] = {"host": str, "pid": int, "started?": str, "beats": int}


def read_claimant(content: bytes) -> Claimant | None:
    """Whose claim a file is; None where it does not say, as in the moment in which it is made."""
    try:
        data = parse_json(content)
        return Claimant(**data) if misfit(data, _FORM) is None else None
    except (ValueError, TypeError):
        return None


class Claims:
    """The claims in a work folder, as one process sees them.

    Args:
        clock: in seconds, rising.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._seen: dict[Path, tuple[bytes, float]] = {}  # what each said, and since when

    def take(self, chain: int) -> "Claim | None":
        """Claim the chain with an index; None while another process has it."""
        there = _numbers(self._folder, chain)
        if there and not self._is_over(_path(self._folder, chain, there[-1])):
            return None
        number = there[-1] + 1 if there else 0
        path = _path(self._folder, chain, number)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINKS, 0o644)
        except FileExistsError:
            return None
        with os.fdopen(handle, "wb") as file:
            file.write(Claimant.of_this_process().data)
        claim = Claim(self._folder, chain, number)
        if not claim.is_held():  # this process slept since it looked, and another one was quicker
            claim.release()
            return None
        return claim

    def remove_those_of_the_dead(self) -> None:
        """Remove what processes of this host have left that are no more, and what nobody can read.

        That is of a process that was killed, or a machine that went off, while the file was made. Should somebody make
        it at this very moment, they find that they do not have it, and take another.
        """
        for path in self._folder.glob("claim_*.json"):
            content = _read(path) if re.fullmatch(CLAIM_PATTERN, path.name) else None
            if content is not None and _is_of_nobody(read_claimant(content)):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def _is_over(self, path: Path) -> bool:
        """Whether the process of a claim has ended."""
        content = _read(path)
        if content is None:
            return False  # it is being given back at this moment
        claimant = read_claimant(content)
        if claimant is not None and claimant.host == this_host():
            runs = is_running(claimant.pid, claimant.started)
            if runs is not None:
                return not runs
        now = self._clock()
        said, since = self._seen.get(path, (None, now))
        if said != content:
            self._seen[path] = content, now
            return False
        return now - since > PATIENCE_SECONDS


class Claim:
    """A chain that is this process's own until it is released; from `begin` on it is heard of every few seconds."""

    def __init__(self, folder: Path, chain: int, number: int) -> None:
        self._folder, self._chain, self._number = folder, chain, number
        self._path = _path(folder, chain, number)
        self._claimant = Claimant.of_this_process()
        self._is_lost = False
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat_on, name="claim", daemon=True)

    def begin(self) -> None:
        """Be heard of from now on."""
        self._heart.start()

    def is_held(self) -> bool:
        """Whether no other process has taken it over."""
        return _numbers(self._folder, self._chain)[-1:] == [self._number]

    def check(self) -> None:
        """Raise `ClaimLostError` where another process has taken it over."""
        if self._is_lost:
            raise ClaimLostError

    def beat(self) -> None:
        """Say that this process is still there, and hear whether another one thought that it was not."""
        self._claimant = Claimant(**asdict(self._claimant) | {"beats": self._claimant.beats + 1})
        try:
            handle = os.open(self._path, os.O_WRONLY | NO_LINKS)  # never made anew: it may be another's by now
            with os.fdopen(handle, "wb") as file:
                file.write(self._claimant.data)  # a beat more is never shorter
        except FileNotFoundError:
            self._is_lost = True
        except OSError:
            return  # a network drive that is away for a moment
        self._is_lost = self._is_lost or not self.is_held()

    def release(self) -> None:
        """Give it back, with what earlier processes have left of it."""
        self._released.set()
        for number in _numbers(self._folder, self._chain):
            if number <= self._number:
                with suppress(OSError):
                    _path(self._folder, self._chain, number).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _beat_on(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            self.beat()


def _is_of_nobody(claimant: Claimant | None) -> bool:
    """Whether a claim names no process, or one of this host that has ended."""
    if claimant is None:
        return True
    return claimant.host == this_host() and is_running(claimant.pid, claimant.started) is False


def _path(folder: Path, chain: int, number: int) -> Path:
    return folder / f"claim_{chain + 1:05d}_{number:03d}.json"


def _numbers(folder: Path, chain: int) -> list[int]:
    """Of the claims of a chain that are there, the one that counts last."""
    names = (path.stem for path in folder.glob(f"claim_{chain + 1:05d}_*.json"))
    return sorted(int(number) for name in names if (number := name.rpartition("_")[2]).isdecimal())


def _read(path: Path) -> bytes | None:
    """What a claim says, nothing where it cannot be read; None where it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY | NO_LINKS | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            return file.read(MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError:
        return b""
