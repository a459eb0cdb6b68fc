"""Claims on shots: one process has each, whoever is quicker, dies, sleeps or has a clock of its own."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from command import start
from soundreel.disk.processes import is_running, start_of, this_host
from soundreel.render import claims as claims_module
from soundreel.render.claims import PATIENCE_SECONDS, Claim, Claimant, ClaimLostError, Claims, read_claimant

SHOTS = 60

UNREADABLE = [b"", bytes(80), b'{"host": "elsew', b"[1]", b'{"host": 1, "pid": 2, "beats": 3}']
"""What a claim may hold whose process was killed, or whose machine went off."""

RACE = """if True:
    import sys
    from pathlib import Path
    from soundreel.render.claims import Claims
    claims = Claims(Path({folder!r}))
    print("ready", flush=True)
    sys.stdin.readline()
    taken = [shot for shot in range({shots}) if claims.take(shot)]
    print(*taken, flush=True)
    sys.stdin.readline()
"""
"""A process that takes what it can, and stays until it has been heard."""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def race(folder: Path) -> list[list[int]]:
    """What each of two processes takes that begin at the same moment."""
    program = ("-c", RACE.format(folder=str(folder), shots=SHOTS))
    racers: list[Any] = [start(program=program, stdin=subprocess.PIPE) for _ in range(2)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    taken = [[int(word) for word in racer.stdout.readline().split()] for racer in racers]
    for racer in racers:
        racer.communicate("enough\n")
    return taken


def dead_process() -> Claimant:
    """One that has ended and is forgotten."""
    process = subprocess.Popen(["sleep", "60"])
    started = start_of(process.pid)
    process.kill()
    process.wait()
    return Claimant(host=this_host(), pid=process.pid, started=started)


def put(folder: Path, shot: int, claimant: Claimant, number: int = 0) -> Path:
    path = folder / f"claim_{shot + 1:05d}_{number:03d}.json"
    path.write_bytes(claimant.data)
    return path


def elsewhere(beats: int = 0) -> Claimant:
    """A process of another host, whose number is that of this one."""
    return Claimant(host="elsewhere", pid=os.getpid(), started="1", beats=beats)


def claimant_of(folder: Path) -> Claimant:
    """That of the first shot, which has one claim, as soon as it can be read."""
    (path,) = folder.glob("claim_00001_*")
    while (found := read_claimant(path.read_bytes())) is None:
        time.sleep(0.01)
    return found


def take(claims: Claims, shot: int = 0) -> Claim:
    claim = claims.take(shot)
    assert claim is not None
    return claim


# one has it


def test_of_two_processes_that_race_each_shot_is_one_s(tmp_path: Path) -> None:
    one, other = race(tmp_path)
    assert sorted(one + other) == list(range(SHOTS))


def test_of_two_processes_that_take_over_from_a_dead_one_each_shot_is_one_s(tmp_path: Path) -> None:
    dead = dead_process()
    for shot in range(SHOTS):
        put(tmp_path, shot, dead)
    one, other = race(tmp_path)
    assert sorted(one + other) == list(range(SHOTS))


def test_a_claim_is_had_until_it_is_released(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    with take(claims):
        holder = claimant_of(tmp_path)
        assert (holder.pid, holder.host) == (os.getpid(), this_host())
        assert Claims(tmp_path).take(0) is None
        assert Claims(tmp_path).take(1) is not None
    assert not list(tmp_path.glob("claim_00001_*"))
    assert Claims(tmp_path).take(0) is not None


# the dead


def test_the_claim_of_a_dead_process_is_taken_over_at_once_and_removed_with_one_s_own(tmp_path: Path) -> None:
    put(tmp_path, 0, dead_process())
    with take(Claims(tmp_path)):
        assert len(list(tmp_path.iterdir())) == 2
    assert not list(tmp_path.iterdir())


def test_a_process_whose_parent_has_not_looked_is_dead(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "60"])
    put(tmp_path, 0, Claimant(host=this_host(), pid=process.pid, started=start_of(process.pid)))
    assert Claims(tmp_path).take(0) is None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Claims(tmp_path).take(0) is not None
    process.wait()


def test_a_later_process_with_the_same_number_is_another_one(tmp_path: Path) -> None:
    put(tmp_path, 0, Claimant(host=this_host(), pid=os.getpid(), started="1"))
    assert is_running(os.getpid(), "1") is False
    assert Claims(tmp_path).take(0) is not None


def test_a_stopped_process_of_this_host_keeps_its_claim_however_long(tmp_path: Path) -> None:
    clock, process = Clock(), subprocess.Popen(["sleep", "60"])
    process.send_signal(signal.SIGSTOP)
    put(tmp_path, 0, Claimant(host=this_host(), pid=process.pid, started=start_of(process.pid)))
    claims = Claims(tmp_path, clock)
    for _ in range(3):
        assert claims.take(0) is None
        clock.now += 2 * PATIENCE_SECONDS
    process.kill()
    process.wait()


def test_only_what_the_dead_have_left_is_removed(tmp_path: Path) -> None:
    left, other = put(tmp_path, 0, dead_process()), put(tmp_path, 1, elsewhere())
    claim = take(Claims(tmp_path), 2)
    Claims(tmp_path).remove_those_of_the_dead()
    assert not left.exists()
    assert other.exists()
    assert claim.is_held()


@pytest.mark.parametrize("content", UNREADABLE)
def test_what_was_left_half_made_is_removed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "claim_00001_000.json").write_bytes(content)
    Claims(tmp_path).remove_those_of_the_dead()
    assert not list(tmp_path.iterdir())


def test_what_is_no_file_is_taken_over_in_the_end(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "claim_00001_000.json").mkdir()
    claims = Claims(tmp_path, clock)
    claims.remove_those_of_the_dead()
    assert claims.take(0) is None
    clock.now += 1.1 * PATIENCE_SECONDS
    with take(claims):
        pass


# other hosts, and clocks


@pytest.mark.parametrize("skew", [-86_400, 0, 86_400], ids=["behind", "equal", "ahead"])
def test_another_host_is_waited_for_as_long_as_it_is_heard_of_whatever_its_clock_says(
    tmp_path: Path, skew: int
) -> None:
    clock = Clock()
    claims = Claims(tmp_path, clock)
    for beats in range(4):
        path = put(tmp_path, 0, elsewhere(beats))
        os.utime(path, (path.stat().st_atime + skew, path.stat().st_mtime + skew))
        assert claims.take(0) is None
        clock.now += 0.9 * PATIENCE_SECONDS
        assert claims.take(0) is None
    clock.now += 0.2 * PATIENCE_SECONDS
    assert claims.take(0) is not None


@pytest.mark.parametrize("content", UNREADABLE)
def test_a_claim_that_nobody_can_read_is_somebody_s_for_a_while(tmp_path: Path, content: bytes) -> None:
    clock = Clock()
    (tmp_path / "claim_00001_000.json").write_bytes(content)
    claims = Claims(tmp_path, clock)
    assert claims.take(0) is None
    clock.now += 1.1 * PATIENCE_SECONDS
    assert claims.take(0) is not None


def test_who_was_taken_for_dead_hears_of_it_and_takes_nothing_from_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, slow = Clock(), take(Claims(tmp_path))
    slow.beat()
    slow.check()
    with monkeypatch.context() as patch:
        patch.setattr(claims_module, "this_host", lambda: "elsewhere")
        claims = Claims(tmp_path, clock)
        assert claims.take(0) is None
        clock.now += 1.1 * PATIENCE_SECONDS
        quick = take(claims)
    slow.beat()
    with pytest.raises(ClaimLostError):
        slow.check()
    slow.release()
    assert quick.is_held()
    quick.beat()
    quick.check()


def test_a_claim_that_was_removed_is_lost_and_never_comes_back(tmp_path: Path) -> None:
    claim = take(Claims(tmp_path))
    (path,) = tmp_path.iterdir()
    path.unlink()
    claim.beat()
    with pytest.raises(ClaimLostError):
        claim.check()
    assert not list(tmp_path.iterdir())


def test_beats_are_seen_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "BEAT_SECONDS", 0.01)
    claims = Claims(tmp_path)
    with take(claims):
        while claimant_of(tmp_path).beats < 11:  # a digit more
            time.sleep(0.01)
